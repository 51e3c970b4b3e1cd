"""A batch against a server that misbehaves: every job ends once, with its file or with a typed failure."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Client, Workflow
from kandiflux.batch import Batch, BatchEvent, BatchOptions, JobList, parse_grid
from kandiflux.batch.ledger import LEDGER, Ledger
from kandiflux.errors import OutputError, ServerUnreachable, UsageError

from tests.faults.proxy import Fault, Proxy
from tests.support.fake_comfyui import PNG, FakeComfyUI, prompt
from tests.support.waiting import until

WAIT = 20
WORKFLOW = Workflow.from_data(prompt(), name="picture")


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at quiet servers more often than it would, and is sooner content with no answer."""
    monkeypatch.setattr("kandiflux.batch.worker._PROBE_SECONDS", 0.2)
    monkeypatch.setattr("kandiflux.batch.worker._PROBE", (0.5, 0.2))


def connect(server: str, patience: float) -> Client:
    return Client(server, timeout=(1.0, 0.4), poll_seconds=0.2, patience=patience)


def batch(
    comfy: FakeComfyUI, folder: Path, count: int = 3, *, others: tuple[FakeComfyUI, ...] = (), **options: Any
) -> Batch:
    options.setdefault("options", BatchOptions(patience=0.5))
    return Batch(
        WORKFLOW,
        JobList(axes=parse_grid([f"Canvas.width=1..{count}"])),
        folder,
        servers=[comfy.url, *(other.url for other in others)],
        connect=connect,
        pages=False,
        **options,
    )


def widths(comfy: FakeComfyUI) -> Counter[int]:
    """What the server ran, by the parameter that varies."""
    return Counter(entry["prompt"][2]["1"]["inputs"]["width"] for entry in comfy.history.values())


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png") if path.read_bytes() == PNG)


@pytest.mark.parametrize(
    "fault", ["cut after", "cut before", "cut, accept later", "gateway", "stall", "busy", "twice", "refuse", "large"]
)
def test_whatever_becomes_of_an_answer_each_job_runs_once(comfy: FakeComfyUI, tmp_path: Path, fault: str) -> None:
    comfy.posts = ["well", fault]
    comfy.job_seconds = 0.3 if fault == "twice" else 0.02
    summary = batch(comfy, tmp_path).run()
    if fault in ("refuse", "large"):
        assert (summary.done, summary.failed) == (2, 1)
        return
    assert summary.complete
    assert pictures(tmp_path) == ["0001.png", "0002.png", "0003.png"]
    assert widths(comfy) == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("status", [401, 403, 404, 418, 500])
def test_a_file_that_is_refused_fails_its_job_alone(comfy: FakeComfyUI, tmp_path: Path, status: int) -> None:
    """ComfyUI refuses what a node saved outside its output folder; the server is as good as before."""
    events: list[BatchEvent] = []
    comfy.refusal = status

    def note(event: BatchEvent) -> None:
        events.append(event)
        if event.kind == "sent" and event.about["index"] == 2 and not comfy.refused:
            comfy.refused.add(event.about["attempt"])

    summary = batch(comfy, tmp_path, 5).run(note)
    again = 1 if status == 404 else 0  # what is gone from the disk is made once more
    assert (summary.done, summary.failed) == (4 + again, 1 - again)
    assert len(pictures(tmp_path)) == 4 + again
    assert {event.about["state"] for event in events if event.kind == "server"} == {"up"}
    assert sum(widths(comfy).values()) == 5 + again


@pytest.mark.parametrize("status", ["401", "403"])
def test_one_refusal_of_access_does_not_condemn_a_server(comfy: FakeComfyUI, tmp_path: Path, status: str) -> None:
    with Proxy(comfy.url).serving() as proxy:
        proxy.next_up = {"/queue": ["", "", status], "/features": [status]}
        proxy.newcomers = lambda: [Fault(status, "/prompt")] if len(proxy.plan) == 1 else []
        summary = Batch(
            WORKFLOW, JobList(axes=parse_grid(["Canvas.width=1..6"])), tmp_path, servers=[proxy.url], connect=connect,
            pages=False, options=BatchOptions(patience=0.5),
        ).run()  # fmt: skip
    assert summary.complete
    assert set(widths(comfy).values()) == {1}


def test_a_server_that_refuses_every_job_is_given_up(comfy: FakeComfyUI, tmp_path: Path) -> None:
    with Proxy(comfy.url).serving() as proxy:
        proxy.newcomers = lambda: [Fault("403", "/prompt", times=9)]
        with pytest.raises(ServerUnreachable, match="No server is left"):
            Batch(
                WORKFLOW, JobList(axes=parse_grid(["Canvas.width=1..6"])), tmp_path, servers=[proxy.url],
                connect=connect, pages=False, options=BatchOptions(patience=0.5),
            ).run()  # fmt: skip
    assert comfy.ran == []


def test_a_restart_that_forgets_the_jobs_has_them_run_again(comfy: FakeComfyUI, tmp_path: Path) -> None:
    events: list[BatchEvent] = []
    with running(comfy, tmp_path, events) as thread:
        until(lambda: comfy.running and comfy.pending)
        comfy.call(comfy.down())
        comfy.call(comfy.forget())
        comfy.ending = "success"
        comfy.call(comfy.up())
        thread.join(WAIT)
    assert pictures(tmp_path) == ["0001.png", "0002.png", "0003.png"]
    lost = [event.about for event in events if event.kind == "lost"]
    assert {about["index"] for about in lost} == {1, 2}
    assert all(about["again"] for about in lost)
    assert set(widths(comfy).values()) == {1}


def test_lost_jobs_fail_where_that_is_wanted(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "forget"
    summary = batch(comfy, tmp_path, options=BatchOptions(resubmit=False)).run()
    assert summary.failed == 3
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        assert {entry.error["error"] for entry in ledger.entries() if entry.error} == {"JobLost"}


def test_a_job_that_takes_its_server_down_is_not_sent_for_ever(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "forget"
    summary = batch(comfy, tmp_path, 1).run()
    assert summary.failed == 1
    assert len(comfy.ran) == 4


def test_a_server_that_stalls_keeps_its_jobs(comfy: FakeComfyUI, tmp_path: Path) -> None:
    """Silence is no refusal: nothing is run elsewhere while the server may be at it."""
    events: list[BatchEvent] = []
    with FakeComfyUI().serving() as other:
        with running(comfy, tmp_path, events, others=(other,)) as thread:
            until(lambda: comfy.running)
            # Its one thread is busy, and connections wait: longer than the patience, and than any request waits.
            comfy._loop.call_soon_threadsafe(time.sleep, 3.0)
            until(lambda: any(event.about.get("state") == "silent" for event in events))
            comfy.ending = "success"
            comfy.call(comfy.release())
            thread.join(WAIT)
        assert pictures(tmp_path) == ["0001.png", "0002.png", "0003.png"]
        assert widths(comfy) + widths(other) == {1: 1, 2: 1, 3: 1}
    assert not [event for event in events if event.kind in ("lost", "failed")]


def test_a_server_that_is_there_only_later_is_used_then(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.job_seconds = 0.2
    with FakeComfyUI().serving() as late:
        late.call(late.down())
        begun = threading.Event()
        work = batch(comfy, tmp_path, 12, others=(late,))
        thread = threading.Thread(target=work.run, args=(lambda event: begun.set() if event.kind == "done" else None,))
        thread.start()
        assert begun.wait(WAIT)
        late.call(late.up())
        thread.join(WAIT)
        assert not thread.is_alive()
        assert len(pictures(tmp_path)) == 12
        assert widths(late)
        assert set((widths(comfy) + widths(late)).values()) == {1}


def test_silence_does_not_last_for_ever(comfy: FakeComfyUI, tmp_path: Path) -> None:
    """Nothing runs elsewhere, for it may run there; the jobs count as failed until somebody looks again."""
    comfy.ending = "hold"
    errors: list[str] = []

    def run() -> None:
        try:
            batch(comfy, tmp_path, options=BatchOptions(patience=0.3, silence=1.0)).run()
        except ServerUnreachable as error:
            errors.append(error.message)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: comfy.running and comfy.pending)
    comfy._loop.call_soon_threadsafe(time.sleep, 4.0)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert "No server is left" in errors[0]
    comfy.ending = "success"
    comfy.call(comfy.release())
    assert batch(comfy, tmp_path).run().complete
    assert widths(comfy) == {1: 1, 2: 1, 3: 1}


def test_a_picture_that_cannot_be_fetched_for_a_while(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.view = "truncated"
    events: list[BatchEvent] = []

    def mend(event: BatchEvent) -> None:
        events.append(event)
        if event.kind == "found":
            comfy.view = "ok"

    assert batch(comfy, tmp_path).run(mend).complete
    assert widths(comfy) == {1: 1, 2: 1, 3: 1}
    assert pictures(tmp_path) == ["0001.png", "0002.png", "0003.png"]
    assert [event.kind for event in events].count("found") >= 1


def test_a_server_that_is_gone_leaves_its_jobs_to_another(comfy: FakeComfyUI, tmp_path: Path) -> None:
    events: list[BatchEvent] = []
    with FakeComfyUI().serving() as other:
        with running(comfy, tmp_path, events, others=(other,), count=6) as thread:
            until(lambda: comfy.running)
            comfy.call(comfy.down())
            thread.join(WAIT)
        assert not thread.is_alive()
        assert len(pictures(tmp_path)) == 6
        assert set(widths(other).values()) == {1}
    states = [event.about["state"] for event in events if event.kind == "server" and event.about["server"] == comfy.url]
    assert states[-1] == "gone"


def test_a_server_that_was_given_up_and_returns_does_not_run_the_same_again(comfy: FakeComfyUI, tmp_path: Path) -> None:
    """It was cut off, and has its queue still; the jobs run elsewhere by now."""
    events: list[BatchEvent] = []
    with FakeComfyUI(job_seconds=0.4).serving() as other:
        with running(comfy, tmp_path, events, others=(other,), count=12) as thread:
            until(lambda: comfy.running and comfy.pending)
            comfy.call(comfy.down())
            until(lambda: any(event.kind == "lost" for event in events))
            comfy.ending = "success"
            comfy.call(comfy.up())
            thread.join(WAIT)
        assert len(pictures(tmp_path)) == 12
        succeeded = Counter(
            entry["prompt"][2]["1"]["inputs"]["width"]
            for entry in (*comfy.history.values(), *other.history.values())
            if entry["status"]["completed"]
        )
        assert set(succeeded.values()) == {1}
    assert comfy.interrupts, "what still ran there was stopped"


def test_no_server_left_ends_the_batch_and_the_next_run_finds_its_jobs(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "hold"
    errors: list[BaseException] = []

    def run() -> None:
        try:
            batch(comfy, tmp_path).run()
        except ServerUnreachable as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: comfy.running and comfy.pending)
    comfy.call(comfy.down())
    thread.join(WAIT)
    assert "No server is left, and 3 jobs are not done" in str(errors[0])
    comfy.ending = "success"
    comfy.call(comfy.up())
    comfy.call(comfy.release())
    events: list[BatchEvent] = []
    assert batch(comfy, tmp_path).run(events.append).complete
    assert [event.about["index"] for event in events if event.kind == "found"] == [1, 2]
    assert widths(comfy) == {1: 1, 2: 1, 3: 1}


def test_what_a_killed_runner_had_sent_is_found(comfy: FakeComfyUI, tmp_path: Path) -> None:
    """The ledger as a killed runner leaves it: one job sent and done, one sent and waiting, one never arrived."""
    stopped = batch(comfy, tmp_path, 4)
    stopped.stop()
    assert stopped.run().waiting == 4
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger, connect(comfy.url, 5) as client:
        finished, waiting, never = (ledger.begin(comfy.url) for _ in range(3))
        assert finished
        assert waiting
        assert never
        client.submit(prompt(finished.values["Canvas.width"]), job_id=finished.id).result(WAIT)
        comfy.ending = "hold"
        client.submit(prompt(waiting.values["Canvas.width"]), job_id=waiting.id)
        until(lambda: comfy.running)
    comfy.ending = "success"
    comfy.call(comfy.release())
    events: list[BatchEvent] = []
    assert batch(comfy, tmp_path, 4).run(events.append).complete
    assert {event.about["index"] for event in events if event.kind == "found"} == {1, 2}
    assert {event.about["index"] for event in events if event.kind == "lost"} == {3}
    assert widths(comfy) == {1: 1, 2: 1, 3: 1, 4: 1}


def test_jobs_on_a_server_that_is_not_named_any_more_are_fetched_from_there(
    comfy: FakeComfyUI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeComfyUI(ending="hold").serving() as before:
        with running(before, tmp_path, [], stop=True):
            until(lambda: before.running and before.pending)
        with contextlib.closing(sqlite3.connect(tmp_path / LEDGER)) as ledger:
            assert ledger.execute("SELECT count(*) FROM attempts WHERE state = 'open'").fetchone()[0] > 0
        before.ending = "success"
        before.call(before.release())
        assert batch(comfy, tmp_path).run().complete
        assert widths(before) + widths(comfy) == {1: 1, 2: 1, 3: 1}
        assert widths(before)
    assert "may be on" in caplog.text


def test_running_out_of_memory_is_tried_again(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "memory"

    def mend(event: BatchEvent) -> None:
        if event.kind == "failed":
            assert event.about["error"]["error"] == "OutOfMemory"
            comfy.ending = "success"

    assert batch(comfy, tmp_path, 1, options=BatchOptions(retries=1)).run(mend).complete


def test_failures_are_typed_and_run_again_by_the_next_run(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "error"
    events: list[BatchEvent] = []
    assert batch(comfy, tmp_path).run(events.append).failed == 3
    errors = [event.about["error"] for event in events if event.kind == "failed"]
    assert {(error["error"], error["title"]) for error in errors} == {("NodeFailed", "Canvas")}
    comfy.ending = "success"
    assert batch(comfy, tmp_path).run().complete


def test_a_listed_file_that_is_gone_is_made_once_more(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.view = "missing"

    def mend(event: BatchEvent) -> None:
        if event.kind == "failed":
            comfy.view = "ok"

    summary = batch(comfy, tmp_path, 1).run(mend)
    assert summary.complete
    assert len(comfy.ran) == 2
    assert comfy.freed, "or it would answer from its cache again"


def test_a_disk_that_takes_no_more_stops_the_batch_and_runs_nothing_twice(comfy: FakeComfyUI, tmp_path: Path) -> None:
    (tmp_path / "pictures").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        batch(comfy, tmp_path, name="pictures/{index}").run()
    (tmp_path / "pictures").unlink()
    assert batch(comfy, tmp_path, name="pictures/{index}").run().complete
    assert widths(comfy) == {1: 1, 2: 1, 3: 1}


def test_a_server_that_cannot_run_the_workflow_is_named(comfy: FakeComfyUI, tmp_path: Path) -> None:
    with FakeComfyUI().serving() as other:
        lacking = Workflow.from_data({**prompt(), "3": {"class_type": "Nobody", "inputs": {}}}, name="lacking")
        servers = [comfy.url, other.url]
        with pytest.raises(UsageError, match=rf"{comfy.url} cannot run this batch.\n(.|\n)*Nobody"):
            Batch(lacking, JobList(repeat=2), tmp_path, servers=servers, connect=connect).run()
    assert comfy.accepted == []


class running:
    """A batch in a thread, its first jobs held by the server."""

    def __init__(
        self,
        comfy: FakeComfyUI,
        folder: Path,
        events: list[BatchEvent],
        *,
        others: tuple[FakeComfyUI, ...] = (),
        count: int = 3,
        stop: bool = False,
    ) -> None:
        comfy.ending = "hold"
        self._batch = batch(comfy, folder, count, others=others)
        self._stop = stop
        self._thread = threading.Thread(target=self._batch.run, args=(events.append,))

    def __enter__(self) -> threading.Thread:
        self._thread.start()
        return self._thread

    def __exit__(self, *error: object) -> None:
        if self._stop:
            # As if killed: nobody hears of what runs.
            for worker in self._batch._workers:
                worker.state = "away"
        self._batch.stop()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()


def test_a_ledger_that_cannot_be_written_ends_the_batch(
    comfy: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is full when the next job is to be handed over: what ran is kept, and nobody waits for ever."""
    begin, asked = Ledger.begin_some, Counter[str]()

    def full_after_one(ledger: Ledger, server: str, count: int) -> Any:
        asked[server] += 1
        if asked[server] > 1:
            raise OutputError("The ledger cannot be written.")
        return begin(ledger, server, 1)

    monkeypatch.setattr(Ledger, "begin_some", full_after_one)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            batch(comfy, tmp_path).run()
        except OutputError as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert [str(error) for error in ended] == ["The ledger cannot be written."]
    assert len(comfy.accepted) == 1
