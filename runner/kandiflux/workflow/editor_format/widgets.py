"""The widgets the editor gives a node, and which slot of the file's `widgets_values` belongs to which."""

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

_NOTHING = object()
_ROWS_AT_MOST = 100

# Widgets that the editor's own extensions add to these classes; object_info does not know of them.
_VIEWERS = {"SaveGLB": "image", "Preview3D": "image", "Preview3DAnimation": "image"}
_PLAYERS = frozenset({"LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced"})
_TEXT_VIEWERS = frozenset({"PreviewAny"})
# What these show is made anew each time; the file keeps no value of theirs.
_UNSTORED = frozenset({"IMAGECOMPARE", "RESOLUTION_PREVIEW"})
_BUTTONS = frozenset({"IMAGEUPLOAD", "AUDIOUPLOAD", "FILEUPLOAD", "RESOLUTION_PREVIEW"})
_BOUNDS = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Widget:
    """`stored`: it has a slot in the file. `sent`: its value goes into the prompt (a control's, a button's does not).

    `spec` is None for what object_info does not declare.
    """

    name: str
    spec: InputSpec | None = None
    stored: bool = True
    sent: bool = True
    default: Any = None


def node_widgets(
    class_type: str, class_info: Mapping[str, Any], stored: Sequence[Any] = (), linked: Iterable[str] = ()
) -> list[Widget]:
    """Every widget of a node in the editor's order; which there are may depend on the values before them.

    stored: the file's `widgets_values`. linked: names of connected inputs, which make repeating inputs grow.
    """
    specs = input_specs(class_info)
    layout = _Layout(stored)
    rows = {spec.name: _autogrow_rows(spec, linked) for spec in specs.values() if spec.type == AUTOGROW}
    for name, (at_first, _) in rows.items():
        layout.add_rows(specs[name], range(at_first))
    # The upload button follows the inputs that are in the declared order; where none is declared, the required ones.
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
    """Input names slot by slot; None for slots of widgets that are no inputs."""
    widgets = node_widgets(class_type, class_info, stored)
    return [widget.name if widget.sent else None for widget in widgets if widget.stored]


def widget_values(node: Mapping[str, Any], class_info: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each widget that is sent, by input name; one the file has none for takes its default.

    node: as the file has it.
    """
    class_type, stored, named = str(node.get("type")), node.get("widgets_values"), node.get("widgets_values_named")
    linked = [str(slot.get("name")) for slot in node.get("inputs") or () if slot.get("link") is not None]
    extra: dict[str, Any] = {}
    if is_object(stored):
        # Some packs store their values by name, and those of widgets that object_info does not list among them.
        widgets = node_widgets(class_type, class_info, (), linked)
        found = [(widget, stored.get(widget.name, _NOTHING)) for widget in widgets]
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
            # Saved where the class had other widgets: positions would give one the value of another.
            found = [(widget, named.get(widget.name, _NOTHING)) for widget in widgets]
        else:
            by_widget = dict(zip(map(id, slots), listed, strict=False))
            found = [(widget, by_widget.get(id(widget), _NOTHING)) for widget in widgets]
    values = {
        widget.name: normal_value(widget, class_type, value)
        for widget, value in found
        if widget.sent and (value is not _NOTHING or _has_default(widget))
    }
    return {**values, **extra}


def _has_default(widget: Widget) -> bool:
    """An empty list of choices has none; the server is to say so of what it requires."""
    spec = widget.spec
    return widget.default is not None or (spec is not None and spec.required and spec.type == "COMBO")


def normal_value(widget: Widget, class_type: str, value: Any) -> Any:
    """What the editor's widget makes of a stored value."""
    if value is _NOTHING:
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
    """Widgets one after another, each knowing its stored value as soon as it is placed."""

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
        """The widgets of one input, those that it brings along included."""
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
            # A choice has a filter beside its control.
            controls = 2 if kind == "COMBO" else 1
            self.put(*[Widget(f"{name}.control", sent=False)] * controls)
        elif kind == "BOUNDING_BOX":
            self.put(*(Widget(field, sent=False) for field in _BOUNDS))
        elif spec.options.get("remote"):
            button = bool(as_object(spec.options["remote"]).get("refresh_button"))
            self.put(Widget("Auto-refresh after generation", sent=False))
            self.put(Widget("refresh", sent=False) if button else None)

    def add_rows(self, spec: InputSpec, rows: Iterable[int]) -> None:
        """Rows of inputs that repeat: `images.image0`, `images.image1`, …"""
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
        for row in range(max(0, min(count, _ROWS_AT_MOST))):
            for field in specs_of_groups(spec.template).values():
                self.add(field, f"{name}.{row}.")


def _row_name(spec: InputSpec, field: InputSpec, row: int, fields: int) -> str:
    names = spec.template.get("names")
    if is_list(names) and row < len(names):
        return str(names[row])
    prefix = spec.template.get("prefix") or ""
    return f"{prefix if fields == 1 else field.name}{row}"


def _autogrow_rows(spec: InputSpec, linked: Iterable[str]) -> tuple[int, int]:
    """How many rows there are before anything is connected, and how many once `linked` are: always one to spare."""
    template = spec.template
    names = template.get("names")
    most = min(len(names) if is_list(names) else _whole(template.get("max"), _ROWS_AT_MOST), _ROWS_AT_MOST)
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
    """Whether the editor adds a button to choose a file for one of these inputs."""
    return any(
        spec.required and (_shows_upload_button(spec) or (spec.name == "audio" and spec.options.get("audio_upload")))
        for spec in specs
    )


def _in_folder(value: Any, spec: InputSpec) -> Any:
    """`x.png [output]`, for an input whose files are not in the input folder."""
    folder = spec.options.get("image_folder", "input")
    if folder == "input" or not isinstance(value, str) or re.search(r"\[(input|output|temp)\]", value, re.IGNORECASE):
        return value
    return f"{value} [{folder}]"


def _in_this_order(named: Mapping[str, Any], slots: Sequence[Widget]) -> bool:
    """Whether names in the file's order are those of the slots; the names of controls and buttons don't count."""
    return all(
        name == widget.name
        for name, widget in zip(named, slots, strict=False)
        if widget.sent and widget.spec is not None
    )


def _without_forced(stored: list[Any], specs: Mapping[str, InputSpec]) -> list[Any]:
    """Inputs that became sockets only lately still have their slot in old files: drop it where the count says so."""
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
    """A value as JavaScript writes it: 8.0 is 8, and True is true."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if is_list(value):
        return ",".join("" if item is None else javascript_text(item) for item in value)
    return "[object Object]" if isinstance(value, Mapping) else str(value)


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
