"""Saves the outputs of finished jobs and records them in the ledger; makes thumbnails when idle."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

from kandiflux.batch.context import RESUBMITS, BatchContext, LedgerWriter
from kandiflux.batch.ledger import Attempt, Saved
from kandiflux.batch.saving import save_outputs
from kandiflux.batch.thumbnails import thumbnail
from kandiflux.errors import (
    AccessDenied,
    JobInterrupted,
    JobLost,
    KandifluxError,
    OutOfMemory,
    OutputError,
    OutputMissing,
    ServerUnreachable,
)
from kandiflux.jobs.client import Client
from kandiflux.jobs.job import Job
from kandiflux.jobs.result import Result

__all__ = ["Collector", "InFlightJob"]

_log = logging.getLogger(__name__)

_BROKEN_DOWNLOADS, _BROKEN_SECONDS = 5, 60.0


@dataclass
class InFlightJob:
    """A job on a server."""

    attempt: Attempt
    job: Job
    asked: str = ""
    """What was asked of the server about it: "", withdraw or cancel."""


class Collector:
    """Takes the jobs of one server that have ended; `run` is the work of any number of threads.

    postpone: called with an attempt whose files are to be fetched later, and why.
    """

    def __init__(
        self,
        client: Client,
        context: BatchContext,
        writer: LedgerWriter,
        postpone: Callable[[Attempt, ServerUnreachable], None],
    ) -> None:
        self.in_flight: dict[str, InFlightJob] = {}
        """Jobs sent and not yet settled, by attempt."""
        self.done = 0
        self.pace: float | None = None
        """Seconds that a job takes the server, of late."""
        self.last_sign = 0.0
        """When a job last ended or was taken, on the monotonic clock."""
        self._client = client
        self._context = context
        self._writer = writer
        self._postpone = postpone
        self._ended: queue.SimpleQueue[InFlightJob | None] = queue.SimpleQueue()
        self._unshrunk: deque[Saved] = deque()
        """What has been saved, and has no thumbnail yet."""
        self._lock = threading.Lock()
        self._broken: dict[str, tuple[float, int]] = {}
        """Since when the downloads of an attempt break off, and how many times they did."""

    def follow(self, running_job: InFlightJob) -> None:
        """Waits for its end, whenever that comes."""
        self.last_sign = time.monotonic()
        self.in_flight[running_job.attempt.id] = running_job

        def ended(job: Job) -> None:
            self._ended.put(running_job)
            self._context.notify()

        running_job.job.add_done_callback(ended)

    def stop(self, threads: int) -> None:
        """Ends so many calls of `run`, once all that has ended until now is collected."""
        for _ in range(threads):
            self._ended.put(None)

    def run(self) -> None:
        """Collects until it is stopped."""
        while (running_job := self._ended.get()) is not None:
            self.last_sign = time.monotonic()
            with self._stopping_if_full():
                # The attempt of one whose end cannot be written down stays open: the next run looks for the job.
                self._end(running_job)
            if self.in_flight.get(running_job.attempt.id) is running_job:
                del self.in_flight[running_job.attempt.id]
            self._context.notify()
            with self._stopping_if_full():
                while self._ended.empty() and self._shrink_one():
                    pass

    @contextlib.contextmanager
    def _stopping_if_full(self) -> Generator[None, None, None]:
        """Where the ledger cannot be written the batch ends; what still comes from the server is collected yet."""
        try:
            yield
        except OutputError as error:
            self._context.stop(error)

    def _shrink_one(self) -> bool:
        """Makes a thumbnail while there is nothing else to do; what is left when the batch ends, the report makes."""
        try:
            file = self._unshrunk.popleft()
        except IndexError:
            return False
        thumbnail(self._context.ledger, self._context.folder, file)
        return True

    def _end(self, running_job: InFlightJob) -> None:
        attempt, writer = running_job.attempt, self._writer
        try:
            self._end_or_save(running_job)
        except KandifluxError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not end the batch
            _log.exception("what job %d has made cannot be saved", attempt.index)
            writer.failed(attempt, OutputError(f"What the job has made cannot be saved: {error!r}."))

    def _end_or_save(self, running_job: InFlightJob) -> None:
        attempt, writer = running_job.attempt, self._writer
        try:
            result = running_job.job.result(0)
        except JobLost as error:
            writer.lost(attempt, error)
        except JobInterrupted as error:
            if running_job.asked:
                writer.withdrawn(attempt)
            else:
                writer.failed(attempt, error)
        except (ServerUnreachable, AccessDenied) as error:
            # It may still be there.
            writer.unknown(attempt, error)
        except OutOfMemory as error:
            self._free()
            writer.failed(attempt, error)
        except OutputMissing as error:
            # Its pictures came over a websocket that is gone; they can be made again.
            writer.failed(attempt, error, at_least=RESUBMITS)
        except KandifluxError as error:
            writer.failed(attempt, error)
        else:
            self._save(running_job, result)

    def _save(self, running_job: InFlightJob, result: Result) -> None:
        attempt, writer = running_job.attempt, self._writer
        try:
            # Texts are files only where they are all that came: beside pictures they are remarks.
            worth_keeping = result.files or [output for output in result.outputs if output.text]
            files = save_outputs(worth_keeping, self._context.folder, attempt.name, self._context.ledger.has_name)
        except OutputMissing as error:
            # The server would answer from its cache again; what it forgets it has to make anew.
            self._free()
            writer.failed(attempt, error, at_least=1)
        except ServerUnreachable as error:
            # Downloads of this job that keep breaking off are a fault of its files, not of the server.
            since, failures = self._broken.get(attempt.id, (time.monotonic(), 0))
            self._broken[attempt.id] = since, failures + 1
            lasting = failures >= _BROKEN_DOWNLOADS and time.monotonic() - since >= _BROKEN_SECONDS
            if lasting and not error.refused:
                # The next run of the batch fetches them.
                writer.unknown(attempt, OutputError(error.message, hint=error.hint))
            else:
                self._postpone(attempt, error)
        except OutputError as error:
            if not isinstance(error.__cause__, OSError):
                writer.failed(attempt, error)
                return
            # No room for this file is no room for the next. The attempt stays open: the next run fetches it.
            self._context.stop(error)
        except KandifluxError as error:
            writer.failed(attempt, error)
        else:
            self._broken.pop(attempt.id, None)
            writer.done(attempt, result, files)
            if self._context.pages:
                self._unshrunk.extend(files)
            with self._lock:
                self.done += 1
                if result.seconds is not None:
                    self.pace = result.seconds if self.pace is None else (self.pace + result.seconds) / 2

    def _free(self) -> None:
        with contextlib.suppress(KandifluxError):
            self._client.api.free()
