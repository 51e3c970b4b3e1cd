"""A run of a batch, against a server that does as it should: what it makes, tells, keeps and leaves to the next run."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Client, Workflow
from kandiflux.batch import Batch, BatchEvent, BatchOptions, JobList, Summary, parse_grid
from kandiflux.batch.folder_lock import held_folder
from kandiflux.batch.ledger import LEDGER, Ledger
from kandiflux.batch.report import REPORT
from kandiflux.batch.run import named_client
from kandiflux.errors import AccessDenied, KandifluxError, ServerError, ServerUnreachable, UsageError

from tests.support.fake_comfyui import FakeComfyUI, prompt
from tests.support.stub_server import Answer, StubServer
from tests.support.waiting import until

WAIT = 20
WORKFLOW = Workflow.from_data(prompt(), name="picture")


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.batch.worker._PROBE_SECONDS", 0.05)


def connect(server: str, patience: float) -> Client:
    return Client(server, timeout=(1.0, 2.0), poll_seconds=0.2, patience=patience)


def batch(comfy: FakeComfyUI | str, folder: Path, count: int = 3, **options: Any) -> Batch:
    url = comfy if isinstance(comfy, str) else comfy.url
    settings = {"servers": [url], "connect": connect, "pages": False, "workflow": WORKFLOW, **options}
    return Batch(settings.pop("workflow"), JobList(axes=parse_grid([f"Canvas.width=1..{count}"])), folder, **settings)


@contextlib.contextmanager
def started(made: Batch, on_event: Callable[[BatchEvent], None] | None = None) -> Iterator[list[Summary]]:
    """The batch in a thread; its summary, once it has ended."""
    ended: list[Summary] = []
    thread = threading.Thread(target=lambda: ended.append(made.run(on_event)))
    thread.start()
    try:
        yield ended
    finally:
        thread.join(WAIT)
        assert not thread.is_alive()


def left(folder: Path) -> str:
    with contextlib.closing(Ledger(folder / LEDGER)) as ledger:
        return " ".join(f"{entry.name}:{entry.state}" for entry in ledger.entries())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def kinds(events: list[BatchEvent], *without: str) -> list[str]:
    return [event.kind for event in events if event.kind not in without]


# From beginning to end


def test_what_a_run_tells_and_makes(comfy: FakeComfyUI, tmp_path: Path) -> None:
    events: list[BatchEvent] = []
    (tmp_path / ".kandiflux-batch-1.part").touch()
    made = batch(comfy, tmp_path)
    assert (made.submitting, made.status()) == (False, [])
    summary = made.run(events.append)
    assert made.submitting
    assert (summary.total, summary.done, summary.failed, summary.waiting, summary.ran) == (3, 3, 0, 0, 3)
    assert (summary.complete, summary.stopped, 0 < summary.seconds < 60) == (True, False, True)
    assert events[0].as_dict() == {
        "event": "planned", "total": 3, "done": 0, "new": 3, "unlisted": 0, "files_gone": 0
    }  # fmt: skip
    assert events[1].as_dict() == {"event": "server", "server": comfy.url, "state": "up", "reason": None}
    assert events[-1].as_dict() == {"event": "ended", **vars(summary)}
    assert sorted(kinds(events[2:-1])) == ["done"] * 3 + ["saved"] * 3 + ["sent"] * 3
    assert [(status.server, status.state, status.done) for status in made.status()] == [(comfy.url, "up", 3)]
    assert files(tmp_path) == ["0001.png", "0002.png", "0003.png"]
    assert not list(tmp_path.glob(".*.part")), "what a killed run left"


def test_what_is_done_is_not_run_again(comfy: FakeComfyUI, tmp_path: Path) -> None:
    batch(comfy, tmp_path, 2).run()
    (tmp_path / "0001.png").unlink()
    events: list[BatchEvent] = []
    summary = batch(comfy, tmp_path).run(events.append)
    assert (summary.total, summary.done, summary.ran, len(comfy.ran)) == (3, 3, 2, 4)
    assert events[0].about == {"total": 3, "done": 1, "new": 1, "unlisted": 0, "files_gone": 1}
    again = batch(comfy, tmp_path).run()
    assert (again.complete, again.ran, len(comfy.ran)) == (True, 0, 4)


def test_a_batch_begun_anew_keeps_the_files(comfy: FakeComfyUI, tmp_path: Path) -> None:
    batch(comfy, tmp_path).run()
    summary = batch(comfy, tmp_path, 2, restart=True).run()
    assert (summary.total, summary.ran, len(comfy.ran)) == (2, 2, 5)
    assert files(tmp_path) == ["0001.png", "0001_2.png", "0002.png", "0002_2.png", "0003.png"]


def test_only_so_many_jobs_under_names_of_ones_own(comfy: FakeComfyUI, tmp_path: Path) -> None:
    summary = batch(comfy, tmp_path, 9, limit=2, name="w{Canvas.width}").run()
    assert (summary.total, files(tmp_path)) == (2, ["w1.png", "w2.png"])


def test_a_failed_job_is_counted_and_does_not_end_the_batch(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.posts = ["refuse"]
    summary = batch(comfy, tmp_path).run()
    assert (summary.done, summary.failed, summary.waiting, summary.complete) == (2, 1, 0, False)
    assert left(tmp_path) == "0001:failed 0002:done 0003:done"
    assert batch(comfy, tmp_path).run().complete


def test_the_first_failure_ends_a_batch_if_that_is_wanted(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.posts = ["refuse"]
    summary = batch(comfy, tmp_path, 9, options=BatchOptions(backlog=1, fail_fast=True)).run()
    assert (summary.failed, summary.waiting, summary.stopped) == (1, 8, False)


def test_a_lost_job_is_sent_again(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "forget"

    def mend(event: BatchEvent) -> None:
        if event.kind == "lost":
            assert event.about["again"]
            comfy.ending = "success"

    assert batch(comfy, tmp_path, 1).run(mend).complete
    assert len(comfy.ran) == 2


def test_whoever_listens_and_fails_does_not_end_the_batch(
    comfy: FakeComfyUI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: BatchEvent) -> None:
        raise ZeroDivisionError(event.kind)

    assert batch(comfy, tmp_path).run(fail).complete
    assert "the event callback of the batch failed" in caplog.text


def test_events_come_one_at_a_time(comfy: FakeComfyUI, tmp_path: Path) -> None:
    inside: list[int] = []
    most = 0

    def listen(event: BatchEvent) -> None:
        nonlocal most
        inside.append(1)
        most = max(most, len(inside))
        threading.Event().wait(0.002)
        inside.pop()

    assert batch(comfy, tmp_path, 6).run(listen).complete
    assert most == 1


# Pages


def test_sheets_and_a_report_are_written(comfy: FakeComfyUI, tmp_path: Path) -> None:
    events: list[BatchEvent] = []
    batch(comfy, tmp_path, pages=True).run(events.append)
    written = [Path(event.about["path"]) for event in events if event.kind == "written"]
    assert written == [tmp_path / name for name in ("batch-grid.png", "batch-sheet.png", REPORT)]
    assert all(path.is_file() for path in written)
    page = written[-1].read_text()
    assert "<title>picture: 3 of 3 done</title>" in page
    assert '<a href="batch-sheet.png">' in page
    assert "<dt>Canvas.width</dt>" in page
    assert kinds(events)[-1] == "ended"


def test_pages_are_written_after_a_failure_too_and_never_end_a_batch(
    comfy: FakeComfyUI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / REPORT).mkdir()
    (tmp_path / REPORT / "file").touch()
    events: list[BatchEvent] = []
    assert batch(comfy, tmp_path, pages=True).run(events.append).complete
    assert "the report cannot be written" in caplog.text
    assert "written" not in kinds(events)


# Stopping


def test_a_stop_takes_back_what_waits_and_waits_for_what_runs(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "hold"
    events: list[BatchEvent] = []
    made = batch(comfy, tmp_path)
    with started(made, events.append) as ended:
        until(lambda: comfy.running and comfy.pending)
        made.stop()
        until(lambda: not comfy.pending)
        until(lambda: "withdrawn" in kinds(events))
        assert (ended, len(comfy.running)) == ([], 1)
        comfy.call(comfy.release())
    (summary,) = ended
    assert (summary.done, summary.waiting, summary.ran, summary.stopped) == (1, 2, 1, True)
    assert [event.about for event in events if event.kind == "stopping"] == [{"how": "stop"}]
    assert (left(tmp_path), len(comfy.ran)) == ("0001:done 0002:waiting 0003:waiting", 1)
    comfy.ending = "success"
    assert batch(comfy, tmp_path).run().complete


def test_a_cancel_ends_what_runs_too(comfy: FakeComfyUI, tmp_path: Path) -> None:
    comfy.ending = "hold"
    events: list[BatchEvent] = []
    made = batch(comfy, tmp_path)
    with started(made, events.append) as ended:
        until(lambda: comfy.running and comfy.pending)
        made.stop()
        made.cancel()
    (summary,) = ended
    assert (summary.done, summary.failed, summary.waiting, summary.stopped) == (0, 0, 3, True)
    assert [event.about["how"] for event in events if event.kind == "stopping"] == ["stop", "cancel"]
    assert comfy.interrupts == comfy.ran
    assert (comfy.pending, left(tmp_path)) == ([], "0001:waiting 0002:waiting 0003:waiting")


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_stop_that_comes_before_the_beginning(how: str, comfy: FakeComfyUI, tmp_path: Path) -> None:
    made = batch(comfy, tmp_path)
    getattr(made, how)()
    events: list[BatchEvent] = []
    summary = made.run(events.append)
    assert (summary.waiting, summary.stopped, comfy.accepted) == (3, True, [])
    assert kinds(events, "server") == ["planned", "stopping", "ended"]
    assert events[1].about == {"how": how}


def test_a_stop_does_not_wait_for_a_server_that_is_silent(
    comfy: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.batch.run._SILENT_SECONDS", 0.2)
    comfy.ending = "hold"
    made = batch(comfy, tmp_path)
    with started(made) as ended:
        until(lambda: comfy.running and comfy.pending)
        for worker in made._workers:
            worker.client.api.queue = _silence  # type: ignore[method-assign]
            worker._prober.features = _silence  # type: ignore[method-assign]
            worker.client.withdraw = _silence  # type: ignore[method-assign]
        made.stop()
    assert (ended[0].stopped, ended[0].waiting) == (True, 3)
    assert left(tmp_path) == "0001:sent 0002:sent 0003:waiting", "the next run looks for them"


def _silence(*_: object, **__: object) -> Any:
    raise ServerUnreachable("It does not answer.")


def test_a_cancel_does_not_wait_for_ever(comfy: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.batch.run._CANCEL_SECONDS", 0.1)
    comfy.ending = "hold"
    made = batch(comfy, tmp_path)
    with started(made) as ended:
        until(lambda: comfy.running and comfy.pending)
        for worker in made._workers:
            worker.client.cancel = lambda job: None  # type: ignore[method-assign]
        made.cancel()
    assert (ended[0].stopped, ended[0].waiting) == (True, 3)
    assert left(tmp_path) == "0001:sent 0002:sent 0003:waiting"


def test_an_error_that_nobody_foresaw_ends_a_batch_at_once(
    comfy: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comfy.ending = "hold"
    submit, failed = Client.submit, threading.Event()

    def fail(self: Client, *words: Any, **options: Any) -> Any:
        if comfy.accepted:
            until(lambda: comfy.running)
            failed.set()
            raise ZeroDivisionError
        return submit(self, *words, **options)

    monkeypatch.setattr(Client, "submit", fail)
    with pytest.raises(ZeroDivisionError):
        batch(comfy, tmp_path).run()
    assert failed.is_set()
    assert len(comfy.running) == 1, "it is not waited for; the next run looks for it"


# Before anything is sent


def test_a_preview_changes_nothing(comfy: FakeComfyUI, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert [(job.name, job.state) for job in batch(comfy, folder, 2).preview()] == [("0001", "new"), ("0002", "new")]
    assert (folder.exists(), comfy.accepted) == (False, [])
    batch(comfy, folder, 1).run()
    assert [(job.name, job.state) for job in batch(comfy, folder, 2).preview()] == [("0001", "done"), ("0002", "new")]
    anew = batch(comfy, folder, 2, restart=True, limit=1, name="x{index}").preview()
    assert [(job.name, job.state) for job in anew] == [("x1", "new")]
    other = Workflow.from_data({**prompt(), "3": {"class_type": "EmptyImage", "inputs": {"width": 1}}})
    with pytest.raises(UsageError, match="another workflow"):
        batch(comfy, folder, workflow=other).preview()
    with pytest.raises(UsageError, match="another workflow"):
        batch(comfy, folder, workflow=other).run()
    assert left(folder) == "0001:done"


def test_a_folder_that_another_batch_holds_or_that_cannot_be(comfy: FakeComfyUI, tmp_path: Path) -> None:
    with held_folder(tmp_path), pytest.raises(UsageError, match="Another batch"):
        batch(comfy, tmp_path).run()
    (tmp_path / "file").touch()
    comfy.asked.clear()
    with pytest.raises(UsageError, match="cannot be written to"):
        batch(comfy, tmp_path / "file" / "folder").run()
    assert comfy.asked == [], "it is seen before any server is asked"


def test_what_is_wrong_is_told_of_the_server_that_cannot(comfy: FakeComfyUI, tmp_path: Path) -> None:
    made = batch(comfy, tmp_path, workflow=WORKFLOW)
    made.jobs = JobList({"Canvas.width": 9999})
    with pytest.raises(UsageError) as refused:
        made.run()
    assert refused.value.message.startswith(f"1 value does not fit {comfy.url}:")
    with StubServer().serving() as other:
        made = batch(comfy, tmp_path, servers=[other.url, comfy.url])
        made.jobs = JobList({"Canvas.width": 9999})
        with pytest.raises(UsageError, match=f"^{other.url} cannot run this batch.\n1 value does not fit {other.url}:"):
            made.run()
    assert files(tmp_path) == []


@pytest.mark.parametrize(("status", "error"), [(401, AccessDenied), (403, AccessDenied), (500, ServerError)])
def test_a_server_that_does_not_answer_as_it_should(status: int, error: type[KandifluxError], tmp_path: Path) -> None:
    with StubServer({"GET /object_info": Answer("no", status)}).serving() as stub, StubServer().serving() as other:
        with pytest.raises(error):
            batch(stub.url, tmp_path).run()
        if error is AccessDenied:
            with pytest.raises(error):
                batch(stub.url, tmp_path, servers=[stub.url, other.url]).run()
        assert stub.posted == other.posted == {}


def test_a_server_that_is_away_at_the_beginning_is_used_later(
    comfy: FakeComfyUI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        summary = batch(comfy, tmp_path, servers=["http://127.0.0.1:9", comfy.url]).run()
    assert summary.complete
    assert "http://127.0.0.1:9 will be used when it becomes available" in caplog.text
    with pytest.raises(ServerUnreachable):
        batch("http://127.0.0.1:9", tmp_path).run()


def test_seed_and_preset_are_handed_on(comfy: FakeComfyUI, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no seed to set"):
        batch(comfy, tmp_path, seed=3).run()
    with pytest.raises(UsageError, match="no preset 'tiny'"):
        batch(comfy, tmp_path, preset="tiny").run()


# Servers


@pytest.mark.parametrize(("options", "seconds"), [(BatchOptions(), 900.0), (BatchOptions(patience=400.0), 1200.0)])
def test_a_client_waits_longer_than_any_worker(
    options: BatchOptions, seconds: float, comfy: FakeComfyUI, tmp_path: Path
) -> None:
    asked: list[tuple[str, float]] = []

    def noted(server: str, patience: float) -> Client:
        asked.append((server, patience))
        return connect(comfy.url, patience)

    assert batch(comfy, tmp_path, servers=["a", "a"], connect=noted, options=options).run().complete
    assert asked == [("a", seconds)]


def test_a_server_of_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kandiflux.toml").write_text('[servers.gpu]\nurl = "http://127.0.0.1:9"\nheaders = {X-Team = "art"}\n')
    monkeypatch.setenv("KANDIFLUX_CONFIG", str(tmp_path / "kandiflux.toml"))
    with named_client("gpu", 7.0) as client:
        assert client.url == "http://127.0.0.1:9"
        assert client.api.headers["X-Team"] == "art"


@pytest.mark.parametrize(("servers", "hosts"), [([], 1), (["lite"], 1), (["lite", "other"], 1), (["other"], 0)])
def test_a_lite_host_of_its_own(
    servers: list[str], hosts: int, comfy: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    @contextlib.contextmanager
    def host() -> Iterator[str]:
        begun.append("begun")
        yield comfy.url
        begun.append("ended")

    monkeypatch.setattr("kandiflux.batch.run.running_lite_host", host)
    made = batch(comfy, tmp_path, servers=servers, connect=lambda server, patience: connect(comfy.url, patience))
    assert made.run().complete
    assert begun == ["begun", "ended"] * hosts
    assert {status.server for status in made.status()} <= {"lite", comfy.url}
    assert (made.status()[-1].server == "lite") == bool(hosts)


def test_jobs_of_an_earlier_runs_lite_host_ended_with_it(
    comfy: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.batch.run.running_lite_host", lambda: contextlib.nullcontext(comfy.url))
    made = batch(comfy, tmp_path)
    made.stop()
    made.run()
    with contextlib.closing(Ledger(tmp_path / LEDGER)) as ledger:
        assert ledger.begin("lite") is not None
        assert ledger.begin("http://127.0.0.1:9") is not None
    events: list[BatchEvent] = []
    made = batch(comfy, tmp_path, servers=["lite"], options=BatchOptions(patience=0.1))
    assert made.run(events.append).complete
    assert "lost" in kinds(events), "a server that is named no more, and away: others run its job"
    assert "found" not in kinds(events)
    assert left(tmp_path) == "0001:done 0002:done 0003:done"
