"""Trying again what may work a little later."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kandiflux.errors import DownloadError, KandifluxError, ServerUnreachable
from kandiflux.models.remote_files import Trouble

__all__ = ["Patience", "Stopped"]

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Stopped(Exception):
    """It was asked to stop; what has come is kept."""


@dataclass(frozen=True)
class Patience:
    """Seconds, except `attempts`: the number of failures in a row after which a download is given up."""

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest_wait: float = 600.0
    """The longest Retry-After that is obeyed."""
    min_rate: float = 1024.0
    """Bytes a second, pauses included, that must have come since the last failure for the next one to count as the
    first again. Else a server that breaks off after every few bytes would be asked for ever."""

    def retry(
        self,
        what: str,
        step: Callable[[], _Result],
        stop: threading.Event,
        *,
        progress: Callable[[], int] = lambda: 0,
    ) -> _Result:
        """Run `step`, and again after a pause if it fails with Trouble.

        what: for messages. progress: bytes so far. Stopped if `stop` is set meanwhile; DownloadError or
        ServerUnreachable when it is given up.
        """
        failures, before, since = 0, progress(), time.monotonic()
        while True:
            try:
                return step()
            except Trouble as trouble:
                came, took = progress() - before, time.monotonic() - since
                failures = 1 if came > 0 and came >= self.min_rate * took else failures + 1
                before, since = before + came, since + took
                if failures >= self.attempts:
                    raise _given_up(what, trouble, failures) from trouble
                pause = self._pause(what, failures, trouble)
                _log.info("%s: %s; again in %.1f s", what, trouble, pause)
            if stop.wait(pause):
                raise Stopped

    def _pause(self, what: str, failures: int, trouble: Trouble) -> float:
        if trouble.after is not None:
            if trouble.after > self.longest_wait:
                raise DownloadError(
                    f"{what}: the server asks to come again in {trouble.after:.0f} seconds.", hint="Try again then."
                ) from trouble
            return trouble.after
        longest = min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1))
        # Many that failed together must not all come back together.
        return longest * random.uniform(0.5, 1.0)


def _given_up(what: str, trouble: Trouble, failures: int) -> KandifluxError:
    kind = ServerUnreachable if trouble.no_answer else DownloadError
    return kind(
        f"{what} cannot be downloaded: {trouble} ({failures} times in a row).",
        hint="What has come is kept, if the server can send parts of a file: run the same command again.",
    )
