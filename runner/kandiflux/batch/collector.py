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
    """The last request about it to the server: "", withdraw or cancel."""


class Collector:
    """Collects the ended jobs of one server. Any number of threads may call `run`.

    postpone: called with an attempt whose files must be downloaded later, and the error.
    """

    def __init__(
        self,
        client: Client,
        context: BatchContext,
        writer: LedgerWriter,
        postpone: Callable[[Attempt, ServerUnreachable], None],
    ) -> None:
        self.in_flight: dict[str, InFlightJob] = {}
        """Jobs that were sent and whose outcome is not recorded yet, by attempt."""
        self.done = 0
        self.pace: float | None = None
        """Moving average of the seconds per job on the server."""
        self.last_activity = 0.0
        """When a job last ended or was accepted, on the monotonic clock."""
        self._client = client
        self._context = context
        self._writer = writer
        self._postpone = postpone
        self._ended: queue.SimpleQueue[InFlightJob | None] = queue.SimpleQueue()
        self._unshrunk: deque[Saved] = deque()
        """Saved files without a thumbnail."""
        self._lock = threading.Lock()
        self._broken: dict[str, tuple[float, int]] = {}
        """Time of the first failed download of an attempt, and the number of failures."""

    def follow(self, running_job: InFlightJob) -> None:
        """Registers a job, to collect it when it ends."""
        self.last_activity = time.monotonic()
        self.in_flight[running_job.attempt.id] = running_job

        def ended(job: Job) -> None:
            self._ended.put(running_job)
            self._context.notify()

        running_job.job.add_done_callback(ended)

    def stop(self, threads: int) -> None:
        """Ends this number of calls of `run`, after all jobs that have ended so far are collected."""
        for _ in range(threads):
            self._ended.put(None)

    def run(self) -> None:
        """Collects jobs until `stop`."""
        while (running_job := self._ended.get()) is not None:
            self.last_activity = time.monotonic()
            with self._stopping_if_full():
                # If its end cannot be recorded, the attempt stays open, and the next run looks for the job.
                self._end(running_job)
            if self.in_flight.get(running_job.attempt.id) is running_job:
                del self.in_flight[running_job.attempt.id]
            self._context.notify()
            with self._stopping_if_full():
                while self._ended.empty() and self._shrink_one():
                    pass

    @contextlib.contextmanager
    def _stopping_if_full(self) -> Generator[None, None, None]:
        """Stops the batch if the ledger cannot be written. Jobs that are still on the server are collected."""
        try:
            yield
        except OutputError as error:
            self._context.stop(error)

    def _shrink_one(self) -> bool:
        """Makes one thumbnail when idle; False if none is left to make. The report makes those missing at the end."""
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
            _log.exception("the outputs of job %d cannot be saved", attempt.index)
            writer.failed(attempt, OutputError(f"The outputs of the job cannot be saved: {error!r}."))

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
            # The job may still be on the server.
            writer.unknown(attempt, error)
        except OutOfMemory as error:
            self._free()
            writer.failed(attempt, error)
        except OutputMissing as error:
            # Its pictures were sent over a websocket that was lost. The job can be repeated.
            writer.failed(attempt, error, at_least=RESUBMITS)
        except KandifluxError as error:
            writer.failed(attempt, error)
        else:
            self._save(running_job, result)

    def _save(self, running_job: InFlightJob, result: Result) -> None:
        attempt, writer = running_job.attempt, self._writer
        try:
            # Texts are saved only if there are no files: beside pictures they are only remarks.
            worth_keeping = result.files or [output for output in result.outputs if output.text]
            files = save_outputs(worth_keeping, self._context.folder, attempt.name, self._context.ledger.has_name)
        except OutputMissing as error:
            # The server would answer from its cache again. After it frees its memory, it makes the files again.
            self._free()
            writer.failed(attempt, error, at_least=1)
        except ServerUnreachable as error:
            # If the downloads of this job fail repeatedly, its files are the cause, not the server.
            since, failures = self._broken.get(attempt.id, (time.monotonic(), 0))
            self._broken[attempt.id] = since, failures + 1
            lasting = failures >= _BROKEN_DOWNLOADS and time.monotonic() - since >= _BROKEN_SECONDS
            if lasting and not error.refused:
                # The next run of the batch downloads them.
                writer.unknown(attempt, OutputError(error.message, hint=error.hint))
            else:
                self._postpone(attempt, error)
        except OutputError as error:
            if not isinstance(error.__cause__, OSError):
                writer.failed(attempt, error)
                return
            # The next file could not be written either. The attempt stays open: the next run downloads the file.
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
