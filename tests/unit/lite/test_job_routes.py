"""/api/jobs: jobs of every status in one form, filtered, sorted and in pages."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from kandiflux.lite.http import Refused
from kandiflux.lite.job_routes import canonical_id, find_job, list_jobs

Json = dict[str, Any]


def queued(name: str, number: float, created: int, **extra: Any) -> list[Any]:
    return [number, name, {"1": {}}, {"create_time": created, **extra}, ["1"]]


def ended(
    name: str,
    created: int,
    end: str | None,
    start: int | None = 100,
    stop: int = 200,
    outputs: Any = None,
    **extra: Any,
) -> Json:
    messages: list[Any] = [("execution_start", {"timestamp": start})] if start else []
    if end:
        messages.append((f"execution_{end}", {"timestamp": stop, "end": end}))
    return {
        "prompt": queued(name, 5, created, **extra),
        "outputs": outputs or {},
        "status": {"status_str": "success" if end == "success" else "error", "messages": messages},
    }


QUEUE = {"queue_running": [queued("run", 1, 40)], "queue_pending": [queued("wait", 2, 50), queued("late", -1, 60)]}
HISTORY = {
    "good": ended("good", 10, "success", stop=900, extra_pnginfo={"workflow": {"id": "w"}}),
    "bad": ended("bad", 20, "error", 1000, 1050),
    "gone": ended("gone", 30, "interrupted"),
}


def names(query: Json, history: Json = HISTORY) -> str:
    return " ".join(one["id"] for one in list_jobs(query, QUEUE, history)["jobs"])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "late wait run gone bad good"),
        ({"sort_order": "ASC"}, "good bad gone run wait late"),
        ({"status": "pending"}, "late wait"),
        ({"status": "in_progress"}, "run"),
        ({"status": "Failed , completed,"}, "bad good"),
        ({"status": "cancelled"}, "gone"),
        ({"status": ","}, ""),
        ({"status": ""}, "late wait run gone bad good"),
        ({"workflow_id": "w"}, "good"),
        ({"workflow_id": "x"}, ""),
        ({"limit": "2"}, "late wait"),
        ({"limit": "2", "offset": "1"}, "wait run"),
        ({"offset": "4"}, "bad good"),
        ({"offset": "-4"}, "late wait run gone bad good"),
        ({"offset": "99", "limit": "1"}, ""),
        ({"sort_by": "execution_duration", "status": "completed,failed,cancelled"}, "good gone bad"),
        ({"sort_by": "Execution_Duration", "sort_order": "asc", "status": "failed,completed"}, "bad good"),
    ],
    ids=str,
)
def test_which_jobs_in_which_order(query: Json, found: str) -> None:
    assert names(query) == found


def test_pages() -> None:
    def page(**query: str) -> Json:
        return list_jobs(query, QUEUE, HISTORY)["pagination"]

    assert page() == {"offset": 0, "limit": None, "total": 6, "has_more": False}
    assert page(limit="2", offset="3") == {"offset": 3, "limit": 2, "total": 6, "has_more": True}
    assert page(limit="2", offset="4")["has_more"] is False
    assert page(limit="1", offset="4")["has_more"] is True
    assert page(limit="1", status="pending") == {"offset": 0, "limit": 1, "total": 2, "has_more": True}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (
            {"status": "pending,odd, strange"},
            r"Invalid status value\(s\): odd, strange. Valid values: pending, in_progress",
        ),
        ({"sort_by": "name"}, "sort_by must be"),
        ({"sort_order": "up"}, "sort_order must be"),
        ({"limit": "0"}, "limit must be a positive integer"),
        ({"limit": "x"}, "limit must be an integer"),
        ({"offset": "1.5"}, "offset must be an integer"),
    ],
)
def test_wrong_questions(query: Json, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        list_jobs(query, QUEUE, HISTORY)
    assert refused.value.status == 400
    assert refused.value.body == {"error": str(refused.value)}


def test_long_wrong_words_are_cut() -> None:
    with pytest.raises(Refused) as refused:
        list_jobs({"status": ",".join(["x" * 100] * 20)}, QUEUE, HISTORY)
    assert str(refused.value).count("x" * 40) == 10
    assert "x" * 41 not in str(refused.value)


def test_a_job_of_the_queue() -> None:
    about = {"id": "run", "status": "in_progress", "priority": 1, "create_time": 40}
    assert find_job("run", QUEUE, {}) == {**about, "outputs_count": 0, "previewable_outputs_count": 0}
    assert find_job("late", QUEUE, {})["status"] == "pending"


def test_a_job_that_ended() -> None:
    outputs = {"4": {"images": [{"filename": "a.png", "type": "output"}], "animated": [True]}}
    entry = ended("good", 10, "success", 100, 900, outputs, extra_pnginfo={"workflow": {"id": "w"}})
    assert find_job("good", QUEUE, {"good": entry}) == {
        "id": "good",
        "status": "completed",
        "priority": 5,
        "create_time": 10,
        "workflow_id": "w",
        "execution_start_time": 100,
        "execution_end_time": 900,
        "outputs_count": 1,
        "previewable_outputs_count": 1,
        "preview_output": {"filename": "a.png", "type": "output", "nodeId": "4", "mediaType": "images"},
        "outputs": outputs,
        "execution_status": entry["status"],
        "workflow": {"prompt": {"1": {}}, "extra_data": entry["prompt"][3]},
    }


def test_jobs_that_failed_or_were_cancelled() -> None:
    bad, gone = (find_job(name, QUEUE, HISTORY) for name in ("bad", "gone"))
    assert bad["execution_error"] == {"timestamp": 1050, "end": "error"}
    assert (bad["status"], bad["execution_end_time"]) == ("failed", 1050)
    assert (gone["status"], gone["execution_end_time"]) == ("cancelled", 200)
    assert "execution_error" not in gone
    assert "preview_output" not in gone
    nothing = find_job("x", QUEUE, {"x": ended("x", 1, None, start=None)})
    assert nothing["status"] == "failed"
    assert "execution_start_time" not in nothing
    assert "execution_end_time" not in nothing


def test_there_is_no_such_job() -> None:
    with pytest.raises(Refused) as refused:
        find_job("unknown", QUEUE, HISTORY)
    assert (refused.value.status, refused.value.body) == (404, {"error": "Job not found"})


SAVED = {"filename": "s.png", "type": "output"}
TEMP = {"filename": "t.png", "type": "temp"}
TEXT_FILE = {"filename": "t.TXT", "type": "output"}


@pytest.mark.parametrize(
    ("outputs", "counts", "shown"),
    [
        ({"1": {"images": [TEMP, SAVED]}}, (2, 2), {**SAVED, "nodeId": "1", "mediaType": "images"}),
        ({"1": {"images": [TEMP]}, "2": {"images": [SAVED]}}, (2, 2), {**SAVED, "nodeId": "2", "mediaType": "images"}),
        ({"1": {"images": [TEMP, {**TEMP, "filename": "u"}]}}, (2, 2), {**TEMP, "nodeId": "1", "mediaType": "images"}),
        ({"1": {"files": [TEXT_FILE], "images": [TEMP]}}, (2, 2), {**TEMP, "nodeId": "1", "mediaType": "images"}),
        ({"1": {"text": ["words"], "files": [TEXT_FILE]}}, (1, 1), {**TEXT_FILE, "nodeId": "1", "mediaType": "files"}),
        ({"1": {"text": ["words", "more"]}}, (0, 0), {"content": "words", "nodeId": "1", "mediaType": "text"}),
        ({"1": {"text": [["words"], 5]}}, (0, 0), {"content": "words", "nodeId": "1", "mediaType": "text"}),
        ({"1": {"text": [[]]}}, (0, 0), {"content": "", "nodeId": "1", "mediaType": "text"}),
        ({"1": {"text": ["x" * 1024]}}, (0, 0), {"content": "x" * 1024, "nodeId": "1", "mediaType": "text"}),
        ({"1": {"text": ["x" * 1025]}}, (0, 0),
         {"content": "x" * 1024, "truncated": True, "nodeId": "1", "mediaType": "text"}),
        ({"1": {"result": ["m.GLB", "no file", None]}}, (1, 1),
         {"filename": "m.GLB", "type": "output", "subfolder": "", "mediaType": "3d", "nodeId": "1"}),
        ({"1": {"latents": [{"filename": "a.latent", "type": "output"}]}}, (1, 0), None),
        ({"1": {"gifs": [{"filename": "a.x", "format": "video/mp4"}]}}, (1, 1),
         {"filename": "a.x", "format": "video/mp4", "nodeId": "1", "mediaType": "gifs"}),
        ({"1": {"gifs": [{"filename": 5, "format": "image/gif"}]}}, (1, 0), None),
        ({"1": {"animated": [{"filename": "a.png"}]}}, (0, 0), None),
        ({"1": {"images": 5}, "2": None}, (0, 0), None),
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_counted_and_shown(outputs: Json, counts: tuple[int, int], shown: Json | None) -> None:
    job = find_job("a", QUEUE, {"a": ended("a", 1, "success", outputs=outputs)})
    assert (job["outputs_count"], job["previewable_outputs_count"]) == counts
    assert job.get("preview_output") == shown


def test_outputs_are_told_with_models_as_files() -> None:
    outputs = {"1": {"result": ["m.glb", None, "x", 0], "animated": ["m.glb"], "number": 5}, "2": "odd"}
    job = find_job("a", QUEUE, {"a": ended("a", 1, "success", outputs=outputs)})
    model = {"filename": "m.glb", "type": "output", "subfolder": "", "mediaType": "3d"}
    assert job["outputs"] == {"1": {"result": [model, "x", 0], "animated": ["m.glb"], "number": 5}, "2": "odd"}


def test_ids() -> None:
    good = str(uuid.uuid4())
    assert canonical_id(good)
    for wrong in (good.upper(), good.replace("-", ""), f"{{{good}}}", "x", "", None, 5, uuid.UUID(good)):
        assert not canonical_id(wrong)
