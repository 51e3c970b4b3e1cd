"""Starts the lite host as a child process."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO

from kandiflux.errors import ServerUnreachable

__all__ = ["running_lite_host"]

_log = logging.getLogger(__name__)

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


@contextlib.contextmanager
def running_lite_host(*options: str) -> Generator[str, None, None]:
    """Runs `kandiflux host` on a free port and yields its URL. It ends with the block, or with this process.

    ServerUnreachable, with the end of its log, if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="kandiflux-") as folder, Path(folder, "host.log").open("wb") as log:
        command = [sys.executable, "-m", "kandiflux", "host", "--port", "0", "--exit-with-stdin"]
        # Outputs are downloaded from the host, so its own copies may be deleted when it ends.
        command += ["--output", str(Path(folder, "output")), "--temp", str(Path(folder, "temp")), *options]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": _with_this_package(os.environ.get("PYTHONPATH"))},
            # A separate process group: Ctrl-C in the terminal reaches only this process, which then calls `_stop`.
            start_new_session=True,
        )
        try:
            yield _first_line(process, Path(log.name))
        finally:
            _stop(process)


def _with_this_package(path: str | None) -> str:
    ours = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([ours, path] if path else [ours])


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    stdout = process.stdout
    if stdout is not None:
        threading.Thread(target=_pass_on, args=(stdout, lines), daemon=True).start()
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=0.2).strip()
        except queue.Empty:
            continue
        if line:
            return line
        break
    tail = log.read_text("utf-8", "replace").strip().splitlines()[-15:]
    raise ServerUnreachable(
        "The lite host did not start." + "".join(f"\n    {line}" for line in tail),
        hint="Run `kandiflux host` to see why, or use a running ComfyUI.",
        parameter="server",
    )


def _pass_on(stdout: IO[str], lines: queue.SimpleQueue[str]) -> None:
    # An empty line means the end of the output. The rest is read so that the host never blocks on a full pipe.
    # Only this thread closes the pipe: `close` in another thread would wait for the read, or make it fail.
    with stdout:
        lines.put(stdout.readline())
        for _ in stdout:
            pass


def _stop(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _log.warning("the lite host did not stop within %.0f s; killing it", _STOP_SECONDS)
        process.kill()
        process.wait()
