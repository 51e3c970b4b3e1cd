"""Follows jobs to their end: the history is the authority, events only tell when to read it.

One thread per client. After a hint (a terminal event) it reads the job's history at once; with many open jobs it
batches such reads. While jobs are open, it also polls the queue and then the history, so a lost event, a lost websocket
or a restarted server can only delay a result, never make it wrong.

An error affects only what it concerns: an unreadable answer about one job ends that job, and the thread continues.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kandiflux.api.rest import ComfyApi, Queue
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    JobError,
    JobInterrupted,
    JobLost,
    KandifluxError,
    OutputMissing,
    ProtocolError,
    ServerUnreachable,
)
from kandiflux.jobs.job import Job
from kandiflux.jobs.result import Result, outcome, outcome_of_events
from kandiflux.util.json_values import is_object

__all__ = ["JobTracker"]

_log = logging.getLogger(__name__)

_HINT_PAUSE, _LAST_HINT_PAUSE = 0.02, 1.0
_FEW, _GATHER_SECONDS, _MOST_AT_ONCE = 4, 0.01, 64
_ORPHAN_SECONDS = 1.0
_AGAIN_SECONDS = 0.25
_ABSENCES = 2
_TROUBLES = 5
_CLOSE_SECONDS = 1.0
_PICTURES_SECONDS = 5.0
_ACCESS_SECONDS = 2.0
_HISTORY_SECONDS, _LAST_TRIES_SECONDS = 15.0, 1.0
_SHORTEST_WAIT = 0.05


class JobTracker:
    """poll_seconds: polling interval while events arrive. patience: timeout in seconds for a server that does not
    answer, from the first failed request; for a server that refuses access it is two seconds.

    orphaned: returns whether a job's events can no longer arrive, so that it must be polled.
    """

    def __init__(
        self, server: ComfyApi, *, poll_seconds: float, patience: float, orphaned: Callable[[Job], bool]
    ) -> None:
        self._server = server
        self._poll_seconds = poll_seconds
        self._patience = patience
        self._orphaned = orphaned
        self._wake = threading.Condition()
        self._open: dict[str, Job] = {}
        self._hints: dict[str, tuple[float, float]] = {}
        self._absent: dict[str, int] = {}
        self._troubled: dict[str, tuple[float, int]] = {}
        """Time of the first failed read of a job's history, and the number of failures."""
        self._incomplete: dict[str, float] = {}
        """Time since which an ended job waits for its pictures."""
        self._next_sweep = 0.0
        self._hints_read = 0.0
        self._unreachable_since: float | None = None
        self._denied_since: float | None = None
        self._history_hung = False
        """Whether the last request for a history timed out."""
        self._stop = False
        self._thread: threading.Thread | None = None

    def add(self, job: Job) -> None:
        """Follows a job that the server has accepted."""
        with self._wake:
            if not self._open:
                self._next_sweep = time.monotonic() + self._poll_seconds
            self._open[job.prompt_id] = job
            if (self._thread is None or not self._thread.is_alive()) and not self._stop:
                self._thread = threading.Thread(target=self._run, name="kandiflux-watcher", daemon=True)
                self._thread.start()
            self._wake.notify()

    def hint(self, job: Job, delay: float = 0.0) -> None:
        """Reads the history after `delay` seconds, and some more times with backoff: the job may have ended."""
        with self._wake:
            if job.prompt_id in self._open:
                self._hints[job.prompt_id] = (time.monotonic() + delay, _HINT_PAUSE)
                self._wake.notify()

    def sweep_now(self) -> None:
        """Polls every open job now, because events may have been missed."""
        with self._wake:
            self._next_sweep = 0.0
            self._wake.notify()

    def close(self) -> None:
        """Ends the thread. Does not change open jobs."""
        with self._wake:
            self._stop = True
            self._wake.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            # It may be waiting for an answer, and ends only after that.
            thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while not self._stop:
                self._work_once()
        finally:
            with self._wake:
                left = [] if self._stop else list(self._open.values())
                # The next job starts a new thread.
                self._thread = None
            for job in left:
                job.finish(_not_followed(job))

    def _work_once(self) -> None:
        with self._wake:
            while not self._stop and (left := self._seconds_left()) != 0.0:
                self._wake.wait(left)
            if self._stop:
                return
            now = time.monotonic()
            due = [self._open[prompt_id] for prompt_id, (when, _) in self._hints.items() if when <= now]
            due = due[:_MOST_AT_ONCE] if now >= self._not_before() else []
            sweep = bool(self._open) and self._next_sweep <= now
        if due:
            self._follow_hints(due)
        if sweep:
            self._sweep()
        self._forget_finished()

    def _seconds_left(self) -> float | None:
        """Returns the seconds until the next read; None if no job is open."""
        if not self._open:
            return None
        hinted = min((when for when, _ in self._hints.values()), default=math.inf)
        return max(0.0, min(self._next_sweep, max(hinted, self._not_before())) - time.monotonic())

    def _not_before(self) -> float:
        """Returns the time of the next read after hints. With many open jobs it batches: at most one read per 10 ms."""
        return self._hints_read + _GATHER_SECONDS if len(self._open) > _FEW else 0.0

    def _follow_hints(self, jobs: Sequence[Job]) -> None:
        entries: Mapping[str, Any] = self._newest_entries(len(jobs) + _FEW) if len(jobs) > 1 else {}
        for job in jobs:
            if self._stop:
                return
            self._guarded(job, self._find_in_history, entries.get(job.prompt_id))
            with self._wake:
                _, pause = self._hints.pop(job.prompt_id, (0.0, _HINT_PAUSE))
                # ComfyUI says "success" shortly before it writes the history.
                if not job.finished and pause <= _LAST_HINT_PAUSE:
                    self._hints[job.prompt_id] = (time.monotonic() + pause, pause * 2)
        self._hints_read = time.monotonic()

    def _guarded(self, job: Job, look: Callable[..., bool], *about: object) -> bool:
        """Returns `look(job, …)`; if the server's answer about this job is not valid, ends the job with that error."""
        try:
            return look(job, *about)
        except Exception as error:  # noqa: BLE001 - other jobs are followed by this thread, too
            _log.warning("the server's answer about %s cannot be read", job.prompt_id, exc_info=error)
            job.finish(_unreadable(job, error))
            return True

    def _newest_entries(self, count: int) -> Mapping[str, Any]:
        """Returns the newest history entries with one request; empty if it fails."""
        try:
            return self._server.recent_history(count, again=False, within=self._patience)
        except KandifluxError as error:
            _log.info("the newest history cannot be read: %s", error.message)
            return {}

    def _sweep(self) -> None:
        with self._wake:
            jobs = list(self._open.values())
        asked = time.monotonic()
        silent_for = asked - (self._unreachable_since or asked)
        try:
            queue = self._server.queue(within=max(_SHORTEST_WAIT, self._patience - silent_for))
        except KandifluxError as error:
            self._on_error(error, asked, jobs)
            return
        except Exception as error:  # noqa: BLE001 - this thread goes on
            _log.warning("the queue of %s cannot be read", self._server.url, exc_info=error)
            self._on_error(ProtocolError(f"The queue of {self._server.url} cannot be read: {error}."), asked, jobs)
            return
        self._unreachable_since = self._denied_since = None
        again = self._poll_seconds
        stalled = self._history_hung = False
        for job in jobs:
            if self._stop:
                return
            if self._orphaned(job):
                again = min(again, _ORPHAN_SECONDS)
            if (
                job.finished
                or self._guarded(job, self._in_queue, queue)
                or (not stalled and self._guarded(job, self._find_in_history))
            ):
                self._absent.pop(job.prompt_id, None)
                if job.prompt_id in self._incomplete:
                    again = min(again, _AGAIN_SECONDS)
                continue
            if stalled or job.prompt_id in self._troubled:
                again = min(again, _AGAIN_SECONDS)
                # A history request that hangs must not delay the requests for other jobs each time.
                if self._history_hung:
                    stalled = True
                    self._ask_last(job)
                continue
            absences = self._absent[job.prompt_id] = self._absent.get(job.prompt_id, 0) + 1
            if absences >= _ABSENCES:
                self._guarded(job, self._finish_absent)
            else:
                again = min(again, _AGAIN_SECONDS)
        with self._wake:
            self._next_sweep = time.monotonic() + again

    def _ask_last(self, job: Job) -> None:
        """Moves the job to the end of the order in which jobs are polled."""
        self._history_hung = False
        with self._wake:
            if self._open.pop(job.prompt_id, None) is not None:
                self._open[job.prompt_id] = job

    def _in_queue(self, job: Job, queue: Queue) -> bool:
        running = sum(entry.prompt_id == job.prompt_id for entry in queue.running)
        places = [at for at, entry in enumerate(queue.pending) if entry.prompt_id == job.prompt_id]
        if surplus := places if running else places[1:]:
            # The prompt was posted again after a lost answer, and both requests arrived.
            _log.warning("%s is in the queue %d times, removing one", job.prompt_id, running + len(places))
            with contextlib.suppress(KandifluxError):  # the next poll tries again
                self._server.delete_pending(queue.pending[surplus[-1]].prompt_id)
        if running:
            job.running()
        elif places:
            job.queued(places[0] + len(queue.running))
        return bool(running or places)

    def _find_in_history(self, job: Job, read: object = None) -> bool:
        """Returns whether it is there, and so has ended. read: its history, if that has already been read.

        If only this job's history cannot be read, the read is retried several times, for `patience` seconds; other jobs
        are not affected.
        """
        if job.finished:
            return True
        asked = time.monotonic()
        since, failures = self._troubled.get(job.prompt_id, (asked, 0))
        unreadable: ProtocolError | None = None
        within = min(_HISTORY_SECONDS, max(_LAST_TRIES_SECONDS, self._patience - (asked - since)))
        try:
            entry = read if is_object(read) else self._server.history(job.prompt_id, again=False, within=within)
            ended = (
                None if entry is None else outcome(job.prompt_id, job.prompt, entry, self._server, job.over_websocket)
            )
        except KandifluxError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the server may say anything, and other jobs are followed here, too
            failure = unreadable = _unreadable(job, error)
        else:
            self._troubled.pop(job.prompt_id, None)
            if ended is not None:
                self._finish_complete(job, ended)
            return ended is not None
        failures += 1
        self._troubled[job.prompt_id] = since, failures
        self._history_hung = isinstance(failure, AnswerLost) and failure.still_coming
        _log.info("the history of %s cannot be read: %s", job.prompt_id, failure.message)
        seconds = time.monotonic() - since
        if isinstance(failure, AccessDenied):
            given_up = seconds >= _ACCESS_SECONDS
        elif failure is unreadable:
            given_up = failures > _TROUBLES  # the entry is there, and unreadable
        else:
            # The time between two attempts may have been spent on the histories of other jobs.
            given_up = seconds >= self._patience and failures > _TROUBLES
        if self._unreachable_since is None and given_up:
            job.finish(failure)
        return job.finished

    def _finish_complete(self, job: Job, ended: Result | JobError) -> None:
        """Ends it, unless pictures may still arrive over the websocket; if they cannot arrive, it has failed."""
        if not isinstance(ended, Result) or job.has_all_pictures:
            job.finish(ended)
            return
        since = self._incomplete.setdefault(job.prompt_id, time.monotonic())
        if self._orphaned(job) or time.monotonic() - since >= _PICTURES_SECONDS:
            job.finish(
                OutputMissing(
                    f"Pictures of the job {job.prompt_id} were sent over a websocket that was lost; the history does "
                    "not contain them.",
                    hint="Run it again. SaveImage, unlike SaveImageWebsocket, keeps pictures on the server.",
                )
            )

    def _finish_absent(self, job: Job) -> bool:
        """Ends a job in neither queue nor history: as its events say (if the history was cleared), else as lost."""
        ended = outcome_of_events(job.prompt_id, job.prompt, job.told(), self._server, job.over_websocket)
        if ended is None:
            job.finish(_gone(job))
        else:
            self._finish_complete(job, ended)
        return True

    def _on_error(self, error: KandifluxError, asked: float, jobs: list[Job]) -> None:
        """Handles a queue that cannot be read. asked: when it was requested."""
        now = time.monotonic()
        self._troubled.clear()
        with self._wake:
            self._next_sweep = now + min(_ORPHAN_SECONDS, self._poll_seconds)
        self._unreachable_since = self._unreachable_since or asked
        self._denied_since = (self._denied_since or asked) if isinstance(error, AccessDenied) else None
        silent = now - self._unreachable_since
        _log.info("%s does not answer (%.0f s): %s", self._server.url, silent, error.message)
        if self._denied_since is not None and now - self._denied_since >= min(_ACCESS_SECONDS, self._patience):
            for job in jobs:
                job.finish(
                    AccessDenied(f"{error.message} The job {job.prompt_id} may still be there.", hint=error.hint)
                )
        elif silent >= self._patience:
            for job in jobs:
                job.finish(
                    ServerUnreachable(
                        f"{self._server.url} has not answered for {silent:.0f} s; the job {job.prompt_id} "
                        f"may still be there. Last error: {error.message}",
                        hint="When the server answers again, check its history before you submit the job again.",
                    )
                )

    def _forget_finished(self) -> None:
        with self._wake:
            for prompt_id in [prompt_id for prompt_id, job in self._open.items() if job.finished]:
                del self._open[prompt_id]
                self._hints.pop(prompt_id, None)
                self._absent.pop(prompt_id, None)
                self._troubled.pop(prompt_id, None)
                self._incomplete.pop(prompt_id, None)


def _unreadable(job: Job, error: Exception) -> ProtocolError:
    unreadable = ProtocolError(
        f"The server's answer about the job {job.prompt_id} cannot be read.",
        expected="a history entry with prompt, outputs, status and meta, as ComfyUI writes them",
        got=f"{type(error).__name__}: {str(error)[:200]}",
    )
    unreadable.__cause__ = error
    return unreadable


def _not_followed(job: Job) -> JobLost:
    return JobLost(
        f"The job {job.prompt_id} is no longer followed, because the thread that follows jobs has ended.",
        prompt_id=job.prompt_id,
        hint="See the log for the reason. The job may still be on the server: check its queue and history.",
    )


def _gone(job: Job) -> JobInterrupted | JobLost:
    if job.cancelled:
        return JobInterrupted(f"The job {job.prompt_id} was cancelled before it began.", prompt_id=job.prompt_id)
    return JobLost(
        f"The job {job.prompt_id} is in neither the queue nor the history of the server.",
        prompt_id=job.prompt_id,
        hint="The server was restarted, or somebody deleted the job or cleared the history. Submit it again.",
    )
