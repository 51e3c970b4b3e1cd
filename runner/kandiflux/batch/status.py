"""Events, server states and the summary of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["BatchEvent", "ServerState", "Summary", "WorkerStatus"]

ServerState = Literal["connecting", "up", "silent", "away", "gone", "unfit"]
"""up: accepts jobs. silent: accepts connections, but does not answer. away: refuses connections. gone: was silent or
away for longer than `BatchOptions` allows. unfit: cannot run this workflow, or denies access.
"""


@dataclass(frozen=True)
class BatchEvent:
    """What happened, as `kind` and the fields in `about`, which are valid JSON:

    planned (total, done, new, unlisted, files_gone) · server (server, state, reason) · sent, found (index, server,
    attempt) · saved (index, path) · done (index, server, seconds, files) · failed, lost (index, server, error, again)
    · withdrawn (index) · stopping (how) · written (path) · ended (total, done, failed, waiting, seconds)
    """

    kind: str
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def as_dict(self) -> dict[str, Any]:
        """Returns the event as JSON, with its kind as `event`."""
        return {"event": self.kind, **self.about}


@dataclass(frozen=True)
class WorkerStatus:
    """The present status of one server. index, node, and step `value` of `max` concern the job that runs there."""

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
    """The result of one run. total, done, failed, waiting: jobs of the list, by state. ran: jobs this run finished.

    seconds: duration of this run. stopped: whether `Batch.stop` or `Batch.cancel` ended it early.
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
