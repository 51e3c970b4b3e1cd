"""Reads the inputs of a node class from object_info, in one form for all of its variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kandiflux.util.json_values import as_object, is_array, is_object

__all__ = ["AUTOGROW", "DYNAMIC_COMBO", "DYNAMIC_GROUP", "InputSpec", "chosen_specs", "input_specs", "specs_of_groups"]

DYNAMIC_COMBO, DYNAMIC_GROUP = "COMFY_DYNAMICCOMBO_V3", "COMFY_DYNAMICGROUP_V3"
AUTOGROW, _MATCH_TYPE = "COMFY_AUTOGROW_V3", "COMFY_MATCHTYPE_V3"

_VALUE_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
# Widgets without a value of the node, or with a value that only the editor can make.
_EDITOR_TYPES = frozenset(
    {
        "AUDIOUPLOAD", "AUDIO_RECORD", "AUDIO_UI", "BOUNDING_BOX", "BOUNDING_BOXES", "CHART", "COLOR", "COLORS",
        "COMPOSITOR", "CURVE", "FILEUPLOAD", "GALLERIA", "IMAGECOMPARE", "IMAGEUPLOAD", "LIGHT_INFO_PREVIEW", "LOAD_3D",
        "LOAD_3D_ANIMATION", "MARKDOWN", "MULTISELECT", "PAINTER", "PREVIEW_3D", "PREVIEW_3D_ANIMATION", "RANGE",
        "RESOLUTION_PREVIEW", "SELECTBUTTON", "TEXTAREA", "TREESELECT", "VIDEO_EDIT", "WEBCAM",
        DYNAMIC_COMBO, DYNAMIC_GROUP,
    }
)  # fmt: skip
_SEED_NAMES = frozenset({"seed", "noise_seed"})
_UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload", "animated_image_upload")


@dataclass(frozen=True)
class InputSpec:
    """One input of a node class. For every list of choices, `type` is COMBO and `choices` the list (else None)."""

    name: str
    type: str
    required: bool
    options: Mapping[str, Any]
    choices: tuple[Any, ...] | None = None

    @property
    def widget_type(self) -> str:
        """The type of its widget; the type of its socket unless the class declares `widgetType`."""
        declared = self.options.get("widgetType")
        return declared if isinstance(declared, str) else self.type

    @property
    def is_value(self) -> bool:
        """Whether it is a number, string, boolean or choice that can be written into the prompt."""
        return self.type in _VALUE_TYPES

    @property
    def is_widget(self) -> bool:
        """Whether it has a slot in the editor's `widgets_values`."""
        return not self.forced and (self.widget_type in _VALUE_TYPES or self.widget_type in _EDITOR_TYPES)

    @property
    def is_dynamic(self) -> bool:
        """Whether it stands for several inputs, depending on what is chosen or connected."""
        return self.type in (DYNAMIC_COMBO, DYNAMIC_GROUP, AUTOGROW, _MATCH_TYPE)

    @property
    def forced(self) -> bool:
        """Whether it is always a socket although its type has a widget."""
        return bool(self.options.get("forceInput"))

    @property
    def is_seed(self) -> bool:
        """Whether it is a seed: an integer that may be randomized for each run."""
        return self.type == "INT" and (self.name in _SEED_NAMES or self.has_control)

    @property
    def has_control(self) -> bool:
        """Whether the editor puts a control_after_generate widget after it."""
        if self.widget_type not in ("INT", "COMBO"):
            return False
        explicit = self.options.get("control_after_generate")
        if explicit is not None:
            return bool(explicit)
        return self.type == "INT" and self.name in _SEED_NAMES

    @property
    def takes_file(self) -> bool:
        """Whether it takes a file of the server's input folder; the editor shows an upload button."""
        return any(self.options.get(key) for key in _UPLOADS)

    @property
    def default(self) -> Any:
        """The value that the editor uses if the file has none."""
        default = self.options.get("default")
        if self.type == "COMBO" and self.options.get("multi_select"):
            return []
        if self.type == "COMBO" or self.type == DYNAMIC_COMBO:
            # The editor, too, does not use an empty string as the default choice.
            return default or (self.choices[0] if self.choices else None)
        if default is not None:
            return default
        # The two pictures of IMAGECOMPARE are none before the node has run.
        by_type = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False, "IMAGECOMPARE": ["", ""]}
        return by_type.get(self.widget_type)

    @property
    def branches(self) -> dict[str, Mapping[str, Any]]:
        """The `required` and `optional` inputs that each choice of a dynamic combo adds, by the choice's key."""
        options = self.options.get("options")
        if self.type != DYNAMIC_COMBO or not is_array(options):
            return {}
        found = [option for option in options if is_object(option) and "key" in option]
        return {str(option["key"]): as_object(option.get("inputs")) for option in found}

    @property
    def template(self) -> Mapping[str, Any]:
        """For repeating inputs: the template of one row, with `required` and `optional`, `min`, `max`, `prefix`."""
        return as_object(self.options.get("template"))


def input_specs(class_info: Mapping[str, Any]) -> dict[str, InputSpec]:
    """Returns inputs by name, required before optional, each group in the order of the editor."""
    info = as_object(class_info)  # the server's answer may be malformed
    return specs_of_groups(as_object(info.get("input")), as_object(info.get("input_order")))


def chosen_specs(class_info: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, InputSpec]:
    """Returns inputs by their full names, with those that the values of dynamic combos add: `how`, `how.width`."""
    found: dict[str, InputSpec] = {}
    pending = list(input_specs(class_info).items())
    while pending:
        name, spec = pending.pop(0)
        found[name] = spec
        branch = spec.branches.get(str(inputs.get(name)))
        pending[:0] = [(f"{name}.{inner}", own) for inner, own in specs_of_groups(branch or {}).items()]
    return found


def specs_of_groups(groups: Mapping[str, Any], order: Mapping[str, Any] | None = None) -> dict[str, InputSpec]:
    """Returns inputs by name, as `input_specs` does, for `{"required": {…}, "optional": {…}}`."""
    specs: dict[str, InputSpec] = {}
    for group in ("required", "optional"):
        inputs = as_object(groups.get(group))
        listed = (order or {}).get(group)
        names = [name for name in (listed if is_array(listed) else ()) if isinstance(name, str) and name in inputs]
        for name in [*names, *(name for name in inputs if name not in names)]:
            specs[name] = _input_spec(name, inputs[name], required=group == "required")
    return specs


def _input_spec(name: str, declared: Any, *, required: bool) -> InputSpec:
    parts = list(declared) if is_array(declared) else [declared]
    kind = parts[0] if parts else "*"
    options = as_object(parts[1] if len(parts) > 1 else None)
    if is_array(kind):
        return InputSpec(name, "COMBO", required, options, tuple(kind))
    choices = options.get("options")
    if kind == "COMBO":
        return InputSpec(name, "COMBO", required, options, tuple(choices) if is_array(choices) else None)
    if kind == DYNAMIC_COMBO:
        spec = InputSpec(name, DYNAMIC_COMBO, required, options)
        return InputSpec(name, DYNAMIC_COMBO, required, options, tuple(spec.branches))
    return InputSpec(name, str(kind), required, options)
