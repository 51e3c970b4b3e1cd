"""Hosts for tests: the lite host, and a real ComfyUI where there is one.

Both run as processes on a free port, with folders of their own, the repository's pack and the
protocol pack. Tests get them from the fixtures `lite_host` and `comfy_host` (conftest.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.places import ROOT

NO_COMFYUI = "no ComfyUI"
PROTOCOL_PACK = ROOT / "tests" / "protocol_pack"
_START_PATIENCE = 180.0
_STOP_PATIENCE = 20.0


@dataclass
class RunningHost:
    """A host that listens at `url`. Its folders are input/, output/, temp/ and models/ in `base`."""

    kind: str
    url: str
    base: Path
    process: subprocess.Popen[str]
    log: Path

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def temp(self) -> Path:
        return self.base / "temp"


class HostDidNotStart(RuntimeError):
    """The host ended, or did not answer in time. Carries the end of its log."""


@contextlib.contextmanager
def running_lite(base: Path, *options: str, packs: tuple[Path, ...] = (PROTOCOL_PACK,)) -> Iterator[RunningHost]:
    """The lite host on a free port, with `packs` beside the repository's own."""
    for name in ("input", "output", "temp", "models"):
        (base / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "kandiflux", "host", "--port", "0", "--cpu"]
    for name in ("input", "output", "temp", "models"):
        command += [f"--{name}", str(base / name)]
    for pack in packs:
        command += ["--node-pack", str(pack)]
    log = base / "host.log"
    environment = {**_environment(), "PYTHONPATH": os.pathsep.join([str(ROOT / "runner"), *_python_path()])}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
    with _stopped_at_the_end(process):
        url = process.stdout.readline().strip() if process.stdout else ""
        host = RunningHost("lite", url, base, process, log)
        _wait_until_up(host)
        yield host


@contextlib.contextmanager
def running_comfyui(
    base: Path, *options: str, packs: tuple[Path, ...] = (ROOT, PROTOCOL_PACK)
) -> Iterator[RunningHost]:
    """A real ComfyUI on a free port, on the CPU. Its checkout is only read: all it writes goes to `base`."""
    for name in ("input", "output", "temp", "models", "custom_nodes", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for pack in packs:
        (base / "custom_nodes" / pack.name).symlink_to(pack, target_is_directory=True)
    own = comfyui_folder() / "custom_nodes" / "websocket_image_save.py"  # the one pack ComfyUI brings along
    if own.is_file():
        (base / "custom_nodes" / own.name).symlink_to(own)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(comfyui_python()), "main.py", "--cpu", "--port", str(port), "--base-directory", str(base)]
    command += ["--disable-api-nodes", "--disable-auto-launch", "--database-url", "sqlite:///:memory:"]
    log = base / "host.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, *options],
            cwd=comfyui_folder(),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    with _stopped_at_the_end(process):
        host = RunningHost("comfyui", f"http://127.0.0.1:{port}", base, process, log)
        _wait_until_up(host)
        yield host


def comfyui_folder() -> Path:
    return Path(os.environ.get("COMFYUI_DIR") or Path.home() / "ComfyUI")


def comfyui_python() -> Path:
    return Path(os.environ.get("COMFYUI_PYTHON") or comfyui_folder() / ".venv" / "bin" / "python")


def why_no_comfyui() -> str | None:
    """Why tests against a real ComfyUI cannot run here; None if they can."""
    if not (comfyui_folder() / "main.py").is_file():
        return f"{NO_COMFYUI} at {comfyui_folder()} (set COMFYUI_DIR)"
    if shutil.which(str(comfyui_python())) is None:
        return f"{NO_COMFYUI} that can start: no Python at {comfyui_python()} (set COMFYUI_PYTHON)"
    return None


def _environment() -> dict[str, str]:
    """This process's, without what would lead a host to other folders; one thread, as CI has few cores."""
    dropped = {"PYTHONPATH", "PYTHONWARNINGS", "KANDIFLUX_HOME", "KANDIFLUX_SERVER"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {"OMP_NUM_THREADS": "1", **kept}


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _wait_until_up(host: RunningHost) -> None:
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline and host.process.poll() is None and host.url:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{host.url}/features", timeout=5).ok:
                return
        time.sleep(0.2)
    tail = host.log.read_text(errors="replace")[-4000:]
    raise HostDidNotStart(f"{host.kind} did not start. The end of its log:\n{tail}")


@contextlib.contextmanager
def _stopped_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
