"""Clients nobody here wrote run a job on the lite host and cancel one: comfy-cli, comfy-api-simplified, and comfy-sdk
through comfy-api-proxy.

Each is installed into an environment of its own (see environments.py) and runs as a process. The lite host is a real
process, too. Run with `python3 install.py test tests/clients`; without a package index these tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.clients.environments import environment
from tests.faults.campaign import colour_of, picture
from tests.hosts import RunningHost, running_lite

WAIT = 60
COLOUR = 0x3366CC
SLOW = {
    "1": {
        "class_type": "ProbeSteps",
        "inputs": {"steps": 600, "delay": 0.1, "preview": "none"},
        "_meta": {"title": "Slow"},
    },
    "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}, "_meta": {"title": "Result"}},
}

USE_SDK = """
import json, sys, time
from comfy_sdk import Comfy, JobFailed

client = Comfy()
job = client.submit(client.workflows.from_file(sys.argv[1]))
kinds = [type(event).__name__ for event in job.events()]
job = job.refresh()
job.outputs[0].to_file(sys.argv[3])
slow = client.submit(client.workflows.from_file(sys.argv[2]))
while slow.refresh().status != "running":
    time.sleep(0.1)
slow.cancel()
try:
    slow.result()
except Exception as error:
    noticed = str(error)
print(json.dumps({"status": job.status, "events": kinds, "slow": slow.id, "noticed": noticed}))
"""

USE_SIMPLIFIED = """
import asyncio, json, sys, threading
from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

client = ComfyApiWrapper(sys.argv[4] + "/")
workflow = ComfyWorkflowWrapper(sys.argv[1])
workflow.set_node_param("Canvas", "batch_size", 1)
(content,) = client.queue_and_wait_images(workflow, "Result").values()
open(sys.argv[3], "wb").write(content)
threading.Timer(1.0, client.interrupt).start()
slow, pictures = asyncio.run(client.queue_prompt_and_wait(json.load(open(sys.argv[2]))))
print(json.dumps({"slow": slow, "pictures": len(pictures)}))
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    with running_lite(tmp_path_factory.mktemp("clients")) as host:
        yield host


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A workflow whose picture has the colour COLOUR, and one that takes a minute."""
    quick, slow = tmp_path / "quick.json", tmp_path / "slow.json"
    nodes = picture(COLOUR, "clients", tmp_path / "notes", seconds=0.5)
    for node, title in zip(nodes.values(), ("Canvas", "Noted", "Result"), strict=True):
        node["_meta"] = {"title": title}
    quick.write_text(json.dumps(nodes))
    slow.write_text(json.dumps(SLOW))
    return quick, slow


def run(command: list[str | Path], home: Path, **variables: str) -> str:
    """Its standard output."""
    quiet = {"HOME": str(home), "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1"}
    ended = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=WAIT, check=False, cwd=home,
        env={**os.environ, **quiet, **variables},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


def until_running(host: RunningHost) -> None:
    deadline = time.monotonic() + WAIT
    while not requests.get(f"{host.url}/queue", timeout=WAIT).json()["queue_running"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def require_interrupted(host: RunningHost, prompt_id: str) -> None:
    """The host has stopped the job, and says so in its history."""
    deadline = time.monotonic() + WAIT
    while prompt_id not in (history := requests.get(f"{host.url}/history/{prompt_id}", timeout=WAIT).json()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    messages = history[prompt_id]["status"]["messages"]
    assert "execution_interrupted" in [kind for kind, _ in messages]
    assert requests.get(f"{host.url}/queue", timeout=WAIT).json() == {"queue_running": [], "queue_pending": []}


def test_comfy_cli(host: RunningHost, files: tuple[Path, Path], tmp_path: Path) -> None:
    comfy = [environment("comfy-cli==1.23.0") / "comfy", "--skip-prompt", "--json"]
    at = ["--host", urlsplit(host.url).hostname, "--port", str(urlsplit(host.url).port)]

    def ask(*words: str | Path | None) -> dict[str, Any]:
        answer = json.loads(run([*comfy, *[word for word in words if word is not None]], tmp_path).splitlines()[-1])
        assert answer["ok"], answer
        return answer["data"]

    done = ask("run", "--workflow", files[0], *at, "--wait")
    assert done["status"] == "completed"
    assert colour_of(requests.get(done["outputs"][0], timeout=WAIT).content) == COLOUR
    slow = ask("run", "--workflow", files[1], *at)["prompt_id"]
    until_running(host)
    assert ask("jobs", "cancel", slow, *at)["interrupt_ok"]
    require_interrupted(host, slow)
    assert ask("jobs", "status", slow, *at)["status"] == "cancelled"


def test_comfy_api_simplified(host: RunningHost, files: tuple[Path, Path], tmp_path: Path) -> None:
    python = environment("comfy-api-simplified==1.6.0") / "python"
    saved = tmp_path / "saved.png"
    said = json.loads(run([python, "-c", USE_SIMPLIFIED, *files, saved, host.url], tmp_path))
    assert colour_of(saved.read_bytes()) == COLOUR
    assert said["pictures"] == 0
    require_interrupted(host, said["slow"])


def test_comfy_sdk_through_comfy_api_proxy(host: RunningHost, files: tuple[Path, Path], tmp_path: Path) -> None:
    programs = environment("comfy-sdk==0.5.0", "comfy-api-proxy==0.1.6")
    with proxy(programs, host.url, tmp_path) as url:
        saved = tmp_path / "saved.png"
        said = json.loads(run([programs / "python", "-c", USE_SDK, *files, saved], tmp_path, COMFY_BASE_URL=url))
    assert said["status"] == "succeeded"
    assert "OutputReady" in said["events"]
    assert colour_of(saved.read_bytes()) == COLOUR
    assert "canceled" in said["noticed"]
    require_interrupted(host, said["slow"])


@contextlib.contextmanager
def proxy(programs: Path, comfyui: str, home: Path) -> Iterator[str]:
    """A comfy-api-proxy before the server `comfyui`; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(programs / "comfy-api-proxy"), "run", "--comfyui", comfyui, "--port", str(port)]
    with (home / "proxy.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=home) as process:
        try:
            deadline = time.monotonic() + WAIT
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None, (home / "proxy.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(WAIT)
