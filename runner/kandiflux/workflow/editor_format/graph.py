"""The editor's file as a graph: reads nodes, links and subgraphs from any version of the format.

Malformed files raise WorkflowError here, so that other modules can rely on the declared types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from kandiflux.errors import ConversionError, WorkflowError
from kandiflux.util.json_values import as_list, is_list, is_object

__all__ = [
    "BYPASSED",
    "INPUT_NODE",
    "MUTED",
    "OUTPUT_NODE",
    "Graph",
    "Link",
    "Node",
    "Scope",
    "Slot",
    "definitions_of",
    "is_editor_format",
    "slot_type",
]

INPUT_NODE, OUTPUT_NODE = "-10", "-20"
"""Inside a subgraph, links from its inputs come from INPUT_NODE, and links to its outputs go to OUTPUT_NODE."""

MUTED, BYPASSED = 2, 4
"""Values of a node's `mode`. Nodes with any other mode run."""

_SAME_CLASS = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
}
"""Classes that ComfyUI renamed; the editor still accepts the old names."""

_MAX_DEPTH = 50


def is_editor_format(data: object) -> TypeGuard[Mapping[str, Any]]:
    """Returns True for an object with a list of nodes, and with links or a version (format 1.0 may omit links)."""
    return is_object(data) and is_list(data.get("nodes")) and ("links" in data or "version" in data)


@dataclass(frozen=True)
class Slot:
    """One input or output in the file.

    type: `*` for any type.
    widget: the name of the widget that the input belongs to.
    links: ids of links, for a subgraph's own inputs and outputs, which may have several.
    """

    name: str
    type: str
    link: str | None = None
    widget: str | None = None
    label: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """A link from an output to an input. The slots are indexes into the node's outputs and inputs."""

    id: str
    origin_id: str
    origin_slot: int
    target_id: str
    target_slot: int
    type: str = "*"


@dataclass(frozen=True, eq=False)
class Node(Mapping[str, Any]):
    """A node with the fields that conversion needs. As a mapping, it is the object in the file, `data`.

    stored: the file's `widgets_values`, by position or by name.
    named: the file's `widgets_values_named`, if it has them.
    """

    id: str
    type: str
    title: str | None = None
    mode: int = 0
    order: float = 0
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()
    stored: Sequence[Any] | Mapping[str, Any] = ()
    named: Mapping[str, Any] | None = None
    properties: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    @classmethod
    def read(cls, data: Any) -> Node:
        """Reads a node of the file. WorkflowError if it is malformed."""
        if not is_object(data) or data.get("id") is None or data.get("type") is None:
            raise _malformed("a node", "an object with `id` and `type`", data)
        node_id, class_type = _identity(data["id"]), str(data["type"])
        where = f"node {node_id} ({class_type})"
        values = data.get("widgets_values")
        named = data.get("widgets_values_named")
        mode, order = data.get("mode"), data.get("order")
        title = data.get("title")
        return cls(
            id=node_id,
            type=_SAME_CLASS.get(class_type, class_type),
            title=str(title) if title else None,
            mode=mode if isinstance(mode, int) else 0,
            order=order if isinstance(order, (int, float)) else 0,
            inputs=tuple(_read_slot(slot, where) for slot in _list(data, "inputs", where)),
            outputs=tuple(_read_slot(slot, where) for slot in _list(data, "outputs", where)),
            stored=values if is_list(values) or is_object(values) else (),
            named=named if is_object(named) else None,
            properties=_object(data, "properties", where),
            data=data,
        )

    @property
    def proxies(self) -> list[tuple[str, str]]:
        """The inner widgets that a subgraph instance shows, as (inner node's id, widget); -1 is the instance itself."""
        listed = as_list(self.properties.get("proxyWidgets"))
        return [(str(one[0]), str(one[1])) for one in listed if is_list(one) and len(one) > 1]


@dataclass(frozen=True)
class Graph:
    """One level: the file itself, or the definition of one subgraph with its inputs and outputs."""

    nodes: Mapping[str, Node]
    links: Mapping[str, Link]
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def read(cls, data: Any, where: str = "the workflow") -> Graph:
        """Reads a file, or a definition in it, with links in any form. WorkflowError if it is malformed."""
        if not is_object(data):
            raise _malformed(where, "an object with `nodes` and `links`", data)
        nodes = [Node.read(node) for node in _list(data, "nodes", where)]
        links = data.get("links")
        # Very old files have links as an object by id.
        found = list(links.values()) if is_object(links) else _list(data, "links", where)
        return cls(
            nodes={node.id: node for node in nodes},
            links={link.id: link for link in (_read_link(one) for one in found if one)},
            inputs=tuple(_read_slot(slot, where) for slot in _list(data, "inputs", where)),
            outputs=tuple(_read_slot(slot, where) for slot in _list(data, "outputs", where)),
            data=data,
        )

    def feeding(self, slot: Slot) -> Link | None:
        """Returns the link to an input; None if it has none or the link is not in the file."""
        return None if slot.link is None else self.links.get(slot.link)

    def from_input(self, number: int) -> list[Link]:
        """Returns the links from an input of this subgraph, in the editor's order."""
        links = [link for link in self.links.values() if link.origin_id == INPUT_NODE and link.origin_slot == number]
        return _in_order(links, self.inputs, number)

    def to_output(self, number: int) -> Link | None:
        """Returns the link to an output of this subgraph."""
        links = [link for link in self.links.values() if link.target_id == OUTPUT_NODE and link.target_slot == number]
        return next(iter(_in_order(links, self.outputs, number)), None)

    def input_link(self, node: Node, slot: int) -> Link | None:
        """Returns the link to the input with this index in the file."""
        return self.feeding(node.inputs[slot]) if 0 <= slot < len(node.inputs) else None


@dataclass(eq=False)
class Scope:
    """One use of a graph: the file itself, or an instance of a subgraph in its parent scope."""

    graph: Graph
    definitions: Mapping[str, Graph]
    path: tuple[str, ...] = ()
    parent: Scope | None = None
    instance: Node | None = None
    _inner: dict[str, Scope] = field(default_factory=dict[str, "Scope"])

    @classmethod
    def of_file(cls, data: Mapping[str, Any]) -> Scope:
        """Returns the scope of the file itself. WorkflowError if it is malformed."""
        return cls(Graph.read(data), definitions_of(data))

    def execution_id(self, node_id: str) -> str:
        """Returns ComfyUI's id of a node: `5`, or `12:5` for node 5 in the subgraph instance 12."""
        return ":".join((*self.path, node_id))

    def is_instance(self, node: Node) -> bool:
        """Returns whether this node is an instance of a subgraph."""
        return node.type in self.definitions

    def enter(self, node: Node) -> Scope:
        """Returns the scope inside a subgraph instance. ConversionError if the subgraphs contain each other."""
        if node.id not in self._inner:
            if len(self.path) >= _MAX_DEPTH:
                raise ConversionError("The subgraphs contain each other in a cycle.", got=f"{node.type} inside itself")
            definition = self.definitions[node.type]
            self._inner[node.id] = Scope(definition, self.definitions, (*self.path, node.id), self, node)
        return self._inner[node.id]


def definitions_of(data: Mapping[str, Any]) -> dict[str, Graph]:
    """Returns the file's subgraphs by id, including those defined inside other definitions."""
    found: dict[str, Graph] = {}
    pending = [data]
    while pending:
        level = _object(pending.pop(), "definitions", "the workflow")
        for definition in _list(level, "subgraphs", "the workflow's definitions"):
            if not is_object(definition) or definition.get("id") is None:
                raise _malformed("a subgraph", "an object with an `id`", definition)
            subgraph_id = str(definition["id"])
            if subgraph_id not in found:
                found[subgraph_id] = Graph.read(definition, f"the subgraph {definition.get('name') or subgraph_id}")
                pending.append(definition)
    return found


def _identity(value: Any) -> str:
    """Converts an id to text as JavaScript does: 5.0 becomes `5`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _read_slot(data: Any, where: str) -> Slot:
    if not is_object(data):
        raise _malformed(f"an input or output of {where}", "an object with `name` and `type`", data)
    link, widget, label = data.get("link"), data.get("widget"), data.get("label")
    linked = data.get("linkIds")
    return Slot(
        name=str(data.get("name", "")),
        type=slot_type(data.get("type")),
        link=None if link is None else _identity(link),
        widget=str(widget.get("name", "")) if is_object(widget) else None,
        label=str(label) if label else None,
        links=tuple(map(_identity, as_list(linked))),
    )


def slot_type(declared: Any) -> str:
    """Returns a slot's type. A list of choices (in old files) is COMBO; 0 or nothing is `*`, any type."""
    if isinstance(declared, (list, tuple)):
        return "COMBO"
    return str(declared) if declared else "*"


def _read_link(link: Any) -> Link:
    try:
        if is_object(link):
            origin, origin_slot = link["origin_id"], link["origin_slot"]
            target, target_slot, kind = link["target_id"], link["target_slot"], link.get("type")
            link_id = link["id"]
        else:
            link_id, origin, origin_slot, target, target_slot, *rest = link
            kind = rest[0] if rest else None
        ends = _identity(origin), int(origin_slot), _identity(target), int(target_slot)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        expected = "[id, source, slot, target, slot, type], or an object of these"
        raise _malformed("a link", expected, link) from error
    return Link(_identity(link_id), *ends, slot_type(kind))


def _in_order(links: list[Link], slots: tuple[Slot, ...], number: int) -> list[Link]:
    order = slots[number].links if 0 <= number < len(slots) else ()
    return sorted(links, key=lambda link: order.index(link.id) if link.id in order else len(order))


def _list(data: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not is_list(value):
        raise _malformed(f"`{key}` of {where}", "a list", value)
    return value


def _object(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = data.get(key)
    # Some packs write an empty list for an empty object.
    if value is None or value == []:
        return {}
    if not is_object(value):
        raise _malformed(f"`{key}` of {where}", "an object", value)
    return value


def _malformed(what: str, expected: str, got: Any) -> WorkflowError:
    return WorkflowError(
        f"The file looks like an editor workflow but cannot be read: {what} is malformed.",
        expected=expected,
        got=repr(got)[:120],
        hint="Open the file in the editor and save it again.",
    )
