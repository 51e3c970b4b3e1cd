"""A terminal for commands that run in this process."""

from __future__ import annotations

import inspect
import io
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["Screen", "call", "on_screen"]

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """What was written, without control sequences, each drawing on lines of its own."""
        return _CONTROL.sub("", self.getvalue()).replace("\r", "\n")


def on_screen(monkeypatch: pytest.MonkeyPatch, *names: str) -> Screen:
    """Makes one wide terminal of the standard streams `names`: stdout, stderr."""
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name in names:
        monkeypatch.setattr(sys, name, screen)
    return screen


def call(command: Callable[..., None], **arguments: Any) -> None:
    """Calls a command with the defaults of its other options: typer's runner has no terminal."""
    defaults = {name: about.default for name, about in inspect.signature(command).parameters.items()}
    command(**{**defaults, **arguments})
