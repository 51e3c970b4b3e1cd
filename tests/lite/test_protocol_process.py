"""The lite host as a process: its start, its end, its folders, and what it must not do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conversations.common import PICTURE, SLOW, node, png, show
from tests.support.hosts import RunningHost, running_lite
from tests.support.places import ROOT
from tests.support.recorder import Recorder

BROKEN_PACK = "raise RuntimeError('this pack is broken')\n"
RUDE_PACK = """
print("hello from a pack")


class Rude:
    CATEGORY = "testing"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        print("printing")
        raise SystemExit(1)


class Nameless(Rude):
    @classmethod
    def INPUT_TYPES(cls):
        raise RuntimeError("no inputs today")


class EmptyImage(Rude):
    pass


NODE_CLASS_MAPPINGS = {"Rude": Rude, "Nameless": Nameless, "EmptyImage": EmptyImage}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """A lite host with a broken pack, a rude one and the protocol pack, and small uploads."""
    base = tmp_path_factory.mktemp("rude")
    packs = []
    for name, source in (("broken.pack", BROKEN_PACK), ("rude.pack", RUDE_PACK)):
        (base / name).mkdir()
        (base / name / "__init__.py").write_text(source)
        packs.append(base / name)
    with running_lite(base, "--max-upload-size", "1", packs=(*packs, ROOT / "tests" / "protocol_pack")) as host:
        yield host


@pytest.fixture
def client(host: RunningHost) -> Iterator[Recorder]:
    with Recorder(host) as recorder:
        yield recorder


def start(*options: str, **keywords: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kandiflux", "host", "--port", "0", "--cpu", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner"), "OMP_NUM_THREADS": "1"}
    environment.update(keywords.pop("env", {}))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **keywords)


# Start and end.


def test_one_line_on_stdout_and_folders_in_its_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={"KANDIFLUX_HOME": str(home)})
    assert process.stdout
    url = process.stdout.readline().strip()
    assert requests.get(f"{url}/prompt", timeout=10).json() == {"exec_info": {"queue_remaining": 0}}
    assert sorted(entry.name for entry in home.iterdir()) == ["input", "models", "output", "temp"]
    process.send_signal(signal.SIGTERM)
    more, _ = process.communicate(timeout=20)
    assert more == ""
    assert process.returncode == 0
    assert list((home / "temp").iterdir()) == []


def test_it_ends_with_standard_input(tmp_path: Path) -> None:
    environment = {"KANDIFLUX_HOME": str(tmp_path)}
    process = start("--exit-with-stdin", "--quiet", stdin=subprocess.PIPE, env=environment)
    assert process.stdout
    assert process.stdin
    url = process.stdout.readline().strip()
    assert requests.get(f"{url}/features", timeout=10).ok
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


def test_a_signal_interrupts_the_running_prompt(tmp_path: Path) -> None:
    with running_lite(tmp_path) as host, Recorder(host) as client:
        client.connect()
        client.submit(SLOW)
        while client.frame()["type"] != "progress":
            pass
        host.process.send_signal(signal.SIGINT)
        assert host.process.wait(20) == 0
        assert "was interrupted" in host.log.read_text()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = start(
            "--port", port, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env={"KANDIFLUX_HOME": str(tmp_path)}
        )
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert out == ""
    assert port in err
    assert "Traceback" not in err


def test_importing_it_does_not_import_torch() -> None:
    code = (
        "import sys, kandiflux.lite, kandiflux.lite.seam, kandiflux.cli.host_command, kandiflux.lite.process\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


# Packs.


def test_a_broken_pack_is_logged_and_left_out(host: RunningHost) -> None:
    log = host.log.read_text()
    assert "this pack is broken" in log
    assert "Traceback" in log
    info = requests.get(f"{host.url}/object_info", timeout=10).json()
    assert info["Rude"]["python_module"] == "custom_nodes.rude.pack"
    assert info["EmptyImage"]["python_module"] == "nodes", "a pack must not replace a core node"
    assert "Nameless" not in info


def test_a_node_that_exits_fails_like_any_other(client: Recorder) -> None:
    ran = client.run({"1": node("Rude")})
    assert ran.data("execution_error")["exception_type"] == "SystemExit"
    assert client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)}).history["status"]["completed"]


def test_missing_nodes_are_all_named(client: Recorder) -> None:
    prompt = {"1": node("KSampler"), "2": node("VAEDecode"), "3": node("KSampler"), "4": show("1", 0)}
    error = client.rejected(prompt)["error"]
    assert error["type"] == "missing_node_type"
    assert error["message"].startswith("Node 'KSampler' not found. The custom node may not be installed. ")
    assert "KSampler, VAEDecode" in error["message"]
    assert "Start a ComfyUI that has these nodes" in error["message"]
    assert error["details"] == "Node ID '#1'"
    assert error["extra_info"] == {
        "node_id": "1",
        "class_type": "KSampler",
        "node_title": "KSampler",
        "missing_nodes": ["KSampler", "VAEDecode"],
    }


def test_a_prompt_that_cannot_be_scheduled_leaves_the_host_alive(client: Recorder) -> None:
    """ComfyUI's worker dies of this one: a node no output needs, and so nobody has checked."""
    good = {"1": node("PrimitiveInt", value=1), "2": show("1", 0)}
    ran = client.run({**good, "9": {"class_type": "PrimitiveInt"}})
    assert ran.data("execution_error")["exception_type"] == "KeyError"
    assert client.run(good).history["status"]["completed"]


def test_a_long_chain_is_no_problem(client: Recorder) -> None:
    prompt = {"0": node("PrimitiveInt", value=0)}
    for number in range(1, 400):
        prompt[str(number)] = node("ProbeAdd", a=[str(number - 1), 0], b=1)
    answer = client.submit({**prompt, "end": show("399", 0)}).json()
    assert client.history(answer["prompt_id"])["outputs"]["end"] == {"text": ["399"]}


# Requests.


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"prompt": {}, "extra_data": 3}', b'{"prompt": {}, "client_id": [1]}', b'{"number": "x"}'],
)
def test_a_bad_body_is_a_bad_request(host: RunningHost, body: bytes) -> None:
    answer = requests.post(f"{host.url}/prompt", data=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]


def test_bodies_are_bounded(host: RunningHost) -> None:
    large = b"x" * (1024 * 1024 + 1000)
    assert requests.get(f"{host.url}/features", timeout=10).json()["max_upload_size"] == 1024 * 1024
    assert requests.post(f"{host.url}/prompt", data=large, timeout=10).status_code == 413
    answer = requests.post(f"{host.url}/upload/image", files={"image": ("big.png", large)}, timeout=10)
    assert answer.status_code == 413
    assert not (host.input / "big.png").exists()


def test_links_do_not_lead_out_of_the_folders(host: RunningHost, client: Recorder, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png((1, 2, 3, 4)))
    (host.input / "door").symlink_to(tmp_path, target_is_directory=True)
    (host.input / "secret.png").symlink_to(tmp_path / "secret.png")
    (host.output / "door").symlink_to(tmp_path, target_is_directory=True)

    def status(query: str) -> int:
        return requests.get(f"{host.url}/view?{query}", timeout=10).status_code

    assert status("filename=secret.png&type=input") == 403
    assert status("filename=secret.png&type=input&subfolder=door") == 403
    form = {"image": ("new.png", png((0, 0, 0, 0)))}
    answer = requests.post(f"{host.url}/upload/image", files=form, data={"subfolder": "door"}, timeout=10)
    assert answer.status_code == 400
    ran = client.run({"1": PICTURE, "2": node("SaveImage", images=["1", 0], filename_prefix="door/new")})
    assert ran.data("execution_error")["exception_type"].endswith("OutsideFolder")
    load = {"1": node("LoadImage", image="secret.png"), "2": node("PreviewImage", images=["1", 0])}
    assert "Invalid image file" in json.dumps(client.rejected(load))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["secret.png"]


def test_a_client_that_does_not_read_holds_up_nobody(host: RunningHost, client: Recorder) -> None:
    with socket.create_connection(("127.0.0.1", int(host.url.rsplit(":", 1)[1]))) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.sendall(
            b"GET /ws?clientId=deaf HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert deaf.recv(12) == b"HTTP/1.1 101"
        prompt = {"1": node("ProbeSteps", steps=1000, delay=0, preview="PNG"), "2": show("1", 0)}
        client.history(client.submit(prompt, client_id=None).json()["prompt_id"])
        client.run({"1": node("PrimitiveInt", value=1), "2": show("1", 0)})
