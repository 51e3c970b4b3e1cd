"""Finds the node in the editor's file that a node of the prompt came from, and the titles of subgraphs around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kandiflux.util.json_values import as_object
from kandiflux.workflow.editor_format.graph import Scope

__all__ = ["Place", "Places"]


_OFF = (2, 4)  # muted, bypassed


@dataclass(frozen=True)
class Place:
    """A node in the file. `title` includes the titles of the subgraphs around it: `Outer / Inner`."""

    title: str
    node: Mapping[str, Any]
    around: tuple[Mapping[str, Any], ...] = ()
    """The subgraph instances it is in, outermost first."""


class Places:
    """Looks up nodes by the id they have in the prompt: `5`, or `12:5` for node 5 in the subgraph instance 12."""

    def __init__(self, editor: Mapping[str, Any] | None, object_info: Mapping[str, Any]) -> None:
        self._file = Scope.of_file(editor) if editor is not None else None
        self._object_info = object_info

    def find(self, node_id: str) -> Place | None:
        """Returns the node's place; None if there is no editor's file, or no such node in it."""
        around, _, inner = node_id.rpartition(":")
        scope, titles = self._enter(around)
        return None if scope is None else self._place(scope, titles, inner)

    def source(self, node_id: str, input_name: str) -> Place | None:
        """Returns the node that the file links to this input, whether it runs or not; None if there is no link."""
        around, _, inner = node_id.rpartition(":")
        scope, titles = self._enter(around)
        node = scope.graph.nodes.get(inner) if scope is not None else None
        if scope is None or node is None:
            return None
        for slot, declared in enumerate(node.get("inputs") or ()):
            if declared.get("name") == input_name:
                link = scope.graph.input_link(node, slot)
                return None if link is None else self._place(scope, titles, link.origin_id)
        return None

    def running(self) -> Iterator[Place]:
        """Yields every node that runs, including those in subgraphs; muted and bypassed nodes are left out."""
        if self._file is not None:
            yield from self._running(self._file, [], ())

    def _running(self, scope: Scope, titles: list[str], around: tuple[Mapping[str, Any], ...]) -> Iterator[Place]:
        for node_id, node in scope.graph.nodes.items():
            if node.get("mode") in _OFF:
                continue
            if scope.is_instance(node):
                inner = scope.enter(node)
                name = str(node.get("title") or inner.graph.data.get("name") or node_id)
                yield from self._running(inner, [*titles, name], (*around, node))
            elif (place := self._place(scope, titles, node_id)) is not None:
                yield Place(place.title, place.node, around)

    def _enter(self, path: str) -> tuple[Scope | None, list[str]]:
        """Returns the scope of the subgraph instance at `path`, and the titles down to it; the file's for no path."""
        scope = self._file
        titles: list[str] = []
        for outer in filter(None, path.split(":")):
            node = scope.graph.nodes.get(outer) if scope is not None else None
            if scope is None or node is None or not scope.is_instance(node):
                return None, []
            inner = scope.enter(node)
            titles.append(str(node.get("title") or inner.graph.data.get("name") or outer))
            scope = inner
        return scope, titles

    def _place(self, scope: Scope, titles: list[str], node_id: str) -> Place | None:
        node = scope.graph.nodes.get(node_id)
        if node is None:
            return None
        kind = str(node.get("type"))
        display = as_object(self._object_info.get(kind)).get("display_name")
        return Place(" / ".join([*titles, str(node.get("title") or display or kind)]), node)
