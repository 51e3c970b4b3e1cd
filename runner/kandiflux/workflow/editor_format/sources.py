"""Finds the source of an input: follows links upstream, into and out of subgraphs, past nodes that do not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kandiflux.errors import ConversionError
from kandiflux.workflow.editor_format.classes import Classes
from kandiflux.workflow.editor_format.graph import BYPASSED, INPUT_NODE, MUTED, Link, Node, Scope, Slot
from kandiflux.workflow.editor_format.promotion import Promotion, instance_inputs
from kandiflux.workflow.editor_format.virtual import PRIMITIVE, is_getter, passes_on, setter_of

__all__ = ["Sources", "Value", "Wire"]


@dataclass(frozen=True)
class Wire:
    """A source that is an output of a node that runs."""

    node_id: str
    slot: int


@dataclass(frozen=True)
class Value:
    """A source that is a value, to be written into the prompt. `primitive` is the id of its PrimitiveNode, if any."""

    value: Any
    primitive: str | None = None


@dataclass(frozen=True)
class _InputRef:
    """An input on the way upstream.

    kind: the type that is looked for; it may differ from the input's own type.
    direct: only edges of subgraphs lie between this input and the first one. A PrimitiveNode sets only direct inputs.
    """

    scope: Scope
    node: Node
    slot: Slot
    kind: str
    direct: bool = False

    @property
    def key(self) -> tuple[tuple[str, ...], str, str]:
        return (*self.scope.path,), self.node.id, self.slot.name


class Sources:
    """Finds the sources of inputs in one workflow."""

    def __init__(self, classes: Classes, promotion: Promotion) -> None:
        self._classes = classes
        self._promotion = promotion

    def of(self, scope: Scope, node: Node, slot: Slot) -> Wire | Value | None:
        """Returns the source of an input; None if it has no link, or the link leads to a muted node or to nothing.

        Raises ConversionError if the links form a cycle.
        """
        ref: Wire | Value | _InputRef | None = _InputRef(scope, node, slot, slot.type, direct=True)
        seen: set[tuple[tuple[str, ...], str, str]] = set()
        while isinstance(ref, _InputRef):
            if ref.key in seen:
                raise ConversionError(
                    f"The links around node {ref.scope.execution_id(ref.node.id)} form a cycle.",
                    hint="Open the file in the editor and remove one of them.",
                )
            seen.add(ref.key)
            ref = self._upstream(ref)
        return ref

    def inputs(self, scope: Scope, node: Node) -> tuple[Slot, ...]:
        """Returns the node's inputs as the editor has them; an instance has those of its definition."""
        if not scope.is_instance(node):
            return self._classes.inputs(node)
        return instance_inputs(scope, node)

    def _upstream(self, ref: _InputRef) -> Wire | Value | _InputRef | None:
        link = ref.scope.graph.feeding(ref.slot)
        if link is None:
            return None
        if link.origin_id == INPUT_NODE and ref.scope.parent is not None:
            return self._outside(ref.scope, link.origin_slot, ref.direct)
        return self._output(ref.scope, link, ref.kind, ref.direct)

    def _outside(self, scope: Scope, number: int, direct: bool) -> Value | _InputRef | None:
        """Returns what the instance of a subgraph has at input `number`: its link or the value of its widget."""
        declared, outer, host = scope.graph.inputs, scope.parent, scope.instance
        if outer is None or host is None or not 0 <= number < len(declared):
            return None
        for slot in self.inputs(outer, host)[number : number + 1]:
            if outer.graph.feeding(slot) is not None:
                return _InputRef(outer, host, slot, slot.type, direct)
        found = self._promotion.value(scope, number)
        return None if found is None else Value(found.value)

    def _output(self, scope: Scope, link: Link, kind: str, direct: bool) -> Wire | Value | _InputRef | None:
        while True:
            node = scope.graph.nodes.get(link.origin_id)
            if node is None:
                return None
            if node.mode == BYPASSED and node.type != PRIMITIVE:
                return self._through_bypassed(scope, node, link.origin_slot, kind)
            if not scope.is_instance(node):
                break
            if node.mode == MUTED:
                return None
            inner = scope.definitions[node.type].to_output(link.origin_slot)
            if inner is None:
                return None
            scope, link = scope.enter(node), inner
            if link.origin_id == INPUT_NODE:
                return self._outside(scope, link.origin_slot, direct)
        known = self._classes.info(node.type) is not None
        if passes_on(node.type) and not known:
            return _InputRef(scope, node, node.inputs[0], kind) if node.inputs else None
        if is_getter(node.type) and not known:
            found = setter_of(scope, node)
            return None if found is None else _InputRef(found[0], found[1], found[1].inputs[0], kind)
        node_id = scope.execution_id(node.id)
        if node.type == PRIMITIVE:
            return self._primitive(scope, node, node_id) if direct else None
        return Wire(node_id, link.origin_slot)

    def _primitive(self, scope: Scope, node: Node, node_id: str) -> Value | None:
        found = self._promotion.override(scope, node.id, "value")
        if found is not None:
            return Value(found.value, node_id)
        values = list(node.stored.values()) if isinstance(node.stored, Mapping) else node.stored
        return Value(values[0], node_id) if values else None

    def _through_bypassed(self, scope: Scope, node: Node, number: int, kind: str) -> _InputRef | None:
        """Returns the input that a bypassed node passes on.

        It is the input with the number of the output if its type fits, else the first that fits.
        """
        inputs = self.inputs(scope, node)
        offered = self._classes.output_type(node, number)
        chosen: Sequence[Slot]
        if kind == "*":
            chosen = inputs[number : number + 1] or inputs[:1]
        else:
            same = [slot for slot in inputs[number : number + 1] if _fits(slot.type, offered)]
            chosen = (
                [slot for slot in same if _fits(slot.type, kind)]
                or [slot for slot in inputs if slot.type == kind]
                or [slot for slot in inputs if _fits(slot.type, offered) and _fits(slot.type, kind)]
            )
        return _InputRef(scope, node, chosen[0], chosen[0].type) if chosen else None


def _fits(one: str, other: str) -> bool:
    if not one or not other or "*" in (one, other) or one == other:
        return True
    one, other = one.lower(), other.lower()
    if "," not in one and "," not in other:
        return one == other
    return any(_fits(a, b) for a in one.split(",") for b in other.split(","))
