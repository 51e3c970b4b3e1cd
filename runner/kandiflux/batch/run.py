"""Runs a batch: many jobs of one workflow, on one or several servers, saved to one folder.

    batch = Batch("flux.json", JobList(axes=parse_grid(["steps=20,30 guidance=2.5,3"])), Path("grid"),
                  servers=["http://gpu1:8188", "http://gpu2:8188"])
    summary = batch.run()

After an interruption the same call resumes the batch: done jobs are skipped, and a server that may have a job is asked
for it before the job is sent again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kandiflux.batch.context import BatchContext, BatchOptions
from kandiflux.batch.folder_lock import held_folder
from kandiflux.batch.job_list import JobList
from kandiflux.batch.ledger import LEDGER, Attempt, Ledger
from kandiflux.batch.plan import BatchPlan, PlannedJob, plan_jobs, require_same_workflow
from kandiflux.batch.preflight import Checked, check_jobs
from kandiflux.batch.saving import remove_partials
from kandiflux.batch.status import BatchEvent, Summary, WorkerStatus
from kandiflux.batch.worker import ServerWorker
from kandiflux.config import LITE, Connection, connection
from kandiflux.errors import (
    AccessDenied,
    InvalidPrompt,
    KandifluxError,
    OutputError,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from kandiflux.jobs.client import Client
from kandiflux.processes.lite_host import running_lite_host
from kandiflux.util.files import require_writable
from kandiflux.workflow.workflow import Workflow

__all__ = ["Batch", "Connect", "client_of", "named_client"]

_log = logging.getLogger(__name__)

_LITE_PATIENCE = 5.0
_TICK = 0.5
_POLL_SECONDS = 2.0
_CANCEL_SECONDS = 15.0
_CLOSE_SECONDS = 10.0
_SILENT_SECONDS = 30.0
"""Seconds that a stopping batch waits for a server that gives no sign of its jobs."""

Connect = Callable[[str, float], Client]
"""Makes a client from a server's name or URL, and the seconds without an answer after which its jobs are given up."""


def named_client(server: str, patience: float) -> Client:
    """Returns a client of a URL, or of a server named in kandiflux.toml, with the credentials given there."""
    return client_of(connection(server), patience)


def client_of(server: Connection, patience: float) -> Client:
    """Returns a client of one of the batch's servers. patience: seconds that it may be unreachable."""
    return Client(server, poll_seconds=_POLL_SECONDS, patience=patience)


class Batch:
    """A list of jobs of one workflow, the servers that run them, and the folder for the results.

    workflow: a Workflow, a path, or the name of a shipped one. folder: for files, ledger and report. servers: URLs, or
    names in kandiflux.toml; "lite", or no server, starts a lite host for the run. preset: of the workflow. seed: fixed,
    random, increment, or a number. name: a template for file names; see `file_names`. limit: run only the first jobs.
    restart: delete the folder's ledger first; files are kept. pages: write sheets and a report at the end. connect:
    makes the clients.
    """

    def __init__(
        self,
        workflow: Workflow | str | Path,
        jobs: JobList,
        folder: Path,
        *,
        servers: Sequence[str] = (),
        preset: str | None = None,
        seed: str | int | None = None,
        name: str | None = None,
        options: BatchOptions | None = None,
        limit: int | None = None,
        restart: bool = False,
        pages: bool = True,
        connect: Connect = named_client,
    ) -> None:
        self.workflow = workflow if isinstance(workflow, Workflow) else Workflow.load(workflow)
        self.jobs = jobs
        self.folder = folder
        self._servers = [server for server in dict.fromkeys(servers) if server != LITE]
        self._starts_host = not self._servers or LITE in servers
        self._preset = preset
        self._seed = seed
        self._name = name
        self._options = options or BatchOptions()
        self._limit = limit
        self._restart = restart
        self._pages = pages
        self._connect = connect
        self._workers: list[ServerWorker] = []
        self._context: BatchContext | None = None
        self._end_request: Literal["stop", "cancel"] | None = None
        self._submitting = False
        self._on_event: Callable[[BatchEvent], None] = lambda event: None
        self._event_lock = threading.RLock()

    def preview(self) -> list[PlannedJob]:
        """Returns the jobs as `run` would plan them, checked against the servers. Sends and changes nothing."""
        with self._clients() as clients:
            plan = BatchPlan(self.workflow, self._checked(clients), self.folder, name=self._name, limit=self._limit)
        path = self.folder / LEDGER
        if self._restart or not path.is_file():
            return list(plan.preview())
        with contextlib.closing(Ledger(path)) as ledger:
            require_same_workflow(ledger, self.workflow, self.folder)
            return list(plan.preview(ledger))

    def run(self, on_event: Callable[[BatchEvent], None] | None = None) -> Summary:
        """Runs until every job is done or has failed, or until it is stopped.

        on_event is called from several threads, one call at a time. Failures of jobs are recorded, not raised.
        UsageError or InvalidPrompt if the batch is not valid: nothing was sent. ServerUnreachable if no server is left.
        OutputError if the disk is full or not writable. After any of them, the same call resumes the batch.
        """
        require_writable(self.folder)
        if on_event is not None:
            self._on_event = on_event
        start = time.monotonic()
        with contextlib.ExitStack() as stack:
            clients = stack.enter_context(self._clients())
            checked = self._checked(clients)
            plan = BatchPlan(self.workflow, checked, self.folder, name=self._name, limit=self._limit)
            stack.enter_context(held_folder(self.folder))
            ledger = stack.enter_context(contextlib.closing(self._open_ledger()))
            remove_partials(self.folder)
            resumed = plan_jobs(plan, ledger, self.workflow, self.folder)
            self._emit("planned", **vars(resumed))
            done_before = ledger.counts().done
            context = BatchContext(
                self.workflow, ledger, self.folder, self._options, self._emit, self._others_up, self._pages
            )
            self._context = context
            self._workers = self._make_workers(clients, context, ledger.open_attempts())
            if self._end_request is not None:
                # The request came before there was a context to stop.
                self._request_end(self._end_request)
            self._submitting = True
            try:
                for worker in self._workers:
                    worker.start()
                self._wait(context, ledger)
            finally:
                self._close_workers()
                if self._pages:
                    self._write_pages(ledger, checked)
            counts = ledger.counts()
        summary = Summary(
            total=counts.total,
            done=counts.done,
            failed=counts.failed,
            waiting=counts.waiting + counts.sent,
            ran=counts.done - done_before,
            seconds=time.monotonic() - start,
            stopped=self._end_request is not None,
        )
        self._emit("ended", **vars(summary))
        return summary

    @property
    def submitting(self) -> bool:
        """Whether `run` has begun to send jobs; before that, an exception leaves no jobs on servers."""
        return self._submitting

    def stop(self) -> None:
        """Waits for running jobs, withdraws waiting jobs from the servers, and ends `run`. Callable from any thread.

        A server that gives no sign of its jobs for 30 seconds is not waited for; the next run looks for its jobs.
        """
        self._request_end("stop")

    def cancel(self) -> None:
        """Like `stop`, and also interrupts running jobs."""
        self._request_end("cancel")

    def status(self) -> list[WorkerStatus]:
        """Returns the status of each server."""
        return [worker.status() for worker in self._workers]

    def _write_pages(self, ledger: Ledger, checked: Checked) -> None:
        """Writes sheets and report. An error is logged, not raised, because the jobs themselves are done."""
        from kandiflux.batch.contact_sheet import write_contact_sheets, write_xy_grids
        from kandiflux.batch.report import write_report

        title = self.workflow.title or self.workflow.name
        try:
            sheets = [
                *write_xy_grids(ledger, self.folder, checked.jobs, title),
                *write_contact_sheets(ledger, self.folder, title, checked.varying),
            ]
            sheets.append(write_report(ledger, self.folder, title, varying=checked.varying, sheets=sheets))
        except (OSError, OutputError) as error:
            _log.warning("the report cannot be written: %s", error)
            return
        for path in sheets:
            self._emit("written", path=str(path))

    @property
    def _silence(self) -> float:
        """The client's patience in seconds: so long that the workers, not the client, handle refused connections."""
        return max(self._options.silence, 3 * self._options.patience)

    def _request_end(self, how: Literal["stop", "cancel"]) -> None:
        self._end_request = how
        if self._context is not None:
            self._context.cancelling |= how == "cancel"
            self._context.stop()
            self._emit("stopping", how=how)

    @contextlib.contextmanager
    def _clients(self) -> Generator[dict[str, Client], None, None]:
        """Yields a client for each server, and for the lite host of this run, by its name in the ledger."""
        with contextlib.ExitStack() as stack:
            clients: dict[str, Client] = {}
            for server in self._servers:
                client = stack.enter_context(self._connect(server, self._silence))
                clients[client.url] = client
            if self._starts_host:
                url = stack.enter_context(running_lite_host())
                clients[LITE] = stack.enter_context(Client(url, poll_seconds=1.0, patience=self._silence))
            yield clients

    def _checked(self, clients: Mapping[str, Client]) -> Checked:
        """Returns the list, checked against every server that answers. Raises the first error if none does."""
        checked: Checked | None = None
        unavailable: dict[str, ServerUnreachable | ServerError] = {}
        for name, client in clients.items():
            try:
                object_info = client.object_info()
            except AccessDenied:
                raise
            except (ServerUnreachable, ServerError) as error:
                unavailable[name] = error
                continue
            try:
                found = check_jobs(
                    self.workflow, object_info, self.jobs, preset=self._preset, seed=self._seed, server=name
                )
            except (UsageError, InvalidPrompt) as error:
                if len(clients) == 1:
                    raise
                raise UsageError(f"{name} cannot run this batch.\n{error}") from error
            checked = checked or found
        if checked is None:
            raise next(iter(unavailable.values()))
        for name, error in unavailable.items():
            _log.warning("%s will be used when it becomes available: %s", name, error.message)
        return checked

    def _open_ledger(self) -> Ledger:
        path = self.folder / LEDGER
        if self._restart:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        return Ledger(path)

    def _make_workers(
        self, clients: Mapping[str, Client], context: BatchContext, attempts: Sequence[Attempt]
    ) -> list[ServerWorker]:
        """Returns a worker for each server, and for each that may still have jobs of an earlier run."""
        by_server: dict[str, list[Attempt]] = {name: [] for name in clients}
        for attempt in attempts:
            by_server.setdefault(attempt.server, []).append(attempt)
        # A lite host ends with its run, so it has no jobs of an earlier one.
        for attempt in by_server.get(LITE, ()):
            context.ledger.withdrawn(attempt)
        by_server[LITE] = []
        workers: list[ServerWorker] = []
        for name, left in by_server.items():
            client = clients.get(name)
            patience = _LITE_PATIENCE if name == LITE else self._options.patience
            if client is not None:
                workers.append(ServerWorker(name, client, context, patience=patience, unsettled=left))
            elif left:
                _log.warning("%d jobs of an earlier run may be on %s; looking for them there first", len(left), name)
                client = self._connect(name, self._silence)
                workers.append(ServerWorker(name, client, context, patience=patience, submits=False, unsettled=left))
        return workers

    def _close_workers(self) -> None:
        """Closes all workers in parallel, because each may wait for a request that is not answered."""
        closing = [
            threading.Thread(target=worker.close, args=(_CLOSE_SECONDS,), daemon=True) for worker in self._workers
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _wait(self, context: BatchContext, ledger: Ledger) -> None:
        deadline: float | None = None
        stopping_since: float | None = None
        while True:
            with context.changed:
                if context.stopping:
                    stopping_since = stopping_since or time.monotonic()
                if self._is_over(context, ledger, stopping_since):
                    break
                context.changed.wait(_TICK)
                if context.cancelling:
                    deadline = deadline or time.monotonic() + _CANCEL_SECONDS
                    if time.monotonic() > deadline:
                        return
        if context.fatal is not None:
            raise context.fatal

    def _is_over(self, context: BatchContext, ledger: Ledger, stopping_since: float | None) -> bool:
        if context.fatal is not None and not isinstance(context.fatal, KandifluxError):
            return True
        busy = any(worker.busy for worker in self._workers)
        if stopping_since is not None:
            # Jobs on any other server are not waited for: the next run looks for them.
            waited_for = ("up", "connecting") if context.fatal else ("up", "connecting", "silent")
            recent = time.monotonic() - _SILENT_SECONDS
            return not any(
                worker.busy and worker.state in waited_for and max(stopping_since, worker.last_seen) > recent
                for worker in self._workers
            )
        if not busy and not ledger.unfinished():
            return True
        if not any(worker.usable for worker in self._workers):
            counts = ledger.counts()
            reasons = "\n".join(
                f"  {worker.name}: {worker.reason.message}" for worker in self._workers if worker.reason
            )
            raise ServerUnreachable(
                f"No server is left, and {counts.waiting + counts.sent} jobs are not done:\n{reasons}",
                hint="Start a server, and run the batch again to continue it.",
            )
        return False

    def _others_up(self, name: str) -> bool:
        return any(worker.state == "up" and worker.submits for worker in self._workers if worker.name != name)

    def _emit(self, kind: str, **about: Any) -> None:
        with self._event_lock:
            try:
                self._on_event(BatchEvent(kind, about))
            except Exception:  # noqa: BLE001 - foreign code must not end the threads that follow the jobs
                _log.exception("the event callback of the batch failed")
