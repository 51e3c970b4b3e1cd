"""Checks the parts of a workflow file that `graph` does not read: `extra.kandiflux`, and the API format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kandiflux.errors import WorkflowError
from kandiflux.util.json_values import as_object, is_object

__all__ = ["about_workflow", "api_nodes"]

_COMMENTS = ("_", "#", "$", "//")


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


def api_nodes(data: Mapping[str, Any], origin: str) -> dict[str, Mapping[str, Any]]:
    """Returns the nodes of a file in the API format, without entries that are comments or belong to a request.

    A node without `inputs` has none. WorkflowError names the first entry that should be a node and is malformed.
    """
    nodes: dict[str, Mapping[str, Any]] = {}
    for key, node in data.items():
        name = str(key)
        is_node = name.isdigit() or (is_object(node) and ("class_type" in node or "inputs" in node))
        if name.startswith(_COMMENTS) or not is_node:
            continue
        node = _required(node, origin, f"node {name}")
        meta, kind, inputs = node.get("_meta"), node.get("class_type"), node.get("inputs", {})
        if "class_type" not in node:
            title = as_object(meta).get("title")
            raise WorkflowError(
                f"{origin} cannot be read: node {name}{f' ({title!r})' if title else ''} has no class_type.",
                expected="a node class name",
                hint="The editor leaves it out if it lacked the class when it exported the file. Install the pack of "
                "that node and export again, or write its class_type.",
            )
        if not isinstance(kind, str):
            raise _unreadable(origin, f"the class_type of node {name}", "a node class name", kind)
        if meta is not None:
            _required(meta, origin, f"the _meta of {kind!r} (node {name})")
        nodes[name] = {**node, "inputs": _required(inputs, origin, f"the inputs of {kind!r} (node {name})")}
    return nodes


def _required(value: Any, origin: str, where: str) -> Mapping[str, Any]:
    if not is_object(value):
        raise _unreadable(origin, where, "an object", value)
    return value


def _unreadable(origin: str, where: str, expected: str, got: Any) -> WorkflowError:
    return WorkflowError(f"{origin} cannot be read: {where} is malformed.", expected=expected, got=repr(got)[:120])
