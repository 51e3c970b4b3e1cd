"""One batch a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from kandiflux.errors import OutputError, UsageError
from kandiflux.util.file_lock import try_lock

__all__ = ["held_folder"]

LOCK = ".kandiflux-batch.lock"


@contextlib.contextmanager
def held_folder(folder: Path) -> Generator[None, None, None]:
    """Makes the folder, and holds it for this process as long as the block runs, or the process lives.

    UsageError where another process holds it; OutputError where the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written to: {error.strerror or error}.",
            hint="Choose another folder.",
            parameter="folder",
        ) from error
    try:
        if not try_lock(handle):
            holder = _read(folder / LOCK)
            raise UsageError(
                f"Another batch is running in {folder}" + (f" (process {holder})." if holder else "."),
                hint="Wait for it, stop it, or choose another folder.",
                parameter="folder",
            )
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        # The file stays: whoever deletes a lock file can delete one that another has just taken.
        os.close(handle)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
