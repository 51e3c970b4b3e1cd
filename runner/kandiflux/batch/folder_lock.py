"""Locks a folder, so that only one batch at a time uses it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from filelock import FileLock, Timeout

from kandiflux.errors import OutputError, UsageError

__all__ = ["held_folder"]

LOCK = ".kandiflux-batch.lock"
HOLDER = ".kandiflux-batch.pid"
"""Contains the process id of the running batch."""


@contextlib.contextmanager
def held_folder(folder: Path) -> Generator[None, None, None]:
    """Creates the folder and locks it for this process during the block.

    The lock ends with the process. UsageError if another process holds it; OutputError if the folder is not writable.
    """
    stack = contextlib.ExitStack()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(folder / LOCK, timeout=0))
    except Timeout:
        holder = _read(folder / HOLDER)
        raise UsageError(
            f"Another batch is running in {folder}" + (f" (process {holder})." if holder else "."),
            hint="Wait for it, stop it, or choose another folder.",
            parameter="folder",
        ) from None
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written to: {error.strerror or error}.",
            hint="Choose another folder.",
            parameter="folder",
        ) from error
    try:
        with contextlib.suppress(OSError):
            (folder / HOLDER).write_text(f"{os.getpid()}\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        stack.close()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
