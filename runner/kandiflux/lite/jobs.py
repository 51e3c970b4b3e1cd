"""The queue of prompts and the history of those that ran."""

from __future__ import annotations

import copy
import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kandiflux.lite.graph import Prompt

__all__ = ["Job", "JobQueue", "Outcome"]

_LONGEST_HISTORY = 10_000
_SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")


@dataclass(frozen=True)
class Job:
    """A validated prompt on its way. `outputs` are the output nodes to run."""

    number: float
    prompt_id: str
    prompt: Prompt
    extra_data: dict[str, Any]
    outputs: list[str]

    @property
    def client_id(self) -> str | None:
        """The client that is told of it; None where nobody is."""
        return self.extra_data.get("client_id")

    def json(self) -> list[Any]:
        """The job as /queue and /history show it."""
        return [self.number, self.prompt_id, self.prompt, self.extra_data, self.outputs]


@dataclass(frozen=True)
class Outcome:
    """What a job came to: history's outputs and meta by node id, and its messages (frame type, data)."""

    success: bool
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])


class JobQueue:
    """Thread-safe: the server puts, one worker takes. `changed` is called when the number of jobs may have."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._condition = threading.Condition(threading.RLock())
        # The arrival number decides among equal numbers.
        self._pending: list[tuple[float, int, Job]] = []
        self._arrivals = itertools.count()
        self._running: Job | None = None
        self._history: dict[str, dict[str, Any]] = {}
        self._woken = False

    def put(self, job: Job) -> None:
        """Queue a job."""
        with self._condition:
            heapq.heappush(self._pending, (job.number, next(self._arrivals), job))
            self._changed()
            self._condition.notify()

    def take(self) -> Job | None:
        """Wait for a job and start it. None if `wake` was called meanwhile."""
        with self._condition:
            self._condition.wait_for(lambda: self._pending or self._woken)
            self._woken = False
            if not self._pending:
                return None
            job = heapq.heappop(self._pending)[2]
            # What runs may write into its prompt; clients see it as it was sent.
            self._running = copy.deepcopy(job)
            self._changed()
            return job

    def wake(self) -> None:
        """Have `take` return even without a job."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def finish(self, outcome: Outcome) -> None:
        """Move the running job into the history."""
        with self._condition:
            job, self._running = self._running, None
            if job is None:
                return
            while len(self._history) >= _LONGEST_HISTORY:
                self._history.pop(next(iter(self._history)))
            for secret in _SECRETS:
                job.extra_data.pop(secret, None)
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
        """How many jobs wait or run."""
        with self._condition:
            return len(self._pending) + (self._running is not None)

    def running_id(self) -> str | None:
        """The prompt id of the job that runs; None where none does."""
        with self._condition:
            return self._running.prompt_id if self._running else None

    def snapshot(self) -> dict[str, Any]:
        """What GET /queue answers."""
        with self._condition:
            return {
                "queue_running": [self._running.json()] if self._running else [],
                "queue_pending": [job.json() for _, _, job in self._pending],
            }

    def clear(self) -> None:
        """Remove all pending jobs."""
        with self._condition:
            self._pending.clear()
            self._changed()

    def delete(self, prompt_id: str) -> None:
        """Remove the first pending job of this id."""
        with self._condition:
            for entry in self._pending:
                if entry[2].prompt_id == prompt_id:
                    self._pending.remove(entry)
                    heapq.heapify(self._pending)
                    self._changed()
                    return

    def history(self, max_items: int | None = None, offset: int = -1) -> dict[str, Any]:
        """The newest `max_items` entries, or those from `offset` on (0 is the oldest)."""
        with self._condition:
            ids = list(self._history)
            if offset < 0:
                offset = len(ids) - max_items if max_items is not None else 0
            start = max(0, offset)
            chosen = ids[start:] if max_items is None else ids[start : start + max_items]
            return {prompt_id: self._history[prompt_id] for prompt_id in chosen}

    def history_of(self, prompt_id: str) -> dict[str, Any]:
        """The entry of one job by its id; empty where there is none."""
        with self._condition:
            return {prompt_id: self._history[prompt_id]} if prompt_id in self._history else {}

    def clear_history(self) -> None:
        """Forget all jobs that have ended."""
        with self._condition:
            self._history.clear()

    def delete_history(self, prompt_id: str) -> None:
        """Forget one of them."""
        with self._condition:
            self._history.pop(prompt_id, None)
