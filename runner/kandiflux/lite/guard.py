"""The only module that catches all exceptions of third-party code.

Node packs may raise anything, and so may Pillow for a damaged image. Like ComfyUI, the lite host sends the exception of
a node as a response or a frame and continues. Other modules catch all exceptions only in a few places that say why.
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
    """An exception raised by a node's code."""

    error: BaseException

    @property
    def type_name(self) -> str:
        """The exception's class as ComfyUI writes it: with its module, except for builtins."""
        kind = type(self.error)
        return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"

    @property
    def message(self) -> str:
        """The exception's text, truncated. Never raises."""
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
        """The full traceback, for the log."""
        return "".join(traceback.format_exception(self.error))


@dataclass(frozen=True)
class Returned(Generic[Value]):
    """The value that a node's code returned."""

    value: Value


def attempt(foreign: Callable[[], Value]) -> Returned[Value] | Failure:
    """Calls `foreign` and returns its result as Returned, or any exception it raised as Failure.

    Only Ctrl-C propagates. Python raises it in the main thread: in another thread, KeyboardInterrupt comes from a node.
    """
    try:
        return Returned(foreign())
    except BaseException as error:  # see the module's docstring
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        return Failure(error)
