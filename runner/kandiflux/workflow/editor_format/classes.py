"""Node classes of object_info, read as the editor reads them to build nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kandiflux.util.json_values import is_list, is_object
from kandiflux.workflow.editor_format.graph import Node, Slot, slot_type
from kandiflux.workflow.editor_format.inputs import DYNAMIC_COMBO, InputSpec, input_specs, specs_of_groups
from kandiflux.workflow.editor_format.packs import pack_values
from kandiflux.workflow.editor_format.widgets import Widget, doubt_about_values, normal_value, widget_values

__all__ = ["Classes"]

_CONTROLS = ("fixed", "increment", "decrement", "randomize")


class Classes:
    """The node classes of one object_info. It comes from outside: malformed entries are treated as missing."""

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        self._object_info = object_info
        self._specs: dict[str, dict[str, InputSpec]] = {}

    def info(self, class_type: str) -> Mapping[str, Any] | None:
        """Returns object_info's entry of a class; None if the class is unknown."""
        found = self._object_info.get(class_type)
        return found if is_object(found) else None

    def specs(self, class_type: str) -> dict[str, InputSpec]:
        """Returns the inputs of a class by name; empty if the class is unknown."""
        if class_type not in self._specs:
            self._specs[class_type] = input_specs(self.info(class_type) or {})
        return self._specs[class_type]

    def is_output(self, class_type: str) -> bool:
        """Returns whether this is an output class: ComfyUI runs a prompt for its output nodes."""
        return bool((self.info(class_type) or {}).get("output_node"))

    def title(self, node: Node) -> str:
        """Returns the title that the editor shows."""
        return str(node.title or (self.info(node.type) or {}).get("display_name") or node.type)

    def values(self, node: Node) -> dict[str, Any]:
        """Returns widget values by input name; for an unknown class, only values that the file assigns to names."""
        info = self.info(node.type)
        return {**(_values_by_name(node) if info is None else widget_values(node, info)), **pack_values(node)}

    def doubt(self, node: Node) -> str | None:
        """Returns how the node's values were given to its widgets, if there is more than one way."""
        info = self.info(node.type)
        return None if info is None else doubt_about_values(node, info)

    def normal(self, node: Node, name: str, value: Any) -> Any:
        """Normalizes a value for this widget of the node; see `normal_value`."""
        spec = self.specs(node.type).get(name)
        return value if spec is None else normal_value(Widget(name, spec, default=spec.default), node.type, value)

    def has_widget(self, node: Node, slot: Slot) -> bool:
        """Returns whether an input of this node has a widget, in object_info or in the file."""
        spec = self.specs(node.type).get(slot.name)
        return slot.widget is not None or (spec is not None and spec.is_widget)

    def inputs(self, node: Node) -> tuple[Slot, ...]:
        """Returns the node's inputs as the editor has them: all of its class, sockets first, then others in the file.

        A file lists only some of them, and an old file in another order; links are matched to inputs by name.
        """
        by_name = self.specs(node.type)
        specs = by_name.values()
        if any(spec.type == DYNAMIC_COMBO for spec in specs):
            values = self.values(node)
            return tuple(slot for slot in node.inputs if _is_chosen(by_name, slot.name, values))
        if not specs or any(spec.is_dynamic for spec in specs):
            return node.inputs
        listed = {slot.name: slot for slot in node.inputs}
        declared = [spec for spec in specs if not spec.is_widget]
        declared += [spec for spec in specs if spec.is_widget and not spec.options.get("socketless")]
        slots = [_declared_slot(spec, listed.pop(spec.name, None)) for spec in declared]
        return (*slots, *listed.values())

    def output_type(self, node: Node, slot: int) -> str:
        """Returns the type of an output from object_info, else from the file, else `*`."""
        declared = (self.info(node.type) or {}).get("output")
        if is_list(declared) and 0 <= slot < len(declared):
            return slot_type(declared[slot])
        return node.outputs[slot].type if 0 <= slot < len(node.outputs) else "*"


def _is_chosen(specs: Mapping[str, InputSpec], name: str, values: Mapping[str, Any], prefix: str = "") -> bool:
    """Returns whether the choices of dynamic combos have an input of the file: for `how.width`, one with `width`."""
    first, _, rest = name.partition(".")
    spec = specs.get(first)
    if not rest or spec is None or spec.type != DYNAMIC_COMBO:
        return True
    inner = specs_of_groups(spec.branches.get(str(values.get(prefix + first)), {}))
    return rest.partition(".")[0] in inner and _is_chosen(inner, rest, values, f"{prefix}{first}.")


def _declared_slot(spec: InputSpec, listed: Slot | None) -> Slot:
    link = None if listed is None else listed.link
    label = None if listed is None else listed.label
    return Slot(spec.name, spec.type, link, spec.name if spec.is_widget else None, label)


def _values_by_name(node: Node) -> dict[str, Any]:
    if isinstance(node.stored, Mapping):
        return dict(node.stored)
    widgets = [slot.name for slot in node.inputs if slot.widget is not None]
    if node.named is not None:
        return {name: value for name, value in node.named.items() if name in widgets}
    values = list(node.stored)
    # The value of control_after_generate follows its number; it is not an input.
    own = [value for at, value in enumerate(values) if not (at and _is_control(values[at - 1], value))]
    return dict(zip(widgets, own, strict=True)) if len(widgets) == len(own) else {}


def _is_control(before: Any, value: Any) -> bool:
    return isinstance(before, int) and not isinstance(before, bool) and value in _CONTROLS
