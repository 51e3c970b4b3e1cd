"""Values that the editor's extensions make and object_info does not declare: of node packs, and of ComfyUI's own."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from kandiflux.util.json_values import is_object
from kandiflux.workflow.editor_format.graph import Node

__all__ = ["custom_options", "drawn_seed", "pack_values", "with_choice_index"]

_LARGEST_RANDOM = 1125899906842624
"""The largest seed that rgthree's nodes draw."""
_LORA_LIST = "Power Lora Loader (rgthree)"
_PUTER = "Power Puter (rgthree)"
_SEED = "Seed (rgthree)"
_SPECIAL_SEEDS = (-1, -2, -3)
"""A new seed for each run: a random one, one more or one less than the last. A first run draws for each of them."""
_COMBO = "CustomCombo"
_OPTION = re.compile(r"option\d+")


def pack_values(node: Node) -> dict[str, Any]:
    """Returns the values of inputs that the node's class does not declare."""
    if not isinstance(node.stored, list):
        return {}
    if node.type == _LORA_LIST:
        return _lora_rows(node)
    return _puter(node) if node.type == _PUTER else {}


def drawn_seed(node: Node, inputs: Mapping[str, Any], draw: random.Random) -> dict[str, Any]:
    """Returns the seed that rgthree's seed node draws as it is queued, if it is set to draw one."""
    if node.type != _SEED or inputs.get("seed") not in _SPECIAL_SEEDS:
        return {}
    low, high = (node.properties.get(key) for key in ("randomMin", "randomMax"))
    first = low if isinstance(low, int) else 0
    return {"seed": draw.randint(first, max(first, high if isinstance(high, int) else _LARGEST_RANDOM))}


def custom_options(class_type: str, name: str, inputs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Returns the choices of a CustomCombo, which are its own options; None for any other input."""
    if class_type != _COMBO or name != "choice":
        return None
    return tuple(value for option, value in inputs.items() if _OPTION.fullmatch(option) and value)


def with_choice_index(class_type: str, inputs: dict[str, Any]) -> None:
    """Sets the index that a CustomCombo returns besides its choice: the place of the choice among its options."""
    options = custom_options(class_type, "choice", inputs) or ()
    if "index" in inputs and inputs.get("choice") in options:
        inputs["index"] = options.index(inputs["choice"])


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


def _puter(node: Node) -> dict[str, Any]:
    """Returns the program, and the types of its outputs. In old files the type is a string, before the program."""
    listed = [value for value in node.stored if is_object(value) and "outputs" in value]
    texts = [value for value in node.stored if isinstance(value, str)]
    if listed:
        return {"outputs": listed[0], "code": texts[0] if texts else ""}
    return {"outputs": {"outputs": texts[:1]}, "code": texts[1]} if len(texts) > 1 else {}
