"""`kandiflux batch`: what its options come to, what it prints where, and exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.stub_server import PNG, StubServer, prompt

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
        "job 1 failed", "job 1 is tried again", "job 2 failed", "job 2 is tried again",
    ]  # fmt: skip
