"""Virtual nodes, which exist only in the editor: notes, reroutes, and switches that mute or bypass other nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kandiflux.workflow.editor_format.graph import Node, Scope

__all__ = ["BROADCASTERS", "PRIMITIVE", "is_getter", "is_virtual", "passes_on", "setter_of"]

PRIMITIVE = "PrimitiveNode"
_REROUTES = frozenset({"Reroute", "Reroute (rgthree)", "ReroutePrimitive|pysssss"})
# Several packs have this pair under names of their own: SetNode, "easy setNode", SetNodeX, …
_SETTER, _GETTER = re.compile(r"\bset_?node", re.IGNORECASE), re.compile(r"\bget_?node", re.IGNORECASE)
_NOTES = frozenset({"Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)", "Note Plus (mtb)"})
_SWITCHES = frozenset(
    {
        "Fast Groups Muter (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Muter (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Actions Button (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Node Collector (rgthree)",
        "Node Combiner (rgthree)",
        "Random Unmuter (rgthree)",
    }
)
BROADCASTERS = frozenset(
    {"Anything Everywhere", "Anything Everywhere?", "Anything Everywhere3", "Prompts Everywhere", "Seed Everywhere"}
)
"""Nodes of Use Everywhere: their inputs are linked to other nodes as the workflow is queued; see `broadcast`."""


def passes_on(class_type: str) -> bool:
    """Returns whether nodes of this class pass their first input on to their first output."""
    return class_type in _REROUTES or _SETTER.search(class_type) is not None


def is_getter(class_type: str) -> bool:
    """Returns whether the output of nodes of this class is the input of the setter of the same name."""
    return _GETTER.search(class_type) is not None


def is_virtual(class_type: str) -> bool:
    """Returns whether nodes of this class are never sent to a server, unless its object_info has the class."""
    named = class_type in _NOTES | _SWITCHES or class_type == PRIMITIVE
    # A Seed Everywhere has an output of its own, and makes its number on the server.
    broadcasts = class_type in BROADCASTERS and class_type != "Seed Everywhere"
    return named or broadcasts or passes_on(class_type) or is_getter(class_type)


def setter_of(scope: Scope, getter: Node) -> tuple[Scope, Node] | None:
    """Returns the setter with an input that a getter names, from its own graph or one around it, and its scope."""
    name = _name(getter)
    for around in _outwards(scope):
        for node in around.graph.nodes.values():
            if _SETTER.search(node.type) and node.inputs and _name(node) == name:
                return around, node
    return None


def _outwards(scope: Scope | None) -> Iterator[Scope]:
    while scope is not None:
        yield scope
        scope = scope.parent


def _name(node: Node) -> str:
    return str(node.stored[0]) if isinstance(node.stored, list) and node.stored else ""
