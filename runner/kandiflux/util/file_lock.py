"""A lock between processes. The operating system releases it if its holder dies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["held"]

_PAUSE = 0.2


@contextlib.contextmanager
def held(path: Path, stop: threading.Event, on_wait: Callable[[], None] = lambda: None) -> Generator[bool, None, None]:
    """Holds the lock file `path` during the block; calls `on_wait` once if it has to wait for another process.

    Yields False, without the lock, if `stop` is set while it waits. OSError if the file cannot be created.
    """
    waiting = False
    while not stop.is_set():
        lock = contextlib.ExitStack()
        try:
            lock.enter_context(FileLock(path, timeout=0))
        except Timeout:
            if not waiting:
                waiting = True
                on_wait()
            stop.wait(_PAUSE)
            continue
        try:
            yield True
        finally:
            # Delete before the release: filelock does not lock a file that was deleted while it waited. On Windows
            # an open file cannot be deleted.
            with contextlib.suppress(OSError):
                path.unlink()
            lock.close()
        return
    yield False
