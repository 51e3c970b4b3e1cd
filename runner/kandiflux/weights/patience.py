"""Trying again what may work a little later."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kandiflux.errors import DownloadError, KandifluxError, ServerUnreachable
from kandiflux.weights.remote_files import Trouble

__all__ = ["Patience", "Stopped"]

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Stopped(Exception):
    """It was asked to stop; what has come is kept."""


@dataclass(frozen=True)
class Patience:
    """Seconds, but for `attempts`: how often in a row nothing may come before it is given up."""

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest_wait: float = 600.0
    """The longest Retry-After that is obeyed."""
    between_notes: float = 2.0

    def retry(
        self,
        what: str,
        step: Callable[[], _Result],
        stop: threading.Event,
        *,
        progress: Callable[[], int] = lambda: 0,
    ) -> _Result:
        """`step`, again after a pause where the trouble may pass; what brought something counts as a new beginning.

        what: for messages. Stopped where `stop` is set meanwhile; DownloadError, ServerUnreachable when it is given up.
        """
        failures = 0
        while True:
            before = progress()
            try:
                return step()
            except Trouble as trouble:
                failures = 1 if progress() > before else failures + 1
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
        hint="What has come is kept: run the same command again.",
    )
