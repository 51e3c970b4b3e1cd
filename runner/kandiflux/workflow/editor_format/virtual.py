"""Nodes that exist in the editor only: notes, wires that look like nodes, and switches of other nodes' modes."""

from __future__ import annotations

from collections.abc import Iterator

from kandiflux.workflow.editor_format.graph import Node, Scope

__all__ = ["GETTERS", "PASSING", "PRIMITIVE", "VIRTUAL", "setter_of"]

PRIMITIVE = "PrimitiveNode"
PASSING = frozenset({"Reroute", "Reroute (rgthree)", "SetNode"})
"""What comes in at their first input goes out at their first output."""
GETTERS = frozenset({"GetNode"})
"""They give what comes into the SetNode of the same name (widespread packs have this pair)."""

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
"""Never sent. A server that has a class of one of these names still sees it: object_info is asked first."""


def setter_of(scope: Scope, getter: Node) -> tuple[Scope, Node] | None:
    """The SetNode a GetNode names, in its own graph or one around it, with an input."""
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
