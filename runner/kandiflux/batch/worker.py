"""Submits jobs to one server, downloads their outputs, and tracks the server's health.

One thread submits jobs, up to the backlog: enough that the server is never idle, and few because the server may die.
Two threads save the outputs of finished jobs. One thread checks the health of a server that has stopped answering.

    answers                      up
    connects, does not answer    silent: it keeps its jobs. After `silence` seconds it is gone, and its jobs count as
                                 failed until the next run looks for them.
    refuses connections          away: it gets no more jobs. After `patience` seconds it is gone, and its jobs are lost
                                 and run on another server. If it comes back, they are cancelled there.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kandiflux.api.events import NodeProgress, ProgressState
from kandiflux.batch.collector import Collector, InFlightJob
from kandiflux.batch.context import RESUBMITS, BatchContext, LedgerWriter
from kandiflux.batch.ledger import Attempt
from kandiflux.batch.status import ServerState, WorkerStatus
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    BodyTooLarge,
    InvalidPrompt,
    JobLost,
    KandifluxError,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from kandiflux.jobs.client import Client
from kandiflux.jobs.job import Job
from kandiflux.jobs.queue import cancel_on_server
from kandiflux.workflow.prompt import Prompt

__all__ = ["ServerWorker"]

_log = logging.getLogger(__name__)

_TICK = 0.5
_PROBE = (3.0, 5.0)
_PROBE_SECONDS = 1.0
_SETTLE_SECONDS, _LATE_SECONDS = 3.0, 30.0
_BACKLOG_SECONDS, _MAX_BACKLOG = 0.1, 24
_MAX_UNSAVED = 4
_COLLECTORS = 2
_DENIALS = 3


class ServerWorker:
    """name: the server's name in the ledger. patience: seconds that it may refuse connections. submits: send it jobs;
    if False, only collect the jobs it has. unsettled: attempts of an earlier run that the server may have.
    """

    def __init__(
        self,
        name: str,
        client: Client,
        context: BatchContext,
        *,
        patience: float,
        submits: bool = True,
        unsettled: Iterable[Attempt] = (),
    ) -> None:
        self.name = name
        self.client = client
        self.submits = submits
        self.state: ServerState = "connecting"
        self.reason: KandifluxError | None = None
        self._patience = patience
        self._context = context
        self._writer = LedgerWriter(context, name)
        self._collector = Collector(client, context, self._writer, self._postpone_download)
        self._in_flight = self._collector.in_flight
        self._prober = client.api.with_timeout(_PROBE)
        self._fits = False
        self._lock = threading.Lock()
        self._unsettled = list(unsettled)
        self._late: set[str] = set()
        self._lost_at: dict[str, float] = {}
        """When the answer to an attempt was lost, on the monotonic clock."""
        self._postponed_since: dict[str, float] = {}
        """When an attempt was first postponed, on the monotonic clock."""
        self._abandoned: list[str] = []
        self._uploaded: dict[tuple[Path, int, int], str] = {}
        self._submitting = False
        self._denials = 0
        """Number of times access was refused since a job was last accepted."""
        self._refusing_since: float | None = None
        self._silent_since: float | None = None
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"kandiflux-{word}-{name}", daemon=True)
            for word, work in (
                ("submit", self._submit_jobs),
                *[("collect", self._collector.run)] * _COLLECTORS,
                ("health", self._check_health),
            )
        ]
        self._submitter = self._threads[0]

    @property
    def usable(self) -> bool:
        """Whether jobs may still run here."""
        return self.submits and self.state not in ("gone", "unfit")

    @property
    def busy(self) -> bool:
        """Whether the outcome of a job that was sent here is still open and can be determined."""
        sent = self._submitting or bool(self._in_flight)
        settling = self._submitter.is_alive() and self.state not in ("gone", "unfit")
        return sent or bool(self._unsettled and settling)

    @property
    def last_seen(self) -> float:
        """When the server last showed that it has one of its jobs, on the monotonic clock; 0.0 if it has none."""
        return max((running_job.job.last_seen for running_job in list(self._in_flight.values())), default=0.0)

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout: float = 10.0) -> None:
        """Ends the threads. Jobs that are still on the server stay there, and stay open in the ledger."""
        self._closing.set()
        self._collector.stop(_COLLECTORS)
        self._context.notify()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        self.client.close()
        self._prober.close()

    def status(self) -> WorkerStatus:
        """Returns the state of the server and the job that runs there."""
        in_flight = list(self._in_flight.values())
        running = next((running_job for running_job in in_flight if running_job.job.state == "running"), None)
        about: dict[str, Any] = {}
        if running is not None:
            job = running.job
            about = {"index": running.attempt.index, "node": job.prompt.title(job.current_node)
                     if job.current_node else "", **_step(job)}  # fmt: skip
        return WorkerStatus(
            self.name, self.state, self._collector.done, len(in_flight) - (running is not None), **about
        )

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - if a thread ended silently, the batch would wait for ever
            if not self._closing.is_set():
                self._context.stop(error)

    # Submitting

    def _submit_jobs(self) -> None:
        while not self._closing.is_set():
            if self.state == "up":
                unsettled = self._unsettled[:_MAX_BACKLOG]
                if unsettled:
                    self._settle(unsettled)
                    continue
                if self._context.stopping:
                    self._withdraw_jobs()
                elif self.submits and self._submit_some():
                    continue
            with self._context.changed:
                if not self._closing.is_set():
                    self._context.changed.wait(_TICK)

    def _submit_some(self) -> bool:
        """Sends as many jobs as there is room for; False if there is no room or no job."""
        in_flight = list(self._in_flight.values())
        # If the first failure ends the batch, a job counts as open until it is known not to have failed.
        open_jobs = sum(self._context.options.fail_fast or not running_job.job.finished for running_job in in_flight)
        backlog = self._backlog()
        # The second bound limits the number of ended jobs that are not saved yet.
        room = min(backlog - open_jobs, backlog + max(_MAX_UNSAVED, backlog // 4) - len(in_flight))
        # Short jobs are taken in groups, because each call of `begin_some` syncs to disk.
        if room <= 0 or (backlog > self._context.options.backlog and room < backlog // 3):
            return False
        self._submitting = True
        try:
            attempts = self._context.ledger.begin_some(self.name, room)
            for attempt in attempts:
                if self.state == "up" and not self._context.stopping:
                    self._send(attempt)
                else:
                    self._context.ledger.withdrawn(attempt)
        finally:
            self._submitting = False  # also if the disk is full: else the batch would wait for this worker for ever
        if attempts:
            self._context.notify()
        return bool(attempts)

    def _backlog(self) -> int:
        """Returns how many jobs the server should have: the option, or enough for `_BACKLOG_SECONDS` if jobs are so
        short that the server would be idle while the next one is sent.
        """
        backlog, pace = self._context.options.backlog, self._collector.pace
        if backlog == 1 or pace is None:
            return backlog
        return max(backlog, min(_MAX_BACKLOG, math.ceil(_BACKLOG_SECONDS / max(pace, 1e-3))))

    def _send(self, attempt: Attempt) -> None:
        try:
            prompt = self._prompt(attempt)
        except ServerUnreachable as error:
            self._not_sent(attempt, error)
            return
        except KandifluxError as error:
            self._writer.failed(attempt, error)
            return
        try:
            # `_settle` handles a lost answer, because it knows whether the server is unreachable.
            job = self.client.submit(prompt, job_id=attempt.id, patience=0.0)
        except AnswerLost as error:
            _log.info("%s may have accepted job %d; checking later: %s", self.name, attempt.index, error.message)
            self._lost_at[attempt.id] = time.monotonic()
            if isinstance(error.__cause__, AnswerLost) and error.__cause__.still_coming:
                self._late.add(attempt.id)
            self._postpone(attempt, error)
        except (ServerUnreachable, AccessDenied) as error:
            self._not_sent(attempt, error)
        except (InvalidPrompt, BodyTooLarge) as error:
            self._writer.failed(attempt, error)
        except KandifluxError as error:
            # The server has a problem that may be temporary (HTTP 500, 429).
            self._writer.failed(attempt, error, at_least=RESUBMITS)
            self._mark_failing(error)
        else:
            self._denials = 0
            self._writer.sent(attempt)
            self._follow(InFlightJob(attempt, job))

    def _not_sent(self, attempt: Attempt, error: KandifluxError) -> None:
        self._writer.withdrawn(attempt)
        self._mark_failing(error)

    def _follow(self, running_job: InFlightJob) -> None:
        self._in_flight[running_job.attempt.id] = running_job
        self._collector.follow(running_job)

    def _settle(self, attempts: Sequence[Attempt]) -> None:
        """Determines which of the jobs that may have been sent the server has."""
        try:
            prompts = {attempt.id: self._prompt(attempt) for attempt in attempts}
            settle = max(self._settle_seconds(attempt) for attempt in attempts)
            jobs = self.client.adopt_some(prompts, settle=settle)
        except KandifluxError as error:
            unreachable = isinstance(error, ServerUnreachable)
            if len(attempts) > 1 and not unreachable:
                # The cause may be a single job: an answer that is not valid, or values that make no prompt.
                for attempt in attempts:
                    self._settle([attempt])
                return
            for attempt in filter(self._is_ours_to_settle, attempts):
                if unreachable or isinstance(error, ServerError):
                    self._postpone(attempt, error)
                else:
                    # The workflow can no longer be converted to a prompt here, but the server may have the job.
                    self._writer.unknown(attempt, error)
            return
        for attempt in filter(self._is_ours_to_settle, attempts):
            if attempt.id in jobs:
                self._writer.found(attempt)
                self._follow(InFlightJob(attempt, jobs[attempt.id]))
            else:
                self._writer.lost(attempt, _never_arrived(attempt, self.name))

    def _settle_seconds(self, attempt: Attempt) -> float:
        """Returns the seconds to look for it: a server may accept a request late, and a gateway forward it later."""
        age = time.monotonic() - self._lost_at.get(attempt.id, time.monotonic())
        return max(0.0, (_LATE_SECONDS if attempt.id in self._late else _SETTLE_SECONDS) - age)

    def _postpone(self, attempt: Attempt, error: KandifluxError) -> None:
        """Looks for the job once the server answers its health check again, for a limited time."""
        self._mark_failing(error)
        self._look_later(attempt, error)

    def _postpone_download(self, attempt: Attempt, error: ServerUnreachable) -> None:
        """Downloads its files later. Only refused connections mark the server as failing."""
        if error.refused:
            self._mark_failing(error)
        self._look_later(attempt, error)

    def _look_later(self, attempt: Attempt, error: KandifluxError) -> None:
        since = self._postponed_since.setdefault(attempt.id, time.monotonic())
        if self.state == "unfit" or time.monotonic() - since >= self._context.options.silence:
            self._writer.unknown(attempt, error)
        else:
            with self._lock:
                self._unsettled.append(attempt)

    def _is_ours_to_settle(self, attempt: Attempt) -> bool:
        """Removes it from the unsettled attempts. Returns False if it was given up in the meantime."""
        with self._lock:
            known = attempt in self._unsettled
            if known:
                self._unsettled.remove(attempt)
        return known

    def _withdraw_jobs(self) -> None:
        """Withdraws waiting jobs from the server. Running jobs continue, unless the batch is being cancelled."""
        for running_job in list(self._in_flight.values()):
            ask = "cancel" if self._context.cancelling else "withdraw" if running_job.job.state == "queued" else ""
            if running_job.job.finished or ask in ("", running_job.asked):
                continue
            running_job.asked = ask
            try:
                if ask == "cancel":
                    running_job.job.cancel()
                else:
                    self.client.withdraw(running_job.job)
            except KandifluxError as error:
                running_job.asked = ""
                self._mark_failing(error)

    def _prompt(self, attempt: Attempt) -> Prompt:
        object_info = self.client.object_info()
        return self._context.workflow.prompt(object_info, attempt.values, upload=self._upload, check=False)

    def _upload(self, path: Path) -> str:
        try:
            about = path.stat()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
        key = (path, about.st_size, about.st_mtime_ns)
        if key not in self._uploaded:
            self._uploaded[key] = self.client.upload(path)
        return self._uploaded[key]

    # Health checks

    def _check_health(self) -> None:
        while not self._closing.is_set():
            quiet = time.monotonic() - self._collector.last_activity > 2 * _PROBE_SECONDS
            if self.state != "up" or (quiet and self.busy):
                self._probe()
            self._closing.wait(_PROBE_SECONDS)

    def _mark_failing(self, error: KandifluxError) -> None:
        """Marks the server as failing: nothing is sent until it has answered a health check."""
        if not self._is_denied(error) and self.state == "up":
            self._set_state("silent", error)

    def _is_denied(self, error: KandifluxError) -> bool:
        """Counts a refusal of access. Returns True after the third in a row, when the server counts as unusable."""
        if isinstance(error, AccessDenied):
            self._denials += 1
            if self._denials >= _DENIALS:
                self._set_state("unfit", error)
                return True
        return False

    def _probe(self) -> None:
        if self.state == "unfit":
            return
        try:
            self._prober.features()
            if self.state != "up":
                self._recover()
        except UsageError as error:
            self._set_state("unfit", error)
        except (ServerUnreachable, ServerError) as error:
            if self._is_denied(error):
                return
            # A lost answer, or a gateway's "busy", means that a connection was made: the server may be working.
            if isinstance(error, ServerUnreachable) and error.refused:
                self._refused(error)
            else:
                self._silent(error)
        else:
            self._refusing_since = self._silent_since = None

    def _recover(self) -> None:
        object_info = self.client.object_info()
        if not self._fits:
            try:
                self._context.workflow.prompt(object_info, check=False)
            except (UsageError, ServerError) as error:
                self._set_state("unfit", error)
                return
            self._fits = True
        # Jobs that were given up here now run on other servers.
        while self._abandoned:
            cancel_on_server(self.client.api, self._abandoned[0])
            self._abandoned.pop(0)
        self._set_state("up", None)

    def _silent(self, error: ServerUnreachable | ServerError) -> None:
        now = time.monotonic()
        self._refusing_since, self._silent_since = None, self._silent_since or now
        if now - self._silent_since < self._context.options.silence:
            self._set_state("silent", error)
            return
        self._set_state("gone", error)
        for attempt in self._take_unsettled():
            self._writer.unknown(attempt, error)

    def _refused(self, error: ServerUnreachable) -> None:
        now = time.monotonic()
        self._silent_since, self._refusing_since = None, self._refusing_since or now
        if now - self._refusing_since < self._patience:
            if self.state != "gone":
                self._set_state("away", error)
            return
        self._set_state("gone", error)
        # If no other server can run them, its jobs stay open, and the next run looks for them first.
        if self._context.others_up(self.name):
            self._abandon(now - self._refusing_since)

    def _abandon(self, seconds: float) -> None:
        for attempt in self._take_unsettled():
            self._abandoned.append(attempt.id)
            self._writer.lost(attempt, _refusing(attempt, self.name, seconds))
        for running_job in list(self._in_flight.values()):
            if not running_job.job.finished:
                self._abandoned.append(running_job.job.prompt_id)
                running_job.job.finish(_refusing(running_job.attempt, self.name, seconds))

    def _take_unsettled(self) -> list[Attempt]:
        with self._lock:
            taken, self._unsettled = self._unsettled, []
        return taken

    def _set_state(self, state: ServerState, error: KandifluxError | None) -> None:
        changed, self.state, self.reason = state != self.state, state, error
        if state == "unfit" and error is not None:
            for attempt in self._take_unsettled():
                self._writer.unknown(attempt, error)
        if changed:
            reason = None if error is None else error.message
            self._context.emit("server", server=self.name, state=state, reason=reason)
            self._context.notify()


def _step(job: Job) -> Mapping[str, float]:
    state = job.latest(ProgressState)
    for node in state.nodes.values() if state is not None else ():
        if node.state == "running" and node.max > 1:
            return {"value": node.value, "max": node.max}
    progress = job.latest(NodeProgress)
    return {} if progress is None or progress.max <= 1 else {"value": progress.value, "max": progress.max}


def _never_arrived(attempt: Attempt, server: str) -> JobLost:
    return JobLost(
        f"Job {attempt.index} is in neither the queue nor the history of {server}: it never arrived there, or the "
        "server was restarted.",
        prompt_id=attempt.id,
    )


def _refusing(attempt: Attempt, server: str, seconds: float) -> JobLost:
    return JobLost(
        f"{server} has refused connections for {seconds:.0f} s while it had job {attempt.index}.",
        prompt_id=attempt.id,
        hint="Check why the server is down.",
    )
