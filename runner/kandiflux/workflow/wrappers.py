"""Finds the workflow in JSON that is nearly one: in what carries it, or beside entries that are no nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kandiflux.errors import WorkflowError
from kandiflux.util.json_values import as_object, is_list, is_object, parse_json
from kandiflux.workflow.editor_format.graph import is_editor_format
from kandiflux.workflow.structure import api_nodes

__all__ = ["Found", "describe_foreign", "find_workflow"]

_CARRIERS = ("prompt", "output", "workflow", "input", "extra_data", "extra_pnginfo")
"""Keys under which requests, answers and other programs have a prompt or a workflow."""
_MAX_DEPTH = 8
_FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run `git lfs pull` where it comes from."),
    (b"<!doctype", "a web page", "Download the file itself: on GitHub, with the button Raw."),
    (b"<html", "a web page", "Download the file itself: on GitHub, with the button Raw."),
    (b"pk\x03\x04", "a ZIP archive", "Unpack it first."),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it first."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first."),
    (b"rar!", "a RAR archive", "Unpack it first."),
    (b"%pdf", "a PDF document", None),
)


@dataclass(frozen=True)
class Found:
    """A prompt in the API format, the workflow it was made from, or both."""

    api: Mapping[str, Any] | None = None
    editor: Mapping[str, Any] | None = None


def find_workflow(data: Any, origin: str) -> Found | None:
    """Returns what is in parsed JSON; None if there is no workflow in it.

    Besides both formats it reads requests (`{"prompt": …}`, `{"input": {"workflow": …}}`), entries of the queue and the
    history, and what the editor's own function returns. WorkflowError if there are several, or a node is malformed.
    """
    return _find(data, origin, 0)


def _find(data: Any, origin: str, depth: int) -> Found | None:
    if depth > _MAX_DEPTH:
        return None
    if isinstance(data, str):
        try:
            parsed = parse_json(data) if data.lstrip().startswith(("{", "[")) else None
        except ValueError:
            return None
        return _find(parsed, origin, depth + 1)
    if is_list(data):
        return _in_list(data, origin, depth)
    if not is_object(data):
        return None
    if is_editor_format(data):
        return Found(editor=data)
    if any(_is_node(entry) for entry in data.values()):
        return Found(api=api_nodes(data, origin), editor=_editor_in(data.get("workflow")))
    carried = [found for key in _CARRIERS if (found := _find(data.get(key), origin, depth + 1)) is not None]
    if carried:
        return _merged(carried)
    inside = [found for value in data.values() if (found := _find_entry(value, origin, depth + 1)) is not None]
    if len(inside) > 1:
        raise WorkflowError(
            f"{origin} has {len(inside)} workflows, not one.",
            expected="one workflow",
            got=f"entries {', '.join(map(str, list(data)[:5]))}",
            hint="Save the one to run as a file of its own.",
        )
    return inside[0] if inside else None


def _in_list(data: list[Any], origin: str, depth: int) -> Found | None:
    # An entry of the queue or the history: number, id, prompt, extra_data, …
    if len(data) > 2 and is_object(data[2]) and any(map(_is_node, data[2].values())):
        extra = as_object(as_object(data[3] if len(data) > 3 else None).get("extra_pnginfo"))
        return Found(api_nodes(data[2], origin), _editor_in(extra.get("workflow")))
    return _find(data[0], origin, depth + 1) if len(data) == 1 else None


def _find_entry(value: Any, origin: str, depth: int) -> Found | None:
    """Looks into an entry of the history by its id."""
    return _find(value, origin, depth) if is_object(value) and ("prompt" in value or is_editor_format(value)) else None


def _merged(found: list[Found]) -> Found:
    api = next((one.api for one in found if one.api is not None), None)
    return Found(api, next((one.editor for one in found if one.editor is not None), None))


def _editor_in(value: Any) -> Mapping[str, Any] | None:
    return value if is_editor_format(value) else None


def _is_node(entry: Any) -> bool:
    return is_object(entry) and isinstance(entry.get("class_type"), str)


def describe_foreign(begin: bytes) -> tuple[str, str | None] | None:
    """Returns what a file is that is neither JSON nor a picture, and what to do; None if that is not known.

    begin: the first bytes of the file.
    """
    start = begin.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty", None
    return next(((what, todo) for magic, what, todo in _FOREIGN if start.startswith(magic)), None)
