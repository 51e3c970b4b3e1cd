"""One submitted prompt: its events, its state and its outcome."""

from __future__ import annotations

import contextlib
import html
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from kandiflux.api.events import (
    Event,
    ExecutionStarted,
    ExecutionSucceeded,
    JobFinished,
    JobQueued,
    NodeProgress,
    NodeStarted,
    Preview,
    ProgressState,
)
from kandiflux.errors import (
    JobInterrupted,
    JobLost,
    JobTimeout,
    KandifluxError,
    OutputError,
    ServerUnreachable,
    UsageError,
)
from kandiflux.jobs.outputs import Output
from kandiflux.jobs.result import Result
from kandiflux.workflow.metadata import with_metadata
from kandiflux.workflow.prompt import Prompt

if TYPE_CHECKING:
    import asyncio


__all__ = ["Canceller", "Job", "JobState", "as_completed"]

JobState = Literal["submitting", "queued", "running", "done", "failed", "interrupted", "lost"]

_log = logging.getLogger(__name__)

# Only the newest event of these kinds is kept.
_SUPERSEDED = (Preview, ProgressState, NodeProgress, JobQueued)
_Superseded = TypeVar("_Superseded", Preview, ProgressState, NodeProgress, JobQueued)
_T = TypeVar("_T")
_WEBSOCKET_SAVER = "SaveImageWebsocket"
_ENDS = ("done", "failed", "interrupted", "lost")
_MAX_EVENTS = 20_000
_TICK = 0.5
_MAX_PICTURE_BYTES = 1 << 30
"""Pictures of one job that came over the websocket are kept in memory."""


class Canceller(Protocol):
    """The part of a client that a job uses."""

    @property
    def closed(self) -> bool:
        """Whether it no longer follows jobs."""
        ...

    def cancel(self, job: Job) -> None:
        """Removes the job from the server's queue, or interrupts it."""
        ...


class Job:
    """A job of `Client.submit`. Safe to use from many threads; every iteration yields the events from the beginning.

    `for event in job` ends when the job has ended, also if it failed; `result()` then returns the result or raises.
    In asyncio `await job` is the same as `result()`, without blocking a thread. If the task is cancelled or times out,
    only the waiting ends: the job continues until `cancel()`.
    """

    def __init__(self, client: Canceller, prompt: Prompt, prompt_id: str) -> None:
        self.prompt = prompt
        self.prompt_id = prompt_id
        """Its id on the server."""
        self.client_id = ""
        """The websocket id it was submitted with. The server sends its events only there."""
        self.current_node: str | None = None
        self.over_websocket: list[Output] = []
        self.last_seen = time.monotonic()
        """When the server last showed that it has this job, by an event or in its queue, on the monotonic clock."""
        self._client = client
        self._changed = threading.Condition()
        self._log: list[Event | None] = []
        self._forgotten = 0
        """Number of the oldest events that are no longer in `_log`."""
        self._newest: dict[type[Event], int] = {}
        """The number of the newest event of each superseded kind."""
        self._picture_bytes = 0
        self._state: JobState = "submitting"
        self._outcome: Result | KandifluxError | None = None
        self._callbacks: list[Callable[[Job], None]] = []
        self._event_callbacks: tuple[Callable[[Event], None], ...] = ()
        self._cancelled = False
        self._position: int | None = None
        self._unsent = {node_id for node_id in prompt.nodes if prompt.class_type(node_id) == _WEBSOCKET_SAVER}

    def __repr__(self) -> str:
        return f"<Job {self.prompt_id} {self._state}>"

    def _repr_html_(self) -> str:
        """Returns the state for notebooks, with a progress bar for the running node."""
        state, bar = self.latest(ProgressState), ""
        for node in state.nodes.values() if state is not None and not self.finished else ():
            if node.state == "running":
                bar = f' <progress value="{node.value:g}" max="{node.max:g}"></progress>'
        return f"<div>Job <code>{html.escape(self.prompt_id)}</code>: {self._state}{bar}</div>"

    def __iter__(self) -> Iterator[Event]:
        return self.events()

    def __await__(self) -> Generator[Any, None, Result]:
        import asyncio

        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Result] = loop.create_future()

        def tell(_: Job) -> None:
            # If the loop is closed, nobody waits for the job.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._settle, ended)

        ended.add_done_callback(lambda _: self._forget_callback(tell))
        self.add_done_callback(tell)
        return ended.__await__()

    @property
    def state(self) -> JobState:
        """submitting, queued or running; after the end: done, failed, interrupted or lost."""
        return self._state

    @property
    def finished(self) -> bool:
        """Whether it has ended, with a result or an error."""
        return self._outcome is not None

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Yields events until the job ends; JobTimeout after `timeout` seconds in total.

        A slow reader gets only the newest preview and progress, and misses the oldest of more than 20,000 events.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        at = 0
        while True:
            with self._changed:
                while at >= self._forgotten + len(self._log) and self._outcome is None:
                    self._wait(deadline)
                if at >= self._forgotten + len(self._log):
                    return
                at = max(at, self._forgotten)
                event = self._log[at - self._forgotten]
            at += 1
            if event is not None:
                yield event

    def events_since(self, position: int) -> tuple[list[Event], int]:
        """Returns the events so far from number `position` on, without waiting, and the position after them."""
        with self._changed:
            begin = max(position - self._forgotten, 0)
            return [event for event in self._log[begin:] if event is not None], self._forgotten + len(self._log)

    def result(self, timeout: float | None = None) -> Result:
        """Waits for the end. Raises the error the job ended with (JobError, ServerUnreachable), or JobTimeout."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._outcome is None:
                self._wait(deadline)
            ended = self._outcome
        if isinstance(ended, KandifluxError):
            raise ended
        return ended

    def cancel(self) -> None:
        """Removes it from the queue, or interrupts it if it is running. Does nothing if it has ended."""
        self._cancelled = True
        self._client.cancel(self)

    def latest(self, kind: type[_Superseded]) -> _Superseded | None:
        """Returns the newest event of a kind; None if there is none. Shows progress without iterating over events.

        kind: Preview, ProgressState, NodeProgress or JobQueued, of which only the newest event is kept.
        """
        with self._changed:
            at = self._newest.get(kind, -1) - self._forgotten
            event = self._log[at] if at >= 0 else None
        return event if isinstance(event, kind) else None

    def add_done_callback(self, callback: Callable[[Job], None]) -> None:
        """Calls `callback(job)` when the job ends, from a thread of the client; immediately if it has ended."""
        with self._changed:
            if self._outcome is None:
                self._callbacks.append(callback)
                return
        callback(self)

    def add_event_callback(self, callback: Callable[[Event], None]) -> None:
        """Calls `callback(event)` for every event from now on, JobFinished last. `Client.submit(on_event=…)` gets all.

        The client's threads call it, and they also follow all other jobs: it must return quickly.
        """
        with self._changed:
            self._event_callbacks = (*self._event_callbacks, callback)

    def _settle(self, ended: asyncio.Future[Result]) -> None:
        if ended.done():
            return
        if isinstance(self._outcome, Result):
            ended.set_result(self._outcome)
        elif self._outcome is not None:
            ended.set_exception(self._outcome)

    def _forget_callback(self, callback: Callable[[Job], None]) -> None:
        with self._changed, contextlib.suppress(ValueError):
            self._callbacks.remove(callback)

    # For the client

    def withdrawn(self) -> None:
        """Marks it as being removed from the queue, so that it does not count as lost afterwards."""
        self._cancelled = True

    @property
    def has_all_pictures(self) -> bool:
        """Whether all pictures that are sent over the websocket, and are not in the history, have arrived."""
        return not self._unsent

    def told(self) -> list[Event]:
        """Returns its events so far."""
        with self._changed:
            return [event for event in self._log if event is not None]

    @property
    def cancelled(self) -> bool:
        """Whether this client cancelled it."""
        return self._cancelled

    def deliver(self, event: Event) -> None:
        """Records one event of this job, and calls the event callbacks."""
        self.last_seen = time.monotonic()
        if isinstance(event, ExecutionStarted):
            self.running()
        elif isinstance(event, NodeStarted):
            if event.display_node_id != self.current_node:
                self._unsent.discard(self.current_node or "")
            self.current_node = event.display_node_id
        elif isinstance(event, ExecutionSucceeded):
            self._unsent.clear()
        elif isinstance(event, Preview):
            self._keep_if_saved(event)
        with self._changed:
            if self._outcome is not None:
                return
            self._append(event)
            self._changed.notify_all()
            callbacks = self._event_callbacks
        for callback in callbacks:
            self._call(callback, event)

    def queued(self, position: int | None) -> None:
        """Marks it as queued behind `position` jobs; None if that is not known."""
        self.last_seen = time.monotonic()
        with self._changed:
            changed = self._state == "submitting" or position not in (None, self._position)
            if self._state not in ("submitting", "queued"):
                return
            self._state, self._position = "queued", position
        if changed:
            self.deliver(JobQueued(self.prompt_id, position=position))

    def running(self) -> None:
        """Marks it as running."""
        self.last_seen = time.monotonic()
        with self._changed:
            if self._state not in _ENDS:
                self._state = "running"

    def finish(self, outcome: Result | KandifluxError) -> None:
        """Ends it with this outcome. Does nothing if it has already ended."""
        self.last_seen = time.monotonic()
        with self._changed:
            if self._outcome is not None:
                return
            self._outcome = outcome
            self._state = _end_state(outcome)
            finished = JobFinished(self.prompt_id, state=self._state)
            self._append(finished)
            callbacks, self._callbacks = self._callbacks, []
            event_callbacks = self._event_callbacks
            self._changed.notify_all()
        for tell in event_callbacks:
            self._call(tell, finished)
        for callback in callbacks:
            self._call(callback, self)

    def _append(self, event: Event) -> None:
        """Adds it to the log, which keeps only the newest event of superseded kinds. The caller holds the lock."""
        if isinstance(event, _SUPERSEDED):
            stale = self._newest.get(type(event), -1) - self._forgotten
            if stale >= 0:
                self._log[stale] = None
            self._newest[type(event)] = self._forgotten + len(self._log)
        self._log.append(event)
        if len(self._log) > _MAX_EVENTS:
            del self._log[: _MAX_EVENTS // 2]
            self._forgotten += _MAX_EVENTS // 2

    def _call(self, callback: Callable[[_T], None], value: _T) -> None:
        try:
            callback(value)
        except Exception:  # noqa: BLE001 - foreign code must not end the thread that follows all the other jobs
            _log.exception("a callback for %s failed", self.prompt_id)

    def _wait(self, deadline: float | None) -> None:
        if self._client.closed:
            raise UsageError(
                f"The client of the job {self.prompt_id} is closed, so the job is no longer followed.",
                hint="Wait for a job inside the client's `with` block. The job continues on the server.",
            )
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise JobTimeout(
                f"The job {self.prompt_id} has not ended in time (it is {self._state}).",
                prompt_id=self.prompt_id,
                hint="Wait longer, or cancel it.",
            )
        # A signal that arrives just before the wait is handled only after it, so the wait must be short.
        self._changed.wait(_TICK if left is None else min(left, _TICK))

    def _keep_if_saved(self, preview: Preview) -> None:
        # SaveImageWebsocket sends its pictures as previews; the history does not contain them.
        node_id = preview.display_node_id or self.current_node
        if node_id is None or self.prompt.class_type(node_id) != _WEBSOCKET_SAVER:
            return
        self._picture_bytes += len(preview.image)
        if self._picture_bytes > _MAX_PICTURE_BYTES:
            self.finish(
                OutputError(
                    f"{self.prompt.title(node_id)!r} sent more than {_MAX_PICTURE_BYTES >> 30} GiB of pictures over "
                    "the websocket, which are kept in memory.",
                    hint="Use SaveImage instead of SaveImageWebsocket, or smaller batches.",
                )
            )
            self.over_websocket.clear()
            return
        suffix = "png" if preview.mime == "image/png" else "jpg"
        self.over_websocket.append(
            Output(
                kind="image",
                node_id=node_id,
                title=self.prompt.title(node_id),
                filename=f"websocket_{node_id.replace(':', '_')}_{len(self.over_websocket) + 1:05}.{suffix}",
                subfolder=self.prompt_id,
                # The server does not write metadata into these pictures.
                data=with_metadata(preview.image, self.prompt),
            )
        )


def as_completed(
    jobs: Iterable[Job], *, timeout: float | None = None, progress: Callable[[int, int], None] | None = None
) -> Iterator[Job]:
    """Yields each job when it has ended, also if it failed: `job.result()` then returns the result or raises.

    progress: called with the number of ended jobs and of all jobs; first before any has ended. JobTimeout if not all
    have ended within `timeout` seconds.
    """
    waiting = set(jobs)
    ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in waiting:
        job.add_done_callback(ended.put)
    deadline, total = None if timeout is None else time.monotonic() + timeout, len(waiting)
    while True:
        if progress is not None:
            progress(total - len(waiting), total)
        if not waiting:
            return
        job = None
        while job is None:
            with contextlib.suppress(queue.Empty):
                job = ended.get(timeout=_TICK)
            if job is None and deadline is not None and time.monotonic() >= deadline:
                left = next(iter(waiting)).prompt_id
                raise JobTimeout(f"{len(waiting)} of {total} jobs have not ended in time.", prompt_id=left)
        waiting.discard(job)
        yield job


def _end_state(outcome: Result | KandifluxError) -> JobState:
    if isinstance(outcome, Result):
        return "done"
    if isinstance(outcome, JobInterrupted):
        return "interrupted"
    return "lost" if isinstance(outcome, (JobLost, ServerUnreachable)) else "failed"
