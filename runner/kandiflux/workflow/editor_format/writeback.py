"""Sets a value in the editor's file too, so that the workflow in a picture's metadata reproduces the picture."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kandiflux.util.json_values import as_list, as_object, is_list, is_object
from kandiflux.workflow.editor_format.convert import convert
from kandiflux.workflow.editor_format.widgets import stored_place, widget_slots, with_defaults

__all__ = ["write_back"]


def write_back(
    editor: dict[str, Any], object_info: Mapping[str, Any], targets: Sequence[tuple[str, str]], value: Any
) -> None:
    """Sets inputs, as (node id, input name), to one value, in place in `editor`.

    A value inside a subgraph or group node may be stored in the definition, in the instance, or in an instance around
    it. It is written only where no other value changes; if there is no such location, the file stays unchanged.
    """
    inside = [target for target in targets if ":" in target[0]]
    if inside:
        _write_inside(editor, object_info, inside, value)
    for node_id, input_name in targets:
        node = _node(editor, node_id)
        if node is not None:
            _write(editor, node, object_info, input_name, value)


def _write(
    graph: dict[str, Any], node: dict[str, Any], object_info: Mapping[str, Any], input_name: str, value: Any
) -> None:
    kind = str(node.get("type"))
    if node.get("widgets_values") is None:
        node["widgets_values"] = list[Any]()
    values = node["widgets_values"]
    if isinstance(values, dict):
        values[input_name] = value
    elif is_list(values):
        about = as_object(object_info.get(kind))
        slot = 0 if kind == "PrimitiveNode" else stored_place(node, about, input_name)
        if slot is None and input_name in (slots := widget_slots(kind, about, values)):
            # The file is from a version with fewer widgets: fill in the defaults of the missing ones.
            values[:] = with_defaults(node, about)
            slot = slots.index(input_name)
        if slot is not None:
            values[slot] = value
    named = node.get("widgets_values_named")
    if isinstance(named, dict) and input_name in named:
        named[input_name] = value
    for declared in node.get("inputs") or ():
        if declared.get("name") == input_name and declared.get("link") is not None:
            # In the editor a link overrides the value, so remove the link.
            _unlink(graph, declared["link"])
            declared["link"] = None


def _write_inside(
    editor: dict[str, Any], object_info: Mapping[str, Any], targets: Sequence[tuple[str, str]], value: Any
) -> None:
    present = _inputs(editor, object_info)
    changing = [target for target in targets if target[0] in present and present[target[0]].get(target[1]) != value]
    if not changing:
        return
    wanted = {**present}
    for node_id, input_name in changing:
        wanted[node_id] = {**wanted[node_id], input_name: value}
    node_id, input_name = changing[0]
    old = present[node_id].get(input_name)
    for changed in _candidates(editor, object_info, node_id.split(":"), input_name, old, value):
        if _inputs(changed, object_info) == wanted:
            editor.clear()
            editor.update(changed)
            return
    if len(changing) > 1:  # no place has all of them
        for target in changing:
            _write_inside(editor, object_info, [target], value)


def _candidates(
    editor: dict[str, Any],
    object_info: Mapping[str, Any],
    path: list[str],
    input_name: str,
    old: Any,
    value: Any,
) -> Iterator[dict[str, Any]]:
    """Yields copies of the file with the value set in each possible location, the outermost first."""
    for depth in range(1, len(path)):
        present = _locate(editor, path[:depth])
        values = as_list(present[1].get("widgets_values")) if present is not None else []
        for slot, shown in enumerate(values):
            if shown == old and type(shown) is type(old):
                changed = copy.deepcopy(editor)
                location = _locate(changed, path[:depth])
                if location is not None:
                    location[1]["widgets_values"][slot] = value
                    yield changed
    changed = copy.deepcopy(editor)
    location = _locate(changed, path)
    if location is not None:
        _write(*location, object_info, input_name, value)
        yield changed


def _locate(editor: dict[str, Any], path: list[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns the graph and the node of an id like 5:27:21."""
    graph, node = editor, _node(editor, path[0])
    for inner in path[1:]:
        if node is None:
            return None
        found = next((one for one in _definitions(editor) if str(one.get("id")) == str(node["type"])), None)
        if found is None:
            return None
        graph, node = found, _node(found, inner)
    return (graph, node) if node is not None else None


def _definitions(level: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for definition in as_list(as_object(level.get("definitions")).get("subgraphs")):
        yield definition
        yield from _definitions(definition)


def _node(graph: dict[str, Any], node_id: str) -> dict[str, Any] | None:
    return next((node for node in graph.get("nodes") or () if str(node.get("id")) == node_id), None)


def _inputs(editor: dict[str, Any], object_info: Mapping[str, Any]) -> dict[str, Any]:
    return {node_id: node["inputs"] for node_id, node in convert(editor, object_info).prompt.items()}


def _unlink(graph: dict[str, Any], link_id: Any) -> None:
    graph["links"] = [
        link for link in graph.get("links") or () if (link.get("id") if is_object(link) else link[0]) != link_id
    ]
    for node in graph["nodes"]:
        for output in node.get("outputs") or ():
            output["links"] = [other for other in output.get("links") or () if other != link_id]
    for shown in graph.get("inputs") or ():
        # A subgraph's own inputs.
        shown["linkIds"] = [other for other in shown.get("linkIds") or () if other != link_id]
