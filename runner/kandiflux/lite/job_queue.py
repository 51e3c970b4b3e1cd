"""The queue of prompts, and the history of finished prompts."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from kandiflux.lite.prompt_graph import Prompt
from kandiflux.lite.seam import Interrupted

__all__ = ["Interrupt", "JobQueue", "LiteJob", "Outcome"]

_LONGEST_HISTORY = 10_000
_SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")


class Interrupt:
    """A request to stop the running prompt. It is cleared when `check` raises Interrupted."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Requests that the running prompt stops."""
        self._event.set()

    def clear(self) -> None:
        """Drops a request that came too late."""
        self._event.clear()

    def check(self) -> None:
        """Raises Interrupted, once, if an interrupt was requested."""
        if self._event.is_set():
            self._event.clear()
            raise Interrupted("the prompt was interrupted")


@dataclass(frozen=True)
class LiteJob:
    """A validated prompt in the queue. `outputs`: the output nodes to run."""

    number: float
    prompt_id: str
    prompt: Prompt
    extra_data: dict[str, Any]
    outputs: list[str]

    @property
    def client_id(self) -> str | None:
        """The client that gets the job's frames, or None."""
        return self.extra_data.get("client_id")

    def json(self) -> list[Any]:
        """Returns the job as shown in /queue and /history: without the secrets for its nodes."""
        extra_data = {name: value for name, value in self.extra_data.items() if name not in _SECRETS}
        return [self.number, self.prompt_id, self.prompt, extra_data, self.outputs]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: outputs and meta by node id, and messages (frame type, data), as in the history."""

    success: bool
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])


class JobQueue:
    """Thread-safe queue and history. Calls `changed` when the number of jobs may have changed.

    The server puts jobs and one worker takes them. The server's event loop uses the lock too, so it is held briefly.
    """

    def __init__(self, changed: Callable[[], None], interrupt: Interrupt) -> None:
        self._changed = changed
        self._interrupt = interrupt
        self._condition = threading.Condition(threading.RLock())
        # If job numbers are equal, the arrival number decides.
        self._pending: list[tuple[float, int, LiteJob]] = []
        self._arrivals = itertools.count()
        self._running: LiteJob | None = None
        self._history: dict[str, dict[str, Any]] = {}
        self._woken = False

    def put(self, job: LiteJob) -> None:
        """Adds a job to the queue."""
        with self._condition:
            heapq.heappush(self._pending, (job.number, next(self._arrivals), job))
            self._changed()
            self._condition.notify()

    def take(self) -> LiteJob | None:
        """Waits for a job and marks it as running. None if `wake` was called. The caller must not modify the job."""
        with self._condition:
            self._condition.wait_for(lambda: self._pending or self._woken)
            self._woken = False
            if not self._pending:
                return None
            # Interrupts requested before now are not for this job; later ones are.
            self._interrupt.clear()
            job = self._running = heapq.heappop(self._pending)[2]
            self._changed()
            return job

    def wake(self) -> None:
        """Makes `take` return even if there is no job."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def finish(self, outcome: Outcome) -> None:
        """Moves the running job, if any, into the history."""
        with self._condition:
            job, self._running = self._running, None
            if job is None:
                return
            while len(self._history) >= _LONGEST_HISTORY:
                self._history.pop(next(iter(self._history)))
            self._history[job.prompt_id] = {
                "prompt": job.json(),
                "outputs": outcome.outputs,
                "status": {
                    "status_str": "success" if outcome.success else "error",
                    "completed": outcome.success,
                    "messages": outcome.messages,
                },
                "meta": outcome.meta,
            }
            self._changed()

    def remaining(self) -> int:
        """Returns the number of pending and running jobs."""
        with self._condition:
            return len(self._pending) + (self._running is not None)

    def snapshot(self) -> dict[str, Any]:
        """Returns the response to GET /queue, with the pending jobs in the order in which they will run."""
        with self._condition:
            running, pending = self._running, self._pending[:]
        pending.sort()  # a heap does not hold its entries in the order in which they are taken
        return {
            "queue_running": [running.json()] if running else [],
            "queue_pending": [job.json() for _, _, job in pending],
        }

    def clear(self) -> None:
        """Removes all pending jobs."""
        with self._condition:
            self._pending.clear()
            self._changed()

    def delete(self, prompt_ids: Collection[str]) -> None:
        """Removes the pending jobs with these ids."""
        with self._condition:
            self._delete(set(prompt_ids))

    def _delete(self, prompt_ids: set[str]) -> bool:
        kept = [entry for entry in self._pending if entry[2].prompt_id not in prompt_ids]
        if len(kept) == len(self._pending):
            return False
        heapq.heapify(kept)
        self._pending = kept
        self._changed()
        return True

    def interrupt(self, prompt_id: str | None = None) -> bool:
        """Interrupts the running job, or only the job with this id. Returns whether such a job was running.

        Atomic: never interrupts a job that starts later.
        """
        with self._condition:
            if self._running is None or prompt_id not in (None, self._running.prompt_id):
                return False
            self._interrupt.request()
            return True

    def cancel(self, prompt_id: str) -> bool:
        """Atomically interrupts the job if it is running, or removes it if pending. Returns whether it did either."""
        with self._condition:
            interrupted = self.interrupt(prompt_id)
            return self._delete({prompt_id}) or interrupted

    def history(self, max_items: int | None = None, offset: int = -1) -> dict[str, Any]:
        """Returns the newest `max_items` entries, or `max_items` entries from `offset` on (0 is the oldest)."""
        with self._condition:
            entries = list(self._history.items())
        if offset < 0:
            offset = len(entries) - max_items if max_items is not None else 0
        start = max(0, offset)
        return dict(entries[start:] if max_items is None else entries[start : start + max_items])

    def history_of(self, prompt_id: str) -> dict[str, Any]:
        """Returns the entry of one job as {id: entry}; {} if there is none."""
        with self._condition:
            return {prompt_id: self._history[prompt_id]} if prompt_id in self._history else {}

    def clear_history(self) -> None:
        """Removes all jobs from the history."""
        with self._condition:
            self._history.clear()

    def delete_history(self, prompt_ids: Collection[str]) -> None:
        """Removes the jobs with these ids from the history."""
        with self._condition:
            for prompt_id in prompt_ids:
                self._history.pop(prompt_id, None)
