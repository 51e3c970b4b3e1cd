"""/api/jobs as in ComfyUI 0.33: pending, running and finished jobs, in one format."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from kandiflux.lite.http import Refused
from kandiflux.util.json_values import as_float, as_list, as_object, is_array, is_dict, is_list

__all__ = ["canonical_id", "find_job", "list_jobs"]

_ENDED = ("completed", "failed", "cancelled")
_STATUSES = ("pending", "in_progress", *_ENDED)
_SHOWN_KINDS = {"images", "video", "audio", "3d", "text"}
_3D = (".obj", ".fbx", ".gltf", ".glb", ".usdz")
_TEXT = (".txt", ".md", ".json")
_LONGEST_TEXT = 1024

Json = dict[str, Any]


def canonical_id(value: object) -> bool:
    """Whether this is a UUID as ComfyUI requires it: lowercase, with hyphens."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def list_jobs(query: Mapping[str, str], queue: Mapping[str, Any], history: Mapping[str, Any]) -> Json:
    """Returns one page of all jobs. Raises Refused if a query parameter is invalid."""
    statuses = [word.strip().lower() for word in query.get("status", "").split(",") if word.strip()]
    wrong = [word[:40] for word in statuses if word not in _STATUSES]
    if wrong:
        raise _bad_query(f"Invalid status value(s): {', '.join(wrong[:10])}. Valid values: {', '.join(_STATUSES)}")
    sort_by, order = query.get("sort_by", "created_at").lower(), query.get("sort_order", "desc").lower()
    if sort_by not in ("created_at", "execution_duration"):
        raise _bad_query("sort_by must be 'created_at' or 'execution_duration'")
    if order not in ("asc", "desc"):
        raise _bad_query("sort_order must be 'asc' or 'desc'")
    limit, offset = _int(query, "limit"), max(0, _int(query, "offset") or 0)
    if limit is not None and limit <= 0:
        raise _bad_query("limit must be a positive integer")

    jobs = [_queued(entry, "in_progress") for entry in queue["queue_running"]]
    jobs += [_queued(entry, "pending") for entry in queue["queue_pending"]]
    jobs += [_ended(prompt_id, entry) for prompt_id, entry in history.items()]
    # An absent or empty status means all jobs. As in ComfyUI, a status of only commas matches none.
    jobs = [job for job in jobs if not query.get("status") or job["status"] in statuses]
    if query.get("workflow_id"):
        jobs = [job for job in jobs if job.get("workflow_id") == query["workflow_id"]]
    jobs.sort(key=_duration if sort_by == "execution_duration" else _created, reverse=order == "desc")
    page = jobs[offset:] if limit is None else jobs[offset : offset + limit]
    pagination = {"offset": offset, "limit": limit, "total": len(jobs), "has_more": offset + len(page) < len(jobs)}
    return {"jobs": page, "pagination": pagination}


def find_job(prompt_id: str, queue: Mapping[str, Any], history: Mapping[str, Any]) -> Json:
    """Returns one job; a finished one with outputs, status and workflow. Raises Refused (404) if it does not exist."""
    if prompt_id in history:
        entry = history[prompt_id]
        _, _, prompt, extra_data, _ = entry["prompt"]
        return {
            **_ended(prompt_id, entry),
            "outputs": {node_id: _listed(output) for node_id, output in entry["outputs"].items()},
            "execution_status": entry["status"],
            "workflow": {"prompt": prompt, "extra_data": extra_data},
        }
    for key, status in (("queue_running", "in_progress"), ("queue_pending", "pending")):
        for entry in queue[key]:
            if entry[1] == prompt_id:
                return _queued(entry, status)
    raise Refused(404, "Job not found", {"error": "Job not found"})


def _bad_query(text: str) -> Refused:
    return Refused(400, text, {"error": text})


def _int(query: Mapping[str, str], name: str) -> int | None:
    try:
        return int(query[name]) if name in query else None
    except ValueError as error:
        raise _bad_query(f"{name} must be an integer") from error


def _created(job: Json) -> float:
    return as_float(job.get("create_time")) or 0


def _duration(job: Json) -> float:
    start, end = (as_float(job.get(f"execution_{name}_time")) for name in ("start", "end"))
    return end - start if start and end else 0


def _without_none(job: Json) -> Json:
    return {name: value for name, value in job.items() if value is not None}


def _summary(prompt_id: str, number: Any, extra_data: Mapping[str, Any], status: str) -> Json:
    workflow = as_object(as_object(extra_data.get("extra_pnginfo")).get("workflow"))
    return {
        "id": prompt_id,
        "status": status,
        "priority": number,
        "create_time": extra_data.get("create_time"),
        "workflow_id": workflow.get("id"),
    }


def _queued(entry: list[Any], status: str) -> Json:
    number, prompt_id, _, extra_data, _ = entry
    summary = _summary(prompt_id, number, extra_data, status)
    return _without_none({**summary, "outputs_count": 0, "previewable_outputs_count": 0})


def _ended(prompt_id: str, entry: Mapping[str, Any]) -> Json:
    messages = dict(entry["status"]["messages"])
    ends = [
        messages[f"execution_{end}"] for end in ("success", "error", "interrupted") if f"execution_{end}" in messages
    ]
    status = "completed"
    if entry["status"]["status_str"] == "error":
        status = "cancelled" if "execution_interrupted" in messages else "failed"
    items = [
        (node_id, kind, item)
        for node_id, output in entry["outputs"].items()
        for kind, found in as_object(output).items()
        if kind != "animated"
        for item in as_list(found)
    ]
    files = [(node_id, kind, as_file) for node_id, kind, item in items if (as_file := _as_file(item)) is not None]
    number, _, _, extra_data, _ = entry["prompt"]
    return _without_none(
        {
            **_summary(prompt_id, number, extra_data, status),
            "execution_start_time": as_object(messages.get("execution_start")).get("timestamp"),
            "execution_end_time": as_object(ends[-1]).get("timestamp") if ends else None,
            "execution_error": messages.get("execution_error"),
            "outputs_count": len(files),
            "previewable_outputs_count": sum(_is_shown(kind, file) for _, kind, file in files),
            "preview_output": _preview(files, items),
        }
    )


def _as_file(item: Any) -> Json | None:
    """Returns an output as a file: an object, or the bare name of a 3D model. None for other values."""
    if is_dict(item):
        return item
    if isinstance(item, str) and item.lower().endswith(_3D):
        return {"filename": item, "type": "output", "subfolder": "", "mediaType": "3d"}
    return None


def _name(file: Json) -> str:
    name = file.get("filename")
    return name.lower() if isinstance(name, str) else ""


def _is_shown(kind: str, file: Json) -> bool:
    return (
        kind in _SHOWN_KINDS or str(file.get("format") or "").startswith(("video/", "audio/")) or
        _name(file).endswith((*_3D, *_TEXT))
    )  # fmt: skip


def _preview(files: list[tuple[str, str, Json]], items: list[tuple[str, str, Any]]) -> Json | None:
    """Chooses a job's preview: a saved media file, else a temporary one, else a text file, else a text."""
    best: dict[int, Json] = {}
    for node_id, kind, file in files:
        if _is_shown(kind, file):
            is_text = kind == "text" or _name(file).endswith(_TEXT)
            rank = 2 if is_text else 0 if file.get("type") == "output" else 1
            best.setdefault(rank, {"mediaType": kind, **file, "nodeId": node_id})
    for node_id, kind, item in items:
        if kind == "text" and _as_file(item) is None:
            text = str(item[0] if item else "") if is_array(item) else str(item)
            cut: Json = {"truncated": True} if len(text) > _LONGEST_TEXT else {}
            best.setdefault(3, {"content": text[:_LONGEST_TEXT], **cut, "nodeId": node_id, "mediaType": kind})
    return best[min(best)] if best else None


def _listed(output: Any) -> Any:
    """Returns a node's output with the bare names of 3D models as file objects."""
    if not is_dict(output):
        return output
    return {
        kind: [_as_file(item) or item for item in found if item is not None]
        if is_list(found) and kind != "animated"
        else found
        for kind, found in output.items()
    }
