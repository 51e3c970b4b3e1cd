"""Setting a value in the editor's file as well, so that a picture carries a workflow that makes it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kandiflux.widgets import widget_slots

__all__ = ["write_back"]


def write_back(
    editor: dict[str, Any], object_info: Mapping[str, Any], node_id: str, input_name: str, value: Any
) -> None:
    """Changes `editor` in place. Nodes inside subgraphs are left: their definition may serve other instances."""
    node = next((node for node in editor.get("nodes") or () if str(node.get("id")) == node_id), None)
    if node is None:
        return
    kind, values = str(node.get("type")), node.get("widgets_values")
    if isinstance(values, dict):
        values[input_name] = value
    elif isinstance(values, list):
        slots = widget_slots(kind, object_info.get(kind) or {}, values)
        slot = 0 if kind == "PrimitiveNode" else slots.index(input_name) if input_name in slots else len(values)
        if slot < len(values):
            values[slot] = value
    named = node.get("widgets_values_named")
    if isinstance(named, dict) and input_name in named:
        named[input_name] = value
    for declared in node.get("inputs") or ():
        if declared.get("name") == input_name and declared.get("link") is not None:
            # A value was set over a link, and in the editor the link would win.
            _unlink(editor, declared["link"])
            declared["link"] = None


def _unlink(editor: dict[str, Any], link_id: Any) -> None:
    editor["links"] = [
        link for link in editor.get("links") or () if (link.get("id") if isinstance(link, dict) else link[0]) != link_id
    ]
    for node in editor["nodes"]:
        for output in node.get("outputs") or ():
            output["links"] = [other for other in output.get("links") or () if other != link_id]
