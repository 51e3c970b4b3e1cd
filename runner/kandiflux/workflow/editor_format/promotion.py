"""Widgets that a subgraph's instance shows in place of inner nodes, and the values they have there.

Files have them in two dialects. An input of the definition that leads to an inner widget makes a widget of the
instance, whose value stands in the instance's own `widgets_values`, one after another in the definition's order. Files
of some versions list what is shown in `properties.proxyWidgets` besides; then the values, where there are any, follow
that list, with null for what the inner node keeps itself, and an entry may stand for an inner widget that no input
leads to. Without a value of the instance's own, the inner widget's counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kandiflux.workflow.editor_format.classes import Classes
from kandiflux.workflow.editor_format.graph import INPUT_NODE, Node, Scope, Slot

__all__ = ["Promotion", "Stored", "instance_inputs"]

_OWN = "-1"
"""In `proxyWidgets`, the instance itself: the name is that of an input of the definition."""


@dataclass(frozen=True)
class Stored:
    """A value that there is, be it None."""

    value: Any


class Promotion:
    """What the instances of subgraphs in one workflow give to inner widgets."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._hosts: dict[tuple[str, ...], _SubgraphNode] = {}

    def value(self, scope: Scope, number: int) -> Stored | None:
        """What the instance `scope` is the inside of gives to its input `number`, where nothing is linked to it."""
        host, outer = scope.instance, scope.parent
        if host is None or outer is None or not 0 <= number < len(scope.graph.inputs):
            return None
        overridden = self.override(outer, host.id, scope.graph.inputs[number].name)
        if overridden is not None:
            return overridden
        stored = self._host(scope).values
        target = self._target(scope, number)
        if number in stored:
            return Stored(stored[number] if target is None else self._as_of(scope, *target, stored[number]))
        return None if target is None else self._own_value(scope, *target)

    def override(self, scope: Scope, node_id: str, widget: str) -> Stored | None:
        """The value that the instance around a node gives to one of its widgets without a link."""
        return self._host(scope).overrides.get((node_id, widget)) if scope.instance is not None else None

    def _own_value(self, scope: Scope, node: Node, slot: Slot) -> Stored | None:
        if scope.is_instance(node):
            inner = scope.enter(node)
            return self.value(inner, _number(inner, slot.name))
        values = self._classes.values(node)
        overridden = self.override(scope, node.id, slot.name)
        return overridden or (Stored(values[slot.name]) if slot.name in values else None)

    def _as_of(self, scope: Scope, node: Node, slot: Slot, value: Any) -> Any:
        """A value as the widget in the inner node has it."""
        while scope.is_instance(node):
            scope = scope.enter(node)
            target = self._target(scope, _number(scope, slot.name))
            if target is None:
                return value
            node, slot = target
        return self._classes.normal(node, slot.name, value)

    def _target(self, scope: Scope, number: int) -> tuple[Node, Slot] | None:
        """The first inner widget that an input of the subgraph leads to."""
        for link in scope.graph.from_input(number):
            node = scope.graph.nodes.get(link.target_id)
            if node is None:
                continue
            # By its link: a file's place of an input may be one among those it lists, or one among all there are.
            slot = next((slot for slot in node.inputs if slot.link == link.id), None)
            if slot is None:
                continue
            if scope.is_instance(node):
                inner = scope.enter(node)
                if self._target(inner, _number(inner, slot.name)) is not None:
                    return node, slot
            elif self._classes.has_widget(node, slot):
                return node, slot
        return None

    def _host(self, scope: Scope) -> _SubgraphNode:
        if scope.path not in self._hosts:
            self._hosts[scope.path] = self._read_host(scope)
        return self._hosts[scope.path]

    def _read_host(self, scope: Scope) -> _SubgraphNode:
        host = scope.instance
        if host is None:
            return _SubgraphNode({}, {})
        declared = scope.graph.inputs
        if isinstance(host.stored, Mapping):
            by_name = host.stored
            return _SubgraphNode({n: by_name[slot.name] for n, slot in enumerate(declared) if slot.name in by_name}, {})
        proxies = host.proxies
        if proxies and len(host.stored) <= len(proxies):
            return _by_proxies(scope, list(zip(proxies, host.stored, strict=False)))
        shown = [number for number in range(len(declared)) if self._target(scope, number) is not None]
        return _SubgraphNode(dict(zip(shown, host.stored, strict=False)), {})


@dataclass(frozen=True)
class _SubgraphNode:
    """An instance's own values: by input number, and by (inner node, widget) for those without an input."""

    values: Mapping[int, Any]
    overrides: Mapping[tuple[str, str], Stored]


def instance_inputs(scope: Scope, node: Node) -> tuple[Slot, ...]:
    """An instance's inputs are its definition's; links belong to them by name, as a file may list fewer."""
    listed = {slot.name: slot for slot in node.inputs}
    declared = scope.definitions[node.type].inputs
    slots = [Slot(slot.name, slot.type, listed[slot.name].link if slot.name in listed else None) for slot in declared]
    names = {slot.name for slot in declared}
    return (*slots, *(slot for slot in node.inputs if slot.name not in names))


def _by_proxies(scope: Scope, entries: list[tuple[tuple[str, str], Any]]) -> _SubgraphNode:
    values: dict[int, Any] = {}
    overrides: dict[tuple[str, str], Stored] = {}
    for (node_id, widget), value in entries:
        if value is None:
            continue
        number = _number(scope, widget) if node_id == _OWN else _number_to(scope, node_id, widget)
        if number >= 0:
            values[number] = value
        else:
            overrides[node_id, widget] = Stored(value)
    return _SubgraphNode(values, overrides)


def _number(scope: Scope, name: str) -> int:
    """The definition's input of this name; -1 for none."""
    return next((number for number, slot in enumerate(scope.graph.inputs) if slot.name == name), -1)


def _number_to(scope: Scope, node_id: str, widget: str) -> int:
    """The definition's input that leads to this inner widget; -1 for none."""
    node = scope.graph.nodes.get(node_id)
    for slot in node.inputs if node is not None else ():
        link = scope.graph.feeding(slot)
        if slot.name == widget and link is not None and link.origin_id == INPUT_NODE:
            return link.origin_slot
    return -1
