"""Clients nobody here wrote run a job on the lite host and cancel one: comfy-cli, comfy-api-simplified, and comfy-sdk
through comfy-api-proxy.

Each is installed into an environment of its own (see environments.py) and runs as a process. The lite host is a real
process, too. They run a quick job, upload a picture and have it inverted, and cancel a job: its picture must arrive,
and both the host's history and the waiting client must say that the job was interrupted. Run with
`python3 install.py test tests/clients`; without a package index these tests are skipped.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image

from tests.clients.environments import environment
from tests.conversations.common import png
from tests.faults.campaign import colour_of, picture
from tests.support.hosts import RunningHost
from tests.support.places import ROOT

WAIT = 60
COLOUR = 0x3366CC
INVERTED = 0xCC9932
"""What ImageInvert and SaveImage make of it: they round down, in ComfyUI too."""
SLOW = {
    "1": {
        "class_type": "ProbeSteps",
        "inputs": {"steps": 1000, "delay": 0.1, "preview": "none"},
        "_meta": {"title": "Slow"},
    },
    "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}, "_meta": {"title": "Result"}},
}
INVERT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": ""}, "_meta": {"title": "Picture"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}, "_meta": {"title": "Invert"}},
    "3": {
        "class_type": "SaveImage",
        "inputs": {"images": ["2", 0], "filename_prefix": "clients/inverted"},
        "_meta": {"title": "Result"},
    },
}

USE_SDK = """
import json, sys, time
from comfy_sdk import Comfy, JobFailed, Progress

def settled(job):
    # The proxy reads the history, then the queue: it takes a job that ends between the two for one that expired.
    for _ in range(20):
        if job.wait().status != "expired":
            break
        time.sleep(0.1)
    return job

quick, slow, invert, picture, saved, inverted = sys.argv[1:]
client = Comfy()
job = settled(client.submit(client.workflows.from_file(quick))).result()
job.outputs[0].to_file(saved)

workflow = client.workflows.from_file(invert)
workflow.set_input("1", "image", client.assets.from_file(picture))
settled(client.submit(workflow)).result().get_outputs("3")[0].to_file(inverted)

cancelled = client.submit(client.workflows.from_file(slow))
followed = []
for event in client.jobs.get(cancelled.id).events():
    followed.append(getattr(event, "status", None) or type(event).__name__)
    if isinstance(event, Progress) and event.step and cancelled.status != "canceling":
        cancelled.cancel()
try:
    settled(cancelled).result()
    told = None
except JobFailed as error:
    told = str(error)
print(json.dumps({"status": job.status, "slow": cancelled.id, "followed": followed, "told": told}))
"""

USE_SIMPLIFIED = """
import asyncio, json, sys, threading, time
from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

url, quick, slow, invert, picture, saved, inverted = sys.argv[1:]
client = ComfyApiWrapper(url + "/")
workflow = ComfyWorkflowWrapper(quick)
workflow.set_node_param("Canvas", "batch_size", 1)
(content,) = client.queue_and_wait_images(workflow, "Result").values()
open(saved, "wb").write(content)

uploaded = client.upload_image(picture, subfolder="from simplified")
workflow = ComfyWorkflowWrapper(invert)
workflow.set_node_param("Picture", "image", uploaded["subfolder"] + "/" + uploaded["name"])
(content,) = client.queue_and_wait_images(workflow, "Result").values()
open(inverted, "wb").write(content)

def interrupt():
    while not client.get_queue()["queue_running"]:
        time.sleep(0.1)
    client.interrupt()

threading.Thread(target=interrupt).start()
prompt_id, pictures = asyncio.run(client.queue_prompt_and_wait(json.load(open(slow))))
print(json.dumps({"slow": prompt_id, "pictures": len(pictures)}))
"""


@dataclass(frozen=True)
class Files:
    """What the clients work on, in the folder `base`."""

    base: Path
    quick: Path
    """A workflow that takes a second; its picture has the colour COLOUR."""
    slow: Path
    """A workflow that takes longer than any test waits."""
    invert: Path
    """A workflow that inverts the picture its LoadImage names."""
    picture: Path
    """A picture of the colour COLOUR."""

    def all(self) -> list[Path]:
        """The four files."""
        return [self.quick, self.slow, self.invert, self.picture]


@pytest.fixture
def host(lite_host: RunningHost) -> Iterator[RunningHost]:
    """The lite host; no job of a test that failed is left on it."""
    yield lite_host
    requests.post(f"{lite_host.url}/queue", json={"clear": True}, timeout=WAIT)
    requests.post(f"{lite_host.url}/interrupt", timeout=WAIT)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path, *[tmp_path / name for name in ("quick.json", "slow.json", "invert.json", "in.png")])
    nodes = picture(COLOUR, "clients", tmp_path / "notes", seconds=1)
    for node, title in zip(nodes.values(), ("Canvas", "Noted", "Result"), strict=True):
        node["_meta"] = {"title": title}
    files.quick.write_text(json.dumps(nodes))
    files.slow.write_text(json.dumps(SLOW))
    files.invert.write_text(json.dumps(INVERT))
    files.picture.write_bytes(png((COLOUR >> 16, COLOUR >> 8 & 255, COLOUR & 255), mode="RGB"))
    return files


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    """For a client: without the user's configuration, which may name other servers, and accounts that cost money."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMFY_", "XDG_"))}
    return {**kept, "HOME": str(home), "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1", **variables}


def run(command: list[str | Path], home: Path, **variables: str) -> str:
    """Its standard output."""
    ended = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=WAIT, check=False, cwd=home,
        env=environment_of(home, **variables),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


def require_interrupted(host: RunningHost, prompt_id: str) -> None:
    """The host has stopped the job, and says so in its history."""
    deadline = time.monotonic() + WAIT
    while prompt_id not in (history := requests.get(f"{host.url}/history/{prompt_id}", timeout=WAIT).json()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    messages = history[prompt_id]["status"]["messages"]
    assert "execution_interrupted" in [kind for kind, _ in messages]
    assert requests.get(f"{host.url}/queue", timeout=WAIT).json() == {"queue_running": [], "queue_pending": []}


def colour_in(file: Path) -> int:
    return colour_of(file.read_bytes())


class ComfyCli:
    """comfy-cli, told to use `host`."""

    def __init__(self, host: RunningHost, home: Path) -> None:
        self._comfy = [environment("comfy-cli==1.23.0") / "comfy", "--skip-prompt"]
        self._at = ["--host", str(urlsplit(host.url).hostname), "--port", str(urlsplit(host.url).port)]
        self._home = home

    def ask(self, *words: str | Path) -> dict[str, Any]:
        """Run a command that ends well; the data of its answer."""
        answer = json.loads(run([*self._comfy, "--json", *words, *self._at], self._home).splitlines()[-1])
        assert answer["ok"], answer
        return answer["data"]

    @contextlib.contextmanager
    def waiting_for(self, workflow: Path) -> Iterator[subprocess.Popen[str]]:
        """Run a workflow and wait; events come on standard output."""
        command = [*self._comfy, "run", "--workflow", workflow, "--wait", "--json", *self._at]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment_of(self._home)) as process:
            try:
                yield process
            finally:
                process.kill()


def test_comfy_cli_runs_jobs(host: RunningHost, files: Files) -> None:
    comfy = ComfyCli(host, files.base)
    done = comfy.ask("run", "--workflow", files.quick, "--wait")
    assert done["status"] == "completed"
    assert colour_of(requests.get(done["outputs"][0], timeout=WAIT).content) == COLOUR
    (uploaded,) = comfy.ask("upload", files.picture)["uploads"]
    with_upload = {**INVERT, "1": {"class_type": "LoadImage", "inputs": {"image": uploaded["cloud_name"]}}}
    files.invert.write_text(json.dumps(with_upload))
    done = comfy.ask("run", "--workflow", files.invert, "--wait")
    assert colour_of(requests.get(done["outputs"][0], timeout=WAIT).content) == INVERTED


def test_comfy_cli_converts_a_workflow_of_the_editor(host: RunningHost, tmp_path: Path) -> None:
    """It does so with what /object_info says of the nodes."""
    workflow = ROOT / "workflows" / "kandinsky22_pocket_text_to_image.json"
    done = ComfyCli(host, tmp_path).ask("run", "--workflow", workflow, "--wait")
    content = requests.get(done["outputs_by_node"]["5"][0], timeout=WAIT).content
    assert Image.open(io.BytesIO(content)).size == (128, 128)


def test_comfy_cli_cancels_running_and_pending_jobs(host: RunningHost, files: Files) -> None:
    comfy = ComfyCli(host, files.base)
    with comfy.waiting_for(files.slow) as waiting:
        assert waiting.stdout
        events = (json.loads(line) for line in waiting.stdout)
        running = next(event for event in events if event["type"] == "progress")["prompt_id"]
        pending = comfy.ask("run", "--workflow", files.quick, "--no-watch")["prompt_id"]
        assert comfy.ask("jobs", "status", pending)["status"] == "pending"
        assert comfy.ask("jobs", "cancel", pending)["queue_delete_ok"]
        queue = requests.get(f"{host.url}/queue", timeout=WAIT).json()
        assert [job[1] for job in queue["queue_running"]] == [running], "only the pending job was cancelled"
        assert queue["queue_pending"] == []
        assert comfy.ask("jobs", "cancel", running)["interrupt_ok"]
        require_interrupted(host, running)
        assert list(events)[-1]["error"]["code"] == "cancelled"
        assert waiting.wait(WAIT) == 130
    assert comfy.ask("jobs", "status", running)["status"] == "cancelled"


def test_comfy_api_simplified(host: RunningHost, files: Files) -> None:
    python = environment("comfy-api-simplified==1.6.0") / "python"
    saved, inverted = files.base / "saved.png", files.base / "inverted.png"
    said = json.loads(run([python, "-c", USE_SIMPLIFIED, host.url, *files.all(), saved, inverted], files.base))
    assert colour_in(saved) == COLOUR
    assert colour_in(inverted) == INVERTED
    assert said["pictures"] == 0
    require_interrupted(host, said["slow"])


def test_comfy_sdk_through_comfy_api_proxy(host: RunningHost, files: Files) -> None:
    programs = environment("comfy-sdk==0.5.0", "comfy-api-proxy==0.1.6")
    saved, inverted = files.base / "saved.png", files.base / "inverted.png"
    command = [programs / "python", "-c", USE_SDK, *files.all(), saved, inverted]
    with proxy(programs, host.url, files.base) as url:
        said = json.loads(run(command, files.base, COMFY_BASE_URL=url))
    assert said["status"] == "succeeded"
    assert colour_in(saved) == COLOUR
    assert colour_in(inverted) == INVERTED
    assert "Progress" in said["followed"]
    assert said["followed"][-1] in ("canceled", "expired"), "its events have ended"
    assert "canceled" in said["told"]
    require_interrupted(host, said["slow"])


@contextlib.contextmanager
def proxy(programs: Path, comfyui: str, home: Path) -> Iterator[str]:
    """A comfy-api-proxy before the server `comfyui`; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(programs / "comfy-api-proxy"), "run", "--comfyui", comfyui, "--port", str(port)]
    with (
        (home / "proxy.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment_of(home)) as process,
    ):
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
