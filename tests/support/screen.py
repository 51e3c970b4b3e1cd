"""A terminal for commands that run in this process."""

from __future__ import annotations

import io
import re
import sys

import pytest

__all__ = ["Screen", "on_screen"]

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
