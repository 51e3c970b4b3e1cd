"""What a batch tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["BatchEvent", "ServerState", "Summary", "WorkerStatus"]

ServerState = Literal["connecting", "up", "silent", "away", "gone", "unfit"]
"""up: takes jobs. silent: takes connections and does not answer. away: refuses them. gone: has refused them for longer
than the patience. unfit: cannot run this workflow.
"""


@dataclass(frozen=True)
class BatchEvent:
    """`kind` says what happened, `about` the rest, as JSON has it:

    planned (total, done, new, unlisted, files_gone) · server (server, state, reason) · sent, found (index, server,
    attempt) · saved (index, path) · done (index, server, seconds, files) · failed, lost (index, server, error, again)
    · withdrawn (index) · stopping (how) · written (path) · ended (total, done, failed, waiting, seconds)
    """

    kind: str
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def as_dict(self) -> dict[str, Any]:
        """JSON form: `event` and what it is about."""
        return {"event": self.kind, **self.about}


@dataclass(frozen=True)
class WorkerStatus:
    """One server at this moment. `index`, `node` and step `value` of `max` are of the job that runs there."""

    server: str
    state: ServerState
    done: int = 0
    queued: int = 0
    index: int | None = None
    node: str = ""
    value: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Summary:
    """How a run of a batch ended. `done` counts all jobs of the list that are done, `ran` those of this run.

    seconds: this run's. stopped: somebody asked for an early end.
    """

    total: int
    done: int
    failed: int
    waiting: int
    ran: int
    seconds: float
    stopped: bool = False

    @property
    def complete(self) -> bool:
        """Whether every job is done."""
        return self.done == self.total
