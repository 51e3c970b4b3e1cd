"""Checks the parts of a workflow file that `graph` does not read: `extra.kandiflux`, and the API format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kandiflux.errors import WorkflowError
from kandiflux.util.json_values import as_object, is_object

__all__ = ["about_workflow", "require_api_structure"]


def about_workflow(data: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """Returns `extra.kandiflux` of an editor-format file; empty if there is none. WorkflowError if it is malformed."""
    info = as_object(data.get("extra")).get("kandiflux")
    if info is None:
        return {}
    info = _required(info, origin, "extra.kandiflux")
    for key in ("parameters", "presets", "needs"):
        entries = info.get(key)
        for name, entry in _required({} if entries is None else entries, origin, f"extra.kandiflux.{key}").items():
            if key != "needs":
                _required(entry, origin, f"extra.kandiflux.{key}.{name}")
            elif not isinstance(entry, str):
                raise _unreadable(origin, f"extra.kandiflux.needs.{name}", "a string, as in >=0.3.60", entry)
    return info


def require_api_structure(nodes: Mapping[str, Any], origin: str) -> None:
    """Raises WorkflowError for the first malformed node of a prompt in the API format."""
    for node_id, node in nodes.items():
        meta = node.get("_meta")
        if not isinstance(node["class_type"], str):
            raise _unreadable(origin, f"the class_type of node {node_id}", "a node class name", node["class_type"])
        if meta is not None:
            _required(meta, origin, f"the _meta of {node['class_type']!r} (node {node_id})")


def _required(value: Any, origin: str, where: str) -> Mapping[str, Any]:
    if not is_object(value):
        raise _unreadable(origin, where, "an object", value)
    return value


def _unreadable(origin: str, where: str, expected: str, got: Any) -> WorkflowError:
    return WorkflowError(f"{origin} cannot be read: {where} is malformed.", expected=expected, got=repr(got)[:120])
