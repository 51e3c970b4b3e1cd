"""Reads a network's config.json into a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

Config = TypeVar("Config")


def read_config(kind: type[Config], values: Mapping[str, Any], expected: Mapping[str, Any]) -> Config:
    """Make the dataclass `kind` from the `values` of a config.json.

    expected: options that this implementation does not vary; if present in `values`, they must be equal. Other unknown
    keys are ignored. Raises ValueError naming the key.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in expected.items():
        if key in values and values[key] != value:
            raise ValueError(
                f"{kind.__name__}: expected {key} = {value!r}, got {values[key]!r} in config.json: "
                "this is not a network of this kind."
            )
    sizes = {}
    for field in fields(kind):  # pyright: ignore[reportArgumentType]
        if field.name in values:
            sizes[field.name] = values[field.name]
        elif field.default is MISSING:
            raise ValueError(f"{kind.__name__}: config.json lacks {field.name!r}.")
    return kind(**sizes)
