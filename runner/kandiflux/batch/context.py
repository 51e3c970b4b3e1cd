"""The state that the workers of a batch share, and the writer that records the end of a job."""

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
"""Maximum number of times a lost job is sent again, for example one that crashes its server."""


@dataclass(frozen=True)
class BatchOptions:
    """How failures are handled, and how many jobs a server holds at a time.

    backlog: jobs on a server, running and waiting; if it is not 1, very short jobs may exceed it. retries: maximum per
    failed job. resubmit: send lost jobs again, else they fail. patience: seconds that a server may refuse connections
    before its jobs run elsewhere. silence: seconds that it may accept connections without answering.
    """

    backlog: int = 2
    retries: int = 0
    resubmit: bool = True
    fail_fast: bool = False
    patience: float = 120.0
    silence: float = 900.0


@dataclass
class BatchContext:
    """The state that all workers of a batch share. `changed` is notified when a job or a server changes its state.

    fatal: the error that ends the batch. others_up: returns whether a server other than the named one accepts jobs now.
    pages: whether sheets and a report will be written.
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
        """Wakes all threads that wait for a change."""
        with self.changed:
            self.changed.notify_all()

    def stop(self, fatal: BaseException | None = None) -> None:
        """Stops sending jobs. fatal: the error, if one ends the batch."""
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
        """Reports that the server accepted the job."""
        self._context.emit("sent", index=attempt.index, server=self._server, attempt=attempt.id)

    def found(self, attempt: Attempt) -> None:
        """Reports that the job of an earlier run is still on the server."""
        self._context.emit("found", index=attempt.index, server=self._server, attempt=attempt.id)

    def done(self, attempt: Attempt, result: Result, files: Sequence[Saved]) -> None:
        """Records that the job is done, with its files."""
        folder = self._context.folder
        self._ledger.done(attempt, files, texts=result.texts, seconds=result.seconds)
        for file in files:
            self._context.emit("saved", index=attempt.index, path=str(folder / file.path))
        paths = [file.path for file in files]
        self._context.emit("done", index=attempt.index, server=self._server, seconds=result.seconds, files=paths)

    def failed(self, attempt: Attempt, error: KandifluxError, *, at_least: int = 0) -> None:
        """Records a failure. at_least: minimum number of retries, whatever the options say."""
        retries = max(at_least, self._context.options.retries)
        self._tell("failed", attempt, error, again=self._ledger.failed(attempt, error.as_dict(), retries=retries))

    def lost(self, attempt: Attempt, error: JobLost) -> None:
        """Records that the server no longer has the job, which is sent again if the options and the limit allow it."""
        resubmits = RESUBMITS if self._context.options.resubmit else 0
        self._tell("lost", attempt, error, again=self._ledger.lost(attempt, error.as_dict(), resubmits=resubmits))

    def unknown(self, attempt: Attempt, error: KandifluxError) -> None:
        """Records that the outcome is unknown: the job counts as failed, and the next run looks for it."""
        self._ledger.unknown(attempt, error.as_dict())
        self._tell("failed", attempt, error, again=False)

    def withdrawn(self, attempt: Attempt) -> None:
        """Records that the job was withdrawn from the server, and waits again."""
        self._ledger.withdrawn(attempt)
        self._context.emit("withdrawn", index=attempt.index)

    def _tell(self, kind: str, attempt: Attempt, error: KandifluxError, *, again: bool) -> None:
        self._context.emit(kind, index=attempt.index, server=self._server, error=error.as_dict(), again=again)
        if not again and self._context.options.fail_fast:
            self._context.stop()
        self._context.notify()
