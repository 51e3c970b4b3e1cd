"""Converts the editor format to the API format as the editor does: a pure function of the file and object_info.

Tests compare the results with the editor's own (frontend 1.27.10, and current versions for newer formats). Where these
differ, the current ones count. There are two deliberate differences, because the editor's results are wrong there:
values go to the widgets they were saved from, and the nodes of a muted or bypassed subgraph do not run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kandiflux.errors import ConversionError, WorkflowError
from kandiflux.util.json_values import is_list
from kandiflux.workflow.editor_format.broadcast import with_broadcast_links
from kandiflux.workflow.editor_format.classes import Classes
from kandiflux.workflow.editor_format.graph import (
    BYPASSED,
    MUTED,
    Graph,
    Node,
    Scope,
    Slot,
    definitions_of,
    is_editor_format,
)
from kandiflux.workflow.editor_format.groups import with_groups_expanded
from kandiflux.workflow.editor_format.packs import drawn_seed, with_choice_index
from kandiflux.workflow.editor_format.promotion import Promotion
from kandiflux.workflow.editor_format.sources import Sources, Value, Wire
from kandiflux.workflow.editor_format.texts import SAVING_CLASSES, as_queued, has_choices, replace_placeholders
from kandiflux.workflow.editor_format.virtual import is_virtual
from kandiflux.workflow.editor_format.widgets import javascript_text

__all__ = ["NOTHING_RUNS", "Conversion", "convert"]

NOTHING_RUNS = "Nothing runs:"
"""How the note begins that says why the server would find nothing to run."""

_MAX_NODES = 10_000


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    prompt: nodes in the API format.
    fed_by: the inputs that each PrimitiveNode sets, as (node id, input name).
    unknown: classes that object_info lacks, with the titles of their nodes. Their links are kept; their values are kept
        only if the file has names for them.
    left_out: classes that object_info lacks, with the titles of their nodes, that are left out as nothing needs them.
    drawn: the inputs, as (node id, input name), whose values were drawn for this run.
    notes: what a person should know of the result, one sentence each.
    """

    prompt: dict[str, dict[str, Any]]
    fed_by: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])
    unknown: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    left_out: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    drawn: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    notes: list[str] = field(default_factory=list[str])


def convert(
    workflow: Mapping[str, Any],
    object_info: Mapping[str, Any],
    *,
    draw: random.Random | None = None,
    now: datetime | None = None,
) -> Conversion:
    """Returns the prompt that the editor would send for this file.

    draw: makes the random choices of dynamic prompts, `{a|b}`, and of seeds that a pack's node draws, as the editor
        does for each run. Without it, both stay as they are.
    now: the time for `%date:…%` in file names; the current time by default.

    Raises ConversionError if links or subgraphs form a cycle, WorkflowError if this is not an editor-format file.
    """
    if not is_editor_format(workflow):
        raise WorkflowError("This is not an editor-format workflow.", expected="an object with `nodes` and `links`")
    classes = Classes(object_info)
    levels = {"": Graph.read(workflow), **definitions_of(workflow)}
    notes: list[str] = []
    for key, graph in levels.items():
        levels[key] = with_broadcast_links(with_groups_expanded(graph, workflow, object_info, notes), classes, notes)
    root = Scope(levels.pop(""), levels)
    converter = _Converter(classes, root, draw, now or datetime.now())
    running: list[tuple[Scope, Node]] = []
    for found in _running(classes, root):
        running.append(found)
        if len(running) > _MAX_NODES:
            raise ConversionError(f"With its subgraphs the workflow has more than {_MAX_NODES} nodes.")
    # A file of one unknown node is not a decoration.
    decorated = any(classes.info(node.type) is not None for _, node in running)
    for scope, node in running:
        if decorated and classes.info(node.type) is None and not _is_linked(scope, node):
            converter.leave_out(scope, node)
        else:
            converter.add(scope, node)
    prompt = _without_dangling(converter.prompt)
    notes += [*converter.notes(), *_nothing_runs(prompt, classes, root)]
    return Conversion(prompt, converter.fed_by, converter.unknown, converter.left_out, converter.drawn, notes)


def _is_linked(scope: Scope, node: Node) -> bool:
    links = scope.graph.links.values()
    return any(slot.link is not None for slot in node.inputs) or any(link.origin_id == node.id for link in links)


def _nothing_runs(prompt: Mapping[str, Any], classes: Classes, root: Scope) -> list[str]:
    """Returns a note if the server would find nothing to run."""
    if not root.graph.nodes:
        return [f"{NOTHING_RUNS} the workflow is empty."]
    if not prompt:
        off = [node for node in root.graph.nodes.values() if node.mode in (MUTED, BYPASSED)]
        return [
            f"{NOTHING_RUNS} {len(off)} of {len(root.graph.nodes)} nodes are muted or bypassed, the rest is not sent."
        ]
    kinds = {node["class_type"] for node in prompt.values()}
    if any(classes.info(kind) is None or classes.is_output(kind) for kind in kinds):
        return []
    return [f"{NOTHING_RUNS} no node that runs saves or shows a result."]


def _running(classes: Classes, scope: Scope) -> Iterator[tuple[Scope, Node]]:
    """Yields every node that runs, with inner nodes in place of their subgraph."""
    nodes = list(scope.graph.nodes.values())
    for node in nodes if scope.parent is not None else sorted(nodes, key=lambda node: node.order):
        if node.mode in (MUTED, BYPASSED) or (is_virtual(node.type) and classes.info(node.type) is None):
            continue
        if scope.is_instance(node):
            yield from _running(classes, scope.enter(node))
        else:
            yield scope, node


class _Converter:
    def __init__(self, classes: Classes, root: Scope, draw: random.Random | None, now: datetime) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}
        self.fed_by: dict[str, list[tuple[str, str]]] = {}
        self.unknown: dict[str, list[str]] = {}
        self.left_out: dict[str, list[str]] = {}
        self.drawn: list[tuple[str, str]] = []
        self._kept: list[str] = []
        self._doubts: dict[tuple[str, str], list[str]] = {}
        self._classes, self._root, self._draw, self._now = classes, root, draw, now
        self._promotion = Promotion(classes)
        self._sources = Sources(classes, self._promotion)

    def add(self, scope: Scope, node: Node) -> None:
        title, node_id = self._classes.title(node), scope.execution_id(node.id)
        if self._classes.info(node.type) is None:
            self.unknown.setdefault(node.type, []).append(title)
        doubt = self._classes.doubt(node)
        if doubt is not None:
            self._doubts.setdefault((node.type, doubt), []).append(f"{title!r} (node {node_id})")
        values = self._classes.values(node)
        for name in values:
            shown = self._promotion.override(scope, node.id, name)
            if shown is not None:
                values[name] = shown.value
        sources = {slot.name: self._source(scope, node, slot) for slot in self._classes.inputs(node)}
        for name, source in sources.items():
            if isinstance(source, Value) and source.primitive is not None:
                values[name] = source.value
                self.fed_by.setdefault(source.primitive, []).append((node_id, name))
        inputs = {name: self._sent(node, name, value) for name, value in values.items()}
        for name, source in sources.items():
            if isinstance(source, Wire):
                inputs[name] = [source.node_id, source.slot]
            elif isinstance(source, Value) and source.primitive is None:
                inputs[name] = self._written(node, name, source.value)
        with_choice_index(node.type, inputs)
        drawn = drawn_seed(node, inputs, self._draw or random.Random(0))
        if drawn and self._draw is None:
            self._kept.append(f"{title!r} (node {node_id}) keeps its special seed: the editor draws one for each run.")
            drawn = {}
        inputs.update(drawn)
        self.drawn += [(node_id, name) for name in drawn]
        self.prompt[node_id] = {"inputs": inputs, "class_type": node.type, "_meta": {"title": title}}

    def leave_out(self, scope: Scope, node: Node) -> None:
        """Notes a node of an unknown class that nothing needs."""
        self.left_out.setdefault(node.type, []).append(self._classes.title(node))

    def notes(self) -> list[str]:
        """Returns what a person should know of the nodes."""
        gone = [
            f"Left out: {', '.join(map(repr, titles[:3]))}{_more(titles, 3)} ({kind}). The server lacks the class, and "
            "no other node is linked to it."
            for kind, titles in self.left_out.items()
        ]
        doubts = [f"{places[0]}{_more(places, 1)}: {doubt}." for (_, doubt), places in self._doubts.items()]
        return [*gone, *doubts, *self._kept]

    def _source(self, scope: Scope, node: Node, slot: Slot) -> Wire | Value | None:
        source = self._sources.of(scope, node, slot)
        if not isinstance(source, Value) or self._classes.info(node.type) is None:
            return source
        specs = self._classes.specs(node.type)
        # The names of inputs that a dynamic input adds begin with its name: `how.width`.
        spec = specs.get(slot.name) or specs.get(slot.name.partition(".")[0])
        if spec is None:
            return None
        # A PrimitiveNode can only set widgets; a value of a subgraph instance goes to any input that its link leads to.
        fits = source.primitive is None or spec.is_widget or spec.is_value or spec.is_dynamic
        return source if fits else None

    def _sent(self, node: Node, name: str, value: Any) -> Any:
        """Returns a node's own value in the form in which it is queued."""
        if isinstance(value, str):
            spec = self._classes.specs(node.type).get(name)
            if spec is not None and spec.options.get("dynamicPrompts") and (self._draw or not has_choices(value)):
                value = as_queued(value, self._draw or random.Random(0))
            if name == "filename_prefix" and node.type in SAVING_CLASSES:
                value = replace_placeholders(value, self._now, self._widget_text)
        return self._written(node, name, value)

    def _written(self, node: Node, name: str, value: Any) -> Any:
        spec = self._classes.specs(node.type).get(name)
        if spec is not None and spec.widget_type == "CURVE" and value is not None:
            return {"__type__": "CURVE", "__value__": value}
        # A bare list would be read as a link.
        return {"__value__": value} if is_list(value) else value

    def _widget_text(self, name: str, widget: str) -> str | None:
        """Returns the value for `%Node.widget%`; finds the node by its "Node name for S&R", else by its title."""
        nodes = [node for _, node in _all_nodes(self._root)]
        named = [node for node in nodes if node.properties.get("Node name for S&R") == name]
        named = named or [node for node in nodes if self._classes.title(node) == name]
        values = self._classes.values(named[0]) if named else {}
        if widget not in values:
            return None
        return "" if values[widget] is None else javascript_text(values[widget])


def _more(listed: list[str], shown: int) -> str:
    return f" and {len(listed) - shown} more" if len(listed) > shown else ""


def _all_nodes(scope: Scope) -> Iterator[tuple[Scope, Node]]:
    for node in scope.graph.nodes.values():
        if scope.is_instance(node):
            yield from _all_nodes(scope.enter(node))
        yield scope, node


def _without_dangling(prompt: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Removes links to nodes that do not run, and sorts ids in JavaScript's order of object keys: numbers first."""
    for node in prompt.values():
        node["inputs"] = {
            name: value
            for name, value in node["inputs"].items()
            if not (isinstance(value, list) and value[0] not in prompt)
        }
    return {node_id: prompt[node_id] for node_id in sorted(prompt, key=_number_first)}


def _number_first(node_id: str) -> tuple[bool, int]:
    is_number = node_id.isascii() and node_id.isdigit() and len(node_id) < 10
    return not is_number, int(node_id) if is_number else 0
