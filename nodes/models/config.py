"""Reading a network's sizes from the config.json beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

Config = TypeVar("Config")


def read_config(kind: type[Config], values: Mapping[str, Any], expected: Mapping[str, Any]) -> Config:
    """Make the dataclass `kind` from a config.json's `values`.

    A key named in `expected` that is present must hold that value: it stands for a choice of architecture the
    network does not vary. Keys that neither name a field nor stand in `expected` are the reference's bookkeeping.
    Raises ValueError, naming the key.
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
