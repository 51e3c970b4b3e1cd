"""Checks the types of JSON values from outside, at run time and for the type checker.

A file, a queue or an answer may contain any value. For the type checker, `isinstance(value, dict)` does not narrow the
keys and values; these functions narrow keys to strings, as in JSON, and leave values as Any. Use `as_object` and
`as_list` if a malformed value counts as missing, `is_object` and `is_list` if it is an error. They also serve for TOML,
YAML and the dictionaries of a pickle.
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
"""The maximum depth of lists and objects. Real workflows have less than 40; recursive code is safe at this depth."""


def parse_json(text: str | bytes | bytearray, *, finite: bool = False) -> Any:
    """Decodes JSON from outside. ValueError if it is not valid JSON or is nested deeper than `MAX_DEPTH`.

    finite: also refuse NaN and infinities, which Python accepts but the standard does not define, and numbers too large
    for a float. ComfyUI's answers may contain them; requests to our server must not.
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
    """Returns a finite number as a float; None for anything else (a string, boolean, NaN, too large an integer)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def is_object(value: object) -> TypeIs[Mapping[str, Any]]:
    """Returns whether this is an object."""
    # dict first: it is the usual case, and isinstance is much faster for dict than for Mapping.
    return isinstance(value, (dict, Mapping))


def is_dict(value: object) -> TypeIs[dict[str, Any]]:
    """Returns whether this is an object that can be changed in place."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeIs[list[Any]]:
    """Returns whether this is a list."""
    return isinstance(value, list)


def is_array(value: object) -> TypeIs[list[Any] | tuple[Any, ...]]:
    """Returns whether this is a list or a tuple. (Node classes in Python have tuples where JSON has lists.)"""
    return isinstance(value, (list, tuple))


def as_object(value: object) -> Mapping[str, Any]:
    """Returns the value if it is an object, else an empty one."""
    return value if is_object(value) else {}


def as_list(value: object) -> list[Any]:
    """Returns the value if it is a list, else an empty one."""
    return value if is_list(value) else []


def text_or_none(value: object) -> str | None:
    """Returns a string stripped of whitespace; None if it is empty or not a string."""
    return value.strip() or None if isinstance(value, str) else None
