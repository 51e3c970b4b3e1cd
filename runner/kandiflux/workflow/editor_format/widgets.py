"""The widgets that the editor gives a node, and their slots in the file's `widgets_values`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kandiflux.util.json_values import as_list, as_object, is_array, is_list, is_object
from kandiflux.workflow.editor_format.alignment import Arrangement, arrange, is_label
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
    "doubt_about_values",
    "has_upload_button",
    "javascript_text",
    "node_widgets",
    "normal_value",
    "stored_place",
    "widget_slots",
    "widget_values",
    "with_defaults",
]

_MISSING = object()
_MAX_ROWS = 100

# Widgets that the editor's built-in extensions add to these classes; they are not in object_info.
_VIEWERS = {"SaveGLB": "image", "Preview3D": "image", "Preview3DAnimation": "image"}
_TEXT_VIEWERS = frozenset({"PreviewAny"})
_LOADER_BUTTONS = {
    "upload 3d model": "upload3dmodel", "upload extra resources": "uploadExtraResources", "clear": "clear"
}  # fmt: skip
_CUSTOM_COMBO = "CustomCombo"
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
    for spec in specs.values():
        if not spec.required and not button_last:
            layout.put(button)
            button = None
        if spec.widget_type == "LOAD_3D" and "model_file" in specs:
            layout.put(*(Widget(name, default=label) for name, label in _LOADER_BUTTONS.items()))
        layout.add(spec)
    layout.put(button)
    if class_type in _VIEWERS:
        layout.put(Widget(_VIEWERS[class_type], default=""))
    if class_type == _CUSTOM_COMBO:
        layout.put(*_combo_options(class_info, stored))
    # The editors of newer servers, where the class has an output, do not send the text that it shows.
    if class_type in _TEXT_VIEWERS and not class_info.get("output"):
        layout.put(Widget("preview", stored=False, default=""))
    for name, (at_first, in_all) in rows.items():
        layout.add_rows(specs[name], range(at_first, in_all))
    return layout.widgets


def _combo_options(class_info: Mapping[str, Any], stored: Sequence[Any]) -> list[Widget]:
    """Returns the widgets that follow the choice of a CustomCombo: its index, and an option for each stored value.

    The first versions of the class have no index, and number their options from 0.
    """
    outputs = class_info.get("output")
    has_index = len(outputs) > 1 if is_array(outputs) else False
    first = 2 if has_index else 1
    options = (Widget(f"option{at - 1}", default="") for at in range(first, min(len(stored), _MAX_ROWS)))
    return [*([Widget("index", default=0)] if has_index else []), *options]


def widget_slots(class_type: str, class_info: Mapping[str, Any], stored: Sequence[Any] = ()) -> list[str | None]:
    """Returns the input name of each slot; None if the slot's widget is not an input."""
    widgets = node_widgets(class_type, class_info, stored)
    return [widget.name if widget.sent else None for widget in widgets if widget.stored]


def stored_place(node: Mapping[str, Any], class_info: Mapping[str, Any], name: str) -> int | None:
    """Returns the place in the file's list of the value of this widget; None if the file has none."""
    widgets, arrangement = _arranged(node, class_info)
    slots = [widget.name if widget.sent else None for widget in widgets if widget.stored]
    places = {} if arrangement is None else arrangement.places
    return places.get(slots.index(name)) if name in slots else None


def with_defaults(node: Mapping[str, Any], class_info: Mapping[str, Any]) -> list[Any]:
    """Returns the file's list of values, with the defaults of the widgets that it has none for in their places."""
    widgets, arrangement = _arranged(node, class_info)
    stored, present = as_list(node.get("widgets_values")), widget_values(node, class_info)
    places = {} if arrangement is None else arrangement.places
    slots = [widget for widget in widgets if widget.stored]
    return [stored[places[slot]] if slot in places else present.get(widget.name) for slot, widget in enumerate(slots)]


def widget_values(node: Mapping[str, Any], class_info: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the value of each widget that is sent, by input name; the default if the file has no value.

    node: the node's object in the file.
    """
    class_type, stored = str(node.get("type")), node.get("widgets_values")
    extra: dict[str, Any] = {}
    if is_object(stored):
        # Some packs store values by name, also for widgets that are not in object_info.
        widgets = node_widgets(class_type, class_info, (), _linked(node))
        found = [(widget, stored.get(widget.name, _MISSING)) for widget in widgets]
        known = {widget.name for widget in widgets}
        extra = {
            str(name): value
            for name, value in stored.items()
            if name not in known and isinstance(value, (str, int, float))
        }
    else:
        widgets, arrangement = _arranged(node, class_info)
        named = node.get("widgets_values_named")
        if arrangement is None and is_object(named):
            # The file was saved with other widgets of this class: values by position would go to the wrong widgets.
            found = [(widget, named.get(widget.name, _MISSING)) for widget in widgets]
        else:
            listed, places = as_list(stored), {} if arrangement is None else arrangement.places
            slots = [widget for widget in widgets if widget.stored]
            by_widget = {id(slots[slot]): listed[place] for slot, place in places.items()}
            found = [(widget, by_widget.get(id(widget), _MISSING)) for widget in widgets]
    values = {
        widget.name: normal_value(widget, class_type, value)
        for widget, value in found
        if widget.sent and (value is not _MISSING or _has_default(widget))
    }
    return {**values, **extra}


def doubt_about_values(node: Mapping[str, Any], class_info: Mapping[str, Any]) -> str | None:
    """Returns how the stored values were given to widgets, for a person, if their number leaves more than one way."""
    if is_object(node.get("widgets_values")):
        return None
    widgets, arrangement = _arranged(node, class_info)
    if arrangement is None or arrangement.certain:
        return None
    slots = [widget.name for widget in widgets if widget.stored]
    stored = as_list(node.get("widgets_values"))
    given = ", ".join(f"{slots[slot]}={_short(stored[place])}" for slot, place in sorted(arrangement.places.items()))
    text = f"values in the file: {len(stored)}, widgets of the class: {len(slots)}, given {given or 'to none'}"
    if len(stored) > len(slots):
        return f"{text}; they may be shifted"
    left = [name for slot, name in enumerate(slots) if slot not in arrangement.places]
    return f"{text}, default {', '.join(left)}"


def _arranged(node: Mapping[str, Any], class_info: Mapping[str, Any]) -> tuple[list[Widget], Arrangement | None]:
    """Returns the widgets, and which of the stored values each has; None if the file's names decide that."""
    class_type, named = str(node.get("type")), node.get("widgets_values_named")
    specs = input_specs(class_info)
    stored = as_list(node.get("widgets_values"))
    kept = _without_forced(stored, specs)
    listed = [stored[place] for place in kept]
    widgets = node_widgets(class_type, class_info, listed, _linked(node))
    slots = [widget for widget in widgets if widget.stored]
    if is_object(named) and not _in_this_order(named, slots):
        return widgets, None
    if not listed or any(spec.is_dynamic for spec in specs.values()):
        # The widgets of a dynamic input depend on the values before them, so they have their places already.
        ends = not listed or (len(listed) >= len(slots) and all(map(is_label, listed[len(slots) :])))
        return widgets, Arrangement(dict(enumerate(kept[: len(slots)])), ends)
    found = arrange(listed, [widget.spec for widget in slots])
    return widgets, Arrangement({slot: kept[place] for slot, place in found.places.items()}, found.certain)


def _linked(node: Mapping[str, Any]) -> list[str]:
    return [str(slot.get("name")) for slot in node.get("inputs") or () if slot.get("link") is not None]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}…{text[-1]}"


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
        # With its full name: the editor gives an inner `seed` no control, as that is not its name.
        spec = replace(spec, name=prefix + spec.name)
        name, kind = spec.name, spec.widget_type
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


def _without_forced(stored: list[Any], specs: Mapping[str, InputSpec]) -> list[int]:
    """Returns the places of all values but those of inputs that are forced sockets now and had slots in old files.

    Does so only if the number of values shows that the file has these slots.
    """
    occupied: list[bool] = []
    for spec in specs.values():
        if spec.is_widget or spec.forced:
            occupied.append(spec.forced)
            if spec.options.get("control_after_generate") or spec.name in ("seed", "noise_seed"):
                occupied.append(False)
    if not any(occupied) or len(occupied) != len(stored):
        return list(range(len(stored)))
    return [place for place, forced in enumerate(occupied) if not forced]


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
