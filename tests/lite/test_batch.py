"""Batches on lite hosts: hundreds of jobs, several hosts, one of them killed, a runner that is killed repeatedly."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from kandiflux.batch import Batch, BatchEvent, BatchOptions, JobList, Summary, parse_grid, read_jobs
from kandiflux.batch.ledger import LEDGER
from kandiflux.cli import app
from kandiflux.errors import InvalidPrompt, ServerUnreachable, UsageError
from PIL import Image
from typer.testing import Result

from tests.support.commands import RUNNER, environment, kandiflux, read_until, started
from tests.support.hosts import RunningHost, running_lite
from tests.support.places import ROOT
from tests.support.waiting import until

PLAIN = ROOT / "tests" / "data" / "empty_image.json"
POCKET = "kandinsky22_pocket_text_to_image"
WAIT = 60


@pytest.fixture(scope="module")
def second_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    with running_lite(tmp_path_factory.mktemp("second")) as host:
        yield host


def grid(text: str, **base: Any) -> JobList:
    return JobList(base, axes=parse_grid([text]))


def colour_of(path: Path) -> int:
    with Image.open(path) as picture:
        red, green, blue = picture.convert("RGB").getpixel((0, 0))  # pyright: ignore[reportGeneralTypeIssues]
    return red << 16 | green << 8 | blue


def runs_of(host: RunningHost, prefix: str) -> Counter[int]:
    """How often a host ran each colour, among the jobs whose file names begin with `prefix`."""
    history = requests.get(f"{host.url}/history", timeout=30).json().values()
    prompts = [entry["prompt"][2] for entry in history]
    return Counter(
        nodes["1"]["inputs"]["color"]
        for nodes in prompts
        if "2" in nodes and nodes["2"]["inputs"].get("filename_prefix") == prefix
    )


def test_a_grid_becomes_files_and_pictures_of_them(lite_host: RunningHost, tmp_path: Path) -> None:
    jobs = grid("colour=255,65280,16711680 width=32,48")
    batch = Batch(PLAIN, jobs, tmp_path, servers=[lite_host.url], name="{index:03}_{colour}_{width}")
    events: list[BatchEvent] = []
    summary = batch.run(events.append)
    assert (summary.total, summary.done, summary.ran, summary.complete) == (6, 6, 6, True)
    files = sorted(path.name for path in tmp_path.glob("0*.png"))
    assert files == [
        "001_255_32.png", "002_65280_32.png", "003_16711680_32.png",
        "004_255_48.png", "005_65280_48.png", "006_16711680_48.png",
    ]  # fmt: skip
    assert [colour_of(tmp_path / name) for name in files] == [255, 65280, 16711680] * 2
    with Image.open(tmp_path / "batch-grid.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0, 0, 255), (0, 255, 0), (255, 0, 0)} <= colours
    assert (tmp_path / "batch-sheet.png").is_file()
    report = (tmp_path / "batch-report.html").read_text()
    assert report.count('<li class="job">') == 6
    assert [event.kind for event in events].count("saved") == 6


def test_texts_are_files_where_there_is_nothing_else(lite_host: RunningHost, tmp_path: Path) -> None:
    workflow = tmp_path / "texts.json"
    show = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    workflow.write_text(json.dumps({"1": {"class_type": "PrimitiveInt", "inputs": {"value": 0}}, "2": show}))
    folder = tmp_path / "out"
    jobs = JobList(axes=parse_grid(["1.value=7..9"]))
    assert Batch(str(workflow), jobs, folder, servers=[lite_host.url]).run().complete
    assert {path.name: path.read_text() for path in folder.glob("*.txt")} == {
        "0001_7.txt": "7", "0002_8.txt": "8", "0003_9.txt": "9",
    }  # fmt: skip
    assert "0001_7.txt" in (folder / "batch-report.html").read_text()
    (folder / "0002_8.txt").unlink()
    assert Batch(str(workflow), jobs, folder, servers=[lite_host.url]).run().ran == 1


def test_the_same_again_does_nothing_again(lite_host: RunningHost, tmp_path: Path) -> None:
    def run(text: str, **options: Any) -> Summary:
        return Batch(PLAIN, grid(text, name=tmp_path.name), tmp_path, servers=[lite_host.url], **options).run()

    assert run("colour=1..4").ran == 4
    assert run("colour=1..4").ran == 0
    (tmp_path / "0002.png").unlink()
    (tmp_path / "0003.png").write_bytes(b"somebody else's")
    assert run("colour=1..4").ran == 2
    longer = run("colour=6,4,3,2,1")
    assert (longer.total, longer.ran) == (5, 1)
    assert colour_of(tmp_path / "0001_2.png") == 6, "the first of the new list, whose name was taken"
    assert run("colour=9", restart=True).ran == 1
    with pytest.raises(UsageError, match="another workflow"):
        Batch(POCKET, grid("seed=1"), tmp_path, servers=[lite_host.url]).run()


def test_everything_wrong_is_said_at_once_and_nothing_is_sent(lite_host: RunningHost, tmp_path: Path) -> None:
    table = tmp_path / "jobs.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["width", "height", "tilt"], ["many", "8", ""], ["16", "0", "3"]])
    batch = Batch(PLAIN, JobList(rows=read_jobs(table)), tmp_path / "out", servers=[lite_host.url])
    with pytest.raises(UsageError) as caught:
        batch.run()
    said = str(caught.value)
    assert "3 values do not fit" in said
    assert "line 2: width must be a whole number from 1 to 512" in said
    assert "line 3: height is out of range" in said
    assert "no parameter 'tilt'" in said
    assert not (tmp_path / "out").exists()


def test_a_workflow_the_server_cannot_run(lite_host: RunningHost, tmp_path: Path) -> None:
    workflow = tmp_path / "other.json"
    workflow.write_text(json.dumps({"1": {"class_type": "NobodyHasThis", "inputs": {"seed": 3}}}))
    with pytest.raises(InvalidPrompt, match="NobodyHasThis"):
        Batch(workflow, grid("1.seed=1..3"), tmp_path / "out", servers=[lite_host.url]).run()


def test_seeds_are_drawn_once(lite_host: RunningHost, tmp_path: Path) -> None:
    workflow = tmp_path / "seeded.json"
    nodes = {
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 5}},
        "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}},
    }
    workflow.write_text(json.dumps(nodes))

    def seeds(repeat: int, **options: Any) -> list[int]:
        Batch(workflow, JobList(repeat=repeat), tmp_path / "out", servers=[lite_host.url], **options).run()
        with ledger_of(tmp_path / "out") as ledger:
            rows = ledger.execute(
                "SELECT vals, texts FROM jobs WHERE position IS NOT NULL ORDER BY position"
            ).fetchall()
        assert all(json.loads(texts) == [str(json.loads(values)["1.value"])] for values, texts in rows)
        return [json.loads(values)["1.value"] for values, _ in rows]

    drawn = seeds(3, seed="random")
    assert len(set(drawn)) == 3
    assert seeds(5, seed="random")[:3] == drawn
    assert seeds(3) == [5, 6, 7], "repetitions count upwards unless something else is said"
    assert seeds(2, seed=9) == [9, 9]


def test_a_failing_job_is_recorded_and_the_others_go_on(lite_host: RunningHost, tmp_path: Path) -> None:
    workflow = tmp_path / "failing.json"
    nodes = {
        "1": {
            "class_type": "ProbeFail",
            "inputs": {"message": "no <such> colour", "kind": "none"},
            "_meta": {"title": "Painter"},
        },
        "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}},
    }
    workflow.write_text(json.dumps(nodes))
    events: list[BatchEvent] = []
    jobs = grid("Painter.kind=value,own")
    batch = Batch(workflow, jobs, tmp_path / "out", servers=[lite_host.url], options=BatchOptions(retries=1))
    summary = batch.run(events.append)
    assert (summary.failed, summary.waiting, summary.complete) == (2, 0, False)
    failures = [event.about for event in events if event.kind == "failed"]
    assert [about["again"] for about in failures] == [True, True, False, False]
    assert {about["error"]["title"] for about in failures} == {"Painter"}
    report = (tmp_path / "out" / "batch-report.html").read_text()
    assert "no &lt;such&gt; colour" in report
    assert "<such>" not in report
    once = Batch(workflow, grid("Painter.kind=value,own"), tmp_path / "fast", servers=[lite_host.url],
                 options=BatchOptions(backlog=1, fail_fast=True)).run()  # fmt: skip
    assert (once.failed, once.waiting) == (1, 1)


def test_one_batch_a_folder(lite_host: RunningHost, tmp_path: Path) -> None:
    begun = threading.Event()
    first = Batch(PLAIN, grid("colour=1..200", name=tmp_path.name), tmp_path, servers=[lite_host.url])
    thread = threading.Thread(target=first.run, args=(lambda event: begun.set() if event.kind == "sent" else None,))
    thread.start()
    assert begun.wait(WAIT)
    with pytest.raises(UsageError, match="Another batch is running"):
        Batch(PLAIN, grid("colour=1"), tmp_path, servers=[lite_host.url]).run()
    first.stop()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="Nothing answers"):
        Batch(PLAIN, grid("colour=1"), tmp_path, servers=["http://127.0.0.1:9"]).run()


def test_five_hundred_jobs_on_two_hosts_one_killed_halfway(lite_host: RunningHost, tmp_path: Path) -> None:
    """What the dead host had is run by the other, and its return is noticed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out, prefix = tmp_path / "out", tmp_path.name
    done = 0
    states: list[tuple[str, str]] = []
    with contextlib.ExitStack() as hosts:
        doomed = hosts.enter_context(running_lite(tmp_path / "doomed", "--port", str(port)))

        def watch(event: BatchEvent) -> None:
            nonlocal done
            if event.kind == "server":
                states.append((event.about["server"], event.about["state"]))
            if event.kind == "done":
                done += 1
                if done == 250:
                    doomed.process.kill()

        batch = Batch(
            PLAIN, grid("colour=1..500", name=prefix), out,
            servers=[doomed.url, lite_host.url], options=BatchOptions(patience=1.0),
        )  # fmt: skip
        summary = batch.run(watch)
    assert summary.complete
    assert (summary.done, summary.failed) == (500, 0)
    colours = [colour_of(out / f"{number:04}.png") for number in range(1, 501)]
    assert colours == list(range(1, 501))
    assert [state for server, state in states if server == doomed.url][-1] in ("away", "gone")
    with ledger_of(out) as ledger:
        by_server = dict(ledger.execute("SELECT server, count(*) FROM jobs GROUP BY server").fetchall())
        lost = ledger.execute("SELECT count(*) FROM attempts WHERE state = 'lost'").fetchone()[0]
        attempts = ledger.execute("SELECT count(*) FROM attempts WHERE state != 'withdrawn'").fetchone()[0]
    assert sum(by_server.values()) == 500
    assert min(by_server.values()) > 20, "both hosts had their part"
    assert lost <= 32, "no more than the backlog of such quick jobs, and what was being fetched"
    assert attempts == 500 + lost
    assert all(count == 1 for count in runs_of(lite_host, prefix).values())
    report = (out / "batch-report.html").read_text()
    assert report.count('<li class="job">') == 500
    assert "<b>500</b> done" in report
    assert len(set(re.findall(r'href="(\d{4}\.png)"', report))) == 500


def test_a_host_that_comes_back_is_used_again(lite_host: RunningHost, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    killed, back = threading.Event(), threading.Event()
    with contextlib.ExitStack() as hosts:
        first = hosts.enter_context(running_lite(tmp_path / "first", "--port", str(port)))

        def watch(event: BatchEvent) -> None:
            if event.kind == "done" and event.about["server"] == first.url:
                if not killed.is_set():
                    first.process.kill()
                    killed.set()
                elif states.count("up") > 1:  # not the jobs it had done before it was missed
                    back.set()
                    batch.stop()
            if event.kind == "server" and event.about["server"] == first.url:
                states.append(event.about["state"])

        states: list[str] = []
        jobs = grid("colour=1..100000", name=tmp_path.name)
        batch = Batch(PLAIN, jobs, tmp_path / "out", servers=[first.url, lite_host.url],
                      options=BatchOptions(patience=0.5), pages=False)  # fmt: skip
        thread = threading.Thread(target=batch.run, args=(watch,))
        thread.start()
        try:
            assert killed.wait(WAIT)
            first.process.wait(WAIT)
            hosts.enter_context(running_lite(tmp_path / "again", "--port", str(port)))
            assert back.wait(WAIT), states
        finally:
            batch.stop()
            thread.join(WAIT)
    assert "away" in states


# The command line, and a runner that is killed


def command(*words: str, jobs: int, out: Path, servers: list[str]) -> list[str]:
    return [
        "batch", str(PLAIN), "--grid", f"colour=1..{jobs}", "--out", str(out),
        *words, *(word for server in servers for word in ("--server", server)),
    ]  # fmt: skip


def test_a_runner_killed_again_and_again_loses_nothing_and_repeats_nothing(
    lite_host: RunningHost, second_host: RunningHost, tmp_path: Path, full_campaign: bool
) -> None:
    count, longest = (500, 70) if full_campaign else (100, 25)
    out, prefix = tmp_path / "out", f"killed-{tmp_path.name}"
    line = command("--set", f"name={prefix}", "--no-report", jobs=count, out=out,
                   servers=[lite_host.url, second_host.url])  # fmt: skip
    kills = 0
    while True:
        # Killed so many results after the beginning, and a moment more.
        more = random.randrange(5, longest)
        with started(*line) as run:
            for seen, _ in enumerate(run.stdout or (), 1):
                if seen == more:
                    time.sleep(random.random() * 0.05)
                    run.kill()
                    kills += 1
                    break
            _, said = run.communicate(timeout=WAIT)
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, said.decode()
    assert kills >= 3
    assert [colour_of(out / f"{number:04}.png") for number in range(1, count + 1)] == list(range(1, count + 1))
    ran = runs_of(lite_host, prefix) + runs_of(second_host, prefix)
    twice = {colour: times for colour, times in ran.items() if times > 1}
    assert not twice, f"executed twice: {twice} ({kills} kills)"
    assert set(ran) == set(range(1, count + 1))
    assert list(out.glob(".*.part")) == []


def test_ctrl_c_finishes_what_runs_and_a_later_run_goes_on(lite_host: RunningHost, tmp_path: Path) -> None:
    line = command("--set", f"name={tmp_path.name}", jobs=400, out=tmp_path / "out", servers=[lite_host.url])
    with started(*line) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        printed = run.stdout.readline()
        run.send_signal(signal.SIGINT)
        printed += run.stdout.read()
        said = run.stderr.read()
    assert run.returncode == 130
    assert b"Finishing the running jobs" in said
    assert b"Run the same command again" in said
    assert requests.get(f"{lite_host.url}/queue", timeout=5).json() == {"queue_running": [], "queue_pending": []}
    done = len(printed.splitlines())
    assert done < 400
    again = kandiflux(*line)
    assert again.code == 0, again.said
    assert f"{done} already done" in again.said.decode()
    assert done + len(again.out.splitlines()) == 400
    assert all(times == 1 for times in runs_of(lite_host, tmp_path.name).values())


def test_a_second_ctrl_c_cancels_what_runs(lite_host: RunningHost, tmp_path: Path) -> None:
    workflow = tmp_path / "slow.json"
    nodes = {
        "1": {"class_type": "ProbeSteps", "inputs": {"steps": 500, "delay": 0.05, "preview": "none"}},
        "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}},
    }
    workflow.write_text(json.dumps(nodes))
    words = ["batch", str(workflow), "--grid", "1.steps=500,501,502", "--json", "--out", str(tmp_path / "out")]
    with started(*words, "--server", lite_host.url) as run:
        for text in run.stdout or ():
            if json.loads(text)["event"] == "sent":
                break
        until(lambda: requests.get(f"{lite_host.url}/queue", timeout=5).json()["queue_running"])
        run.send_signal(signal.SIGINT)
        read_until(run, b"Finishing the running jobs")
        assert run.poll() is None, "one Ctrl-C waits for the job that runs"
        run.send_signal(signal.SIGINT)
        printed, said = run.communicate(timeout=WAIT)
    assert run.returncode == 130, said
    assert json.loads(printed.splitlines()[-1])["waiting"] == 3
    assert requests.get(f"{lite_host.url}/queue", timeout=5).json() == {"queue_running": [], "queue_pending": []}
    with ledger_of(tmp_path / "out") as ledger:
        assert ledger.execute("SELECT count(*) FROM attempts WHERE state = 'open'").fetchone()[0] == 0


def invoke(*words: str) -> Result:
    """The command in this process."""
    return RUNNER.invoke(app, words)


def test_a_dry_run_lists_the_jobs_and_writes_nothing(lite_host: RunningHost, tmp_path: Path) -> None:
    words = ("batch", str(PLAIN), "--out", str(tmp_path / "out"), "--server", lite_host.url)
    ended = invoke(*words, "--grid", "width=8,16 colour=1..3", "--limit", "5", "--dry-run")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.splitlines()[:3] == [
        "job\tstate\tname\twidth\tcolour",
        "1\tnew\t0001\t8\t1",
        "2\tnew\t0002\t16\t1",
    ]
    assert "5 jobs" in ended.stderr
    assert not (tmp_path / "out").exists()
    assert invoke(*words, "--grid", "width=8").exit_code == 0
    again = invoke(*words, "--grid", "width=4,8", "--dry-run")
    assert again.stdout.splitlines()[1:] == ["1\tnew\t0001_2\t4", "2\tdone\t0001\t8"]


def test_pictures_are_uploaded_to_each_server(lite_host: RunningHost, second_host: RunningHost, tmp_path: Path) -> None:
    workflow = tmp_path / "copy.json"
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "Source"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": tmp_path.name}},
    }
    workflow.write_text(json.dumps(nodes))
    with (tmp_path / "jobs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["Source.image"], *([str(tmp_path / f"{shade}.png")] for shade in range(12))])
    for shade in range(12):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / f"{shade}.png")
    batch = Batch(workflow, JobList(rows=read_jobs(tmp_path / "jobs.csv")), tmp_path / "out",
                  servers=[lite_host.url, second_host.url], name="{index}")  # fmt: skip
    assert batch.run().complete
    assert [colour_of(tmp_path / "out" / f"{number}.png") >> 16 for number in range(1, 13)] == list(range(12))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to vary"),
        (("--grid", "width=8,,9"), "empty value"),
        (("--grid", "width=8", "--name", "{index}_{hight}"), "{hight}, which no job has"),
        (("--grid", "width=8", "--on-lost", "cry"), "'resubmit'"),
        (("--jobs", "nowhere.csv"), "nowhere.csv cannot be read"),
        (("--grid", "width=8", "--seed", "3"), "has no seed"),
    ],
)
def test_wrong_usage(lite_host: RunningHost, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ended = invoke("batch", str(PLAIN), *words, "--out", str(tmp_path / "out"), "--server", lite_host.url)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert not (tmp_path / "out").exists()


# The documentation


def test_the_examples_of_the_documentation(lite_host: RunningHost, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "batch.md").read_text("utf-8")
    shell, table, code = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1]  # pyright: ignore[reportOptionalSubscript]
        for kind in ("sh", "csv", "python")
    )
    (tmp_path / "jobs.csv").write_text(table, "utf-8")
    (tmp_path / "prompts.txt").write_text("# two\na red circle\na blue star\n")
    # Where the documentation names machines of its reader's, this machine's host stands in.
    shell = re.sub(r" --server \S+", "", shell)
    counts = []
    for line in shell.splitlines():
        ended = subprocess.run(
            [sys.executable, "-m", *shlex.split(line), "--dry-run", "--server", lite_host.url],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment(), check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        counts.append(len(ended.stdout.splitlines()) - 1)
    assert counts == [4, 8, 2, 2]
    code = code.replace("seed=", f"servers=[{lite_host.url!r}], seed=")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), timeout=120, check=True)
    assert len(list((tmp_path / "grid").glob("0*.png"))) == 2


@contextlib.contextmanager
def ledger_of(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(folder / LEDGER)) as ledger:
        yield ledger
