"""The editor's `widgets_values`: which slot belongs to which input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kandiflux.inputs import InputSpec, input_specs

__all__ = ["widget_slots", "widget_values"]

# Viewers that the editor's own extensions add to these classes; object_info does not know of them.
_ADDED = {"SaveGLB": "image", "Preview3D": "image", "Preview3DAnimation": "image", "PreviewAny": "preview"}


def widget_slots(class_type: str, class_info: Mapping[str, Any]) -> list[str | None]:
    """Input names slot by slot; None for slots of widgets that are no inputs.

    After an input with control_after_generate comes the control's slot (and, for a choice, its filter's); the
    upload button comes after the required inputs, before the optional ones.
    """
    specs = input_specs(class_info)
    slots: list[str | None] = []
    button_due = any(spec.takes_file for spec in specs.values())
    for spec in specs.values():
        if button_due and not spec.required:
            slots.append(None)
            button_due = False
        if spec.is_widget:
            slots += _slots_of(spec)
    if button_due:
        slots.append(None)
    if class_type in _ADDED:
        slots.append(_ADDED[class_type])
    return slots


def _slots_of(spec: InputSpec) -> list[str | None]:
    if not spec.has_control:
        return [spec.name]
    return [spec.name, None, None] if spec.type == "COMBO" else [spec.name, None]


def widget_values(node: Mapping[str, Any], class_info: Mapping[str, Any]) -> dict[str, Any]:
    """Every widget's value by input name; one the file has none for takes its default."""
    specs = input_specs(class_info)
    values = {spec.name: spec.default for spec in specs.values() if spec.is_widget}
    if node.get("type") in _ADDED:
        values[_ADDED[str(node["type"])]] = ""
    stored = node.get("widgets_values")
    if isinstance(stored, Mapping):
        values.update({name: stored[name] for name in values if name in stored})
        return values
    slots = widget_slots(str(node.get("type")), class_info)
    for name, value in zip(slots, _without_forced(list(stored or ()), specs), strict=False):
        if name is not None:
            values[name] = value
    return values


def _without_forced(stored: list[Any], specs: Mapping[str, InputSpec]) -> list[Any]:
    """Inputs that became sockets only lately still have their slot in old files: drop it where the count says so."""
    occupied: list[bool] = []
    for spec in specs.values():
        if spec.is_widget or spec.forced:
            occupied.append(spec.forced)
            if spec.options.get("control_after_generate"):
                occupied.append(False)
    if not any(occupied) or len(occupied) != len(stored):
        return stored
    return [value for value, forced in zip(stored, occupied, strict=True) if not forced]
