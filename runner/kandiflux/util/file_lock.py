"""A lock that other processes respect, and that is released when its holder ends, however that happens."""

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

    Yields False, without the lock, if `stop` is set while it waits. OSError if the file cannot be made.
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
            # Before it is released: filelock does not take a file that was deleted while it waited. Windows refuses.
            with contextlib.suppress(OSError):
                path.unlink()
            lock.close()
        return
    yield False
