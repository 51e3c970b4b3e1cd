"""The runner against the lite host: from a workflow to a file, from Python and from the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Client, Saver, Workflow
from kandiflux.api.events import NodeProgress, Preview, ProgressState
from kandiflux.errors import InvalidPrompt, JobInterrupted, NodeFailed, ServerUnreachable
from kandiflux.processes.discovery import is_comfyui
from PIL import Image

from tests.support.commands import default_signals
from tests.support.hosts import RunningHost, running_lite
from tests.support.places import ROOT

PLAIN = ROOT / "tests" / "data" / "empty_image.json"
WAIT = 30


@pytest.fixture
def client(lite_host: RunningHost) -> Iterator[Client]:
    with Client(lite_host.url, poll_seconds=1.0) as client:
        yield client


def steps(delay: float, preview: str = "none", count: int = 5) -> dict[str, Any]:
    return {
        "1": {
            "class_type": "ProbeSteps",
            "inputs": {"steps": count, "delay": delay, "preview": preview},
            "_meta": {"title": "Slow"},
        },
        "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}},
    }


def test_a_workflow_becomes_a_file(client: Client, tmp_path: Path) -> None:
    workflow = Workflow.load(PLAIN)
    prompt = workflow.prompt(client.object_info(), {"width": 48, "colour": 0x2040FF, "name": f"api/{tmp_path.name}"})
    result = client.submit(prompt).result(WAIT)
    (image,) = result.images
    path = Saver(tmp_path).save(image)
    assert path is not None
    with Image.open(path) as picture:
        assert picture.size == (48, 32)
        assert picture.getpixel((0, 0)) == (0x20, 0x40, 0xFF)
    assert image.title == "Result"
    again = Workflow.load(path)
    assert again.origin.startswith("the prompt in")
    assert again.prompt(client.object_info()).nodes == prompt.nodes
    assert again.editor == prompt.workflow


def test_a_cached_prompt_has_its_outputs_too(client: Client) -> None:
    prompt = Workflow.load(PLAIN).prompt(client.object_info(), {"name": "cached"})
    first = client.submit(prompt).result(WAIT)
    second = client.submit(prompt).result(WAIT)
    assert [image.filename for image in second.images] == [image.filename for image in first.images]
    assert set(second.cached_nodes) == {"1", "2"}


def test_a_picture_of_ones_own_is_uploaded(client: Client, tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    Image.new("RGB", (20, 10), (1, 200, 3)).save(mine)
    api = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "Source"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    prompt = Workflow.from_data(api).prompt(client.object_info(), {"Source.image": str(mine)}, upload=client.upload)
    (image,) = client.submit(prompt).result(WAIT).files
    assert image.folder == "temp"
    with Image.open(io.BytesIO(image.read())) as picture:
        assert picture.convert("RGB").getpixel((3, 3)) == (1, 200, 3)


def test_steps_and_previews_arrive(client: Client) -> None:
    job = client.submit(steps(0.01, "PNG", 3))
    events = list(job)
    assert job.result().prompt_id == job.prompt_id
    assert any(isinstance(event, (NodeProgress, ProgressState)) for event in events)
    previews = [event for event in events if isinstance(event, Preview)]
    assert previews[-1].image.startswith(b"\x89PNG")
    assert previews[-1].node_id == "1"


def test_a_failing_node_is_named_by_title(client: Client) -> None:
    api = {
        "7": {
            "class_type": "ProbeFail",
            "inputs": {"message": "too blue", "kind": "value"},
            "_meta": {"title": "Mine"},
        },
        "8": {"class_type": "ProbeShow", "inputs": {"value": ["7", 0]}},
    }
    with pytest.raises(NodeFailed, match=r"'Mine' \(node 7, ProbeFail\) failed: .*too blue"):
        client.submit(api).result(WAIT)


def test_a_refused_prompt_names_node_and_input(client: Client) -> None:
    api = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 0, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    with pytest.raises(InvalidPrompt) as caught:
        client.submit(api)
    (problem,) = caught.value.problems
    assert (problem.node_id, problem.kind, problem.input_name) == ("1", "value_smaller_than_min", "batch_size")


def test_a_running_job_is_cancelled(client: Client) -> None:
    job = client.submit(steps(0.05, count=1000))
    for event in job.events(WAIT):
        if isinstance(event, (NodeProgress, ProgressState)):
            break
    job.cancel()
    with pytest.raises(JobInterrupted):
        job.result(WAIT)


def test_many_jobs_at_once(client: Client) -> None:
    workflow = Workflow.load(PLAIN)
    info = client.object_info()
    done: list[tuple[int, ...]] = []

    def work(offset: int) -> None:
        for number in range(3):
            width = 10 + offset * 3 + number
            result = client.submit(workflow.prompt(info, {"width": width, "name": "many"})).result(WAIT)
            with Image.open(io.BytesIO(result.images[0].read())) as picture:
                done.append((width, picture.width))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 12
    assert all(wanted == got for wanted, got in done)


def test_a_host_that_is_killed_ends_the_wait(tmp_path: Path) -> None:
    with running_lite(tmp_path) as host, Client(host.url, poll_seconds=0.2, patience=0.5) as client:
        job = client.submit(steps(0.05, count=1000))
        next(event for event in job.events(WAIT) if isinstance(event, (NodeProgress, ProgressState)))
        host.process.kill()
        with pytest.raises(ServerUnreachable, match="has not answered"):
            job.result(WAIT)
    assert job.state == "lost"


def test_the_lite_host_is_known_for_a_comfyui(lite_host: RunningHost) -> None:
    assert is_comfyui(lite_host.url)
    assert not is_comfyui("http://127.0.0.1:9")


# The command line


def kandiflux(*words: str, server: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kandiflux", *words, *(["--server", server] if server else [])],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runner"), **environment},
        check=False,
    )


def test_run_prints_the_saved_path_and_nothing_else(lite_host: RunningHost, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    ended = kandiflux("run", str(PLAIN), "--preset", "tiny", "--set", '"Canvas".width=24', "--out", str(out),
                      server=lite_host.url)  # fmt: skip
    assert ended.returncode == 0
    assert re.fullmatch(rf"queued as [\w-]+ on {lite_host.url}\n", ended.stderr)
    (path,) = ended.stdout.splitlines()
    assert Path(path).parent == out
    with Image.open(path) as picture:
        assert picture.size == (24, 16)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_progress_goes_to_the_terminal_and_the_paths_still_to_the_pipe(lite_host: RunningHost, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kandiflux", "run", str(PLAIN), "--out", str(tmp_path), "--server", lite_host.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner"), "TERM": "xterm"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment, preexec_fn=default_signals
    ) as process:
        os.close(theirs)
        shown = b""
        # Reading a pseudo-terminal whose other end is gone is an error on Linux, and the end elsewhere.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        printed = process.communicate(timeout=WAIT)[0]
    assert process.returncode == 0
    assert Path(printed.strip()).is_file()
    assert "waiting" in shown.decode()


def test_run_as_json_lines(lite_host: RunningHost, tmp_path: Path) -> None:
    ended = kandiflux("run", str(PLAIN), "-s", "width=9", "--json", "--out", str(tmp_path), server=lite_host.url)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds[-1] == "result"
    assert kinds.count("saved") == 1
    assert lines[-1]["values"] == {"width": 9}
    assert lines[-1]["outputs"][0]["kind"] == "image"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", str(PLAIN), "--set", "width=many"), 2, "a whole number from 1 to 512"),
        (("run", str(PLAIN), "--set", "widht=3"), 2, "Did you mean 'width'"),
        (("run", "nothing_like_it"), 2, "no file and no shipped workflow"),
        (("run", str(PLAIN), "--seed", "3"), 2, "has no seed"),
    ],
)
def test_wrong_usage(lite_host: RunningHost, words: tuple[str, ...], code: int, said: str) -> None:
    ended = kandiflux(*words, server=lite_host.url)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr


def test_no_server_is_exit_code_3() -> None:
    ended = kandiflux("run", str(PLAIN), server="http://127.0.0.1:9")
    assert ended.returncode == 3
    assert "Nothing answers" in ended.stderr


def test_params_and_convert(lite_host: RunningHost, tmp_path: Path) -> None:
    listed = json.loads(kandiflux("params", str(PLAIN), "--json", KANDIFLUX_SERVER=lite_host.url).stdout)
    assert [one["name"] for one in listed["parameters"]] == ["width", "height", "size", "colour", "name"]
    assert listed["presets"] == {"tiny": {"width": 16, "height": 16}}
    assert "Height in pixels" in kandiflux("params", str(PLAIN), server=lite_host.url).stdout
    saved = ROOT / "tests" / "data" / "object_info.json"
    prompt = json.loads(kandiflux("convert", str(PLAIN), "--object-info", str(saved)).stdout)
    assert prompt["2"]["inputs"] == {"images": ["1", 0], "filename_prefix": "plain"}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_cancels_the_job_and_exits_130(lite_host: RunningHost, tmp_path: Path) -> None:
    file = tmp_path / "slow.json"
    file.write_text(json.dumps(steps(0.05, count=1000)))
    process = subprocess.Popen(
        [sys.executable, "-m", "kandiflux", "run", str(file), "--json", "--server", lite_host.url],
        preexec_fn=default_signals,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runner")},
    )
    with process:
        for line in process.stdout or ():
            if json.loads(line)["event"] == "progress_state":
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WAIT)
    assert process.returncode == 130
    assert "Cancelling" in said
    with Client(lite_host.url) as client:
        deadline = time.monotonic() + WAIT
        while client.api.queue().running and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.api.queue().running == ()


def test_without_a_server_a_lite_host_is_started_and_stopped(tmp_path: Path) -> None:
    if is_comfyui("http://127.0.0.1:8188"):
        pytest.skip("a ComfyUI listens at the usual place")
    ended = kandiflux("run", str(PLAIN), "--out", str(tmp_path / "out"), KANDIFLUX_SERVER="",
                      KANDIFLUX_HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path))  # fmt: skip
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 1), ended.stderr
    assert Path(ended.stdout.strip()).is_file()
    assert list(tmp_path.glob("kandiflux-*")) == [], "the host's own folder was left behind"


def test_a_random_seed_is_told(lite_host: RunningHost, tmp_path: Path) -> None:
    file = tmp_path / "seeded.json"
    seeded = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "KandinskyPrior", "inputs": {"prompt": "a circle", "seed": 1}},
    }
    file.write_text(json.dumps(seeded))
    with Client(lite_host.url) as client:
        assert Workflow.load(file).seed_parameters(client.object_info()) == ["3.seed"]
    ended = kandiflux("run", str(file), "--seed", "random", "--out", str(tmp_path / "out"), server=lite_host.url)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith("3.seed: ")
    assert len(ended.stdout.splitlines()) == 1
