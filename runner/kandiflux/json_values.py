"""JSON that others wrote: what a value is, asked at run time, and from there on known to the type checker too.

Anything may stand in a file, a queue or an answer. `isinstance(value, dict)` says nothing of what the dictionary holds;
these say that an object's keys are texts, as JSON's are, and leave the values to be asked in their turn. Where what is
malformed counts as absent, take `as_object` and `as_list`; where it is an error, `is_object` and `is_list`. TOML, YAML
and a pickle's dictionaries are asked the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["as_list", "as_object", "is_array", "is_dict", "is_list", "is_object", "text_or_none"]


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
