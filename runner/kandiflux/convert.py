"""Editor format → API format, as the editor does it: a pure function of the file and object_info."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kandiflux.errors import ConversionError, WorkflowError
from kandiflux.graph import INPUT_NODE, OUTPUT_NODE, Link, NodeDict, Scope, is_editor_format
from kandiflux.inputs import input_specs
from kandiflux.widgets import widget_values

__all__ = ["Conversion", "convert"]

_MUTED, _BYPASSED = 2, 4
_NOTES = frozenset({"Note", "MarkdownNote"})
_REROUTE, _PRIMITIVE = "Reroute", "PrimitiveNode"
_VIRTUAL = _NOTES | {_REROUTE, _PRIMITIVE}


@dataclass(frozen=True)
class Conversion:
    """`prompt` in the API format. `fed_by`: what each PrimitiveNode writes to, as (node id, input name).

    `unknown`: classes that object_info lacks, with the titles of their nodes; their links are kept, and their
    values only where the file itself names them.
    """

    prompt: dict[str, dict[str, Any]]
    fed_by: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Source:
    """Where an input gets its value: an output of a node that runs …"""

    node_id: str
    slot: int


@dataclass(frozen=True)
class _Value:
    """… or a value that is written into the prompt. `primitive` is the node that holds it, if one does."""

    value: Any
    primitive: str | None = None


def convert(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> Conversion:
    """The prompt that the editor would send for this file.

    ConversionError for what cannot be expressed (old group nodes, loops); WorkflowError for what is no
    editor-format file.
    """
    if not is_editor_format(workflow):
        raise WorkflowError("This is not an editor-format workflow.", expected="an object with `nodes` and `links`")
    converter = _Converter(object_info)
    for scope, node in _walk(Scope.of_file(workflow)):
        converter.add(scope, node)
    converter.drop_dangling()
    return Conversion(converter.prompt, converter.fed_by, converter.unknown)


def _walk(scope: Scope) -> Iterator[tuple[Scope, NodeDict]]:
    """Every node that runs, inner ones in place of their subgraph."""
    for node in sorted(scope.graph.nodes.values(), key=lambda node: node.get("order") or 0):
        kind, mode = str(node.get("type")), node.get("mode", 0)
        if kind in _VIRTUAL or mode == _MUTED:
            continue
        if scope.is_instance(node):
            # The editor runs the inside of a bypassed instance too; only what it feeds is led around it.
            yield from _walk(scope.enter(node))
        elif mode != _BYPASSED:
            yield scope, node


class _Converter:
    def __init__(self, object_info: Mapping[str, Any]) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}
        self.fed_by: dict[str, list[tuple[str, str]]] = {}
        self.unknown: dict[str, list[str]] = {}
        self._object_info = object_info

    def add(self, scope: Scope, node: NodeDict) -> None:
        class_type = str(node.get("type"))
        if class_type.startswith(("workflow>", "workflow/")):
            raise ConversionError(
                f"{class_type!r} is a group node of the old kind, which is not supported.",
                hint="Open the file in the editor, convert the group node to nodes or to a subgraph, and save it.",
            )
        class_info = self._object_info.get(class_type)
        title = str(node.get("title") or (class_info or {}).get("display_name") or class_type)
        if class_info is None:
            self.unknown.setdefault(class_type, []).append(title)
            values = _named_values(node)
        else:
            values = widget_values(node, class_info)
        node_id = scope.execution_id(str(node["id"]))
        inputs = {name: _written(value) for name, value in values.items()}
        known = input_specs(class_info) if class_info is not None else {}
        for slot, declared in enumerate(node.get("inputs") or ()):
            name = str(declared.get("name"))
            source = self._resolve_input(scope, node, slot, str(declared.get("type", "*")), set())
            if isinstance(source, _Source):
                inputs[name] = [source.node_id, source.slot]
            elif isinstance(source, _Value) and (name in values or (name in known and known[name].is_value)):
                inputs[name] = _written(source.value)
                if source.primitive is not None:
                    self.fed_by.setdefault(source.primitive, []).append((node_id, name))
        self.prompt[node_id] = {"inputs": inputs, "class_type": class_type, "_meta": {"title": title}}

    def drop_dangling(self) -> None:
        """Inputs that come from a node that does not run are left out."""
        for node in self.prompt.values():
            node["inputs"] = {
                name: value
                for name, value in node["inputs"].items()
                if not (isinstance(value, list) and value[0] not in self.prompt)
            }

    def _resolve_input(
        self, scope: Scope, node: NodeDict, slot: int, kind: str, seen: set[tuple[str, int]]
    ) -> _Source | _Value | None:
        link = scope.graph.input_link(node, slot)
        return None if link is None else self._resolve_link(scope, link, kind, seen)

    def _resolve_link(self, scope: Scope, link: Link, kind: str, seen: set[tuple[str, int]]) -> _Source | _Value | None:
        if link.origin_id == INPUT_NODE and scope.parent is not None and scope.instance is not None:
            return self._resolve_promoted(scope, link.origin_slot, kind, seen)
        origin = scope.graph.nodes.get(link.origin_id)
        if origin is None:
            return None
        step = (scope.execution_id(link.origin_id), link.origin_slot)
        if step in seen:
            raise ConversionError(f"The links around node {step[0]} go in a circle.")
        return self._resolve_output(scope, origin, link.origin_slot, kind, seen | {step})

    def _resolve_output(
        self, scope: Scope, node: NodeDict, slot: int, kind: str, seen: set[tuple[str, int]]
    ) -> _Source | _Value | None:
        node_type = str(node.get("type"))
        if node.get("mode") == _BYPASSED:
            through = _bypass_slot(node, slot, kind)
            return None if through is None else self._resolve_input(scope, node, through, kind, seen)
        if node_type == _REROUTE:
            return self._resolve_input(scope, node, 0, kind, seen)
        if node_type == _PRIMITIVE:
            values = node.get("widgets_values") or ()
            return _Value(values[0], scope.execution_id(str(node["id"]))) if values else None
        if scope.is_instance(node):
            return self._resolve_subgraph_output(scope.enter(node), slot, kind, seen)
        return _Source(scope.execution_id(str(node["id"])), slot)

    def _resolve_promoted(
        self, scope: Scope, slot: int, kind: str, seen: set[tuple[str, int]]
    ) -> _Source | _Value | None:
        """An input of the subgraph: what its instance gets there, by link or by its own widget."""
        if scope.parent is None or scope.instance is None:
            return None
        outer = _instance_slot(scope, slot)
        if outer is not None and scope.parent.graph.input_link(scope.instance, outer) is not None:
            return self._resolve_input(scope.parent, scope.instance, outer, kind, seen)
        values = self._instance_values(scope)
        return _Value(values[slot]) if slot in values else None

    def _instance_values(self, scope: Scope) -> dict[int, Any]:
        """The instance's own widget values by input slot: positional over the inputs that reach a widget inside."""
        stored = (scope.instance or {}).get("widgets_values")
        if not isinstance(stored, list) or not stored:
            return {}
        slots = [slot for slot in range(len(scope.graph.data.get("inputs") or ())) if self._reaches_widget(scope, slot)]
        return dict(zip(slots, stored, strict=False))

    def _reaches_widget(self, scope: Scope, slot: int) -> bool:
        for link in scope.graph.links.values():
            if link.origin_id != INPUT_NODE or link.origin_slot != slot:
                continue
            target = scope.graph.nodes.get(link.target_id)
            inputs = (target or {}).get("inputs") or ()
            if link.target_slot < len(inputs) and inputs[link.target_slot].get("widget"):
                return True
        return False

    def _resolve_subgraph_output(
        self, inner: Scope, slot: int, kind: str, seen: set[tuple[str, int]]
    ) -> _Source | _Value | None:
        for link in inner.graph.links.values():
            if link.target_id == OUTPUT_NODE and link.target_slot == slot:
                return self._resolve_link(inner, link, kind, seen)
        return None


def _instance_slot(scope: Scope, slot: int) -> int | None:
    """The instance's input for an input of the definition: by name, as an instance may list fewer, else by place."""
    declared = scope.graph.data.get("inputs") or ()
    if slot >= len(declared) or scope.instance is None:
        return None
    inputs = scope.instance.get("inputs") or ()
    for at, outer in enumerate(inputs):
        if outer.get("name") == declared[slot].get("name"):
            return at
    return slot if slot < len(inputs) else None


def _bypass_slot(node: NodeDict, slot: int, kind: str) -> int | None:
    """The input that a bypassed node passes on: the same slot if its type fits, else the first of that type."""
    types = [str(declared.get("type", "*")) for declared in node.get("inputs") or ()]
    if slot < len(types) and _fits(types[slot], kind):
        return slot
    exact = next((at for at, offered in enumerate(types) if offered == kind), None)
    if exact is not None:
        return exact
    return next((at for at, offered in enumerate(types) if _fits(offered, kind)), None)


def _fits(offered: str, wanted: str) -> bool:
    if "*" in (offered, wanted) or not offered or not wanted:
        return True
    return not {part.lower() for part in offered.split(",")}.isdisjoint(part.lower() for part in wanted.split(","))


def _named_values(node: NodeDict) -> dict[str, Any]:
    """Values of a class nobody knows, as far as the file says which input they belong to."""
    stored = node.get("widgets_values")
    if isinstance(stored, Mapping):
        return dict(stored)
    names = [str(declared["name"]) for declared in node.get("inputs") or () if declared.get("widget")]
    return dict(zip(names, stored, strict=False)) if isinstance(stored, list) and len(names) == len(stored) else {}


def _written(value: Any) -> Any:
    # A bare list would be read as a link.
    return {"__value__": value} if isinstance(value, list) else value
