"""What the workers of a batch share, and how each records the end of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kandiflux.batch.ledger import Attempt, Ledger, Saved
from kandiflux.errors import JobLost, KandifluxError
from kandiflux.jobs.result import Result
from kandiflux.workflow.workflow import Workflow

__all__ = ["RESUBMITS", "BatchContext", "BatchOptions", "LedgerWriter"]

RESUBMITS = 3
"""Number of times a job is sent again that takes its server down or is lost in another way."""


@dataclass(frozen=True)
class BatchOptions:
    """How failures are handled, and how many jobs a server holds at a time.

    backlog: jobs on a server, running and waiting; where it is not 1, more of those that take it hardly any time.
    retries: of a failed job. resubmit: lost jobs, else they fail. patience: seconds a server may refuse connections
    before its jobs run elsewhere; silence: seconds it may take connections and not answer before it is given up.
    """

    backlog: int = 2
    retries: int = 0
    resubmit: bool = True
    fail_fast: bool = False
    patience: float = 120.0
    silence: float = 900.0


@dataclass
class BatchContext:
    """What all workers of a batch share. `changed` is notified when a job or a server changes its state.

    fatal: why all of them end. others_up: whether another server than the named one takes jobs now. pages: there will
    be sheets and a report.
    """

    workflow: Workflow
    ledger: Ledger
    folder: Path
    options: BatchOptions
    emit: Callable[..., None]
    others_up: Callable[[str], bool]
    pages: bool = True
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: bool = False
    cancelling: bool = False
    fatal: BaseException | None = None

    def notify(self) -> None:
        """Wakes who waits for a change."""
        with self.changed:
            self.changed.notify_all()

    def stop(self, fatal: BaseException | None = None) -> None:
        """Nothing more is sent; fatal: why, where that ends the batch."""
        with self.changed:
            self.stopping = True
            self.fatal = self.fatal or fatal
            self.changed.notify_all()


class LedgerWriter:
    """Records what happens to one server's jobs in the ledger, and emits the event."""

    def __init__(self, context: BatchContext, server: str) -> None:
        self._context = context
        self._ledger = context.ledger
        self._server = server

    def sent(self, attempt: Attempt) -> None:
        """It is on the server."""
        self._context.emit("sent", index=attempt.index, server=self._server, attempt=attempt.id)

    def found(self, attempt: Attempt) -> None:
        """It was on the server already, from an earlier run."""
        self._context.emit("found", index=attempt.index, server=self._server, attempt=attempt.id)

    def done(self, attempt: Attempt, result: Result, files: Sequence[Saved]) -> None:
        """It is done, and these are its files."""
        folder = self._context.folder
        self._ledger.done(attempt, files, texts=result.texts, seconds=result.seconds)
        for file in files:
            self._context.emit("saved", index=attempt.index, path=str(folder / file.path))
        paths = [file.path for file in files]
        self._context.emit("done", index=attempt.index, server=self._server, seconds=result.seconds, files=paths)

    def failed(self, attempt: Attempt, error: KandifluxError, *, at_least: int = 0) -> None:
        """at_least: retries, however few the user wants."""
        retries = max(at_least, self._context.options.retries)
        self._tell("failed", attempt, error, again=self._ledger.failed(attempt, error.as_dict(), retries=retries))

    def lost(self, attempt: Attempt, error: JobLost) -> None:
        """The server knows nothing of it any more; it is sent again where that is wanted and was not done too often."""
        resubmits = RESUBMITS if self._context.options.resubmit else 0
        self._tell("lost", attempt, error, again=self._ledger.lost(attempt, error.as_dict(), resubmits=resubmits))

    def unknown(self, attempt: Attempt, error: KandifluxError) -> None:
        """It counts as failed, and the next run looks for it."""
        self._ledger.unknown(attempt, error.as_dict())
        self._tell("failed", attempt, error, again=False)

    def withdrawn(self, attempt: Attempt) -> None:
        """It was taken back, and waits again."""
        self._ledger.withdrawn(attempt)
        self._context.emit("withdrawn", index=attempt.index)

    def _tell(self, kind: str, attempt: Attempt, error: KandifluxError, *, again: bool) -> None:
        self._context.emit(kind, index=attempt.index, server=self._server, error=error.as_dict(), again=again)
        if not again and self._context.options.fail_fast:
            self._context.stop()
        self._context.notify()
