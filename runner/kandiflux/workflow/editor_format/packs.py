"""Values that widespread node packs make in the editor and object_info does not declare."""

from __future__ import annotations

from typing import Any

from kandiflux.util.json_values import is_object
from kandiflux.workflow.editor_format.graph import Node

__all__ = ["pack_values"]

_LORA_LIST = "Power Lora Loader (rgthree)"


def pack_values(node: Node) -> dict[str, Any]:
    """Returns the values of inputs that the node's class does not declare."""
    return _lora_rows(node) if node.type == _LORA_LIST and isinstance(node.stored, list) else {}


def _lora_rows(node: Node) -> dict[str, Any]:
    """Returns a row for each LoRA: `lora_1`, `lora_2`, …; with a strength for CLIP only if the node shows it."""
    two = node.properties.get("Show Strengths") == "Separate Model & Clip"
    rows = [dict(value) for value in node.stored if is_object(value) and "lora" in value]
    for row in rows:
        if not two:
            row.pop("strengthTwo", None)
        elif row.get("strengthTwo") is None:
            row["strengthTwo"] = 1
    return {f"lora_{number}": row for number, row in enumerate(rows, 1)}
