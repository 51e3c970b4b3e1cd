"""Decides whether a value or an output fits an input, and describes what would fit."""

from __future__ import annotations

import math
from typing import Any

from kandiflux.util.wording import names_text
from kandiflux.workflow.editor_format.inputs import InputSpec

__all__ = [
    "NEWER_TYPES",
    "as_number",
    "bound",
    "fits",
    "is_truth",
    "kind_text",
    "nearest_number",
    "shown",
    "what_it_takes",
]

NEWER_TYPES = "COMFY_"
"""Prefix of placeholder types of newer servers (growing lists of inputs, matching types). They are not checked."""


def fits(given: Any, spec: InputSpec) -> bool:
    """Returns whether an output of type `given` can be linked to the input, by the server's rules."""
    if isinstance(given, list) or given == "COMBO":
        return spec.type in ("COMBO", "*") or spec.type.startswith(NEWER_TYPES)
    if not isinstance(given, str) or "*" in (given, spec.type) or NEWER_TYPES in given or NEWER_TYPES in spec.type:
        return True
    return not {part.strip() for part in given.split(",")}.isdisjoint(part.strip() for part in spec.type.split(","))


def as_number(value: Any, *, whole: bool) -> int | float | None:
    """Converts a value to a number as the server does; None if it refuses the value, or if it is not finite.

    whole: the input is an INT: numbers are truncated, and strings such as "2.5" are refused.
    """
    try:
        if whole:
            return int(value)
        number = value if type(value) is int else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isinstance(number, int) or math.isfinite(number) else None


def nearest_number(number: float, spec: InputSpec, low: float | None, high: float | None) -> str:
    """Returns the nearest number that is in the range and on a step of the widget."""
    step = bound(spec.options.get("step"))
    base = low if low is not None else 0
    if step is not None and step > 0 and (low is None or number >= low) and (high is None or number <= high):
        number = base + round((number - base) / step) * step
    number = max(number, low) if low is not None else number
    number = min(number, high) if high is not None else number
    return str(round(number)) if spec.type == "INT" else f"{number:.10g}"


def bound(value: Any) -> int | float | None:
    """Returns a limit from object_info; None if it is not a number."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def is_truth(value: Any) -> bool:
    """Returns whether the boolean that the server makes of a value is the one that its text says."""
    if isinstance(value, str):
        return value.lower() == "true"
    return value is None or value in (0, 1)


def what_it_takes(spec: InputSpec) -> str:
    """Describes the values that the input takes."""
    if spec.type == "COMBO":
        return "one of " + names_text([str(choice) for choice in spec.choices or ()])
    return {"INT": "a whole number", "FLOAT": "a number", "BOOLEAN": "true or false"}.get(spec.type, "a string")


def kind_text(spec: InputSpec) -> str:
    """Describes the type of output that the input takes."""
    return "a choice" if spec.type == "COMBO" else spec.type


def shown(value: Any) -> str:
    """Returns the repr of a value, cut to 80 characters for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
