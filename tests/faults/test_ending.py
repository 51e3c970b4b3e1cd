"""How a command ends: by Ctrl-C, SIGTERM, SIGHUP, --timeout, or because it cannot save; whatever the server does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from kandiflux.batch import Batch, JobList, Summary, parse_grid
from kandiflux.batch import run as batch_run
from kandiflux.batch.ledger import LEDGER
from kandiflux.cli import app

from tests.support.commands import RUNNER, Ended, kandiflux, read_until, started
from tests.support.fake_comfyui import FakeComfyUI
from tests.support.stub_server import PNG, Answer, StubServer, drip, hang, html, prompt
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent to processes")

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
QUICK = 30.0
"""Seconds for a command that ends at once, on a busy machine."""


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer().serving() as stub:
        yield stub


@pytest.fixture
def comfy() -> Iterator[FakeComfyUI]:
    with FakeComfyUI(ending="hold").serving() as comfy:
        yield comfy


@pytest.fixture
def workflow(tmp_path: Path) -> str:
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(prompt()))
    return str(file)


def ended(process: subprocess.Popen[bytes], seconds: float = QUICK) -> Ended:
    begun = time.monotonic()
    out, said = process.communicate(timeout=seconds)
    return Ended(process.returncode, out, said, time.monotonic() - begun)


# Signals


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["run", "rerun"])
def test_a_signal_cancels_the_job_on_the_server(
    command: str, number: int, comfy: FakeComfyUI, workflow: str, tmp_path: Path
) -> None:
    with started(command, workflow, "--server", comfy.url, "--out", str(tmp_path / "out")) as process:
        assert process.stderr is not None
        assert b"queued as" in process.stderr.readline()
        until(lambda: comfy.running)
        process.send_signal(number)
        end = ended(process)
    assert end.code == 128 + number
    assert b"Cancelling" in end.said
    assert comfy.interrupts == comfy.accepted
    assert (comfy.running, comfy.pending) == ([], [])


def test_a_signal_at_any_moment_leaves_no_job_on_the_server(
    comfy: FakeComfyUI, workflow: str, tmp_path: Path, full_campaign: bool
) -> None:
    moments = 12 if full_campaign else 5
    for _ in range(moments):
        with started("run", workflow, "--server", comfy.url, "--out", str(tmp_path / "out")) as process:
            posts = len(comfy.accepted)
            until(lambda posts=posts: len(comfy.accepted) > posts)
            time.sleep(random.random() ** 3 * 0.1)
            process.send_signal(signal.SIGTERM)
            assert ended(process).code == 143
        until(lambda: not comfy.running and not comfy.pending)
    assert len(comfy.accepted) == moments


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_wait_for_a_server_before_anything_was_sent(
    number: int, stub: StubServer, workflow: str, tmp_path: Path
) -> None:
    stub.reactions["GET /object_info"] = hang
    for words in (("run", workflow), ("batch", workflow, "--grid", "1.width=8,16"), ("params", workflow)):
        stub.asked.clear()
        with started(*words, "--server", stub.url, folder=tmp_path) as process:
            until(lambda: stub.count("GET /object_info"))
            process.send_signal(number)
            assert ended(process).code == 128 + number
    assert stub.count("POST /prompt") == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP),
     (signal.SIGHUP, signal.SIGINT)],
)  # fmt: skip
def test_the_second_signal_leaves_at_once(
    first: int, second: int, stub: StubServer, workflow: str, tmp_path: Path
) -> None:
    stub.holding = True
    with started("run", workflow, "--server", stub.url, folder=tmp_path) as process:
        read_until(process, b"queued as")
        stub.reactions[""] = hang
        process.send_signal(first)
        until(lambda: stub.count("POST /api") or stub.count("POST /queue"))
        process.send_signal(second)
        end = ended(process)
    assert end.code == 128 + second
    assert b"may still be on the server" not in end.said, "it did not wait for the server"


def test_a_signal_that_is_ignored_stays_ignored(comfy: FakeComfyUI, workflow: str, tmp_path: Path) -> None:
    """SIGHUP under nohup, SIGINT of what a script starts in the background."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    words = ("run", workflow, "--server", comfy.url, "--out", str(tmp_path / "out"))
    with started(*words, prepare=ignore) as process:
        until(lambda: comfy.running)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        comfy.ending = "success"
        comfy.call(comfy.release())
        assert ended(process).code == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_a_batch_finish_what_runs(number: int, comfy: FakeComfyUI, workflow: str, tmp_path: Path) -> None:
    words = ("batch", workflow, "--grid", "1.width=1..4", "--server", comfy.url, "--out", str(tmp_path / "out"))
    with started(*words) as process:
        until(lambda: comfy.running and comfy.pending)
        process.send_signal(number)
        until(lambda: not comfy.pending)
        comfy.ending = "success"
        comfy.call(comfy.release())
        end = ended(process)
    assert end.code == 128 + number, end.said
    assert b"Finishing" in end.said
    assert len(end.out.splitlines()) == 1
    assert kandiflux(*words).code == 0
    assert len(comfy.ran) == 4, "each once"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_sigterm_ends_a_batch_at_once(number: int, comfy: FakeComfyUI, workflow: str, tmp_path: Path) -> None:
    words = ("batch", workflow, "--grid", "1.width=1..2", "--server", comfy.url, "--out", str(tmp_path / "out"))
    with started(*words) as process:
        until(lambda: comfy.running)
        process.send_signal(number)
        read_until(process, b"Finishing the running jobs")
        assert process.poll() is None
        process.send_signal(number)
        assert ended(process).code == 128 + number
    comfy.ending = "success"
    comfy.call(comfy.release())
    assert kandiflux(*words).code == 0
    assert len(comfy.ran) == 2, "the next run looks for what the server had"


HANGING: dict[str, dict[str, Any]] = {
    "everything hangs": {"": hang},
    "the queue hangs": {"GET /queue": hang},
    "the history hangs": {"GET /history": hang},
    "queue and history are pages": {"GET /queue": html, "GET /history": html},
    "the history is nested too deep": {"GET /history": Answer("[" * 5000 + "]" * 5000)},
    "the queue is an error": {"GET /queue": Answer({}, 500)},
    "downloads drip": {"GET /view": drip},
    "downloads hang": {"GET /view": hang},
    "the next prompt hangs": {"POST /prompt": hang},
}


@pytest.mark.parametrize("kind", HANGING)
def test_a_batch_that_is_stopped_ends_in_time_whatever_the_server_does(
    kind: str, stub: StubServer, workflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "_SILENT_SECONDS", 1.0)
    monkeypatch.setattr(batch_run, "_CLOSE_SECONDS", 1.0)
    batch = Batch(workflow, JobList(axes=parse_grid(["1.width=1..6"])), tmp_path / "out", servers=[stub.url])
    summaries: list[Summary] = []
    thread = threading.Thread(target=lambda: summaries.append(batch.run()), daemon=True)
    stub.holding = not kind.startswith("downloads")
    if kind.startswith("downloads"):
        stub.reactions = dict(HANGING[kind])
    thread.start()
    until(lambda: stub.posted)
    stub.reactions = dict(HANGING[kind])
    asked_before = len(stub.asked)
    until(lambda: len(stub.asked) > asked_before)
    stub.holding = kind in ("the queue hangs", "everything hangs")
    asked = time.monotonic()
    batch.stop()
    thread.join(40)
    assert not thread.is_alive()
    assert time.monotonic() - asked < 10
    assert summaries[0].stopped
    stub.reactions.clear()
    stub.holding = False
    again = Batch(workflow, JobList(axes=parse_grid(["1.width=1..6"])), tmp_path / "out", servers=[stub.url]).run()
    assert again.complete
    widths = [body["prompt"]["1"]["inputs"]["width"] for body in stub.posted.values()]
    assert sorted(widths) == [1, 2, 3, 4, 5, 6], "no job was sent twice"


# --timeout


SLOW: dict[str, dict[str, Any]] = {
    "object_info": {"GET /object_info": hang},
    "object_info drips": {"GET /object_info": drip},
    "upload": {"POST /upload": hang},
    "prompt": {"POST /prompt": hang},
    "job": {},
    "queue": {"GET /queue": hang},
    "history": {"GET /history": hang},
    "download hangs": {"GET /view": hang},
    "download drips": {"GET /view": drip},
}


@pytest.mark.parametrize(
    ("command", "slow"), [*(("run", slow) for slow in SLOW), ("rerun", "job"), ("rerun", "upload")]
)
def test_timeout_is_a_deadline_of_the_whole_command(
    slow: str, command: str, stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("kandiflux.cli.run_command"), "_CANCEL_SECONDS", 1.0)
    monkeypatch.chdir(tmp_path)
    nodes = prompt()
    if slow == "upload":
        nodes["3"] = {"class_type": "LoadImage", "inputs": {"image": "x"}, "_meta": {"title": "Load"}}
        (tmp_path / "mine.png").write_bytes(PNG)
    (tmp_path / "workflow.json").write_text(json.dumps(nodes))
    stub.reactions = dict(SLOW[slow])
    stub.holding = slow == "job"
    loads = {"input": {"required": {"image": [["x"], {"image_upload": True}]}}}
    if "GET /object_info" not in stub.reactions:
        stub.reactions["GET /object_info"] = {**stub.usual("GET", "/object_info", None), "LoadImage": loads}
    extra = ("--set", "3.image=mine.png", "--no-check") if slow == "upload" else ()
    begun = time.monotonic()
    words = (command, "workflow.json", "--timeout", "3.5", "--server", stub.url, "--out", "out", *extra)
    end = RUNNER.invoke(app, words)
    assert end.exit_code == 1, end.stderr
    assert "3.5 s" in end.stderr
    assert "--timeout" in end.stderr
    assert time.monotonic() - begun < 4.5 + QUICK
    assert end.stdout == ""
    assert [*tmp_path.glob("out/*"), *tmp_path.glob("out/.*")] == [], "nothing half-written stays"
    if slow in ("prompt", "job", "history"):
        assert stub.count("POST /api/jobs/") + stub.count("POST /queue"), "the job is cancelled"
    elif "download" not in slow:
        assert stub.count("POST /prompt") == 0


def test_timeout_of_rerun_is_one_for_all_pictures(stub: StubServer, workflow: str, tmp_path: Path) -> None:
    stub.reactions["GET /view"] = hang
    for name in "abc":
        (tmp_path / f"{name}.json").write_text(Path(workflow).read_text())
    words = ("rerun", "a.json", "b.json", "c.json", "--timeout", "6", "--server", stub.url, "--json")
    end = kandiflux(*words, folder=tmp_path)
    assert (end.code, len(stub.posted)) == (1, 1)
    assert json.loads(end.out.splitlines()[-1])["error"] == "JobTimeout"


def test_a_job_that_is_done_in_time_is_not_told_late(stub: StubServer, workflow: str, tmp_path: Path) -> None:
    end = kandiflux("run", workflow, "--timeout", "60", "--server", stub.url, folder=tmp_path)
    assert (end.code, len(end.out.splitlines())) == (0, 1), end.said


# --out


@pytest.fixture(params=["a file", "under a file", "/proc/x", "a name that is too long"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "file").touch()
    if request.param == "/proc/x":
        if not Path("/proc/self").exists():
            pytest.skip("there is no /proc")
        return "/proc/x"
    return {"a file": "file", "under a file": "file/out"}.get(request.param, "a" * 300)


@pytest.mark.parametrize("words", [("run",), ("rerun",), ("batch", "--grid", "1.width=8,16")])
def test_an_unusable_folder_is_found_before_anything_is_sent(
    words: tuple[str, ...],
    unusable: str,
    stub: StubServer,
    workflow: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *options = words
    shown = RUNNER.invoke(app, [command, workflow, *options, "--server", stub.url, "--out", unusable])
    assert shown.exit_code == 2, shown.output
    assert "cannot be written to" in shown.stderr
    assert "--out" in shown.stderr
    assert stub.asked == []


def test_the_check_of_the_folder_leaves_nothing(stub: StubServer, workflow: str, tmp_path: Path) -> None:
    shown = RUNNER.invoke(
        app, ["run", workflow, "--server", stub.url, "--out", str(tmp_path / "a" / "b"), "--set", "tilt=1"]
    )
    assert shown.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workflow.json"]


def test_a_picture_that_cannot_be_saved_is_still_on_the_server(stub: StubServer, workflow: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    stub.outputs = {"2": {"images": [{"filename": "-a b\x1b.png", "subfolder": "s", "type": "output"}]}}
    stub.reactions["GET /view"] = Answer(PNG * 100, content_type="image/png")

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    end = kandiflux("run", workflow, "--server", stub.url, "--out", str(tmp_path / "out"), prepare=small)
    assert end.code == 1
    assert f"{stub.url}/view?filename=-a+b%1B.png&subfolder=s&type=output" in end.said.decode()
    assert b"--out" in end.said
    assert list((tmp_path / "out").iterdir()) == []


# The ledger


def test_an_empty_ledger_is_not_taken_for_a_new_one(stub: StubServer, workflow: str, tmp_path: Path) -> None:
    words = ["batch", workflow, "--grid", "1.width=8,16", "--server", stub.url, "--out", str(tmp_path / "out")]
    assert RUNNER.invoke(app, words).exit_code == 0
    (tmp_path / "out" / LEDGER).write_bytes(b"")
    for more in ([], ["--dry-run"]):
        shown = RUNNER.invoke(app, [*words, *more])
        assert shown.exit_code == 2
        assert "is empty" in shown.stderr
        assert "--restart" in shown.stderr
    assert len(stub.posted) == 2
    assert RUNNER.invoke(app, [*words, "--restart"]).exit_code == 0
    assert len(stub.posted) == 4
