"""Atomic writes, and a check whether a folder can be written to."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import uuid
from collections.abc import Generator
from pathlib import Path

from kandiflux.errors import OutputError, UsageError

__all__ = ["require_writable", "written_whole"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def written_whole(path: Path) -> Generator[Path, None, None]:
    """Writes a file atomically: yields a temporary path, which is renamed to `path` if the block ends without an error.

    `path` never contains an incomplete file, and keeps its old content if the disk is full.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Checks that files can be created in `folder`, or that it can be created. Leaves nothing behind.

    UsageError if it is not a folder or cannot be written to, OutputError if the disk is full.
    """
    made: list[Path] = []
    try:
        for path in (*reversed(folder.parents), folder):
            if not path.is_dir():
                path.mkdir()
                made.append(path)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".kandiflux-"):
            pass
    except OSError as error:
        failure = OutputError if error.errno in _FULL else UsageError
        raise failure(
            f"{folder} cannot be written to: {error.strerror or error}.",
            expected="a folder in which files can be created",
            hint="Nothing was sent. Choose another folder.",
            parameter="folder",
        ) from error
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
