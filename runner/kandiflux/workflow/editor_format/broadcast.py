"""Links of Use Everywhere, a pack whose nodes broadcast what they are given to inputs that have no link.

The editor makes these links as it queues. A file of the pack's newer versions lists them in `extra.ue_links`; else they
are made here by the pack's rules: the types are equal, and so are title, input name or group if the node asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kandiflux.util.json_values import as_list, as_object, is_object
from kandiflux.workflow.editor_format.classes import Classes
from kandiflux.workflow.editor_format.graph import BYPASSED, INPUT_NODE, MUTED, Graph, Link, Node, Slot
from kandiflux.workflow.editor_format.virtual import BROADCASTERS

__all__ = ["with_broadcast_links"]

_SEED, _PROMPTS = "Seed Everywhere", "Prompts Everywhere"
_PROMPT_NAMES = (r"(_|\b)pos(itive|_|\b)|positive", r"(_|\b)neg(ative|_|\b)|negative")
_REGEXES = ("title", "input", "group")


@dataclass(frozen=True)
class _Broadcast:
    """One output that a node broadcasts. `name`: the input that must be of this name, if several have the type."""

    sender: Node
    origin_id: str
    origin_slot: int
    type: str
    priority: int
    title: str | None = None
    input: str | None = None
    name: str | None = None

    def reaches(self, node: Node, title: str, slot: Slot) -> bool:
        shown = slot.label or slot.name
        return (
            node.id != self.origin_id
            and slot.type == self.type
            and (self.name is None or shown == self.name)
            and _found(self.title, title)
            and _found(self.input, shown)
        )


def with_broadcast_links(graph: Graph, classes: Classes, notes: list[str]) -> Graph:
    """Returns the graph with the links that Use Everywhere makes; adds a note for each node whose links are unknown."""
    senders = [node for node in graph.nodes.values() if node.type in BROADCASTERS and _runs(node)]
    if not senders:
        return graph
    listed = [link for link in as_list(as_object(graph.data.get("extra")).get("ue_links")) if is_object(link)]
    links = list(_listed_links(graph, listed) if listed else _matched_links(graph, classes, senders, notes))
    nodes, all_links = dict(graph.nodes), dict(graph.links)
    for slot, link in links:
        node = nodes[link.target_id]
        linked = replace(slot, link=link.id)
        known = any(one.name == slot.name for one in node.inputs)
        inputs = tuple(linked if one.name == slot.name else one for one in node.inputs)
        nodes[node.id] = replace(node, inputs=inputs if known else (*inputs, linked))
        all_links[link.id] = link
    return replace(graph, nodes=nodes, links=all_links)


def _listed_links(graph: Graph, listed: list[Mapping[str, Any]]) -> Iterator[tuple[Slot, Link]]:
    for number, one in enumerate(listed):
        node = graph.nodes.get(str(one.get("downstream")))
        slot, origin_slot = one.get("downstream_slot"), one.get("upstream_slot")
        if node is None or type(slot) is not int or type(origin_slot) is not int or not 0 <= slot < len(node.inputs):
            continue
        target = node.inputs[slot]
        if graph.feeding(target) is None:
            origin = str(one.get("upstream"))
            yield target, Link(f"ue{number}", origin, origin_slot, node.id, slot, str(one.get("type") or "*"))


def _matched_links(
    graph: Graph, classes: Classes, senders: list[Node], notes: list[str]
) -> Iterator[tuple[Slot, Link]]:
    broadcasts: list[_Broadcast] = []
    for sender in senders:
        broadcasts += _broadcasts(graph, classes, sender, notes)
    for node in graph.nodes.values():
        if node in senders or not _runs(node) or node.properties.get("rejects_ue_links"):
            continue
        allowed = as_object(node.properties.get("widget_ue_connectable"))
        title = str(node.title or node.properties.get("Node name for S&R") or node.type)
        for number, slot in enumerate(classes.inputs(node)):
            if graph.feeding(slot) is not None or (classes.has_widget(node, slot) and not allowed.get(slot.name)):
                continue
            reaching = [one for one in broadcasts if one.reaches(node, title, slot)]
            best = [one for one in reaching if one.priority == max(other.priority for other in reaching)]
            # The pack makes no link if two have the same right to.
            if len(best) == 1:
                origin = best[0].origin_id, best[0].origin_slot
                yield slot, Link(f"ue{node.id}/{slot.name}", *origin, node.id, number, slot.type)


def _broadcasts(graph: Graph, classes: Classes, sender: Node, notes: list[str]) -> Iterator[_Broadcast]:
    settings = _settings(sender)
    if any(settings.get(key) for key in ("group_restricted", "color_restricted", "group")):
        notes.append(
            f"{classes.title(sender)!r} (node {sender.id}) broadcasts to a group or colour only, and the file does not "
            "list its links: they are left out. Save it in an editor that has Use Everywhere."
        )
        return
    title, pattern = settings.get("title"), settings.get("input")
    restricted = bool(title or pattern)
    priority = 10 + 10 * (sender.type in (_SEED, _PROMPTS)) + 20 * restricted
    if sender.type == _SEED:
        yield _Broadcast(sender, sender.id, 0, "INT", 40, title, pattern or "seed")
        return
    fed = [(slot, link) for slot in sender.inputs if (link := graph.feeding(slot)) is not None]
    kinds = [_type(graph, classes, link) for _, link in fed]
    for (slot, link), kind in zip(fed, kinds, strict=True):
        prompts = sender.type == _PROMPTS
        name = (slot.label or slot.name) if kinds.count(kind) > 1 and not prompts else None
        number = sender.inputs.index(slot)
        wanted = _PROMPT_NAMES[number] if prompts and number < len(_PROMPT_NAMES) else pattern
        yield _Broadcast(sender, link.origin_id, link.origin_slot, kind, priority, title, wanted, name)


def _settings(sender: Node) -> dict[str, Any]:
    """Returns the restrictions of a node: `title`, `input` and `group` are patterns; `.*` restricts nothing."""
    own = as_object(sender.properties.get("ue_properties"))
    if own:
        patterns = [own.get(f"{key}_regex") for key in _REGEXES]
    else:
        # Before version 7, the three widgets of this class have them.
        patterns = as_list(sender.stored)[:3] if sender.type == "Anything Everywhere?" else []
        own = sender.properties
    found = {key: text for key, text in zip(_REGEXES, patterns, strict=False) if isinstance(text, str)}
    restrictions = {key: text for key, text in found.items() if text not in ("", ".*")}
    return {**restrictions, **{key: own.get(key) for key in ("group_restricted", "color_restricted")}}


def _type(graph: Graph, classes: Classes, link: Link) -> str:
    """Returns the type of what a link carries: that of its output if it is known, else that in the file."""
    node = graph.nodes.get(link.origin_id)
    if node is None or link.origin_id == INPUT_NODE:
        return link.type
    kind = classes.output_type(node, link.origin_slot)
    return link.type if kind == "*" else kind


def _runs(node: Node) -> bool:
    return node.mode not in (MUTED, BYPASSED)


def _found(pattern: str | None, text: str) -> bool:
    if pattern is None:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:  # the pack, too, ignores a pattern that is none
        return True
