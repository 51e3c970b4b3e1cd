"""Expands group nodes, the older form of subgraphs, into their inner nodes. Definitions are in `extra.groupNodes`.

A group node with id 5 becomes `5:0`, `5:1`, … The definition does not list the inputs, outputs and widgets of the group
node. This module derives them as the editor does: from the inner nodes, in their order; if a name is already used, the
node's title is put before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kandiflux.errors import ConversionError, WorkflowError
from kandiflux.util.json_values import as_list, as_object, is_list, is_object
from kandiflux.workflow.editor_format.alignment import arrange
from kandiflux.workflow.editor_format.graph import BYPASSED, MUTED, Graph, Link, Node
from kandiflux.workflow.editor_format.inputs import InputSpec, input_specs
from kandiflux.workflow.editor_format.widgets import has_upload_button, node_widgets, widget_values

__all__ = ["with_groups_expanded"]

_PREFIXES = ("workflow>", "workflow/")
_MAX_DEPTH = 20


def with_groups_expanded(
    graph: Graph, workflow: Mapping[str, Any], object_info: Mapping[str, Any], notes: list[str]
) -> Graph:
    """Returns the graph with group nodes replaced by their inner nodes; adds a note for each with doubtful values.

    Group nodes without a definition, and those that are muted or bypassed and so do not run, stay unchanged.
    ConversionError if group nodes contain each other.
    """
    listed = as_object(as_object(workflow.get("extra")).get("groupNodes"))
    groups: dict[str, _Group] = {}
    for _ in range(_MAX_DEPTH):
        uses = [node for node in graph.nodes.values() if _name(node) in listed and node.mode not in (MUTED, BYPASSED)]
        if not uses:
            return graph
        for node in uses:
            name = _name(node)
            if name not in groups:
                groups[name] = _Group.read(name, listed[name], object_info)
            graph = groups[name].expand(graph, node, notes)
    raise ConversionError("The group nodes contain each other in a cycle.", got=", ".join(groups))


def _name(node: Node) -> str:
    prefix = next((prefix for prefix in _PREFIXES if node.type.startswith(prefix)), None)
    return "" if prefix is None else node.type.removeprefix(prefix)


@dataclass(frozen=True)
class _GroupWire:
    """A link between inner nodes. `origin` and `target` are indexes of nodes in the definition."""

    origin: int
    origin_slot: int
    target: int
    target_slot: int
    type: Any


@dataclass(frozen=True)
class _Group:
    """A definition, and what the editor derives from it. `sockets`, `widgets`: group node's names by (node, input)."""

    nodes: tuple[Node, ...]
    wires: tuple[_GroupWire, ...]
    object_info: Mapping[str, Any]
    declared: dict[str, Any] = field(default_factory=dict[str, Any])
    """The group node's inputs as object_info would declare them, in the order of its widgets."""
    sockets: dict[tuple[int, str], str] = field(default_factory=dict[tuple[int, str], str])
    widgets: dict[tuple[int, str], str] = field(default_factory=dict[tuple[int, str], str])
    outputs: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @classmethod
    def read(cls, name: str, data: Any, object_info: Mapping[str, Any]) -> _Group:
        if not is_object(data) or not is_list(nodes := data.get("nodes")):
            raise WorkflowError(
                f"The group node {name!r} has no readable definition.",
                expected="an object with `nodes` and `links` in `extra.groupNodes`",
                got=repr(data)[:100],
            )
        listed = [{**node, "id": number} if is_object(node) else node for number, node in enumerate(nodes)]
        wires = tuple(_read_wires(as_list(data.get("links")), len(listed)))
        group = cls(tuple(map(Node.read, listed)), wires, object_info)
        leaving = {
            (one[0], one[1]): one[2] if len(one) > 2 else "*"
            for one in as_list(data.get("external"))
            if is_list(one) and len(one) > 1 and all(isinstance(number, int) for number in one[:2])
        }
        _Interface(group, leaving, as_object(data.get("config"))).derive()
        return group

    def expand(self, graph: Graph, use: Node, notes: list[str]) -> Graph:
        ids = [f"{use.id}:{number}" for number in range(len(self.nodes))]
        links = {
            link.id: self._from_inside(link, ids) if link.origin_id == use.id else link for link in graph.links.values()
        }
        made: list[Node] = []
        values = self._values(use, notes)
        for number, inner in enumerate(self.nodes):
            slots: list[dict[str, Any]] = []
            for name, kind, widget in self._inputs(number):
                link = self._into(graph, use, number, name, ids)
                if link is not None:
                    links[link.id] = link
                slot = {"name": name, "type": kind, "link": None if link is None else link.id}
                slots.append({**slot, "widget": {"name": widget}} if widget is not None else slot)
            made.append(Node.read({
                **inner.data, "id": ids[number], "inputs": slots, "order": use.order + number / len(ids),
                "widgets_values": self._inner_values(number, values), "widgets_values_named": None,
            }))  # fmt: skip
        nodes: dict[str, Node] = {}
        for node_id, node in graph.nodes.items():
            nodes.update({node.id: node for node in made} if node_id == use.id else {node_id: node})
        return replace(graph, nodes=nodes, links={link_id: link for link_id, link in links.items() if link is not None})

    def _from_inside(self, link: Link, ids: list[str]) -> Link | None:
        if not 0 <= link.origin_slot < len(self.outputs):
            return None
        number, slot = self.outputs[link.origin_slot]
        return replace(link, origin_id=ids[number], origin_slot=slot)

    def _into(self, graph: Graph, use: Node, number: int, name: str, ids: list[str]) -> Link | None:
        """Returns the link to an inner input: from another inner node, or from the group node's input for it."""
        link_id = f"{ids[number]}/{name}"
        for wire in self.wires:
            if wire.target == number and _input_name(self.nodes[number], wire.target_slot) == name:
                return Link(link_id, ids[wire.origin], wire.origin_slot, ids[number], wire.target_slot)
        shown = self.sockets.get((number, name))
        for slot in use.inputs:
            link = graph.feeding(slot)
            if slot.name == shown and link is not None:
                return replace(link, id=link_id, target_id=ids[number])
        return None

    def _inputs(self, number: int) -> Iterator[tuple[str, str, str | None]]:
        """Yields name, type and widget of an inner node's inputs: those it lists, then others of the group node."""
        node = self.nodes[number]
        yield from ((slot.name, slot.type, slot.widget) for slot in node.inputs)
        listed = {slot.name for slot in node.inputs}
        for (inner, name), _ in self.sockets.items():
            if inner == number and name not in listed:
                yield name, "*", None

    def _values(self, use: Node, notes: list[str]) -> dict[str, Any]:
        """Returns the group node's own values by the names of its widgets."""
        if isinstance(use.stored, Mapping):
            return dict(use.stored)
        widgets = node_widgets(use.type, {"input": {"required": self.declared}}, use.stored)
        slots = [widget for widget in widgets if widget.stored]
        # A class of an inner node may have gained a widget since the file was saved.
        found = arrange(list(use.stored), [widget.spec for widget in slots])
        if use.stored and not found.certain:
            notes.append(
                f"{use.title or use.type!r} (node {use.id}): values in the file: {len(use.stored)}, widgets of the "
                f"group node: {len(slots)}; they may be shifted."
            )
        return {slots[slot].name: use.stored[place] for slot, place in found.places.items()}

    def _inner_values(self, number: int, values: Mapping[str, Any]) -> Any:
        node = self.nodes[number]
        shown = {name: values[host] for (at, name), host in self.widgets.items() if at == number and host in values}
        if node.type == "PrimitiveNode":
            return [shown["value"]] if "value" in shown else node.stored
        info = self.object_info.get(node.type)
        return {**widget_values(node, info), **shown} if is_object(info) else node.data.get("widgets_values")


class _Interface:
    """Derives the inputs, widgets and outputs of a group node from its inner nodes."""

    def __init__(self, group: _Group, leaving: Mapping[tuple[int, int], Any], config: Mapping[str, Any]) -> None:
        self._group, self._leaving, self._config = group, leaving, config
        self._seen: dict[str, int] = {}

    def derive(self) -> None:
        converted: list[tuple[int, InputSpec]] = []
        for number, node in enumerate(self._group.nodes):
            specs = self._specs(number, node)
            if specs is None:
                continue
            converted += [(number, spec) for spec in self._add_own(number, node, specs)]
            self._add_outputs(number, node)
        # Widgets converted to inputs come last, whatever the position of their node.
        for number, spec in converted:
            host = self._add(number, spec)
            self._group.sockets[number, spec.name] = self._group.widgets[number, spec.name] = host

    def _add_own(self, number: int, node: Node, specs: Mapping[str, InputSpec]) -> list[InputSpec]:
        made_inputs = [slot.name for slot in node.inputs if slot.widget == slot.name]
        linked = {_input_name(node, wire.target_slot) for wire in self._group.wires if wire.target == number}
        for spec in specs.values():
            if spec.is_widget and spec.name not in made_inputs:
                self._group.widgets[number, spec.name] = self._add(number, spec)
        for spec in specs.values():
            if spec.is_widget or spec.name in linked or (node.type == "Reroute" and linked):
                continue
            if self._configured(number, "input", spec.name).get("visible") is False:
                self._host_name(number, spec.name)
                continue
            # The only input of a Reroute has no name.
            self._group.sockets[number, "" if node.type == "Reroute" else spec.name] = self._add(number, spec)
        return [specs[name] for name in made_inputs if name in specs and name not in linked]

    def _add_outputs(self, number: int, node: Node) -> None:
        group = self._group
        declared = as_object(group.object_info.get(node.type)).get("output")
        count = len(declared) if is_list(declared) else 1 if node.type in ("Reroute", "PrimitiveNode") else 0
        inside = {wire.origin_slot for wire in group.wires if wire.origin == number}
        for slot in range(count):
            hidden = slot in inside and (number, slot) not in self._leaving
            visible = self._configured(number, "output", str(slot)).get("visible")
            if not hidden if visible is None else visible:
                group.outputs.append((number, slot))

    def _specs(self, number: int, node: Node) -> dict[str, InputSpec] | None:
        """Returns the inputs of an inner node; None if the group node shows none of it."""
        group = self._group
        info = group.object_info.get(node.type)
        outgoing = [wire for wire in group.wires if wire.origin == number]
        incoming = [wire for wire in group.wires if wire.target == number]
        if is_object(info):
            specs = input_specs(info)
            if has_upload_button(specs.values()):
                specs["upload"] = InputSpec("upload", "IMAGEUPLOAD", True, {})
            return specs
        if node.type == "PrimitiveNode" and outgoing:
            target = group.nodes[outgoing[0].target]
            name = _input_name(target, outgoing[0].target_slot)
            spec = input_specs(as_object(group.object_info.get(target.type))).get(name)
            kind = spec.type if spec is not None else str(outgoing[0].type)
            options = {**(spec.options if spec is not None else {}), "control_after_generate": True}
            return {"value": InputSpec("value", kind, True, options, spec.choices if spec is not None else None)}
        if node.type == "Reroute" and not (incoming and outgoing and (number, 0) not in self._leaving):
            kind = self._reroute_type(number, incoming, outgoing)
            return {kind: InputSpec(kind, kind, True, {"forceInput": True})}
        return None

    def _reroute_type(self, number: int, incoming: list[_GroupWire], outgoing: list[_GroupWire]) -> str:
        nodes = self._group.nodes
        for wire in outgoing:
            if wire.target_slot < len(nodes[wire.target].inputs):
                return nodes[wire.target].inputs[wire.target_slot].type
        for wire in incoming:
            if wire.origin_slot < len(nodes[wire.origin].outputs):
                return nodes[wire.origin].outputs[wire.origin_slot].type
        return str(self._leaving.get((number, 0), "*"))

    def _add(self, number: int, spec: InputSpec) -> str:
        host = self._host_name(number, spec.name)
        options = dict(spec.options)
        if spec.name in ("seed", "noise_seed"):
            options["control_after_generate"] = True
        self._group.declared[host] = [list(spec.choices) if spec.choices is not None else spec.type, options]
        return host

    def _host_name(self, number: int, name: str) -> str:
        node, seen = self._group.nodes[number], self._seen
        custom = self._configured(number, "input", name).get("name")
        label = next((slot.label for slot in node.inputs if slot.name == name and slot.label), None)
        host = key = str(custom or label or name)
        if (node.type == "PrimitiveNode" and node.title) or host in seen:
            prefix = f"{node.title or node.type} "
            host = key = prefix + name
            if host in seen:
                host = f"{prefix}{seen[host]} {name}"
        seen[key] = seen.get(key, 1) + 1
        return host

    def _configured(self, number: int, side: str, name: str) -> Mapping[str, Any]:
        """Returns the user's settings of an input or output: `name`, `visible`."""
        found: Any = self._config
        for key in (str(number), side, name):
            found = as_object(found).get(key)
        return as_object(found)


def _input_name(node: Node, slot: int) -> str:
    if node.type == "Reroute":
        return node.inputs[0].name if node.inputs else ""
    return node.inputs[slot].name if 0 <= slot < len(node.inputs) else ""


def _read_wires(links: list[Any], count: int) -> Iterator[_GroupWire]:
    for link in links:
        if not is_list(link) or len(link) < 4:
            raise WorkflowError(
                "A link in a group node is malformed.",
                expected="[source, slot, target, slot, id, type]",
                got=repr(link)[:100],
            )
        if link[0] is None:  # from outside; the group node's own links have the origin
            continue
        if all(isinstance(number, int) for number in link[:4]) and 0 <= link[0] < count and 0 <= link[2] < count:
            origin, origin_slot, target, target_slot = link[:4]
            yield _GroupWire(origin, origin_slot, target, target_slot, link[5] if len(link) > 5 else "*")
