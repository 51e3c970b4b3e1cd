"""What becomes of a job that has ended, in the ledger and for whoever listens."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kandiflux.batch.collector import Collector, InFlightJob
from kandiflux.batch.context import BatchContext, BatchOptions, LedgerWriter
from kandiflux.batch.ledger import LEDGER, Attempt, Entry, Ledger
from kandiflux.batch.status import BatchEvent
from kandiflux.errors import (
    AccessDenied,
    JobInterrupted,
    JobLost,
    KandifluxError,
    OutOfMemory,
    OutputError,
    OutputMissing,
    ServerUnreachable,
)
from kandiflux.jobs.client import Client
from kandiflux.jobs.job import Job
from kandiflux.jobs.outputs import Output
from kandiflux.jobs.result import Result
from kandiflux.workflow.prompt import Prompt
from kandiflux.workflow.workflow import Workflow
from PIL import Image

from tests.support.fake_comfyui import PNG, prompt
from tests.support.waiting import until

PROMPT = Prompt(prompt())
MEMORY = OutOfMemory(
    prompt_id="1", node_id="1", title="Canvas", class_type="X", exception_type="OutOfMemoryError",
    exception_message="no room",
)  # fmt: skip


@dataclass
class Refusing:
    """A file source that cannot hand anything out."""

    error: Exception

    def view(self, *_: object, **__: object) -> Iterator[bytes]:
        raise self.error
        yield b""


@dataclass
class Bench:
    """A collector with a ledger of jobs, and no server. freed: how many times the server was asked to free memory."""

    folder: Path
    ledger: Ledger
    options: BatchOptions = field(default_factory=BatchOptions)
    events: list[BatchEvent] = field(default_factory=list)
    postponed: list[str] = field(default_factory=list)
    freed: int = 0

    def __post_init__(self) -> None:
        def emit(kind: str, **about: Any) -> None:
            self.events.append(BatchEvent(kind, about))

        def free() -> None:
            self.freed += 1
            raise ServerUnreachable("It does not answer.")

        client = cast(Client, SimpleNamespace(api=SimpleNamespace(free=free)))
        workflow = Workflow.from_data(prompt())
        self.context = BatchContext(
            workflow, self.ledger, self.folder, self.options, emit, lambda name: False, pages=False
        )
        writer = LedgerWriter(self.context, "http://a")
        self.collector = Collector(
            client, self.context, writer, lambda attempt, error: self.postponed.append(attempt.id)
        )

    def begin(self) -> Attempt:
        attempt = self.ledger.begin("http://a")
        assert attempt is not None
        return attempt

    def end(self, outcome: Result | KandifluxError, *, asked: str = "", attempt: Attempt | None = None) -> Entry:
        """A job that ends like this; its entry in the ledger afterwards."""
        attempt = attempt or self.begin()
        job = Job(cast(Client, SimpleNamespace(closed=False)), PROMPT, attempt.id)
        self.collector.follow(InFlightJob(attempt, job, asked))
        job.finish(outcome)
        self.collector.stop(1)
        self.collector.run()
        assert self.collector.in_flight == {}
        return next(entry for entry in self.ledger.entries() if entry.index == attempt.index)

    def told(self) -> list[tuple[str, bool | None]]:
        """Each event's kind, and whether it says that the job is tried again."""
        return [(event.kind, event.about.get("again")) for event in self.events]

    def attempts(self) -> list[str]:
        """Jobs that a server may still have, by name."""
        return [attempt.name for attempt in self.ledger.open_attempts()]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        with ledger.listing({}) as listing:
            for position, name in enumerate("abc", 1):
                listing.add(name, position, [0, 0], {}, name)
        yield ledger


@pytest.fixture
def bench(ledger: Ledger, tmp_path: Path) -> Bench:
    return Bench(tmp_path, ledger)


def result(*outputs: Output, seconds: float | None = None) -> Result:
    return Result("1", PROMPT, outputs, seconds=seconds)


def picture(name: str = "x.png", *, error: Exception | None = None) -> Output:
    return Output("image", "2", "Result", name, data=None if error else PNG, source=Refusing(error) if error else None)


def said(text: str) -> Output:
    return Output("text", "2", "Words", "said.txt", text=text)


INTERRUPTED = JobInterrupted("Somebody stopped it.", prompt_id="1")
LOST = JobLost("It is gone.", prompt_id="1")


@pytest.mark.parametrize(
    ("outcome", "asked", "options", "state", "told", "is_open", "freed"),
    [
        (INTERRUPTED, "", BatchOptions(), "failed", ("failed", False), False, 0),
        (INTERRUPTED, "", BatchOptions(retries=1), "waiting", ("failed", True), False, 0),
        (INTERRUPTED, "withdraw", BatchOptions(), "waiting", ("withdrawn", None), False, 0),
        (INTERRUPTED, "cancel", BatchOptions(), "waiting", ("withdrawn", None), False, 0),
        (LOST, "", BatchOptions(), "waiting", ("lost", True), False, 0),
        (LOST, "", BatchOptions(resubmit=False), "failed", ("lost", False), False, 0),
        (ServerUnreachable("Nothing."), "", BatchOptions(retries=1), "failed", ("failed", False), True, 0),
        (AccessDenied("No."), "", BatchOptions(retries=1), "failed", ("failed", False), True, 0),
        (MEMORY, "", BatchOptions(), "failed", ("failed", False), False, 1),
        (MEMORY, "", BatchOptions(retries=1), "waiting", ("failed", True), False, 1),
        (OutputMissing("Its websocket was cut."), "", BatchOptions(), "waiting", ("failed", True), False, 0),
        (OutputError("Too many."), "", BatchOptions(), "failed", ("failed", False), False, 0),
        (result(picture(error=OutputMissing("Gone."))), "", BatchOptions(), "waiting", ("failed", True), False, 1),
        (result(picture(error=OutputError("A page."))), "", BatchOptions(), "failed", ("failed", False), False, 0),
        (result(picture(error=AccessDenied("No."))), "", BatchOptions(), "failed", ("failed", False), False, 0),
        (result(picture(error=RuntimeError("?"))), "", BatchOptions(), "failed", ("failed", False), False, 0),
        (result(), "", BatchOptions(), "done", ("done", None), False, 0),
    ],
)  # fmt: skip
def test_how_a_job_ends(
    outcome: Result | KandifluxError, asked: str, options: BatchOptions, state: str, told: tuple[str, bool | None],
    is_open: bool, freed: int, ledger: Ledger, tmp_path: Path,
) -> None:  # fmt: skip
    bench = Bench(tmp_path, ledger, options)
    entry = bench.end(outcome, asked=asked)
    assert (entry.state, bench.told()) == (state, [told])
    assert bench.attempts() == (["a"] if is_open else []), "what a server may have is looked for by the next run"
    assert bench.freed == freed
    assert (bench.context.stopping, bench.postponed) == (False, [])
    assert list(tmp_path.glob(".*.part")) == []


@pytest.mark.parametrize(("outcome", "times"), [(LOST, 4), (OutputMissing("Gone."), 4)])
def test_what_is_lost_is_made_again_three_times(outcome: KandifluxError, times: int, bench: Bench) -> None:
    tried = 0
    while True:
        attempt = bench.begin()
        if attempt.name != "a":
            bench.ledger.done(attempt, [])
            continue
        tried += 1
        if bench.end(outcome, attempt=attempt).state == "failed":
            break
    assert tried == times


@pytest.mark.parametrize("again", [False, True])
def test_the_first_failure_ends_a_batch_that_is_to_fail_fast(again: bool, ledger: Ledger, tmp_path: Path) -> None:
    bench = Bench(tmp_path, ledger, BatchOptions(retries=int(again), fail_fast=True))
    bench.end(OutputError("Too many."))
    assert bench.context.stopping is not again, "a job that is tried again has not failed yet"


def test_files_are_saved_and_told_of(bench: Bench, tmp_path: Path) -> None:
    entry = bench.end(result(picture(), said("a text"), picture("y.png"), seconds=3.0))
    assert [file.path for file in entry.files] == ["a.png", "a_2.png"], "a text beside pictures is no file"
    assert (tmp_path / "a_2.png").read_bytes() == PNG
    assert (entry.texts, entry.seconds, entry.server) == (["a text"], 3.0, "http://a")
    assert [event.as_dict() for event in bench.events] == [
        {"event": "saved", "index": 1, "path": str(tmp_path / "a.png")},
        {"event": "saved", "index": 1, "path": str(tmp_path / "a_2.png")},
        {"event": "done", "index": 1, "server": "http://a", "seconds": 3.0, "files": ["a.png", "a_2.png"]},
    ]


def test_texts_are_files_if_there_is_nothing_else(bench: Bench, tmp_path: Path) -> None:
    assert [file.path for file in bench.end(result(said("one"), said(""), said("two"))).files] == ["a.txt", "a_2.txt"]
    assert ((tmp_path / "a.txt").read_text(), (tmp_path / "a_2.txt").read_text()) == ("one", "two")


def test_the_pace_follows_the_latest_jobs(bench: Bench) -> None:
    paces: list[float | None] = []
    for seconds in (None, 4.0, 2.0):
        bench.end(result(seconds=seconds))
        paces.append(bench.collector.pace)
    assert (paces, bench.collector.done) == ([None, 4.0, 3.0], 3)


@pytest.mark.parametrize(("refused", "given_up"), [(False, True), (True, False)])
def test_downloads_that_keep_breaking_off_are_left_to_the_next_run_after_a_minute(
    refused: bool, given_up: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("kandiflux.batch.collector.time", SimpleNamespace(monotonic=lambda: now))
    attempt = bench.begin()
    broken = result(picture(error=ServerUnreachable("It broke off.", refused=refused)))
    for later in (0, 10, 20, 30, 40, 59.9):
        now = 1000.0 + later
        assert bench.end(broken, attempt=attempt).state == "sent"
    assert bench.postponed == [attempt.id] * 6
    now = 1060.0
    assert bench.end(broken, attempt=attempt).state == ("failed" if given_up else "sent")
    assert bench.attempts() == ["a"]
    assert len(bench.postponed) == (6 if given_up else 7)


def test_few_broken_downloads_are_no_reason_to_give_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("kandiflux.batch.collector.time", SimpleNamespace(monotonic=lambda: now))
    attempt = bench.begin()
    broken = result(picture(error=ServerUnreachable("It broke off.")))
    for later in (0, 100, 200, 300, 400):
        now = float(later)
        assert bench.end(broken, attempt=attempt).state == "sent", "five at least"
    now = 500.0
    assert bench.end(broken, attempt=attempt).state == "failed"


def test_a_full_disk_ends_the_batch_and_leaves_the_job_to_the_next_run(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "a.png" / "file").touch()
    assert bench.end(result(picture())).state == "sent"
    assert isinstance(bench.context.fatal, OutputError)
    assert (bench.context.stopping, bench.told(), bench.attempts()) == (True, [], ["a"])
    first = bench.context.fatal
    bench.context.stop(OutputError("A later one."))
    assert bench.context.fatal is first


def test_a_ledger_that_cannot_be_written_ends_the_batch_and_the_others_are_collected(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = [bench.begin() for _ in range(2)]

    def full(*_: object, **__: object) -> bool:
        raise OutputError("The disk is full.")

    monkeypatch.setattr(bench.ledger, "failed", full)
    assert bench.end(OutputError("Too many."), attempt=attempts[0]).state == "sent"
    assert bench.context.fatal is not None
    assert bench.end(result(), attempt=attempts[1]).state == "done"


@pytest.mark.parametrize("pages", [False, True])
def test_thumbnails_are_made_if_there_is_nothing_to_collect_and_there_will_be_sheets(
    pages: bool, bench: Bench, tmp_path: Path
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "source.png")
    output = Output("image", "2", "Result", "x.png", data=(tmp_path / "source.png").read_bytes())
    bench.context.pages = pages
    file, other = bench.end(result(output, output)).files
    assert bench.ledger.thumbnail(file) is None, "it was asked to end at once"
    thread = threading.Thread(target=bench.collector.run)
    thread.start()
    job = Job(cast(Client, SimpleNamespace(closed=False)), PROMPT, "2")
    bench.collector.follow(InFlightJob(bench.begin(), job))
    job.finish(result(output))
    until(lambda: bench.collector.done == 2)
    if pages:
        until(lambda: bench.ledger.thumbnail(file) and bench.ledger.thumbnail(other))
    bench.collector.stop(1)
    thread.join()
    assert (bench.ledger.thumbnail(file) is not None) == pages
