"""Keeping the log readable when a client, or a lack of resources, causes the same line thousands of times."""

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
    """Lets a line of each kind into the log at most once per `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def may(self, kind: str) -> bool:
        """Whether a line of this kind is due. `kind` must be one of a few words of our own."""
        now = time.monotonic()
        if now - self._last.get(kind, -self._seconds) < self._seconds:
            return False
        self._last[kind] = now
        return True


def loop_error_handler() -> Any:
    """An event loop's exception handler: at the limit of open files, one line per 10 s.

    asyncio reports each connection it cannot accept, with a traceback, up to 128 times a second.
    """
    sparingly = Sparingly(10.0)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_RESOURCES:
            if sparingly.may("resources"):
                log.error("New connections have to wait: %s. Close some, or raise the limit.", error.strerror)
            return
        loop.default_exception_handler(context)

    return handle


class OneLineErrors(logging.Filter):
    """For aiohttp's server log: a malformed or cut HTTP message is the client's error, and one line, no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record; shorten those."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (HttpProcessingError, RequestPayloadError, ConnectionError)):
            record.msg, record.args = "A request cannot be read: %.300s", (" ".join(str(error).split()),)
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
