"""The value nodes: their limits, and that they return what they are given."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.lite.nodes_primitive import CLASSES, DISPLAY_NAMES

LARGEST = {"min": -(2**63) + 1, "max": 2**63 - 1}


@pytest.mark.parametrize(
    ("name", "kind", "options", "value"),
    [
        ("PrimitiveInt", "INT", {**LARGEST, "control_after_generate": "fixed"}, 5),
        ("PrimitiveFloat", "FLOAT", {**LARGEST, "step": 0.1}, 0.5),
        ("PrimitiveString", "STRING", {"multiline": False}, "x"),
        ("PrimitiveStringMultiline", "STRING", {"multiline": True}, "x\ny"),
        ("PrimitiveBoolean", "BOOLEAN", {}, True),
    ],
)
def test_value_nodes_return_their_value(name: str, kind: str, options: dict[str, Any], value: Any) -> None:
    node = CLASSES[name]
    assert node.INPUT_TYPES() == {"required": {"value": (kind, options)}}
    assert list(node.RETURN_TYPES) == [kind]
    assert getattr(node(), node.FUNCTION)(value) == (value,)
    assert name in DISPLAY_NAMES
