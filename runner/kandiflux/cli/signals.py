"""Handles Ctrl-C, SIGTERM, SIGHUP (a closed terminal) and --timeout: each ends a command cleanly."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from types import FrameType

__all__ = ["SignalReceived", "TimeUp", "exit_code", "handling", "interrupting", "leave", "time_limit"]

_SHOW_CURSOR = b"\x1b[?25h"
"""Restores the cursor, which progress bars hide."""


class SignalReceived(KeyboardInterrupt):
    """The command received a signal to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TimeUp(KeyboardInterrupt):
    """The command took longer than its --timeout."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Returns the exit code by shell convention: 128 + the signal's number, 130 for Ctrl-C."""
    return 128 + (interrupt.number if isinstance(interrupt, SignalReceived) else signal.SIGINT)


def leave(number: int) -> None:
    """Ends the process immediately, whatever it is doing. Only restores the cursor."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(128 + number)


@contextlib.contextmanager
def handling(handle: Callable[[int], None], *, in_background: bool = False) -> Generator[None, None, None]:
    """Calls `handle(number)` in the main thread for Ctrl-C, SIGTERM and SIGHUP while the block runs.

    A signal that is ignored stays ignored: SIGHUP under nohup, and SIGINT in the background of a script, unless
    in_background is True.
    """

    def called(number: int, _: FrameType | None) -> None:
        handle(number)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else [])]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    ignored = {number for number, handler in before.items() if handler == signal.SIG_IGN}
    for number in before.keys() - (ignored - {signal.SIGINT} if in_background else ignored):
        signal.signal(number, called)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupting() -> Generator[None, None, None]:
    """Raises SignalReceived in the block at the first signal, and exits at once at the second."""
    interrupted = False

    def handle(number: int) -> None:
        nonlocal interrupted
        if interrupted:
            leave(number)
        interrupted = True
        # The cleanup after the signal must not be interrupted by --timeout.
        _set_alarm(0)
        raise SignalReceived(number)

    with handling(handle):
        yield


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Generator[None, None, None]:
    """Raises TimeUp in the block after `seconds`. No effect on Windows, which has no such timer, or in threads."""
    if seconds is None or sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    _set_alarm(max(seconds, 1e-3))
    try:
        yield
    finally:
        _set_alarm(0)
        signal.signal(signal.SIGALRM, before)


def _set_alarm(seconds: float) -> None:
    """Sets the timer of `time_limit`; 0 stops it."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)
