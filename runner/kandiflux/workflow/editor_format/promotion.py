"""Promoted widgets: widgets of inner nodes that a subgraph instance shows, and their values.

Files store them in two ways:

- An input of the definition that leads to an inner widget makes a widget of the instance. Its value is in the
  instance's `widgets_values`, in the order of the definition's inputs.
- Files of some versions also list the promoted widgets in `properties.proxyWidgets`. Then the values, if there are any,
  are in the order of that list; null means that the inner node has the value. An entry may also be an inner widget that
  no input leads to.

If the instance has no value for a widget, the value of the inner widget is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kandiflux.workflow.editor_format.classes import Classes
from kandiflux.workflow.editor_format.graph import INPUT_NODE, Node, Scope, Slot

__all__ = ["Promotion", "Stored", "instance_inputs"]

_OWN = "-1"
"""The id of the instance itself in `proxyWidgets`: the entry names an input of the definition."""


@dataclass(frozen=True)
class Stored:
    """A stored value, which may be None; distinct from "no value"."""

    value: Any


class Promotion:
    """Looks up the values that subgraph instances of one workflow give to inner widgets."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._hosts: dict[tuple[str, ...], _SubgraphNode] = {}

    def value(self, scope: Scope, number: int) -> Stored | None:
        """Returns the value of input `number` of the instance whose inside is `scope`, if nothing is linked to it."""
        host, outer = scope.instance, scope.parent
        if host is None or outer is None or not 0 <= number < len(scope.graph.inputs):
            return None
        overridden = self.override(outer, host.id, scope.graph.inputs[number].name)
        if overridden is not None:
            return overridden
        stored = self._host(scope).values
        target = self._target(scope, number)
        if number in stored:
            return Stored(stored[number] if target is None else self._normalized_for(scope, *target, stored[number]))
        return None if target is None else self._own_value(scope, *target)

    def override(self, scope: Scope, node_id: str, widget: str) -> Stored | None:
        """Returns the value that the instance around a node gives to one of its widgets without a link."""
        return self._host(scope).overrides.get((node_id, widget)) if scope.instance is not None else None

    def _own_value(self, scope: Scope, node: Node, slot: Slot) -> Stored | None:
        if scope.is_instance(node):
            inner = scope.enter(node)
            return self.value(inner, _input_number(inner, slot.name))
        values = self._classes.values(node)
        overridden = self.override(scope, node.id, slot.name)
        return overridden or (Stored(values[slot.name]) if slot.name in values else None)

    def _normalized_for(self, scope: Scope, node: Node, slot: Slot, value: Any) -> Any:
        """Normalizes a value for the widget of the inner node."""
        while scope.is_instance(node):
            scope = scope.enter(node)
            target = self._target(scope, _input_number(scope, slot.name))
            if target is None:
                return value
            node, slot = target
        return self._classes.normal(node, slot.name, value)

    def _target(self, scope: Scope, number: int) -> tuple[Node, Slot] | None:
        """Returns the first inner widget that an input of the subgraph leads to."""
        for link in scope.graph.from_input(number):
            node = scope.graph.nodes.get(link.target_id)
            if node is None:
                continue
            # By the link's id: in some files target_slot counts the listed inputs, in others all inputs of the class.
            slot = next((slot for slot in node.inputs if slot.link == link.id), None)
            if slot is None:
                continue
            if scope.is_instance(node):
                inner = scope.enter(node)
                if self._target(inner, _input_number(inner, slot.name)) is not None:
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
    """An instance's own values: by input number, or by (inner node, widget) if no input leads to the widget."""

    values: Mapping[int, Any]
    overrides: Mapping[tuple[str, str], Stored]


def instance_inputs(scope: Scope, node: Node) -> tuple[Slot, ...]:
    """Returns the inputs of an instance: those of its definition, with links matched by name.

    A file may list fewer inputs than the definition has.
    """
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
        number = _input_number(scope, widget) if node_id == _OWN else _input_number_to(scope, node_id, widget)
        if number >= 0:
            values[number] = value
        else:
            overrides[node_id, widget] = Stored(value)
    return _SubgraphNode(values, overrides)


def _input_number(scope: Scope, name: str) -> int:
    """Returns the number of the definition's input with this name; -1 if there is none."""
    return next((number for number, slot in enumerate(scope.graph.inputs) if slot.name == name), -1)


def _input_number_to(scope: Scope, node_id: str, widget: str) -> int:
    """Returns the number of the definition's input that leads to this inner widget; -1 if there is none."""
    node = scope.graph.nodes.get(node_id)
    for slot in node.inputs if node is not None else ():
        link = scope.graph.feeding(slot)
        if slot.name == widget and link is not None and link.origin_id == INPUT_NODE:
            return link.origin_slot
    return -1
