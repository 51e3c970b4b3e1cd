"""The value nodes: PrimitiveInt, PrimitiveString and others."""

from __future__ import annotations

import sys
from typing import Any

from kandiflux.lite.registry import V3_SCHEMA

__all__ = ["CLASSES", "DISPLAY_NAMES"]

_TEXT_ALIASES = ["text", "string", "text box", "prompt"]
_MULTILINE_ALIASES = ["text", "string", "text multiline", "string multiline", "text box", "prompt"]


def _value_node(
    kind: str, aliases: list[str] | None = None, essentials_category: str | None = None, **options: Any
) -> type:
    """Returns a node class whose output is its input, a value of type `kind`."""

    class ValueNode:
        RETURN_TYPES = [kind]  # a list, as in ComfyUI: error messages show it
        FUNCTION = "execute"
        CATEGORY = "utilities/primitive"
        SEARCH_ALIASES = aliases
        ESSENTIALS_CATEGORY = essentials_category
        RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_primitive"
        SCHEMA = V3_SCHEMA

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"value": (kind, dict(options))}}

        def execute(self, value: Any) -> tuple[Any]:
            return (value,)

    return ValueNode


CLASSES = {
    "PrimitiveString": _value_node("STRING", _TEXT_ALIASES, multiline=False),
    "PrimitiveStringMultiline": _value_node("STRING", _MULTILINE_ALIASES, "Basics", multiline=True),
    "PrimitiveInt": _value_node("INT", min=-sys.maxsize, max=sys.maxsize, control_after_generate="fixed"),
    "PrimitiveFloat": _value_node("FLOAT", min=-sys.maxsize, max=sys.maxsize, step=0.1),
    "PrimitiveBoolean": _value_node("BOOLEAN"),
}

DISPLAY_NAMES = {
    "PrimitiveString": "Text",
    "PrimitiveStringMultiline": "Text (Multiline)",
    "PrimitiveInt": "Int",
    "PrimitiveFloat": "Float",
    "PrimitiveBoolean": "Boolean",
}
