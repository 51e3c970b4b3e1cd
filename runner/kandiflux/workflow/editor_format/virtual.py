"""Virtual nodes, which exist only in the editor: notes, reroutes, and switches that mute or bypass other nodes."""

from __future__ import annotations

from collections.abc import Iterator

from kandiflux.workflow.editor_format.graph import Node, Scope

__all__ = ["GETTERS", "PASSING", "PRIMITIVE", "VIRTUAL", "setter_of"]

PRIMITIVE = "PrimitiveNode"
PASSING = frozenset({"Reroute", "Reroute (rgthree)", "SetNode"})
"""Nodes that pass their first input on to their first output."""
GETTERS = frozenset({"GetNode"})
"""Nodes whose output is the input of the SetNode of the same name (widespread packs have this pair)."""

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
        "Random Unmuter (rgthree)",
    }
)
VIRTUAL = _NOTES | _SWITCHES | PASSING | GETTERS | {PRIMITIVE}
"""Never sent to a server, unless its object_info has a class of that name."""


def setter_of(scope: Scope, getter: Node) -> tuple[Scope, Node] | None:
    """Returns the SetNode with an input that a GetNode names, from its own graph or one around it, and its scope."""
    name = _name(getter)
    for around in _outwards(scope):
        for node in around.graph.nodes.values():
            if node.type == "SetNode" and node.inputs and _name(node) == name:
                return around, node
    return None


def _outwards(scope: Scope | None) -> Iterator[Scope]:
    while scope is not None:
        yield scope
        scope = scope.parent


def _name(node: Node) -> str:
    return str(node.stored[0]) if isinstance(node.stored, list) and node.stored else ""
