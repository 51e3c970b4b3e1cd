"""One server's worker, over a client that a test plays: what is sent, looked for, taken back and given up."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kandiflux.api.events import ExecutionStarted, NodeProgress, NodeStarted, NodeState, ProgressState
from kandiflux.batch.context import BatchContext, BatchOptions
from kandiflux.batch.ledger import LEDGER, Attempt, Ledger
from kandiflux.batch.status import BatchEvent, WorkerStatus
from kandiflux.batch.worker import ServerWorker
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    BodyTooLarge,
    InvalidPrompt,
    JobInterrupted,
    KandifluxError,
    ProtocolError,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from kandiflux.jobs.client import Client
from kandiflux.jobs.job import Job
from kandiflux.jobs.outputs import Output
from kandiflux.jobs.result import Result
from kandiflux.workflow.prompt import Prompt
from kandiflux.workflow.workflow import Workflow

from tests.support.fake_comfyui import OBJECT_INFO, PNG, prompt
from tests.support.waiting import until as until_

until = functools.partial(until_, seconds=5)
NAME = "http://a"
REFUSED = ServerUnreachable("It refuses connections.", refused=True)
SILENT = ServerUnreachable("It does not answer.")


class Played:
    """Stands in for a client, and for the API of its health checks."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        """Jobs that it took, or was found to have."""
        self.on_submit: list[KandifluxError] = []
        """What the next calls of submit raise; after that all goes well."""
        self.health: KandifluxError | None = None
        self.checks = 0
        self.on_adopt: Callable[[Mapping[str, Prompt]], list[str]] = lambda prompts: []
        """Which of these jobs it has; or raises."""
        self.looks: list[tuple[int, float]] = []
        """How many jobs were looked for at once, and how long a request may take to arrive."""
        self.withdrawn: list[str] = []
        self.cancelled: list[str] = []
        self.on_withdraw: list[KandifluxError] = []
        self.reclaimed: list[str] = []
        self.uploads: list[str] = []
        self.info: dict[str, Any] | KandifluxError = OBJECT_INFO
        self.timeouts: list[tuple[float, float]] = []
        self.closed = self.prober_closed = False
        prober = SimpleNamespace(features=self._features, close=self._close_prober)
        self.api = SimpleNamespace(with_timeout=lambda timeout: self.timeouts.append(timeout) or prober,
                                   cancel_job=self._reclaim)  # fmt: skip

    def object_info(self) -> dict[str, Any]:
        if isinstance(self.info, KandifluxError):
            raise self.info
        return self.info

    def submit(self, prompt: Prompt, *, job_id: str, patience: float) -> Job:
        assert patience == 0.0, "the worker looks for what is lost by itself"
        if self.on_submit:
            raise self.on_submit.pop(0)
        return self._job(prompt, job_id)

    def adopt_some(self, prompts: Mapping[str, Prompt], *, settle: float) -> dict[str, Job]:
        self.looks.append((len(prompts), settle))
        return {job_id: self._job(prompts[job_id], job_id) for job_id in self.on_adopt(prompts)}

    def withdraw(self, job: Job) -> None:
        self.withdrawn.append(job.prompt_id)
        if self.on_withdraw:
            raise self.on_withdraw.pop(0)
        job.finish(JobInterrupted("It was removed.", prompt_id=job.prompt_id))

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job.prompt_id)
        job.finish(JobInterrupted("It was stopped.", prompt_id=job.prompt_id))

    def upload(self, path: Path) -> str:
        self.uploads.append(path.name)
        return f"up-{path.name}"

    def close(self) -> None:
        self.closed = True

    def _job(self, prompt: Prompt, job_id: str) -> Job:
        job = Job(self, prompt, job_id)
        job.queued(None)
        self.jobs.append(job)
        return job

    def _features(self) -> dict[str, Any]:
        self.checks += 1
        if self.health is not None:
            raise self.health
        return {}

    def _close_prober(self) -> None:
        self.prober_closed = True

    def _reclaim(self, prompt_id: str) -> bool:
        self.reclaimed.append(prompt_id)
        return True


class Counting(Ledger):
    """taken: how many jobs were taken at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.taken: list[int] = []

    def begin_some(self, server: str, count: int) -> list[Attempt]:
        attempts = super().begin_some(server, count)
        if attempts:
            self.taken.append(len(attempts))
        return attempts


@dataclass
class Bench:
    """A worker with a ledger of jobs. The clock goes on by itself, and `later` seconds beyond that."""

    folder: Path
    ledger: Counting
    server: Played = field(default_factory=Played)
    options: BatchOptions = field(default_factory=BatchOptions)
    events: list[BatchEvent] = field(default_factory=list)
    workflow: Workflow = field(default_factory=lambda: Workflow.from_data(prompt()))
    others: bool = False
    later: float = 0.0

    def __post_init__(self) -> None:
        self.worker = self.make()

    def make(self, *, submits: bool = True, unsettled: tuple[Attempt, ...] = ()) -> ServerWorker:
        def emit(kind: str, **about: Any) -> None:
            self.events.append(BatchEvent(kind, about))

        self.context = BatchContext(
            self.workflow, self.ledger, self.folder, self.options, emit, lambda name: name == NAME and self.others,
            pages=False,
        )  # fmt: skip
        return ServerWorker(
            NAME, cast(Client, self.server), self.context, patience=60.0, submits=submits, unsettled=unsettled
        )

    @contextlib.contextmanager
    def running(self, worker: ServerWorker | None = None) -> Iterator[Played]:
        self.worker = worker or self.worker
        self.worker.start()
        try:
            yield self.server
        finally:
            self.worker.close()

    def check(self) -> None:
        """Waits for the end of a health check that has yet to begin."""
        seen = self.server.checks
        until(lambda: self.server.checks >= seen + 2)

    def states(self) -> list[str]:
        return [event.about["state"] for event in self.events if event.kind == "server"]

    def told(self) -> list[str]:
        return [event.kind for event in self.events if event.kind not in ("server", "saved")]

    def jobs(self) -> str:
        return " ".join(f"{entry.name}:{entry.state}" for entry in self.ledger.entries())

    def open(self) -> list[str]:
        return [attempt.name for attempt in self.ledger.open_attempts()]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Counting]:
    with contextlib.closing(Counting(tmp_path / LEDGER)) as ledger:
        listed(ledger, 3)
        yield ledger


def listed(ledger: Ledger, count: int) -> None:
    with ledger.listing({}) as listing:
        for position in range(1, count + 1):
            if not listing.relist(str(position), position, [0, 0]):
                listing.add(str(position), position, [0, 0], {"Canvas.width": position}, f"j{position}")


@pytest.fixture
def bench(ledger: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path, ledger)
    monkeypatch.setattr("kandiflux.batch.worker._PROBE_SECONDS", 0.01)
    monkeypatch.setattr("kandiflux.batch.worker._TICK", 0.01)
    monkeypatch.setattr(
        "kandiflux.batch.worker.time", SimpleNamespace(monotonic=lambda: time.monotonic() + bench.later)
    )
    return bench


def with_options(bench: Bench, **options: Any) -> Bench:
    bench.options = BatchOptions(**options)
    bench.worker = bench.make()
    return bench


def done(job: Job, seconds: float | None = None, *outputs: Output) -> None:
    job.finish(Result(job.prompt_id, job.prompt, outputs, seconds=seconds))


def running(job: Job) -> None:
    job.deliver(ExecutionStarted(job.prompt_id))


# Sending


@pytest.mark.parametrize("backlog", [1, 2])
def test_a_server_has_as_many_jobs_as_its_backlog(backlog: int, bench: Bench) -> None:
    with_options(bench, backlog=backlog)
    with bench.running() as server:
        until(lambda: len(server.jobs) == backlog)
        assert bench.told() == ["sent"] * backlog
        assert server.jobs[0].prompt.nodes["1"]["inputs"]["width"] == 1
        assert bench.open() == [f"j{number}" for number in range(1, backlog + 1)]
        for number in range(3):
            until(lambda: len(server.jobs) > number)  # noqa: B023 - called at once
            done(server.jobs[number])
        until(lambda: bench.jobs() == "j1:done j2:done j3:done")
        until(lambda: not bench.worker.busy)
    assert bench.ledger.taken == ([1, 1, 1] if backlog == 1 else [2, 1])
    assert (bench.states(), bench.worker.usable, {*server.timeouts}) == (["up"], True, {(3.0, 5.0)})


@pytest.mark.parametrize(
    ("backlog", "seconds", "count"),
    [(2, 0.2, 2), (2, 0.04, 3), (2, 0.03, 4), (2, 0.025, 4), (2, 0.005, 20), (2, 0.0011, 24), (2, 0.0, 24),
     (2, None, 2), (1, 0.001, 1), (30, 0.001, 30)],
)  # fmt: skip
def test_a_server_has_quick_jobs_for_a_tenth_of_a_second(
    backlog: int, seconds: float | None, count: int, bench: Bench
) -> None:
    listed(bench.ledger, 60)
    with_options(bench, backlog=backlog)
    bench.worker._collector.pace = seconds
    with bench.running() as server:
        until(lambda: len(server.jobs) == count)
        running(server.jobs[0])
        assert bench.ledger.taken == [count]
        status = bench.worker.status()
        assert (status.queued, status.index, status.done) == (count - 1, 1, 0)


def test_many_quick_jobs_are_sent_by_the_dozen(bench: Bench) -> None:
    listed(bench.ledger, 60)
    bench.worker._collector.pace = 0.0
    with bench.running() as server:
        until(lambda: len(server.jobs) == 24)
        for job in server.jobs[:7]:
            done(job, 0.0)
        until(lambda: bench.worker.status().done == 7)
        done(server.jobs[8], 0.0)
        until(lambda: len(server.jobs) == 32)
    assert bench.ledger.taken == [24, 8], "a third of 24 at least"


@dataclass
class Held:
    """Hands a file out when it may."""

    free: threading.Event

    def view(self, *_: object, **__: object) -> Iterator[bytes]:
        assert self.free.wait(30)
        yield PNG


@pytest.mark.parametrize(("fail_fast", "most"), [(False, 6), (True, 2)])
def test_saving_may_lag_behind_a_little(fail_fast: bool, most: int, bench: Bench) -> None:
    listed(bench.ledger, 12)
    with_options(bench, fail_fast=fail_fast)
    free = threading.Event()
    output = Output("image", "2", "R", "a.png", source=Held(free))
    with bench.running() as server:
        until(lambda: len(server.jobs) == 2)
        ended = 0
        while ended < most:
            until(lambda: len(server.jobs) > ended)  # noqa: B023 - called at once
            done(server.jobs[ended], None, output)
            ended += 1
        bench.check()
        assert len(server.jobs) == most
        free.set()
        until(lambda: len(server.jobs) == most + 2)


def test_a_refused_prompt_fails_alone(bench: Bench) -> None:
    bench.server.on_submit = [InvalidPrompt("No.", []), BodyTooLarge("Too large.")]
    with bench.running() as server:
        until(lambda: len(server.jobs) == 1)
        until(lambda: bench.jobs() == "j1:failed j2:failed j3:sent")
    assert (bench.states(), bench.open()) == (["up"], ["j3"])
    assert [event.about["again"] for event in bench.events if event.kind == "failed"] == [False, False]


@pytest.mark.parametrize(
    ("error", "told", "taken"),
    [
        (ServerError("HTTP 500"), "failed", "j2 j3 j1"),
        (SILENT, "withdrawn", "j1 j2 j3"),
        (AccessDenied("No."), "withdrawn", "j1 j2 j3"),
    ],
)
def test_a_server_that_is_not_well_gets_the_job_again_later(
    error: KandifluxError, told: str, taken: str, bench: Bench
) -> None:
    with_options(bench, backlog=1)
    bench.server.on_submit = [error]
    with bench.running() as server:
        for number in range(3):
            until(lambda: len(server.jobs) > number)  # noqa: B023 - called at once
            done(server.jobs[number])
        until(lambda: bench.told().count("done") == 3)
    assert bench.states() == ["up", "silent", "up"]
    assert bench.told()[:2] == [told, "sent"]
    sent = [event.about["index"] for event in bench.events if event.kind == "sent"]
    assert " ".join(f"j{index}" for index in sent) == taken


def test_a_server_that_is_not_well_for_long_fails_the_job(bench: Bench) -> None:
    with_options(bench, backlog=1)
    bench.server.on_submit = [ServerError("HTTP 500")] * 12
    with bench.running() as server:
        until(lambda: bench.jobs() == "j1:failed j2:failed j3:failed")
    assert (bench.told().count("failed"), server.jobs) == (12, [])


def test_access_that_is_refused_three_times_in_a_row_condemns_a_server(bench: Bench) -> None:
    with_options(bench, backlog=1)
    denied = AccessDenied("No.")
    bench.server.on_submit = [denied, denied]
    with bench.running() as server:
        until(lambda: len(server.jobs) == 1)
        server.on_submit = [denied, denied]
        done(server.jobs[0])
        until(lambda: len(server.jobs) == 2)
        assert "unfit" not in bench.states()
        server.on_submit = [denied, denied, denied]
        done(server.jobs[1])
        until(lambda: bench.states()[-1] == "unfit")
        until(lambda: not bench.worker.busy)
        assert not bench.worker.usable
        checks = server.checks
    assert server.checks <= checks + 1, "it is not asked any more"
    assert (bench.worker.reason, bench.jobs()) == (denied, "j1:done j2:done j3:waiting")


def test_an_error_that_nobody_foresaw_ends_the_batch(bench: Bench) -> None:
    error = ZeroDivisionError("?")
    bench.server.on_submit = [cast(KandifluxError, error)]
    with bench.running():
        until(lambda: bench.context.fatal is error)
        until(lambda: not bench.worker.busy)
    assert bench.context.stopping


def test_pictures_are_uploaded_once_unless_they_change(bench: Bench, tmp_path: Path) -> None:
    class Choosing(Workflow):
        def prompt(self, object_info: Any, values: Any = None, **options: Any) -> Prompt:
            if values is not None:
                width = options["upload"](tmp_path / values["file"])
                return Prompt(prompt(width))
            return Prompt(prompt())

    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"1")
    bench.workflow = Choosing.from_data(prompt())
    with bench.ledger.listing({}) as listing:
        for position, name in enumerate(("a.png", "a.png", "b.png", "none.png", "a.png"), 1):
            listing.add(f"key {position}", position, [0, 0], {"file": name}, f"f{position}")
    bench = with_options(bench, backlog=3)
    with bench.running() as server:
        until(lambda: len(server.jobs) == 3)
        assert server.uploads == ["a.png", "b.png"]
        (tmp_path / "a.png").write_bytes(b"22")
        done(server.jobs[0])
        until(lambda: len(server.jobs) == 4)
        assert server.uploads == ["a.png", "b.png", "a.png"]
        assert server.jobs[0].prompt.nodes["1"]["inputs"]["width"] == "up-a.png"
    (failed,) = (event.about["error"] for event in bench.events if event.kind == "failed")
    assert failed["error"] == "UsageError"
    assert "none.png cannot be read: No such file" in failed["message"]


# Stopping


def test_a_stop_takes_back_what_waits_and_lets_run_what_runs(bench: Bench) -> None:
    with bench.running() as server:
        until(lambda: len(server.jobs) == 2)
        first, second = server.jobs
        running(first)
        bench.context.stop()
        until(lambda: bench.jobs() == "j1:sent j2:waiting j3:waiting")
        assert (server.withdrawn, server.cancelled) == ([second.prompt_id], [])
        assert bench.worker.busy
        done(first)
        until(lambda: bench.jobs() == "j1:done j2:waiting j3:waiting")
        until(lambda: not bench.worker.busy)
    assert (bench.told(), len(server.jobs)) == (["sent", "sent", "withdrawn", "done"], 2)


def test_a_cancel_ends_what_runs_too(bench: Bench) -> None:
    with bench.running() as server:
        until(lambda: len(server.jobs) == 2)
        running(server.jobs[0])
        bench.context.cancelling = True
        bench.context.stop()
        until(lambda: bench.jobs() == "j1:waiting j2:waiting j3:waiting")
        until(lambda: not bench.worker.busy)
    assert sorted(server.cancelled) == sorted(job.prompt_id for job in server.jobs)
    assert (bench.open(), bench.told()[2:]) == ([], ["withdrawn", "withdrawn"])


def test_a_job_that_cannot_be_taken_back_is_asked_for_again(bench: Bench) -> None:
    bench.server.on_withdraw = [SILENT]
    with bench.running() as server:
        until(lambda: len(server.jobs) == 2)
        bench.context.stop()
        until(lambda: bench.jobs() == "j1:waiting j2:waiting j3:waiting")
    first, second = (job.prompt_id for job in server.jobs)
    assert sorted(server.withdrawn) == sorted([first, first, second])
    assert bench.states() == ["up", "silent", "up"]


def test_a_job_is_asked_for_once(bench: Bench) -> None:
    with_options(bench, backlog=1)
    with bench.running() as server:
        until(lambda: len(server.jobs) == 1)
        server.withdraw = lambda job: server.withdrawn.append(job.prompt_id)  # type: ignore[method-assign]
        bench.context.stop()
        until(lambda: server.withdrawn)
        for _ in range(3):
            bench.context.notify()
        running(server.jobs[0])
        bench.context.cancelling = True
        bench.context.notify()
        until(lambda: server.cancelled)
        until(lambda: bench.jobs() == "j1:waiting j2:waiting j3:waiting")
    assert len(server.withdrawn) == len(server.cancelled) == 1


def test_jobs_that_are_just_taken_as_a_stop_comes_are_not_sent(bench: Bench) -> None:
    submit = bench.server.submit

    def stopped(prompt: Prompt, *, job_id: str, patience: float) -> Job:
        bench.context.stop()
        return submit(prompt, job_id=job_id, patience=patience)

    bench.server.submit = stopped  # type: ignore[method-assign]
    with bench.running() as server:
        until(lambda: server.withdrawn)
        until(lambda: bench.jobs() == "j1:waiting j2:waiting j3:waiting")
    assert (len(server.jobs), bench.ledger.taken) == (1, [2])


def test_a_worker_that_only_collects_sends_nothing(bench: Bench) -> None:
    attempt = bench.ledger.begin(NAME)
    assert attempt is not None
    bench.server.on_adopt = list
    with bench.running(bench.make(submits=False, unsettled=(attempt,))) as server:
        assert not bench.worker.usable
        until(lambda: server.jobs)
        assert bench.worker.busy
        done(server.jobs[0])
        until(lambda: bench.jobs() == "j1:done j2:waiting j3:waiting")
        until(lambda: not bench.worker.busy)
    assert (bench.told(), server.looks) == (["found", "done"], [(1, pytest.approx(3.0, abs=1))])
    assert (server.closed, server.prober_closed) == (True, True)
    assert not [thread for thread in threading.enumerate() if thread.name.endswith(NAME)]


# Looking for what may have been sent


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize(("late", "settle"), [(False, 3.0), (True, 30.0)])
def test_a_lost_answer_has_the_job_looked_for(has: bool, late: bool, settle: float, bench: Bench) -> None:
    with_options(bench, backlog=1)
    error = AnswerLost("The answer was lost.", still_coming=late)
    error.__cause__ = AnswerLost("It timed out.", still_coming=late)
    bench.server.on_submit = [error]
    bench.server.on_adopt = lambda prompts: list(prompts) if has else []
    with bench.running() as server:
        until(lambda: len(server.jobs) == 1)
        assert server.looks == [(1, pytest.approx(settle, abs=1))]
        until(lambda: bench.told() == (["found"] if has else ["lost", "sent"]))
    assert bench.states() == ["up", "silent", "up"]
    assert bench.open() == ["j1"]


def test_a_job_whose_answer_was_lost_long_ago_is_looked_for_once(bench: Bench) -> None:
    with_options(bench, backlog=1)

    def lose(prompt: Prompt, *, job_id: str, patience: float) -> Job:
        bench.server.health = SILENT
        raise AnswerLost("The answer was lost.")

    bench.server.submit = lose  # type: ignore[method-assign]
    bench.server.on_adopt = list
    with bench.running() as server:
        until(lambda: bench.states()[-1:] == ["silent"])
        bench.check()
        bench.later += 2
        server.health = None
        until(lambda: server.jobs)
    assert server.looks == [(1, pytest.approx(1.0, abs=0.9))]


def test_what_an_earlier_run_had_sent_is_looked_for_in_pieces(bench: Bench) -> None:
    listed(bench.ledger, 30)
    attempts = bench.ledger.begin_some(NAME, 30)
    known = {attempt.id for attempt in attempts if attempt.index % 2}
    bench.server.on_adopt = lambda prompts: [job_id for job_id in prompts if job_id in known]
    with bench.running(bench.make(submits=False, unsettled=tuple(attempts))) as server:
        until(lambda: len(bench.told()) == 30)
        assert [count for count, _ in server.looks] == [24, 6]
        assert {job.prompt_id for job in server.jobs} == known
        assert {job.prompt.nodes["1"]["inputs"]["width"] for job in server.jobs} == set(range(1, 31, 2))
        until(lambda: bench.worker.busy)
    assert (bench.told().count("found"), bench.told().count("lost")) == (15, 15)
    error = next(event.about["error"] for event in bench.events if event.kind == "lost")
    assert (error["error"], error["prompt_id"]) == ("JobLost", attempts[1].id)
    assert "Job 2 is in neither the queue nor the history" in error["message"]


@pytest.mark.parametrize(
    ("error", "odd", "others"),
    [
        (ProtocolError("Nonsense."), "sent", "found found"),
        (ServerError("HTTP 500"), "sent", "found found"),
        (UsageError("There is no such node."), "failed", "found found"),
    ],
)
def test_one_job_that_a_server_says_nothing_sensible_of(
    error: KandifluxError, odd: str, others: str, bench: Bench
) -> None:
    attempts = bench.ledger.begin_some(NAME, 3)

    def adopt(prompts: Mapping[str, Prompt]) -> list[str]:
        if attempts[1].id in prompts:
            raise error
        return list(prompts)

    bench.server.on_adopt = adopt
    with bench.running(bench.make(submits=False, unsettled=tuple(attempts))):
        until(lambda: bench.told().count("found") == 2)
        if odd == "failed":
            until(lambda: bench.jobs() == "j1:sent j2:failed j3:sent")
            assert bench.states() == ["up"]
        else:
            until(lambda: "silent" in bench.states())
            assert bench.jobs() == "j1:sent j2:sent j3:sent"
            bench.later += 899
            bench.check()
            assert bench.jobs() == "j1:sent j2:sent j3:sent"
            bench.later += 2
            until(lambda: bench.jobs() == "j1:sent j2:failed j3:sent")
    assert bench.open() == ["j1", "j2", "j3"], "the next run looks for it"


def test_a_server_that_does_not_answer_is_asked_for_all_jobs_again(bench: Bench) -> None:
    attempts = bench.ledger.begin_some(NAME, 3)
    failures = [SILENT]

    def adopt(prompts: Mapping[str, Prompt]) -> list[str]:
        if failures:
            raise failures.pop()
        return list(prompts)

    bench.server.on_adopt = adopt
    with bench.running(bench.make(unsettled=tuple(attempts))) as server:
        until(lambda: len(server.jobs) == 3)
    assert [count for count, _ in server.looks] == [3, 3]
    assert (bench.told(), bench.states()) == (["found"] * 3, ["up", "silent", "up"])


@pytest.mark.parametrize("refused", [True, False])
def test_files_that_cannot_be_fetched_are_fetched_later(refused: bool, bench: Bench) -> None:
    """Only refused connections say something about the server."""
    with_options(bench, backlog=1)
    failures = [ServerUnreachable("It broke off.", refused=refused)]

    class Source:
        def view(self, *_: object, **__: object) -> Iterator[bytes]:
            if failures:
                raise failures.pop()
            yield PNG

    output = Output("image", "2", "R", "a.png", source=Source())
    bench.server.on_adopt = list
    with bench.running() as server:
        until(lambda: server.jobs)
        done(server.jobs[0], None, output)
        until(lambda: "found" in bench.told())
        until(lambda: len(server.jobs) >= 2)
        found = next(job for job in server.jobs[1:] if job.prompt_id == server.jobs[0].prompt_id)
        done(found, None, output)
        until(lambda: bench.jobs().startswith("j1:done"))
    assert bench.states() == (["up", "silent", "up"] if refused else ["up"])
    assert (bench.folder / "j1.png").read_bytes() == PNG


# Health


def test_a_server_is_used_once_it_answers(bench: Bench) -> None:
    bench.server.health = ServerError("HTTP 503")
    with bench.running() as server:
        until(lambda: bench.states() == ["silent"])
        assert bench.worker.usable
        server.health = REFUSED
        until(lambda: bench.states() == ["silent", "away"])
        bench.check()
        server.health = None
        until(lambda: len(server.jobs) == 2)
        assert bench.worker.reason is None
    assert bench.states() == ["silent", "away", "up"]
    assert [event.about["reason"] for event in bench.events if event.kind == "server"] == [
        "HTTP 503", "It refuses connections.", None
    ]  # fmt: skip
    assert {event.about["server"] for event in bench.events} == {NAME}


@pytest.mark.parametrize("info", [UsageError("No such node."), ServerError("HTTP 500"), {}])
def test_a_server_that_cannot_run_the_workflow_is_not_used(info: Any, bench: Bench) -> None:
    class Checked(Workflow):
        def prompt(self, object_info: Any, *_: Any, **__: Any) -> Prompt:
            if not object_info:
                raise InvalidPrompt("It lacks a node.", [])
            return Prompt(prompt())

    bench.workflow = Checked.from_data(prompt())
    bench.server.info = info if isinstance(info, dict) else OBJECT_INFO
    if isinstance(info, KandifluxError):
        error = info

        class Refusing(Checked):
            def prompt(self, *_: Any, **__: Any) -> Prompt:
                raise error

        bench.workflow = Refusing.from_data(prompt())
    attempt = bench.ledger.begin(NAME)
    assert attempt is not None
    with bench.running(bench.make(unsettled=(attempt,))) as server:
        until(lambda: bench.states() == ["unfit"])
        assert (bench.worker.usable, bench.worker.busy, server.jobs) == (False, False, [])
    assert (bench.jobs(), bench.open()) == ("j1:failed j2:waiting j3:waiting", ["j1"])


def test_a_server_is_used_whatever_values_the_workflow_has_without_a_jobs(bench: Bench) -> None:
    bench.workflow = Workflow.from_data(prompt(width=9999))
    with_options(bench)
    with bench.running() as server:
        until(lambda: len(server.jobs) == 2)


@pytest.mark.parametrize("error", [UsageError("Its certificate is not trusted."), AccessDenied("No.")])
def test_a_health_check_that_cannot_succeed(error: KandifluxError, bench: Bench) -> None:
    bench.server.health = error
    with bench.running() as server:
        until(lambda: bench.states()[-1:] == ["unfit"])
        assert (bench.worker.reason, server.jobs) == (error, [])
    assert server.checks == (1 if isinstance(error, UsageError) else 3)


@pytest.mark.parametrize("others", [True, False])
def test_a_server_that_refuses_connections_for_long(others: bool, bench: Bench) -> None:
    bench.others = others
    with bench.running() as server:
        until(lambda: len(server.jobs) == 2)
        done(server.jobs[0])
        until(lambda: bench.worker.status().done == 1)
        until(lambda: len(server.jobs) == 3)
        second, third = server.jobs[1:]
        server.health = REFUSED
        bench.worker._collector.last_activity = -1e9
        until(lambda: bench.states()[-1] == "away")
        bench.later += 59
        bench.check()
        assert (bench.states()[-1], bench.jobs()) == ("away", "j1:done j2:sent j3:sent")
        bench.later += 1
        until(lambda: bench.states()[-1] == "gone")
        assert not bench.worker.usable
        if not others:
            bench.check()
            assert bench.jobs() == "j1:done j2:sent j3:sent", "the next run looks for them first"
            return
        until(lambda: bench.jobs() == "j1:done j2:waiting j3:waiting")
        lost = [event.about["error"] for event in bench.events if event.kind == "lost"]
        assert lost[0]["message"].startswith(f"{NAME} has refused connections for 60 s while it had job ")
        assert {error["prompt_id"] for error in lost} == {second.prompt_id, third.prompt_id}
        bench.check()
        assert server.reclaimed == []
        server.health = None
        until(lambda: bench.states()[-1] == "up")
        assert server.reclaimed == [second.prompt_id, third.prompt_id], "they run elsewhere by now"


def test_jobs_that_were_not_found_yet_are_lost_with_their_server(bench: Bench) -> None:
    attempts = bench.ledger.begin_some(NAME, 2)
    bench.others, bench.server.health = True, REFUSED
    with bench.running(bench.make(unsettled=tuple(attempts))) as server:
        until(lambda: bench.states() == ["away"])
        assert bench.worker.busy
        bench.later += 61
        until(lambda: bench.jobs() == "j1:waiting j2:waiting j3:waiting")
        assert not bench.worker.busy
        server.health = None
        until(lambda: len(server.jobs) == 2)
        assert server.reclaimed == [attempt.id for attempt in attempts]
    assert server.looks == []


def test_a_server_that_is_silent_for_long_keeps_its_jobs(bench: Bench) -> None:
    """They may run there: nobody else gets them, and the next run looks for them."""
    attempt = bench.ledger.begin(NAME)
    assert attempt is not None
    bench.others, bench.server.health = True, SILENT
    with bench.running(bench.make(unsettled=(attempt,))) as server:
        until(lambda: bench.states() == ["silent"])
        bench.later += 899
        bench.check()
        assert (bench.states(), bench.jobs()) == (["silent"], "j1:sent j2:waiting j3:waiting")
        bench.later += 1
        until(lambda: bench.states() == ["silent", "gone"])
        until(lambda: bench.jobs() == "j1:failed j2:waiting j3:waiting")
        assert (bench.open(), bench.worker.busy, bench.worker.usable) == (["j1"], False, False)
        server.health = REFUSED
        bench.check()
        assert bench.states() == ["silent", "gone"], "it was given up already"
    assert (bench.told(), server.jobs) == (["failed"], [])


@pytest.mark.parametrize(("first", "then"), [(REFUSED, SILENT), (SILENT, REFUSED)])
def test_patience_begins_anew_with_another_kind_of_failure(
    first: ServerUnreachable, then: ServerUnreachable, bench: Bench
) -> None:
    with_options(bench, silence=60.0)
    bench.server.health = first
    with bench.running() as server:
        until(lambda: bench.states())
        for error in (then, first):
            bench.later += 40
            server.health = error
            bench.check()
        server.health = None
        until(lambda: len(server.jobs) == 2)
        bench.later += 40
        bench.worker._collector.last_activity = -1e9
        server.health = first
        until(lambda: bench.states()[-1] in ("silent", "away"))
        bench.later += 40
        bench.check()
        assert "gone" not in bench.states()


def test_a_quiet_server_is_asked_only_if_it_has_jobs(bench: Bench) -> None:
    with bench.running() as server:
        until(lambda: len(server.jobs) == 2)
        checks = server.checks
        bench.later += 1000
        until(lambda: server.checks > checks)
        for number in range(3):
            until(lambda: len(server.jobs) > number)  # noqa: B023 - called at once
            done(server.jobs[number])
        until(lambda: not bench.worker.busy)


# What it tells


def test_the_job_that_runs_is_shown_with_its_step(bench: Bench) -> None:
    with bench.running() as server:
        assert bench.worker.last_seen == 0.0
        until(lambda: len(server.jobs) == 2)
        assert bench.worker.status() == WorkerStatus(NAME, "up", queued=2)
        first, second = server.jobs
        running(second)
        assert bench.worker.status() == WorkerStatus(NAME, "up", queued=1, index=2)
        second.deliver(NodeStarted(second.prompt_id, node_id="1", display_node_id="1"))
        second.deliver(NodeProgress(second.prompt_id, node_id="1", value=1, max=1))
        assert bench.worker.status() == WorkerStatus(NAME, "up", queued=1, index=2, node="Canvas")
        second.deliver(NodeProgress(second.prompt_id, node_id="1", value=1, max=2))
        assert bench.worker.status() == WorkerStatus(NAME, "up", queued=1, index=2, node="Canvas", value=1, max=2)
        nodes = {
            "2": NodeState(5, 9, "finished", "2"), "3": NodeState(0, 1, "running", "3"),
            "1": NodeState(4, 30, "running", "1"),
        }  # fmt: skip
        second.deliver(ProgressState(second.prompt_id, nodes=nodes))
        status = bench.worker.status()
        assert (status.value, status.max) == (4, 30)
        assert bench.worker.last_seen == max(first.last_seen, second.last_seen)
