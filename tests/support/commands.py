"""The command `kandiflux`: in this process, or as one of its own, with pipes or on a terminal, and ended by signals."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer.testing

from tests.support.places import ROOT

__all__ = ["RUNNER", "Ended", "default_signals", "kandiflux", "on_a_terminal", "read_until", "started"]

# typer builds all commands anew for each call, which takes six times as long as most calls: once is enough.
typer.testing._get_command = functools.cache(typer.testing._get_command)
RUNNER = typer.testing.CliRunner()
"""`RUNNER.invoke(app, words)` runs the command in this process."""

WAIT = 60


@dataclass
class Ended:
    """How a command ended, with what it wrote."""

    code: int
    out: bytes
    said: bytes
    seconds: float


def environment(**changes: str) -> dict[str, str]:
    dropped = {"NO_COLOR", "FORCE_COLOR", "KANDIFLUX_SERVER", "PYTHONIOENCODING", "http_proxy", "HTTP_PROXY"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONPATH": str(ROOT / "runner"), "PYTHONDONTWRITEBYTECODE": "1", "TERM": "xterm-256color",
            "COLUMNS": "200", **changes}  # fmt: skip


def default_signals() -> None:
    """A test run in the background ignores Ctrl-C, and would have its children ignore it, too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def started(
    *words: str | bytes, folder: Path | None = None, prepare: Callable[[], None] | None = None, **changes: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, running; killed at the end of the block if it still does. Its signals are those of a terminal.

    prepare: called in the new process before the command begins.
    """

    def begin() -> None:
        default_signals()
        if prepare is not None:
            prepare()

    with subprocess.Popen(
        [sys.executable, "-m", "kandiflux", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(**changes),
        preexec_fn=begin,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """Reads the command's standard error up to the line that holds `text`; what it read. Fails if there is none."""
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended and did not say {text!r}: {said!r}")


def kandiflux(
    *words: str | bytes,
    folder: Path | None = None,
    wait: float = WAIT,
    prepare: Callable[[], None] | None = None,
    **changes: str,
) -> Ended:
    """Runs it to its end, with pipes."""
    begun = time.monotonic()
    with started(*words, folder=folder, prepare=prepare, **changes) as process:
        out, said = process.communicate(timeout=wait)
    return Ended(process.returncode, out, said, time.monotonic() - begun)


def on_a_terminal(*words: str | bytes, folder: Path | None = None, **changes: str) -> Ended:
    """Runs it to its end, on a pseudo-terminal; `out` is all that came to the screen."""
    import pty

    begun = time.monotonic()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kandiflux", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment(**changes),
        preexec_fn=default_signals,
    ) as process:
        os.close(theirs)
        shown = b""
        # Reading a pseudo-terminal whose other end is gone is an error on Linux, and the end elsewhere.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        process.wait(WAIT)
    return Ended(process.returncode, shown, b"", time.monotonic() - begun)
