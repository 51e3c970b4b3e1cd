"""What object_info says of a node's inputs, in one form for both of its dialects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["InputSpec", "input_specs"]

_VALUE_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
# Widgets that carry no value of the node's own, or one only the editor can make.
_EDITOR_TYPES = frozenset(
    {"IMAGEUPLOAD", "AUDIOUPLOAD", "AUDIO_UI", "MARKDOWN", "COLOR", "WEBCAM", "LOAD_3D", "LOAD_3D_ANIMATION"}
)
_SEED_NAMES = frozenset({"seed", "noise_seed"})
_UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload", "animated_image_upload")


@dataclass(frozen=True)
class InputSpec:
    """One input of a node class. `type` is COMBO for every list of choices, `choices` that list (else None)."""

    name: str
    type: str
    required: bool
    options: Mapping[str, Any]
    choices: tuple[Any, ...] | None = None

    @property
    def is_value(self) -> bool:
        """A number, text, truth value or choice that can be written into the prompt."""
        return self.type in _VALUE_TYPES

    @property
    def is_widget(self) -> bool:
        """Occupies a slot of the editor's `widgets_values`."""
        return not self.forced and (self.is_value or self.type in _EDITOR_TYPES)

    @property
    def forced(self) -> bool:
        return bool(self.options.get("forceInput"))

    @property
    def is_seed(self) -> bool:
        return self.type == "INT" and (self.name in _SEED_NAMES or self.has_control)

    @property
    def has_control(self) -> bool:
        """The editor puts a control_after_generate widget after it."""
        explicit = self.options.get("control_after_generate")
        if explicit is not None:
            return bool(explicit)
        return self.type == "INT" and self.name in _SEED_NAMES

    @property
    def takes_file(self) -> bool:
        """A file of the server's input folder; the editor shows an upload button."""
        return any(self.options.get(key) for key in _UPLOADS)

    @property
    def default(self) -> Any:
        """What the editor fills in where a file has no value."""
        if "default" in self.options:
            return self.options["default"]
        if self.choices:
            return self.choices[0]
        return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(self.type)


def input_specs(class_info: Mapping[str, Any]) -> dict[str, InputSpec]:
    """Inputs by name, required before optional, each group in the order in which the editor shows it."""
    groups = class_info.get("input") or {}
    order = class_info.get("input_order") or {}
    specs: dict[str, InputSpec] = {}
    for group in ("required", "optional"):
        inputs = groups.get(group) or {}
        names = [name for name in order.get(group) or () if name in inputs]
        for name in [*names, *(name for name in inputs if name not in names)]:
            specs[name] = _input_spec(name, inputs[name], required=group == "required")
    return specs


def _input_spec(name: str, declared: Any, *, required: bool) -> InputSpec:
    parts = list(declared) if isinstance(declared, (list, tuple)) else [declared]
    kind = parts[0] if parts else "*"
    options = parts[1] if len(parts) > 1 and isinstance(parts[1], Mapping) else {}
    if isinstance(kind, (list, tuple)):
        return InputSpec(name, "COMBO", required, options, tuple(kind))
    if kind == "COMBO":
        choices = options.get("options")
        return InputSpec(name, "COMBO", required, options, tuple(choices) if choices is not None else None)
    return InputSpec(name, str(kind), required, options)
