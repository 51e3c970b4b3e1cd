"""JSON that others wrote: what a value is, asked at run time, and from there on known to the type checker too.

Anything may stand in a file, a queue or an answer. `isinstance(value, dict)` says nothing of what the dictionary holds;
these say that an object's keys are texts, as JSON's are, and leave the values to be asked in their turn. Where what is
malformed counts as absent, take `as_object` and `as_list`; where it is an error, `is_object` and `is_list`. TOML, YAML
and a pickle's dictionaries are asked the same way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = [
    "MAX_DEPTH",
    "as_float",
    "as_list",
    "as_object",
    "is_array",
    "is_dict",
    "is_list",
    "is_object",
    "parse_json",
    "text_or_none",
]

MAX_DEPTH = 200
"""Levels of lists and objects that are accepted. Real workflows stay below 40; code that recurses is safe at this."""


def parse_json(text: str | bytes | bytearray, *, finite: bool = False) -> Any:
    """Decode JSON from outside. ValueError if it is not valid JSON or is nested deeper than `MAX_DEPTH`.

    finite: also refuse NaN and the infinities, which Python reads and the standard does not know, and numbers too large
    for a float. What ComfyUI answers may hold them; a request to us must not.
    """
    try:
        value = (
            json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_finite_int)
            if finite
            else json.loads(text)
        )
    except RecursionError:
        raise ValueError(_too_deep()) from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item if type(item) is list else ())
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return value
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"JSON nested deeper than {MAX_DEPTH} levels"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _finite_int(text: str) -> int:
    # Python itself refuses more than 4,300 digits with a ValueError.
    number = int(text)
    try:
        float(number)
    except OverflowError:
        raise ValueError(f"the number {text[:40]}… is too large") from None
    return number


def as_float(value: object) -> float | None:
    """The finite number itself; None for anything else: a text, a boolean, NaN, an integer beyond a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def is_object(value: object) -> TypeIs[Mapping[str, Any]]:
    """Whether this is an object."""
    # A dict first: the usual case, and many times as quick to see as a Mapping is.
    return isinstance(value, (dict, Mapping))


def is_dict(value: object) -> TypeIs[dict[str, Any]]:
    """Whether this is an object that can be changed in place."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeIs[list[Any]]:
    """Whether this is a list."""
    return isinstance(value, list)


def is_array(value: object) -> TypeIs[list[Any] | tuple[Any, ...]]:
    """Whether this is a list, or a tuple, as Python's own nodes have them where JSON has lists."""
    return isinstance(value, (list, tuple))


def as_object(value: object) -> Mapping[str, Any]:
    """The object itself; an empty one for anything else."""
    return value if is_object(value) else {}


def as_list(value: object) -> list[Any]:
    """The list itself; an empty one for anything else."""
    return value if is_list(value) else []


def text_or_none(value: object) -> str | None:
    """A text without the blanks around it; None for an empty one and for anything else."""
    return value.strip() or None if isinstance(value, str) else None
