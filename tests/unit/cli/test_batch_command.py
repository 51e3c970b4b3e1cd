"""`kandiflux batch`: what its options come to, what it prints where, and exit codes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from kandiflux.batch import Axis, BatchOptions
from kandiflux.batch.status import BatchEvent, Summary, WorkerStatus
from kandiflux.cli import app
from kandiflux.cli.batch_command import batch as batch_command
from kandiflux.errors import UsageError
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.screen import call, on_screen
from tests.support.stub_server import PNG, StubServer, prompt
from tests.support.waiting import until

SEEDED = {"Noise": {"input": {"required": {"seed": ["INT", {}], "steps": ["INT", {"max": 9}]}}, "output_node": True}}
ABOUT = {
    "parameters": {"seed": {"node": 1, "input": "seed"}, "steps": {"node": 1, "input": "steps"}},
    "presets": {"fast": {"steps": 2}},
}


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubServer]:
    with StubServer().serving() as stub:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KANDIFLUX_SERVER", stub.url)
        stub.reactions["GET /object_info"] = {**stub.usual("GET", "/object_info", None), **SEEDED}
        nodes = [{"id": 1, "type": "Noise", "widgets_values": [5, "fixed", 3]}]
        Path("w.json").write_text(json.dumps({"nodes": nodes, "links": [], "extra": {"kandiflux": ABOUT}}))
        Path("plain.json").write_text(json.dumps(prompt()))
        yield stub


def batch(*words: str) -> Result:
    return RUNNER.invoke(app, ["batch", *words])


def planned(*words: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and values of each job that these options come to."""
    shown = batch("w.json", *words, "--dry-run", "--json")
    assert (shown.exit_code, shown.stderr) == (0, "")
    jobs = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [job["index"] for job in jobs] == list(range(1, len(jobs) + 1))
    assert {job["state"] for job in jobs} == {"new"}
    return [(job["name"], job["values"]) for job in jobs]


def test_what_the_options_come_to(stub: StubServer) -> None:
    Path("jobs.csv").write_text("seed,steps\n1,2\n4,\n")
    assert planned("--jobs", "jobs.csv", "--set", "steps=7") == [
        ("0001_1", {"steps": 2, "seed": 1}), ("0002_4", {"steps": 7, "seed": 4}),
    ]  # fmt: skip
    assert planned("--grid", "steps=2..4", "--limit", "2", "--name", "{steps}") == [
        ("2", {"steps": 2}), ("3", {"steps": 3}),
    ]  # fmt: skip
    assert [values for _, values in planned("--repeat", "2")] == [{"seed": 5}, {"seed": 6}]
    assert [values for _, values in planned("--repeat", "2", "--seed", "fixed")] == [{}, {}]
    assert [values for _, values in planned("--repeat", "2", "--seed", "8")] == [{"seed": 8}] * 2
    assert [values for _, values in planned("--grid", "seed=1", "--preset", "fast")] == [{"steps": 2, "seed": 1}]
    assert [values for _, values in planned("-g", "seed=1,2", "-g", "steps=3")][1] == {"seed": 2, "steps": 3}
    assert stub.posted == {}
    assert not Path("batch").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "There is nothing to vary."),
        (("--prompts", "p.txt", "--grid", "prompt=a,b"), "--prompts and --grid both vary prompt."),
        (("--grid", "steps=2,10"), "steps is out of range"),
        (("--repeat", "0"), "--repeat"),
        (("--repeat", "2", "--limit", "0"), "--limit"),
        (("--repeat", "2", "--backlog", "0"), "--backlog"),
        (("--repeat", "2", "--retry", "-1"), "--retry"),
        (("--repeat", "2", "--patience", "-1"), "--patience"),
        (("--repeat", "2", "--preset", "slow"), "has no preset 'slow'"),
    ],
)
def test_what_cannot_be(words: tuple[str, ...], said: str, stub: StubServer) -> None:
    shown = batch("w.json", *words)
    assert (shown.exit_code, shown.stdout, stub.posted) == (2, "", {})
    assert said in shown.stderr
    assert not Path("batch").exists()


def test_a_list_is_shown_as_a_table() -> None:
    shown = batch("w.json", "--grid", "steps=2,3", "--dry-run")
    assert shown.stdout.splitlines() == ["job\tstate\tname\tsteps", "1\tnew\t0001_5\t2", "2\tnew\t0002_5\t3"]
    assert shown.stderr == "2 jobs\n"
    assert len(batch("w.json", "--grid", "seed=1..150", "--dry-run").stdout.splitlines()) == 151, "all, to a program"


def test_a_list_on_a_terminal_is_cut_after_100_jobs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, said in ((100, "100 jobs\n"), (101, "101 jobs, of which 1 are not shown\n")):
        screen = on_screen(monkeypatch, "stdout")
        call(batch_command, workflow="w.json", grid=[f"seed=1..{count}"], dry_run=True)
        rows = [line for line in screen.text.splitlines() if " new " in line]
        assert (len(rows), rows[-1].split()[0]) == (100, "100")
        assert capsys.readouterr().err == said


def test_a_value_that_a_job_lacks_is_an_empty_cell() -> None:
    Path("jobs.jsonl").write_text('{"steps": 2}\n{"seed": 3}\n')
    rows = [line.split("\t") for line in batch("w.json", "--jobs", "jobs.jsonl", "--dry-run").stdout.splitlines()]
    assert [dict(zip(rows[0], row, strict=False)).get("seed", "") for row in rows[1:]] == ["", "3"]


def test_paths_go_to_stdout_and_the_rest_to_stderr(stub: StubServer) -> None:
    words = ("plain.json", "--grid", "1.width=8,16", "--out", "out")
    shown = batch(*words)
    assert (shown.exit_code, sorted(shown.stdout.split())) == (0, ["out/0001.png", "out/0002.png"])
    assert Path("out/0002.png").read_bytes() == PNG
    assert shown.stderr.startswith("2 jobs.\n")
    assert "wrote out/batch-report.html" in shown.stderr
    assert "2 of 2 done (2 in " in shown.stderr.splitlines()[-1]
    again = batch(*words, "--quiet")
    assert (again.exit_code, again.stdout, again.stderr, len(stub.posted)) == (0, "", "", 2)
    anew = batch(*words, "--json", "--restart", "--no-report")
    events = [json.loads(line) for line in anew.stdout.splitlines()]
    assert (events[0]["event"], events[-1]["event"], anew.stderr) == ("planned", "ended", "")
    assert (events[-1]["done"], len(stub.posted)) == (2, 4)
    assert "written" not in [event["event"] for event in events]


def test_a_failed_job_is_exit_code_1(stub: StubServer) -> None:
    stub.status = {"status_str": "error", "completed": False, "messages": []}
    shown = batch("plain.json", "--grid", "1.width=8,16", "--quiet", "--no-report", "--retry", "1")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert len(stub.posted) == 4
    assert sorted(line.split(":")[0] for line in shown.stderr.splitlines()) == [
        "job 1 failed", "job 1 will be retried", "job 2 failed", "job 2 will be retried",
    ]  # fmt: skip


# With a batch that only says what it was told


class FakeBatch:
    """In place of `Batch`: `runs` is what happens while it runs, and gives how it ended."""

    runs: Callable[[FakeBatch], Summary] = lambda _: ended()

    def __init__(self, *places: Any, **how: Any) -> None:
        self.places, self.how = places, how
        self.submitting = True
        self.called: list[str] = []
        made.append(self)

    def stop(self) -> None:
        self.called.append("stop")

    def cancel(self) -> None:
        self.called.append("cancel")

    def status(self) -> list[WorkerStatus]:
        return []

    def run(self, tell: Callable[[BatchEvent], None]) -> Summary:
        tell(BatchEvent("saved", {"index": 1, "path": "a.png"}))
        return type(self).runs(self)


made: list[FakeBatch] = []


def ended(total: int = 2, done: int = 2, stopped: bool = False) -> Summary:
    return Summary(total, done, 0, total - done, done, 1.0, stopped)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeBatch]]:
    monkeypatch.setattr("kandiflux.batch.Batch", FakeBatch)
    monkeypatch.setattr(FakeBatch, "runs", FakeBatch.runs)
    yield FakeBatch
    made.clear()


def test_what_a_batch_is_made_with(fake: type[FakeBatch], stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch("w.json", "--repeat", "2").exit_code == 0
    workflow, jobs, out = made[-1].places
    assert (workflow, jobs.repeat, jobs.axes, jobs.rows, jobs.base, out) == ("w.json", 2, (), (), {}, Path("batch"))
    how = made[-1].how
    assert (how.pop("options"), how.pop("servers")) == (BatchOptions(2, 0, True, False, 120.0), [stub.url])
    assert callable(how.pop("connect"))
    assert how == {"preset": None, "seed": None, "name": None, "limit": None, "restart": False, "pages": True}
    Path("p.txt").write_text("a fox\n")
    words = "--prompts p.txt --set steps=2 --out o --server http://a --server http://b --preset fast --seed 7 --name n"
    words += " --backlog 3 --retry 4 --on-lost fail --fail-fast --patience 5 --limit 6 --restart --no-report"
    assert batch("w.json", *words.split()).exit_code == 0
    _, jobs, out = made[-1].places
    assert (jobs.base, jobs.axes, out) == ({"steps": "2"}, (Axis("prompt", ("a fox",)),), Path("o"))
    how = made[-1].how
    assert (how.pop("options"), how.pop("servers")) == (BatchOptions(3, 4, False, True, 5.0), ["http://a", "http://b"])
    del how["connect"]
    assert how == {"preset": "fast", "seed": "7", "name": "n", "limit": 6, "restart": True, "pages": False}
    monkeypatch.setenv("KANDIFLUX_SERVER", "lite")
    batch("w.json", "--repeat", "2")
    assert made[-1].how["servers"] == [], "a lite host of its own"


def test_what_every_server_is_sent(fake: type[FakeBatch], stub: StubServer) -> None:
    batch("w.json", "--repeat", "2", "--header", "X-Key: k")
    with made[-1].how["connect"](stub.url, 3.0) as client:
        client.api.queue()
    assert stub.headers[-1]["x-key"] == "k"
    with pytest.raises(UsageError, match="There is no server called 'nowhere'"):
        made[-1].how["connect"]("nowhere", 3.0)


@pytest.mark.parametrize(
    ("summary", "code"),
    [(ended(), 0), (ended(stopped=True), 0), (ended(done=1), 1), (ended(done=1, stopped=True), 130)],
)
def test_exit_codes(summary: Summary, code: int, fake: type[FakeBatch]) -> None:
    fake.runs = lambda _: summary
    shown = batch("w.json", "--repeat", "2")
    assert (shown.exit_code, shown.stdout) == (code, "a.png\n")


STOP = "Finishing the running jobs; no more are submitted."
CANCEL = "Cancelling the running jobs; Ctrl-C again exits at once."


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Exit codes with which the process would have ended at once. Ctrl-C is not ignored."""
    codes: list[int] = []
    monkeypatch.setattr("kandiflux.cli.signals.os._exit", codes.append)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield codes
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
@pytest.mark.parametrize(
    ("signals", "called", "codes", "code"),
    [
        ([signal.SIGINT], ["stop"], [], 130),
        ([signal.SIGTERM], ["stop"], [], 143),
        ([signal.SIGTERM, signal.SIGINT], ["stop", "cancel"], [], 143),
        ([signal.SIGINT, signal.SIGTERM], ["stop"], [143], 130),
        ([signal.SIGINT, signal.SIGINT, signal.SIGINT], ["stop", "cancel"], [130], 130),
    ],
)
def test_what_each_signal_does(
    signals: list[int], called: list[str], codes: list[int], code: int, fake: type[FakeBatch], left: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said: list[str] = []
    monkeypatch.setattr("kandiflux.cli.batch_display.print_message", said.append)

    def runs(batch: FakeBatch) -> Summary:
        for number in signals:
            signal.raise_signal(number)
        until(lambda: len(said) == len(called))
        assert batch.called == called
        return ended(done=1, stopped=True)

    fake.runs = runs
    shown = batch("w.json", "--repeat", "2")
    assert (shown.exit_code, left) == (code, codes), shown.output
    assert [text[:30] for text in said] == [{"stop": STOP, "cancel": CANCEL}[one][:30] for one in called]


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
def test_a_signal_before_anything_is_sent_ends_it_at_once(fake: type[FakeBatch], left: list[int]) -> None:
    def runs(batch: FakeBatch) -> Summary:
        batch.submitting = False
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    fake.runs = runs
    assert (batch("w.json", "--repeat", "2").exit_code, made[-1].called, left) == (143, [], [])


@pytest.mark.parametrize(
    ("quiet", "json_lines", "live"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_live_lines_on_a_terminal_if_they_are_wanted(
    quiet: bool, json_lines: bool, live: bool, fake: type[FakeBatch], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    screen = on_screen(monkeypatch, "stderr")
    call(batch_command, workflow="w.json", repeat=2, quiet=quiet, json_lines=json_lines)
    assert ("checking the jobs" in screen.text) == live
    assert "a.png" in capsys.readouterr().out
    fake.runs = lambda _: ended(done=1)
    with pytest.raises(typer.Exit):
        call(batch_command, workflow="w.json", repeat=2)
