"""The editor's file as a graph: nodes, links and subgraphs, whichever of its formats it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kandiflux.errors import ConversionError, WorkflowError

__all__ = ["INPUT_NODE", "OUTPUT_NODE", "Graph", "Link", "Scope", "is_editor_format"]

INPUT_NODE, OUTPUT_NODE = "-10", "-20"
"""Inside a subgraph, links from the outside come from the first and go to the second."""

NodeDict = Mapping[str, Any]


def is_editor_format(data: Any) -> bool:
    return isinstance(data, Mapping) and isinstance(data.get("nodes"), list) and "links" in data


@dataclass(frozen=True)
class Link:
    origin_id: str
    origin_slot: int
    target_id: str
    target_slot: int
    type: str


@dataclass(frozen=True)
class Graph:
    """One level: the file itself, or the definition of one subgraph."""

    nodes: Mapping[str, NodeDict]
    links: Mapping[str, Link]
    data: Mapping[str, Any]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Graph:
        try:
            nodes = {str(node["id"]): node for node in data["nodes"]}
            links = dict(_read_link(link) for link in data.get("links") or () if link is not None)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise WorkflowError(
                "The file looks like an editor workflow but cannot be read.",
                expected="nodes with ids, and links as [id, source, slot, target, slot, type] or as objects",
                got=repr(error),
            ) from error
        return cls(nodes, links, data)

    def input_link(self, node: NodeDict, slot: int) -> Link | None:
        inputs = node.get("inputs") or ()
        link_id = inputs[slot].get("link") if 0 <= slot < len(inputs) else None
        return None if link_id is None else self.links.get(str(link_id))


def _read_link(link: Any) -> tuple[str, Link]:
    if isinstance(link, Mapping):
        return str(link["id"]), Link(
            str(link["origin_id"]),
            int(link["origin_slot"]),
            str(link["target_id"]),
            int(link["target_slot"]),
            str(link.get("type", "*")),
        )
    link_id, origin, origin_slot, target, target_slot, *rest = link
    kind = str(rest[0]) if rest else "*"
    return str(link_id), Link(str(origin), int(origin_slot), str(target), int(target_slot), kind)


@dataclass(eq=False)
class Scope:
    """A graph where it is used: the file, or one instance of a subgraph with the scope it stands in."""

    graph: Graph
    definitions: Mapping[str, Graph]
    path: tuple[str, ...] = ()
    parent: Scope | None = None
    instance: NodeDict | None = None
    _inner: dict[str, Scope] = field(default_factory=dict)

    @classmethod
    def of_file(cls, data: Mapping[str, Any]) -> Scope:
        subgraphs = (data.get("definitions") or {}).get("subgraphs") or ()
        return cls(Graph.read(data), {str(definition["id"]): Graph.read(definition) for definition in subgraphs})

    def execution_id(self, node_id: str) -> str:
        """ComfyUI's id of a node: `5`, or `12:5` for node 5 in the subgraph instance 12."""
        return ":".join((*self.path, node_id))

    def is_instance(self, node: NodeDict) -> bool:
        return str(node.get("type")) in self.definitions

    def enter(self, node: NodeDict) -> Scope:
        """The inside of a subgraph instance."""
        node_id, definition = str(node["id"]), str(node["type"])
        if node_id not in self._inner:
            if len(self.path) > 50:
                raise ConversionError("The subgraphs contain each other without end.", got=definition)
            self._inner[node_id] = Scope(
                self.definitions[definition], self.definitions, (*self.path, node_id), self, node
            )
        return self._inner[node_id]
