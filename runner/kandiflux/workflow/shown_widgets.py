"""What the canvas shows to be set: the widgets of subgraphs, and the inputs of the editor's App Mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kandiflux.util.json_values import as_list, as_object, is_list
from kandiflux.workflow.editor_format.classes import Classes
from kandiflux.workflow.editor_format.graph import Node, Scope

__all__ = ["ShownWidget", "shown_widgets"]

Target = tuple[str, str]


@dataclass(frozen=True)
class ShownWidget:
    """A widget on the canvas, and the inputs of the prompt, as (node id, input name), that it sets.

    place: the id of its node, as in the prompt: `12`, or `12:5` inside the subgraph 12.
    title: the node's title. `label`: the name that the canvas shows, if it is another.
    public: whether App Mode shows it, under its name alone.
    """

    place: str
    title: str
    name: str
    targets: tuple[Target, ...]
    label: str | None = None
    public: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it goes by."""
        return (self.name,) if self.label is None else (self.name, self.label)


def shown_widgets(
    editor: Mapping[str, Any] | None, object_info: Mapping[str, Any], prompt: Mapping[str, Mapping[str, Any]]
) -> list[ShownWidget]:
    """Returns the widgets of subgraphs, outer ones first, then App Mode's inputs. Only those that set something."""
    if editor is None:
        return []
    classes, root = Classes(object_info), Scope.of_file(editor)
    found = [_present(widget, prompt) for widget in _of_subgraphs(classes, root)]
    of_subgraphs = [widget for widget in found if widget.targets]
    public = [_present(widget, prompt) for widget in _of_app(editor, classes, root, of_subgraphs)]
    names = Counter(widget.name for widget in public)
    # A name that two have means neither of them.
    return [*of_subgraphs, *(widget for widget in public if widget.targets and names[widget.name] == 1)]


def _present(widget: ShownWidget, prompt: Mapping[str, Mapping[str, Any]]) -> ShownWidget:
    present = tuple((at, name) for at, name in widget.targets if at in prompt and name in prompt[at]["inputs"])
    return replace(widget, targets=present)


def _of_subgraphs(classes: Classes, scope: Scope) -> Iterator[ShownWidget]:
    instances = [node for node in scope.graph.nodes.values() if scope.is_instance(node)]
    for node in instances:
        inner = scope.enter(node)
        title = str(node.title or inner.graph.data.get("name") or node.type)
        place, reached = scope.execution_id(node.id), set[Target]()
        labels = {slot.name: slot.label for slot in node.inputs}
        for number, slot in enumerate(inner.graph.inputs):
            targets = tuple(_targets(classes, inner, number))
            reached.update(targets)
            yield ShownWidget(place, title, slot.name, targets, labels.get(slot.name) or slot.label)
        for inner_id, name in node.proxies:
            target = (inner.execution_id(inner_id), name)
            if inner_id in inner.graph.nodes and target not in reached:
                yield ShownWidget(place, title, name, (target,))
    for node in instances:
        yield from _of_subgraphs(classes, scope.enter(node))


def _targets(classes: Classes, scope: Scope, number: int) -> Iterator[Target]:
    """Yields the inner widgets that an input of a subgraph leads to."""
    for link in scope.graph.from_input(number):
        node = scope.graph.nodes.get(link.target_id)
        slot = next((slot for slot in node.inputs if slot.link == link.id), None) if node is not None else None
        if node is None or slot is None:
            continue
        if scope.is_instance(node):
            inner = scope.enter(node)
            for at, declared in enumerate(inner.graph.inputs):
                if declared.name == slot.name:
                    yield from _targets(classes, inner, at)
        elif classes.has_widget(node, slot):
            yield scope.execution_id(node.id), slot.name


def _of_app(
    editor: Mapping[str, Any], classes: Classes, root: Scope, of_subgraphs: list[ShownWidget]
) -> Iterator[ShownWidget]:
    """Yields the inputs that `extra.linearData` lists as [node id, widget], in its order.

    The id is that of a node in the file, or of one inside a subgraph, or `GRAPH:ID:WIDGET` in newer files.
    """
    nodes: dict[str, list[tuple[Scope, Node]]] = {}
    for scope, node in _all_nodes(root):
        nodes.setdefault(node.id, []).append((scope, node))
    listed = as_object(as_object(editor.get("extra")).get("linearData")).get("inputs")
    for entry in as_list(listed):
        if not is_list(entry) or len(entry) < 2:
            continue
        name = str(entry[1])
        node_id = str(entry[0]).removesuffix(f":{name}").rpartition(":")[2]
        # A node of the file itself comes before one inside a subgraph; two inside have the same right.
        found = nodes.get(node_id, [])
        found = [one for one in found if one[0].parent is None] or found
        if len(found) != 1:
            continue
        scope, node = found[0]
        place = scope.execution_id(node.id)
        inner = next((one for one in of_subgraphs if one.place == place and one.name == name), None)
        if inner is not None:
            yield replace(inner, public=True)
        else:
            yield ShownWidget(place, classes.title(node), name, ((place, name),), public=True)


def _all_nodes(scope: Scope) -> Iterator[tuple[Scope, Node]]:
    for node in scope.graph.nodes.values():
        yield scope, node
        if scope.is_instance(node):
            yield from _all_nodes(scope.enter(node))
