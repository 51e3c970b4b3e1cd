"""The widgets that the editor gives a node, and their slots in the file's `widgets_values`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kandiflux.util.json_values import as_list, as_object, is_list, is_object
from kandiflux.workflow.editor_format.inputs import (
    AUTOGROW,
    DYNAMIC_COMBO,
    DYNAMIC_GROUP,
    InputSpec,
    input_specs,
    specs_of_groups,
)

__all__ = [
    "Widget",
    "has_upload_button",
    "javascript_text",
    "node_widgets",
    "normal_value",
    "widget_slots",
    "widget_values",
]

_MISSING = object()
_MAX_ROWS = 100

# Widgets that the editor's built-in extensions add to these classes; they are not in object_info.
_VIEWERS = {"SaveGLB": "image", "Preview3D": "image", "Preview3DAnimation": "image"}
_PLAYERS = frozenset({"LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced"})
_TEXT_VIEWERS = frozenset({"PreviewAny"})
# Widgets whose content is made in each run; the file has no value for them.
_UNSTORED = frozenset({"IMAGECOMPARE", "RESOLUTION_PREVIEW"})
_BUTTONS = frozenset({"IMAGEUPLOAD", "AUDIOUPLOAD", "FILEUPLOAD", "RESOLUTION_PREVIEW"})
_BOUNDS = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Widget:
    """One widget.

    spec: None if object_info does not declare it.
    stored: whether it has a slot in the file.
    sent: whether its value goes into the prompt (not for controls and buttons).
    """

    name: str
    spec: InputSpec | None = None
    stored: bool = True
    sent: bool = True
    default: Any = None


def node_widgets(
    class_type: str, class_info: Mapping[str, Any], stored: Sequence[Any] = (), linked: Iterable[str] = ()
) -> list[Widget]:
    """Returns all widgets of a node in the editor's order. A stored value may decide which widgets follow it.

    stored: the file's `widgets_values`. linked: names of connected inputs; they add rows of repeating inputs.
    """
    specs = input_specs(class_info)
    layout = _Layout(stored)
    rows = {spec.name: _autogrow_rows(spec, linked) for spec in specs.values() if spec.type == AUTOGROW}
    for name, (at_first, _) in rows.items():
        layout.add_rows(specs[name], range(at_first))
    # The upload button follows all inputs if the class declares an order, else the required inputs.
    button = Widget("upload", sent=False) if has_upload_button(specs.values()) and "upload" not in specs else None
    button_last = bool(class_info.get("input_order"))
    player = Widget("audioUI", stored=False, default="") if class_type in _PLAYERS else None
    for spec in specs.values():
        if not spec.required and not button_last:
            layout.put(player, button)
            player = button = None
        layout.add(spec)
    layout.put(player, button)
    if class_type in _VIEWERS:
        layout.put(Widget(_VIEWERS[class_type], default=""))
    if class_type in _TEXT_VIEWERS:
        layout.put(Widget("preview", stored=False, default=""))
    for name, (at_first, in_all) in rows.items():
        layout.add_rows(specs[name], range(at_first, in_all))
    return layout.widgets


def widget_slots(class_type: str, class_info: Mapping[str, Any], stored: Sequence[Any] = ()) -> list[str | None]:
    """Returns the input name of each slot; None if the slot's widget is not an input."""
    widgets = node_widgets(class_type, class_info, stored)
    return [widget.name if widget.sent else None for widget in widgets if widget.stored]


def widget_values(node: Mapping[str, Any], class_info: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the value of each widget that is sent, by input name; the default if the file has no value.

    node: the node's object in the file.
    """
    class_type, stored, named = str(node.get("type")), node.get("widgets_values"), node.get("widgets_values_named")
    linked = [str(slot.get("name")) for slot in node.get("inputs") or () if slot.get("link") is not None]
    extra: dict[str, Any] = {}
    if is_object(stored):
        # Some packs store values by name, also for widgets that are not in object_info.
        widgets = node_widgets(class_type, class_info, (), linked)
        found = [(widget, stored.get(widget.name, _MISSING)) for widget in widgets]
        known = {widget.name for widget in widgets}
        extra = {
            str(name): value
            for name, value in stored.items()
            if name not in known and isinstance(value, (str, int, float))
        }
    else:
        listed = _without_forced(as_list(stored), input_specs(class_info))
        widgets = node_widgets(class_type, class_info, listed, linked)
        slots = [widget for widget in widgets if widget.stored]
        if is_object(named) and not _in_this_order(named, slots):
            # The file was saved with other widgets of this class: values by position would go to the wrong widgets.
            found = [(widget, named.get(widget.name, _MISSING)) for widget in widgets]
        else:
            by_widget = dict(zip(map(id, slots), listed, strict=False))
            found = [(widget, by_widget.get(id(widget), _MISSING)) for widget in widgets]
    values = {
        widget.name: normal_value(widget, class_type, value)
        for widget, value in found
        if widget.sent and (value is not _MISSING or _has_default(widget))
    }
    return {**values, **extra}


def _has_default(widget: Widget) -> bool:
    """A required COMBO always has one, None if there are no choices, so that the server reports the error."""
    spec = widget.spec
    return widget.default is not None or (spec is not None and spec.required and spec.type == "COMBO")


def normal_value(widget: Widget, class_type: str, value: Any) -> Any:
    """Normalizes a stored value as the editor's widget does."""
    if value is _MISSING:
        return widget.default
    spec = widget.spec
    if spec is None:
        return value
    if spec.widget_type == "STRING" and spec.options.get("multiline"):
        text = "" if value is None else value if isinstance(value, str) else javascript_text(value)
        return re.sub(r"\r\n?", "\n", text)
    if spec.type == "COMBO" and _shows_upload_button(spec):
        return widget.default if value in ("", None) else _in_folder(value, spec)
    if class_type in ("KSampler", "KSamplerAdvanced") and spec.name == "sampler_name" and isinstance(value, str):
        return value.removeprefix("sample_")
    return value


class _Layout:
    """Places widgets one after another and tracks the slot of the next one, so that its stored value is known."""

    def __init__(self, stored: Sequence[Any]) -> None:
        self.widgets: list[Widget] = []
        self._stored = stored
        self._at = 0

    def put(self, *widgets: Widget | None) -> None:
        for widget in widgets:
            if widget is not None:
                self.widgets.append(widget)
                self._at += widget.stored

    def add(self, spec: InputSpec, prefix: str = "") -> None:
        """Adds the widgets of one input, including controls, buttons and nested inputs."""
        if not spec.is_widget:
            return
        name, kind = prefix + spec.name, spec.widget_type
        if kind == DYNAMIC_COMBO:
            self._add_dynamic_combo(spec, name)
        elif kind == DYNAMIC_GROUP:
            self._add_dynamic_group(spec, name)
        else:
            self.put(Widget(name, spec, kind not in _UNSTORED, sent=kind not in _BUTTONS, default=spec.default))
        if spec.has_control:
            # A COMBO has a filter widget besides its control.
            controls = 2 if kind == "COMBO" else 1
            self.put(*[Widget(f"{name}.control", sent=False)] * controls)
        elif kind == "BOUNDING_BOX":
            self.put(*(Widget(field, sent=False) for field in _BOUNDS))
        elif spec.options.get("remote"):
            button = bool(as_object(spec.options["remote"]).get("refresh_button"))
            self.put(Widget("Auto-refresh after generation", sent=False))
            self.put(Widget("refresh", sent=False) if button else None)

    def add_rows(self, spec: InputSpec, rows: Iterable[int]) -> None:
        """Adds rows of repeating inputs: `images.image0`, `images.image1`, …"""
        fields = specs_of_groups(as_object(spec.template.get("input")))
        for row in rows:
            for field in fields.values():
                renamed = InputSpec(
                    _row_name(spec, field, row, len(fields)), field.type, field.required, field.options, field.choices
                )
                self.add(renamed, f"{spec.name}.")

    def _add_dynamic_combo(self, spec: InputSpec, name: str) -> None:
        chosen = self._stored[self._at] if self._at < len(self._stored) else spec.default
        self.put(Widget(name, spec, default=spec.default))
        branch = spec.branches.get(chosen) if isinstance(chosen, str) else None
        nested = specs_of_groups(branch or {})
        for inner in nested.values():
            if inner.type == AUTOGROW:
                continue
            self.add(inner, f"{name}.")

    def _add_dynamic_group(self, spec: InputSpec, name: str) -> None:
        least = spec.options.get("min")
        count = self._stored[self._at] if self._at < len(self._stored) else least
        self.put(Widget(name, spec, sent=False))
        count = count if isinstance(count, int) else 0
        for row in range(max(0, min(count, _MAX_ROWS))):
            for field in specs_of_groups(spec.template).values():
                self.add(field, f"{name}.{row}.")


def _row_name(spec: InputSpec, field: InputSpec, row: int, fields: int) -> str:
    names = spec.template.get("names")
    if is_list(names) and row < len(names):
        return str(names[row])
    prefix = spec.template.get("prefix") or ""
    return f"{prefix if fields == 1 else field.name}{row}"


def _autogrow_rows(spec: InputSpec, linked: Iterable[str]) -> tuple[int, int]:
    """Returns the number of rows with nothing connected, and with `linked`; there is always one free row."""
    template = spec.template
    names = template.get("names")
    most = min(len(names) if is_list(names) else _whole(template.get("max"), _MAX_ROWS), _MAX_ROWS)
    at_first = _whole(template.get("min"), 1) + 1
    in_all = at_first
    for name in linked:
        if not name.startswith(f"{spec.name}."):
            continue
        own = name.removeprefix(f"{spec.name}.")
        if is_list(names):
            row = names.index(own) if own in names else -1
        else:
            number = re.search(r"\d+$", own)
            row = int(number[0][:6]) if number else -1
        in_all = max(in_all, row + 2)
    return min(at_first, most), min(in_all, most)


def _shows_upload_button(spec: InputSpec) -> bool:
    return any(spec.options.get(key) is True for key in ("image_upload", "video_upload", "animated_image_upload"))


def has_upload_button(specs: Iterable[InputSpec]) -> bool:
    """Returns whether the editor adds an upload button for one of these inputs."""
    return any(
        spec.required and (_shows_upload_button(spec) or (spec.name == "audio" and spec.options.get("audio_upload")))
        for spec in specs
    )


def _in_folder(value: Any, spec: InputSpec) -> Any:
    """Appends the folder if the input's files are not in the input folder: `x.png [output]`."""
    folder = spec.options.get("image_folder", "input")
    if folder == "input" or not isinstance(value, str) or re.search(r"\[(input|output|temp)\]", value, re.IGNORECASE):
        return value
    return f"{value} [{folder}]"


def _in_this_order(named: Mapping[str, Any], slots: Sequence[Widget]) -> bool:
    """Returns whether the names in the file's order match the slots; controls and buttons are not compared."""
    return all(
        name == widget.name
        for name, widget in zip(named, slots, strict=False)
        if widget.sent and widget.spec is not None
    )


def _without_forced(stored: list[Any], specs: Mapping[str, InputSpec]) -> list[Any]:
    """Drops the values of inputs that are now forced sockets but still have slots in old files.

    Does so only if the number of values shows that the file has these slots.
    """
    occupied: list[bool] = []
    for spec in specs.values():
        if spec.is_widget or spec.forced:
            occupied.append(spec.forced)
            if spec.options.get("control_after_generate") or spec.name in ("seed", "noise_seed"):
                occupied.append(False)
    if not any(occupied) or len(occupied) != len(stored):
        return stored
    return [value for value, forced in zip(stored, occupied, strict=True) if not forced]


def javascript_text(value: Any) -> str:
    """Converts a value to text as JavaScript does: 8.0 becomes `8`, and True becomes `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if is_list(value):
        return ",".join("" if item is None else javascript_text(item) for item in value)
    return "[object Object]" if isinstance(value, Mapping) else str(value)


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
