"""A lock that other processes respect, and that goes when its holder does, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path

__all__ = ["held", "try_lock"]

_PAUSE = 0.2


@contextlib.contextmanager
def held(path: Path, stop: threading.Event, on_wait: Callable[[], None] = lambda: None) -> Generator[bool, None, None]:
    """Holds the lock file `path` while the block runs; waits, after one call of on_wait, for another to let go.

    Gives False, without the lock, where `stop` is set while it waits.
    """
    waiting = False
    while not stop.is_set():
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if try_lock(handle) and _is_still(path, handle):
            try:
                yield True
            finally:
                # Deleted before it is let go: whoever opened it meanwhile sees that it is another file by then.
                with contextlib.suppress(OSError):
                    path.unlink()
                os.close(handle)
            return
        os.close(handle)
        if not waiting:
            waiting = True
            on_wait()
        stop.wait(_PAUSE)
    yield False


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def try_lock(handle: int) -> bool:
        """Locks an open file for this process, until it is closed; False where another has it."""
        # Far behind any text, which others may then read.
        os.lseek(handle, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Locks an open file for this process, until it is closed; False where another has it."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            # Some network file systems have no locks; there one does without.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        return True
