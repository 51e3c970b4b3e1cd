"""The lines that a batch draws on a terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kandiflux.batch.status import BatchEvent, WorkerStatus
from kandiflux.cli.batch_display import BatchJsonLines, BatchLines, live
from rich.console import Console

from tests.support.screen import on_screen
from tests.support.waiting import until


def test_the_last_word_is_that_of_the_last_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed when all is done stands above lines that say so, however long ago they were last drawn."""
    screen = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=80))
    with live(lambda: []) as show:
        show.event(BatchEvent("planned", {"total": 1, "done": 0, "new": 1, "unlisted": 0, "files_gone": 0}))
        until(lambda: "0 of 1 done" in screen.getvalue())
        show.event(BatchEvent("done", {"index": 1, "server": "a", "seconds": 0.1, "files": []}))
        screen.seek(screen.truncate(0))
        show.event(BatchEvent("written", {"path": "report.html"}))
        drawn = screen.getvalue()
    assert "wrote report.html" in drawn
    assert "1 of 1 done" in drawn
    assert "0 of 1 done" not in drawn


PLANNED = {"total": 5, "done": 0, "new": 5, "unlisted": 0, "files_gone": 0}
ENDED = {"total": 5, "done": 5, "failed": 0, "waiting": 0, "ran": 5, "seconds": 59.4, "stopped": False}
FAILED = {"index": 3, "server": "a", "error": {"message": "no colour"}, "again": False}


@pytest.mark.parametrize(
    ("kind", "about", "said"),
    [
        ("planned", PLANNED, "5 jobs."),
        ("planned", {**PLANNED, "total": 1, "new": 1}, "1 job."),
        ("planned", {**PLANNED, "done": 2, "new": 0}, "5 jobs: 2 already done, 3 remaining."),
        ("planned", {**PLANNED, "new": 4}, "5 jobs: 0 already done, 5 remaining."),
        ("planned", {**PLANNED, "done": 1, "new": 2}, "5 jobs: 1 already done, 4 remaining; 2 are new."),
        ("planned", {**PLANNED, "unlisted": 7},
         "5 jobs; 7 jobs of an earlier run are no longer listed, and are left unchanged."),
        ("planned", {**PLANNED, "done": 1, "new": 0, "files_gone": 2},
         "5 jobs: 1 already done, 4 remaining; 2 finished jobs run again because their files are missing or changed."),
        ("failed", FAILED, "job 3 failed: no colour"),
        ("failed", {**FAILED, "again": True}, "job 3 will be retried: no colour"),
        ("lost", {**FAILED, "again": True}, "job 3 will be retried: no colour"),
        ("found", {"index": 3, "server": "http://a"}, "job 3 was already on http://a"),
        ("server", {"server": "a", "state": "up", "reason": None}, "a is available"),
        ("server", {"server": "a", "state": "silent", "reason": "x"}, "a does not answer; its jobs stay there"),
        ("server", {"server": "a", "state": "away", "reason": "x"}, "a refuses connections"),
        ("server", {"server": "a", "state": "gone", "reason": "x"},
         "a did not come back in time; its jobs run on other servers, if there are any"),
        ("server", {"server": "a", "state": "unfit", "reason": "no nodes"}, "a cannot be used: no nodes"),
        ("server", {"server": "a", "state": "connecting", "reason": None}, None),
        ("sent", {"index": 3}, None),
        ("done", {"index": 3, "files": []}, None),
        ("written", {"path": "x.html"}, "wrote x.html"),
        ("ended", ENDED, "5 of 5 done (5 in 0:59)."),
        ("ended", {**ENDED, "done": 3, "failed": 2, "seconds": 60},
         "3 of 5 done, 2 failed (5 in 1:00). Run the same command again to continue."),
        ("ended", {**ENDED, "done": 3, "waiting": 2, "ran": 0, "seconds": 3661.5},
         "3 of 5 done, 2 not done yet (0 in 1:01:02). Run the same command again to continue."),
    ],
)  # fmt: skip
def test_what_is_said_of_an_event(
    kind: str, about: dict[str, Any], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet in (False, True):
        BatchLines(quiet=quiet).event(BatchEvent(kind, about))
        shown = capsys.readouterr()
        wanted = said is not None and (not quiet or kind == "failed")
        assert (shown.out, shown.err) == ("", f"{said}\n" if wanted else "")


def test_saved_paths_are_the_results_even_if_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    BatchLines(quiet=True).event(BatchEvent("saved", {"index": 1, "path": "out/a.png"}))
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("out/a.png\n", "")


def test_every_event_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    show = BatchJsonLines()
    show.event(BatchEvent("saved", {"index": 1, "path": "a.png"}))
    show.say("for a person")
    shown = capsys.readouterr()
    assert (json.loads(shown.out), shown.err) == (
        {"schema_version": 1, "event": "saved", "index": 1, "path": "a.png"},
        "for a person\n",
    )


def drawn(*events: BatchEvent, status: Sequence[WorkerStatus] = (), clock: Sequence[float] = ()) -> str:
    """What stands on the screen after these events; clock: the seconds at which jobs end."""
    screen = io.StringIO()
    times = iter(clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
        patch.setattr("kandiflux.cli.batch_display.time", SimpleNamespace(monotonic=lambda: next(times)))
        with live(lambda: status) as show:
            for event in events:
                show.event(event)
            console = Console(file=io.StringIO(), width=120)
            console.print(show.render())  # pyright: ignore[reportAttributeAccessIssue]
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (WorkerStatus("gpu", "up"), "gpu waiting"),
        (WorkerStatus("gpu", "up", queued=1), "gpu starting"),
        (WorkerStatus("gpu", "up", index=3), "gpu job 3"),
        (WorkerStatus("gpu", "up", index=3, node="Sampler"), "gpu job 3: Sampler"),
        (WorkerStatus("gpu", "up", index=3, node="Sampler", value=4.0, max=20), "gpu job 3: Sampler 4/20"),
        (WorkerStatus("gpu", "up", index=3, value=0.0, max=20), "gpu job 3 0/20"),
        (WorkerStatus("gpu", "up", index=3, value=4.0), "gpu job 3"),
        (WorkerStatus("gpu", "up", index=3, max=20), "gpu job 3"),
        (WorkerStatus("gpu", "silent", index=3), "gpu does not answer"),
        (WorkerStatus("gpu", "away"), "gpu refuses connections"),
        (WorkerStatus("gpu", "gone"), "gpu gone"),
        (WorkerStatus("gpu", "unfit"), "gpu cannot be used"),
        (WorkerStatus("gpu", "connecting"), "gpu connecting"),
    ],
)
def test_what_a_server_does(status: WorkerStatus, said: str) -> None:
    lines = drawn(BatchEvent("planned", PLANNED), status=[status]).splitlines()
    assert " ".join(lines[-1].split()) == said


def test_how_far_a_batch_is() -> None:
    done, failed = BatchEvent("done", {}), BatchEvent("failed", FAILED)
    assert drawn().strip() == "checking the jobs"
    planned = BatchEvent("planned", {**PLANNED, "done": 1})
    assert "1 of 5 done" in drawn(planned)
    assert "left" not in drawn(planned, done, clock=[10])
    text = drawn(planned, done, failed, clock=[10, 40])
    assert "2 of 5 done, 1 failed" in text
    assert "about 1:00 left" in text
    again = drawn(planned, done, BatchEvent("lost", {**FAILED, "again": True}), clock=[10])
    assert "2 of 5 done" in again
    assert "failed" not in again
    assert "left" not in drawn(planned, *[done] * 4, clock=[1, 2, 3, 4])


def test_paths_go_to_stdout_even_beside_live_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = on_screen(monkeypatch, "stderr")
    with live(lambda: []) as show:
        show.event(BatchEvent("planned", PLANNED))
        show.event(BatchEvent("saved", {"index": 1, "path": "a.png"}))
        show.say("[red]a remark\x9b" + "x" * 300)
    assert capsys.readouterr().out == "a.png\n"
    lines = [line.strip() for line in screen.text.splitlines()]
    assert {"5 jobs.", "[red]a remark\\x9b" + "x" * 300} <= set(lines)
    assert "a.png" not in lines
    assert "0 of 5 done" in screen.text
    assert screen.getvalue().endswith("\x1b[2K"), "the live lines are erased at the end"


def test_paths_stand_above_the_live_lines_on_the_same_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch, "stdout", "stderr")
    with live(lambda: []) as show:
        show.event(BatchEvent("saved", {"index": 1, "path": "a.png"}))
    assert "a.png" in [line.strip() for line in screen.text.splitlines()]


def test_nothing_else_is_led_away_from_its_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = on_screen(monkeypatch, "stderr")
    with live(lambda: []):
        print("result")
        assert sys.stderr is screen
    assert capsys.readouterr().out == "result\n"


def test_long_texts_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    message = "m" * 3_000 + "\n" * 30
    for event in (
        BatchEvent("failed", {**FAILED, "error": {"message": message}}),
        BatchEvent("server", {"server": "a", "state": "unfit", "reason": message}),
    ):
        BatchLines().event(event)
        said = capsys.readouterr().err
        assert 1_800 < said.count("m") <= 2_000
        assert said.count("\n") < 25
    text = drawn(BatchEvent("planned", PLANNED), status=[WorkerStatus("gpu", "up", index=3, node="w" * 300)])
    assert text.count("w") == 60 - len(" … ")


def test_the_pace_is_that_of_the_last_jobs() -> None:
    planned = BatchEvent("planned", {**PLANNED, "total": 100})
    done = BatchEvent("done", {})
    # 41 slow ones, and 40 that take 1 s each.
    clock = [*range(0, 41_000, 1_000), *range(41_000, 41_040)]
    assert "about 0:19 left" in drawn(planned, *[done] * 81, clock=clock)
    assert drawn(planned, done, done, clock=[0, 10]).count("about 16:20 left") == 1
