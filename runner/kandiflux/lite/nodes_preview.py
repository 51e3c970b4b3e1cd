"""Preview Any: shows any value as text."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from kandiflux.lite.guard import Returned, attempt

__all__ = ["CLASSES", "DISPLAY_NAMES"]


class _AnyKind(str):
    """A kind of input that differs from none: what ComfyUI's validation asks."""

    def __ne__(self, other: object) -> bool:
        return False


_UNSHOWABLE = "source exists, but could not be serialized."


class PreviewAny:
    RETURN_TYPES = ()
    FUNCTION = "main"
    OUTPUT_NODE = True
    CATEGORY = "utils"
    RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_preview_any"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"source": (_AnyKind("*"), {})}}

    def main(self, source: Any = None) -> dict[str, Any]:
        return {"ui": {"text": (_shown(source),)}}


def _shown(value: Any) -> str:
    """Text and numbers as they are, then JSON, then whatever str says, as ComfyUI does it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (int, float)):  # bool is an int, and shown as True
        return str(value)
    for way in (json.dumps, str):
        shown = attempt(partial(way, value))
        if isinstance(shown, Returned):
            return str(shown.value)
    return _UNSHOWABLE


CLASSES = {"PreviewAny": PreviewAny}

DISPLAY_NAMES = {"PreviewAny": "Preview Any"}
