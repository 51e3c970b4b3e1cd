"""Retries with exponential backoff."""

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
    """The download was asked to stop; the bytes received so far are kept."""


@dataclass(frozen=True)
class Patience:
    """The retry policy of a download; times are in seconds."""

    attempts: int = 6
    """Consecutive failures after which the download fails."""
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest_wait: float = 600.0
    """The longest Retry-After that is accepted."""
    min_rate: float = 1024.0
    """Average bytes per second since the last failure, pauses included, above which the failure count starts again.
    Without it, a server that disconnects after every few bytes would be retried forever."""

    def retry(
        self,
        what: str,
        step: Callable[[], _Result],
        stop: threading.Event,
        *,
        progress: Callable[[], int] = lambda: 0,
    ) -> _Result:
        """Runs `step`; retries after a pause if it raises Trouble.

        what: the name for messages. progress: returns the number of bytes so far. Raises Stopped if `stop` is set
        during a pause; DownloadError or ServerUnreachable after the last attempt.
        """
        failures, before, since = 0, progress(), time.monotonic()
        while True:
            try:
                return step()
            except Trouble as trouble:
                received, elapsed = progress() - before, time.monotonic() - since
                failures = 1 if received > 0 and received >= self.min_rate * elapsed else failures + 1
                before, since = before + received, since + elapsed
                if failures >= self.attempts:
                    raise _final_error(what, trouble, failures) from trouble
                pause = self._pause(what, failures, trouble)
                _log.info("%s: %s; retrying in %.1f s", what, trouble, pause)
            if stop.wait(pause):
                raise Stopped

    def _pause(self, what: str, failures: int, trouble: Trouble) -> float:
        if trouble.after is not None:
            if trouble.after > self.longest_wait:
                raise DownloadError(
                    f"{what}: the server asks to retry in {trouble.after:.0f} seconds.", hint="Try again then."
                ) from trouble
            return trouble.after
        longest = min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1))
        # Jitter: downloads that failed together must not retry together.
        return longest * random.uniform(0.5, 1.0)


def _final_error(what: str, trouble: Trouble, failures: int) -> KandifluxError:
    kind = ServerUnreachable if trouble.no_answer else DownloadError
    return kind(
        f"{what} cannot be downloaded: {trouble} ({failures} times in a row).",
        hint="Run the same command again: the download is resumed if the server supports ranges.",
    )
