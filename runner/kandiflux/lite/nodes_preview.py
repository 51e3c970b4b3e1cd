"""Preview Any: shows any value as text."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from kandiflux.lite.guard import Returned, attempt

__all__ = ["CLASSES", "DISPLAY_NAMES"]


class _AnyKind(str):
    """An input type that matches all types: ComfyUI's validation compares types with `!=`."""

    def __ne__(self, other: object) -> bool:
        return False


_UNSHOWABLE = "source exists, but could not be serialized."


class PreviewAny:
    DESCRIPTION = "Preview any input value as text."
    SEARCH_ALIASES = ["show output", "inspect", "debug", "print value", "show text"]
    RETURN_TYPES = ("STRING",)
    FUNCTION = "main"
    OUTPUT_NODE = True
    CATEGORY = "utilities"
    RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_preview_any"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"source": (_AnyKind("*"), {})}}

    def main(self, source: Any = None) -> dict[str, Any]:
        text = _shown(source)
        return {"ui": {"text": (text,)}, "result": (text,)}


def _shown(value: Any) -> str:
    """Returns strings and numbers as text, other values as JSON or else str(value), as in ComfyUI."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (int, float)):  # bool is an int, and shown as True
        return str(value)
    for convert in (partial(json.dumps, indent=4, ensure_ascii=False), str):
        shown = attempt(partial(convert, value))
        if isinstance(shown, Returned):
            return str(shown.value)
    return _UNSHOWABLE


CLASSES = {"PreviewAny": PreviewAny}

DISPLAY_NAMES = {"PreviewAny": "Preview as Text"}
