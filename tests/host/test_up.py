"""`kandiflux up` and `comfyui()`: a real ComfyUI is started, found again and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from kandiflux import Client, Saver, Workflow, open_client
from kandiflux.cli.job_display import Plain, follow
from kandiflux.errors import ServerUnreachable, UsageError
from kandiflux.jobs.job import Job
from kandiflux.jobs.result import Result
from kandiflux.jobs.retry import run_with_retries
from kandiflux.processes.comfyui import comfyui, lives, running, start, stop
from kandiflux.processes.discovery import is_comfyui, named_server

from tests.support.hosts import comfyui_folder, why_no_comfyui
from tests.support.places import ROOT

PLAIN = ROOT / "tests" / "data" / "empty_image.json"
WAIT = 180


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    monkeypatch.setenv("KANDIFLUX_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KANDIFLUX_SERVER", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    for one in running():
        stop(one)


def options(base: Path) -> list[str]:
    """What keeps it from writing into its own folder, and from loading more than is needed."""
    for name in ("input", "output", "temp", "models", "custom_nodes", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    kept = ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    return ["--cpu", "--disable-api-nodes", "--disable-all-custom-nodes", *kept]


def test_up_runs_until_it_is_interrupted_and_is_found_meanwhile(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kandiflux", "up", "--comfyui", str(comfyui_folder())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner")}
    again = [*command, "--detach", "--", *options(tmp_path / "base")]
    process = subprocess.Popen(
        [*command, "--", *options(tmp_path / "base")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert is_comfyui(url)
        assert named_server(None) == url, "commands that name no server use it"
        second = subprocess.run(again, capture_output=True, text=True, check=True, env=environment, timeout=WAIT)
        assert second.stdout.strip() == url
        (one,) = running()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=WAIT)
    assert process.returncode in (0, 130)
    assert one.log in said
    assert Path(one.log).is_file()
    assert not lives(one)
    assert running() == []


def test_a_detached_one_stays_until_down(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kandiflux"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner")}

    def run(*words: str) -> str:
        done = subprocess.run([*command, *words], capture_output=True, text=True, env=environment, timeout=WAIT)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    url = run("up", "--comfyui", str(comfyui_folder()), "--detach", "--", *options(tmp_path / "base"))
    assert requests.get(f"{url}/queue", timeout=10).ok
    assert Path(run("run", str(PLAIN), "--out", str(tmp_path / "out"))).is_file()
    listed = json.loads(run("servers", "--json"))["started"]
    assert [one["url"] for one in listed] == [url]
    assert run("down") == url
    deadline = time.monotonic() + 10
    while is_comfyui(url):
        assert time.monotonic() < deadline
    assert run("down") == ""


def test_a_block_has_one_of_its_own(tmp_path: Path) -> None:
    with comfyui(comfyui_folder(), *options(tmp_path / "base"), timeout=WAIT) as url:
        with open_client(url) as client:
            assert "EmptyImage" in client.object_info()
            made_again_where_the_file_is_gone(client, tmp_path / "base" / "output", tmp_path / "out")
            carried_by_every_kind_of_file(client, tmp_path / "kinds")
        with comfyui(comfyui_folder(), *options(tmp_path / "base")) as inner:
            assert inner == url
        assert is_comfyui(url), "the inner block did not start it, and does not stop it"
        with pytest.raises(UsageError, match="with other options"):
            start(comfyui_folder(), "--cpu")
    assert not is_comfyui(url)


def made_again_where_the_file_is_gone(client: Client, output: Path, out: Path) -> None:
    """ComfyUI answers from its cache with a file that is gone: only the node that saves it runs again."""
    prompt = Workflow.load(PLAIN).prompt(client.object_info(), {"name": "gone"})
    results: list[Result] = []

    def fetch(job: Job) -> Result:
        results.append(job.result(WAIT))
        return follow(job, client.api, Saver(out), Plain(quiet=True), WAIT)

    run_with_retries(client, prompt, fetch)
    for file in output.glob("gone*.png"):
        file.unlink()
    run_with_retries(client, prompt, fetch)
    assert [set(result.cached_nodes) for result in results] == [set(), {"1", "2"}, {"1"}]
    assert len(list(output.glob("gone*.png"))) == 1
    assert len(list(out.iterdir())) == 2


def carried_by_every_kind_of_file(client: Client, out: Path) -> None:
    """ComfyUI writes the prompt into each kind of file in another way."""
    animated = {"images": ["1", 0], "filename_prefix": "kind", "fps": 6.0}
    api = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 2, "color": 255}},
        "2": {
            "class_type": "SaveAnimatedWEBP",
            "inputs": {**animated, "lossless": True, "quality": 80, "method": "default"},
        },
        "3": {"class_type": "SaveAnimatedPNG", "inputs": {**animated, "compress_level": 4}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": "kind"}},
    }
    prompt = Workflow.from_data(api).prompt(client.object_info())
    run_with_retries(client, prompt, lambda job: follow(job, client.api, Saver(out), Plain(quiet=True), WAIT))
    kinds = sorted(path.suffix for path in out.iterdir())
    assert kinds == [".latent", ".png", ".webp"]
    for path in out.iterdir():
        carried = Workflow.load(path).api
        assert carried is not None
        assert {node_id: node["inputs"] for node_id, node in carried.items()} == {
            node_id: node["inputs"] for node_id, node in api.items()
        }


def test_one_that_ends_while_it_starts_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="unrecognized arguments: --no-such-option"):
        start(comfyui_folder(), "--no-such-option", timeout=WAIT)
    assert running() == []
