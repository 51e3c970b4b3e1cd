"""The value nodes: PrimitiveInt and its kin."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["CLASSES", "DISPLAY_NAMES"]

# ComfyUI writes these nodes in its newer schema, whose object_info always carries these keys.
_NEWER_SCHEMA = {"output_tooltips": [None], "deprecated": False, "experimental": False, "api_node": False}


def _value_node(kind: str, **options: Any) -> type:
    """A node class that returns its one value of type `kind`."""

    class ValueNode:
        RETURN_TYPES = [kind]  # a list, as there: error messages show it
        FUNCTION = "execute"
        CATEGORY = "utils/primitive"
        RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_primitive"
        MORE_INFO = _NEWER_SCHEMA

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"value": (kind, dict(options))}}

        def execute(self, value: Any) -> tuple[Any]:
            return (value,)

    return ValueNode


CLASSES = {
    "PrimitiveString": _value_node("STRING", multiline=False),
    "PrimitiveStringMultiline": _value_node("STRING", multiline=True),
    "PrimitiveInt": _value_node("INT", min=-sys.maxsize, max=sys.maxsize, control_after_generate=True),
    "PrimitiveFloat": _value_node("FLOAT", min=-sys.maxsize, max=sys.maxsize),
    "PrimitiveBoolean": _value_node("BOOLEAN"),
}

DISPLAY_NAMES = {
    "PrimitiveString": "String",
    "PrimitiveStringMultiline": "String (Multiline)",
    "PrimitiveInt": "Int",
    "PrimitiveFloat": "Float",
    "PrimitiveBoolean": "Boolean",
}
