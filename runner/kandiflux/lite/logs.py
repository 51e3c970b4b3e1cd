"""Keeps the log readable if a client, or a lack of resources, causes the same line thousands of times."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

__all__ = ["OneLineErrors", "Sparingly", "loop_error_handler"]

log = logging.getLogger(__name__)

_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Sparingly:
    """Rate limiter for log lines: allows one line of each kind per `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def may(self, kind: str) -> bool:
        """Whether a line of this kind may be logged now. `kind` must be one of a fixed set, never a client's text."""
        now = time.monotonic()
        if now - self._last.get(kind, -self._seconds) < self._seconds:
            return False
        self._last[kind] = now
        return True


def loop_error_handler() -> Any:
    """Returns an event loop's exception handler. At the limit of open files, it logs one line per 10 s.

    asyncio logs each connection it cannot accept with a traceback, up to 128 times per second.
    """
    sparingly = Sparingly(10.0)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_RESOURCES:
            if sparingly.may("resources"):
                log.error("New connections must wait: %s. Close some connections, or raise the limit.", error.strerror)
            return
        loop.default_exception_handler(context)

    return handle


class OneLineErrors(logging.Filter):
    """Filter for aiohttp's server log: a malformed or truncated HTTP message is logged in one line, no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps all records. Shortens those with a client's error to one line, as a warning."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (HttpProcessingError, RequestPayloadError, ConnectionError)):
            record.msg, record.args = "A request cannot be read: %.300s", (" ".join(str(error).split()),)
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
