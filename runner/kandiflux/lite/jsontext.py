"""Writes JSON for clients: always valid, whatever a node returned."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

from kandiflux.lite.guard import Returned, attempt
from kandiflux.util.json_values import MAX_DEPTH, is_array, is_dict, is_list, is_object

__all__ = ["json_text", "plain", "text_of"]


def json_text(value: Any, split: int = 0) -> str:
    """Returns `value` as JSON. Objects of other types are written as their text.

    split: number of levels that are written item by item. json.dumps holds the GIL while it writes; between items,
    other threads can run.

    NaN and infinities become null, as in JavaScript. ComfyUI writes NaN, which is not valid JSON: a browser then fails
    to parse the whole response, and one such number makes the history unreadable until it is cleared.
    """
    if split and is_dict(value):
        return (
            "{" + ", ".join(f"{json.dumps(text_of(name))}: {json_text(value[name], split - 1)}" for name in value) + "}"
        )
    if split and is_list(value):
        return "[" + ", ".join(json_text(item, split - 1) for item in value) + "]"
    written = attempt(partial(json.dumps, value, default=str, allow_nan=False))
    # json.dumps is fast, but fails for NaN, cycles, keys that are not strings, and objects whose str() fails.
    return written.value if isinstance(written, Returned) else json.dumps(plain(value))


def plain(value: Any, depth: int = 0) -> Any:
    """Converts `value` to JSON types, nested at most MAX_DEPTH levels, the limit for requests."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return _number(value)
    if depth < MAX_DEPTH and is_object(value):
        return {text_of(name): plain(item, depth + 1) for name, item in value.items()}
    if depth < MAX_DEPTH and is_array(value):
        return [plain(item, depth + 1) for item in value]
    return text_of(value)


def _number(value: float) -> float | None:
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer too large for a float, which browsers cannot read
        return None


def text_of(value: Any) -> str:
    """Returns str(value), or the name of its class if that fails."""
    shown = attempt(lambda: str(value))
    return shown.value if isinstance(shown, Returned) else f"({type(value).__name__})"
