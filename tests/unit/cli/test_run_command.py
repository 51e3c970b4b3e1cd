"""`kandiflux run` and `rerun`: what is sent, what is printed where, and exit codes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.cli.run_command import OnLost
from kandiflux.cli.run_command import run as run_command
from kandiflux.cli.signals import SignalReceived, TimeUp
from kandiflux.errors import JobLost, JobTimeout, OutOfMemory, OutputError, ServerUnreachable
from typer.testing import Result

from tests.support.commands import RUNNER
from tests.support.fake_comfyui import FakeComfyUI
from tests.support.screen import call, on_screen
from tests.support.stub_server import PNG, Answer, StubServer, hang, prompt
from tests.support.waiting import until

SEEDED = {"Noise": {"input": {"required": {"seed": ["INT", {}], "steps": ["INT", {"max": 9}]}}, "output_node": True}}
ABOUT = {
    "parameters": {"seed": {"node": 1, "input": "seed"}, "steps": {"node": 1, "input": "steps"}},
    "presets": {"fast": {"steps": 2, "seed": 7}},
    "needs": {"comfyui": ">=0.3.65"},
}


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubServer]:
    with StubServer().serving() as stub:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KANDIFLUX_SERVER", stub.url)
        stub.reactions["GET /object_info"] = {**stub.usual("GET", "/object_info", None), **SEEDED}
        Path("plain.json").write_text(json.dumps(prompt()))
        nodes = [{"id": 1, "type": "Noise", "widgets_values": [5, "fixed", 3]}]
        Path("seeded.json").write_text(
            json.dumps({"nodes": nodes, "links": [], "extra": {"kandiflux": {**ABOUT, "title": "T"}}})
        )
        wrong = {"1": {"class_type": "Noise", "inputs": {"seed": 1, "steps": 10}}}
        Path("wrong.json").write_text(json.dumps(wrong))
        yield stub


def run(*words: str) -> Result:
    return RUNNER.invoke(app, list(words))


def sent(stub: StubServer) -> list[dict[str, Any]]:
    """What was posted, in its order."""
    return list(stub.posted.values())


def inputs(stub: StubServer) -> dict[str, Any]:
    """Those of node 1 in the prompt that was posted last."""
    return sent(stub)[-1]["prompt"]["1"]["inputs"]


def test_the_path_goes_to_stdout_and_the_rest_to_stderr(stub: StubServer) -> None:
    stub.outputs["2"]["text"] = ["a remark"]
    shown = run("run", "plain.json")
    assert (shown.exit_code, shown.stdout) == (0, "output/a.png\n")
    assert Path("output/a.png").read_bytes() == PNG
    (job,) = stub.posted
    assert shown.stderr == f"queued as {job} on {stub.url}\na remark\n"
    again = run("run", "plain.json", "--quiet", "--out", "other")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "other/a.png\n", "")
    assert not Path("other/a.png.json").exists()


def test_json_is_one_object_a_line(stub: StubServer) -> None:
    shown = run("run", "plain.json", "--json", "--set", "1.width=8")
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    (job,) = stub.posted
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert lines[-2] == {"schema_version": 1, "event": "saved", "path": "output/a.png"}
    assert lines[-1]["event"] == "result"
    assert (lines[-1]["prompt_id"], lines[-1]["values"]) == (job, {"1.width": 8})
    assert [output["filename"] for output in lines[-1]["outputs"]] == ["a.png"]
    assert {"queued", "finished"} <= {line["event"] for line in lines}


@pytest.mark.parametrize(
    ("words", "seed", "steps"),
    [
        ((), 5, 3),
        (("--seed", "9"), 9, 3),
        (("--preset", "fast"), 7, 2),
        (("--preset", "fast", "--seed", "9"), 9, 2),
        (("--preset", "fast", "--set", "steps=4"), 7, 4),
        (("--seed", "9", "--set", "seed=8"), 8, 3),
    ],
)
def test_which_value_counts(words: tuple[str, ...], seed: int, steps: int, stub: StubServer) -> None:
    assert run("run", "seeded.json", *words).exit_code == 0
    assert inputs(stub) == {"seed": seed, "steps": steps}


def test_a_drawn_seed_is_told(stub: StubServer) -> None:
    for words in (("--seed", "random"), ("--set", "seed=random")):
        shown = run("run", "seeded.json", *words)
        assert f"seed: {inputs(stub)['seed']}\n" in shown.stderr
        assert "seed:" not in run("run", "seeded.json", *words, "--quiet").stderr
    assert "seed:" not in run("run", "seeded.json", "--seed", "4").stderr
    shown = run("run", "plain.json", "--seed", "4")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "plain has no seed to set" in shown.stderr
    assert len(stub.posted) == 5
    assert run("run", "seeded.json", "--seed", "random", "--json").stderr == ""
    assert "filename_prefix" not in run("run", "plain.json", "--set", "2.filename_prefix=random").stderr


def test_a_workflow_that_needs_a_newer_comfyui_is_tried_with_a_warning(stub: StubServer) -> None:
    said = f"warning: seeded needs ComfyUI 0.3.65, {stub.url} is 0.3.64"
    shown = run("run", "seeded.json")
    assert (shown.exit_code, said in shown.stderr) == (0, True)
    assert run("run", "seeded.json", "--quiet").stderr == run("run", "seeded.json", "--json").stderr == ""
    stub.reactions["GET /system_stats"] = {"system": {"comfyui_version": "0.3.65"}}
    assert "warning" not in run("run", "seeded.json").stderr
    stub.reactions["GET /system_stats"] = {}
    assert "warning" not in run("run", "seeded.json").stderr
    stub.asked.clear()
    run("run", "plain.json")
    assert stub.count("GET /system_stats") == 0


def test_what_the_server_would_refuse_is_not_sent_unless_it_is_wanted(stub: StubServer) -> None:
    shown = run("run", "wrong.json")
    assert (shown.exit_code, shown.stdout, stub.posted) == (2, "", {})
    assert run("run", "wrong.json", "--no-check").exit_code == 0
    assert inputs(stub) == {"seed": 1, "steps": 10}


def test_front_is_asked_for_only_if_it_is_wanted(stub: StubServer) -> None:
    assert run("run", "plain.json").exit_code == run("run", "plain.json", "--front").exit_code == 0
    assert [bool(body.get("front")) for body in sent(stub)] == [False, True]


def test_a_sidecar_says_what_made_the_file(stub: StubServer) -> None:
    shown = run("run", "plain.json", "--sidecar", "--set", "1.width=8")
    assert shown.stdout == "output/a.png\n"
    about = json.loads(Path("output/a.png.json").read_text())
    (job,) = stub.posted
    assert (about["values"], about["server"], about["prompt_id"]) == ({"1.width": 8}, stub.url, job)
    assert (about["output"]["filename"], about["prompt"]["1"]["inputs"]) == ("a.png", {"width": 8})


def status(*message: Any, text: str = "error") -> dict[str, Any]:
    return {"status_str": text, "completed": False, "messages": [list(message)] if message else []}


FAILED = {"node_id": "1", "node_type": "EmptyImage", "exception_type": "ValueError", "exception_message": "no colour"}


@pytest.mark.parametrize(
    ("told", "code", "error", "said"),
    [
        (status("execution_error", FAILED), 1, "NodeFailed", "'Canvas' (node 1, EmptyImage) failed: ValueError: no"),
        (status("execution_interrupted", {}), 130, "JobInterrupted", "was interrupted"),
        (status(), 1, "JobError", "no reason"),
    ],
)
def test_how_a_job_that_fails_is_told(told: Any, code: int, error: str, said: str, stub: StubServer) -> None:
    stub.status = told
    shown = run("run", "plain.json")
    assert (shown.exit_code, shown.stdout) == (code, "")
    assert "\nError: " in shown.stderr
    assert said in shown.stderr
    shown = run("run", "plain.json", "--json")
    last = json.loads(shown.stdout.splitlines()[-1])
    assert (shown.exit_code, last["event"], last["error"]) == (code, "error", error)
    assert said in shown.stderr


def test_a_file_that_cannot_be_fetched_keeps_no_other_from_being_saved(stub: StubServer) -> None:
    stub.outputs = {"2": {"images": [{"filename": "a.png"}, {"filename": "b.png"}]}}
    stub.reactions["GET /view"] = lambda handler: (
        Answer({}, 403) if "a.png" in handler.path else Answer(PNG, content_type="image/png")
    )
    shown = run("run", "plain.json")
    assert (shown.exit_code, shown.stdout) == (1, "output/b.png\n")
    assert "a.png" in shown.stderr


def test_previews_are_saved_if_there_is_nothing_else(stub: StubServer) -> None:
    stub.outputs = {"2": {"images": [{"filename": "a.png", "type": "temp"}]}}
    assert run("run", "plain.json").stdout == "output/a.png\n"
    stub.outputs["2"]["images"].append({"filename": "b.png", "type": "output"})
    assert run("run", "plain.json").stdout == "output/b.png\n"


@pytest.mark.parametrize(("option", "code", "jobs"), [((), 1, 1), (("--retry-oom",), 0, 2)])
def test_memory_is_freed_and_the_job_tried_again_if_it_is_wanted(
    option: tuple[str, ...], code: int, jobs: int, comfy: FakeComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def freed(seconds: float) -> None:
        comfy.ending = "success"

    monkeypatch.setattr("kandiflux.jobs.retry.time.sleep", freed)
    comfy.ending = "memory"
    shown = run("run", "plain.json", "--server", comfy.url, *option)
    assert (shown.exit_code, len(comfy.ran), len(comfy.freed)) == (code, jobs, jobs - 1), shown.stderr


def test_what_becomes_of_a_lost_job_is_an_option() -> None:
    assert [lost.value for lost in OnLost] == ["fail", "resubmit"]
    shown = run("run", "plain.json", "--on-lost", "cry")
    assert shown.exit_code == 2
    assert "resubmit" in shown.stderr


# Ending early


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
def test_ctrl_c_cancels_the_job(comfy: FakeComfyUI) -> None:
    comfy.ending = "hold"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it

    def interrupt() -> None:
        until(lambda: comfy.running)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        shown = run("run", "plain.json", "--server", comfy.url)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert (shown.exit_code, shown.stdout) == (130, "")
    assert "Cancelling the job on the server" in shown.stderr
    assert "may still be" not in shown.stderr
    assert comfy.interrupts == comfy.accepted


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such timer")
def test_a_job_that_takes_too_long_is_cancelled(comfy: FakeComfyUI) -> None:
    comfy.ending = "hold"
    shown = run("run", "plain.json", "--server", comfy.url, "--timeout", "1", "--json")
    told = json.loads(shown.stdout.splitlines()[-1])
    (job,) = comfy.accepted
    assert (shown.exit_code, told["error"], told["prompt_id"]) == (1, "JobTimeout", job)
    assert f"The job {job} and its files were not finished within 1 s (--timeout)" in shown.stderr
    assert "Cancelling" not in shown.stderr, "nobody asked for it"
    assert comfy.interrupts == [job]


def test_a_job_that_was_never_taken_is_said_to_be_that(stub: StubServer) -> None:
    stub.reactions["GET /object_info"] = hang
    shown = run("run", "plain.json", "--timeout", "0.1")
    assert (shown.exit_code, stub.posted) == (1, {})
    assert "The server did not accept a job within 0.1 s (--timeout)" in shown.stderr
    assert run("run", "plain.json", "--timeout", "-1").exit_code == 2


# With a function in place of the following of a job


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """How jobs were followed, and in `ends` what ends the next one."""
    about = SimpleNamespace(ends=lambda server: None, calls=[])

    def follow(job: Any, server: Any, saver: Any, display: Any, **how: Any) -> None:
        about.calls.append({"server": server, "deadline": server.deadline, "folder": saver.folder, **how})
        about.display = display
        about.ends(server)

    monkeypatch.setattr("kandiflux.cli.job_display.follow", follow)
    return about


def raising(error: BaseException) -> Callable[[Any], None]:
    def ends(_: Any) -> None:
        raise error

    return ends


def test_how_a_job_is_followed(followed: Any, stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("run", "plain.json").exit_code == 0
    (how,) = followed.calls
    assert (how.pop("folder"), how.pop("server").url) == (Path("output"), stub.url)
    assert how == {"deadline": None, "timeout": None, "sidecar": False, "own_host": False}
    begun = time.monotonic()
    run("run", "plain.json", "--timeout", "100", "--sidecar", "--out", "o")
    how = followed.calls[-1]
    assert (how["folder"], how["sidecar"]) == (Path("o"), True)
    # Half a second more: what no timer can interrupt ends by itself.
    assert begun + 100.5 <= how["deadline"] <= time.monotonic() + 100.5
    assert how["timeout"] == pytest.approx(how["deadline"] - time.monotonic(), abs=20)
    monkeypatch.setattr("kandiflux.jobs.connect.running_lite_host", lambda: nullcontext(stub.url))
    run("run", "plain.json", "--server", "lite")
    assert followed.calls[-1]["own_host"] is True


def test_what_is_shown_on_a_terminal(followed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for quiet, shown in ((False, "_Live"), (True, "Plain")):
        screen = on_screen(monkeypatch, "stderr")
        call(run_command, workflow="plain.json", quiet=quiet)
        assert type(followed.display).__name__ == shown
        assert "queued as" not in screen.text
        assert ("waiting" in screen.text) != quiet


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_is_sent(stub: StubServer) -> None:
    Path("file").touch()
    for words in (("run", "plain.json"), ("rerun", "plain.json")):
        assert run(*words, "--out", "file").exit_code == 2
    assert stub.asked == []


def test_a_job_that_cannot_be_cancelled_may_still_be_there(followed: Any, stub: StubServer) -> None:
    for path in ("POST /queue", "POST /interrupt", "POST /api/jobs", "GET /queue"):
        stub.reactions[path] = Answer({}, 500)
    followed.ends = raising(SignalReceived(signal.SIGTERM))
    shown = run("run", "plain.json", "--quiet")
    (job,) = stub.posted
    assert shown.exit_code == 143
    said, may, once = shown.stderr.splitlines()
    assert said == "Cancelling the job on the server; a second signal (Ctrl-C) exits at once."
    assert may.startswith("The job may still be on the server: ")
    assert once == f"To cancel it once the server responds: kandiflux cancel --server {stub.url} -- {job}"


def test_a_job_that_goes_on_after_it_was_cancelled_may_still_be_there(
    followed: Any, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.cli.run_command._CANCEL_SECONDS", 0.2)
    stub.holding = True
    stub.reactions["POST /interrupt"] = stub.reactions["POST /api/jobs"] = Answer({})
    followed.ends = raising(SignalReceived(signal.SIGTERM))
    shown = run("run", "plain.json", "--quiet")
    assert shown.exit_code == 143
    assert "The job may still be on the server: " in shown.stderr


def test_a_job_is_cancelled_even_after_the_deadline(followed: Any, stub: StubServer) -> None:
    def ends(server: Any) -> None:
        server.deadline = time.monotonic() - 1
        raise JobTimeout("It takes long.", prompt_id="p")

    followed.ends = ends
    stub.holding = True
    shown = run("run", "plain.json")
    assert (shown.exit_code, shown.stderr.splitlines()[1:]) == (1, ["Error: It takes long."])
    assert stub.count("POST /interrupt") + stub.count("POST /api/jobs") >= 1
    assert not stub.holding


@pytest.mark.parametrize(
    "error", [OutputError("lost"), ServerUnreachable("lost"), JobTimeout("lost", prompt_id="p")], ids=lambda e: type(e)
)
def test_what_fails_in_time_is_told_as_it_is_and_later_as_a_timeout(error: Any, followed: Any) -> None:
    followed.ends = raising(error)
    for words in ((), ("--timeout", "100")):
        shown = run("run", "plain.json", *words)
        assert (shown.exit_code, "Error: lost" in shown.stderr) == (error.exit_code, True)

    def late(_: Any) -> None:
        try:
            threading.Event().wait(30)
        except TimeUp:
            raise error from None

    followed.ends = late
    shown = run("run", "plain.json", "--timeout", "0.3")
    assert (shown.exit_code, "Error: lost" in shown.stderr) == (1, False)
    assert "were not finished within 0.3 s (--timeout)" in shown.stderr


@pytest.mark.parametrize(("option", "jobs"), [((), 1), (("--on-lost", "resubmit"), 4)])
def test_a_lost_job_runs_again_if_it_is_wanted(
    option: tuple[str, ...], jobs: int, followed: Any, stub: StubServer
) -> None:
    followed.ends = raising(JobLost("It is lost.", prompt_id="p"))
    assert run("run", "plain.json", *option).exit_code == 1
    assert len(stub.posted) == jobs


# Running again


def test_running_again_does_nothing_that_was_not_asked_for(followed: Any, stub: StubServer) -> None:
    followed.ends = raising(
        OutOfMemory(
            prompt_id="p", node_id="1", title="T", class_type="C", exception_type="E", exception_message="It is full."
        )
    )
    shown = run("rerun", "plain.json")
    assert (shown.exit_code, len(stub.posted), stub.count("POST /free")) == (1, 1, 0)
    assert shown.stderr.startswith("queued as ")
    assert "It is full." in shown.stderr
    how = followed.calls[-1]
    assert (how["folder"], how["sidecar"], how["timeout"]) == (Path("output"), False, None)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such timer")
def test_the_job_before_is_not_the_one_that_was_never_taken(followed: Any, stub: StubServer) -> None:
    stub.reactions["GET /system_stats"] = hang
    shown = run("rerun", "plain.json", "seeded.json", "--timeout", "0.5")
    assert (shown.exit_code, len(stub.posted)) == (1, 1)
    assert "The server did not accept a job within 0.5 s (--timeout)" in shown.stderr


def test_what_running_again_can_be_told(followed: Any, stub: StubServer) -> None:
    words = "--seed 9 --front --sidecar --out o --timeout 100 --quiet --set steps=4"
    shown = run("rerun", "seeded.json", *words.split())
    assert (shown.exit_code, shown.output, inputs(stub)) == (0, "", {"seed": 9, "steps": 4})
    assert sent(stub)[-1]["front"] is True
    how = followed.calls[-1]
    assert (how["folder"], how["sidecar"], type(followed.display).__name__) == (Path("o"), True, "Plain")
    assert 90 < how["timeout"] <= 100.5
    assert (run("rerun", "wrong.json").exit_code, run("rerun", "wrong.json", "--no-check").exit_code) == (2, 0)
    run("rerun", "plain.json", "--json")
    assert type(followed.display).__name__ == "JsonLines"
    followed.ends = raising(JobLost("It is lost.", prompt_id="p"))
    stub.posted.clear()
    run("rerun", "plain.json", "--on-lost", "resubmit")
    assert len(stub.posted) == 4


def test_pictures_are_made_again_one_after_the_other(stub: StubServer) -> None:
    Path("other.json").write_text(json.dumps(prompt(width=8)))
    shown = run("rerun", "plain.json", "other.json", "--set", "2.filename_prefix=x")
    assert (shown.exit_code, shown.stdout) == (0, "output/a.png\noutput/a_2.png\n")
    assert [body["prompt"]["1"]["inputs"]["width"] for body in sent(stub)] == [64, 8]
    assert {body["prompt"]["2"]["inputs"]["filename_prefix"] for body in sent(stub)} == {"x"}
    assert not any(body.get("front") for body in sent(stub))


def test_one_that_cannot_be_run_keeps_no_other_from_it(stub: StubServer) -> None:
    Path("bad.json").write_text("{}")
    shown = run("rerun", "bad.json", "plain.json", "wrong.json")
    assert (shown.exit_code, shown.stdout) == (2, "output/a.png\n")
    assert shown.stderr.count("could not be run again.") == 2
    assert "bad.json: could not be run again." in shown.stderr
    shown = run("rerun", "bad.json")
    assert (shown.exit_code, "could not be run again" in shown.stderr) == (2, False)
    stub.status = status("execution_interrupted", {})
    shown = run("rerun", "plain.json", "plain.json")
    assert (shown.exit_code, len(stub.posted)) == (130, 2), "one that was interrupted ends the command"


def test_a_picture_that_is_not_there_is_said_before_anything_is_sent(stub: StubServer) -> None:
    shown = run("rerun", "plain.json", "nowhere.png", "neither.png")
    assert (shown.exit_code, shown.stdout, stub.asked) == (2, "", [])
    assert "There is no file nowhere.png" in shown.stderr
