"""The one place where the exceptions of foreign code are caught.

Node packs may raise anything. ComfyUI turns whatever they raise into an answer or a frame and lives
on, so the lite host does too; everything else in the package lets exceptions through.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Failure", "Returned", "attempt"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Failure:
    """What a node's code raised."""

    error: BaseException

    @property
    def type_name(self) -> str:
        """The exception's class as ComfyUI writes it: bare for builtins, else with its module."""
        kind = type(self.error)
        return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"

    @property
    def traceback(self) -> list[str]:
        """The lines of the traceback, as ComfyUI sends them."""
        return traceback.format_tb(self.error.__traceback__)

    @property
    def text(self) -> str:
        """The whole traceback, for the log."""
        return "".join(traceback.format_exception(self.error))


@dataclass(frozen=True)
class Returned(Generic[Value]):
    """What a node's code returned."""

    value: Value


def attempt(foreign: Callable[[], Value]) -> Returned[Value] | Failure:
    """Call `foreign`; never raises what a node may raise, sys.exit() included."""
    try:
        return Returned(foreign())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the reason stands above
        return Failure(error)
