"""The one place that catches the exceptions of foreign code.

Node packs, and Pillow on a damaged picture, may raise anything. ComfyUI turns what a node raises into an answer or a
frame and goes on, and so does the lite host. Everything else in the package lets exceptions through.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Failure", "Returned", "attempt"]

Value = TypeVar("Value")
_LONGEST_MESSAGE = 10_000


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
    def message(self) -> str:
        """The exception's text, cut to a bounded length. Never raises."""
        try:
            return str(self.error)[:_LONGEST_MESSAGE]
        except Exception as error:  # noqa: BLE001 - the node's own __str__ may raise anything
            return f"(the exception's text cannot be read: {type(error).__name__})"

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
    """Call `foreign` and return what it returned or raised, whatever that is.

    Only Ctrl-C passes. It reaches the main thread alone: a KeyboardInterrupt in another thread was raised by a node.
    """
    try:
        return Returned(foreign())
    except BaseException as error:  # see the module's docstring
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        return Failure(error)
