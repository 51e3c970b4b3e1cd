"""Which server to use when none is named, and the lite host that is started where there is none."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import IO

from kandiflux.client import Client
from kandiflux.config import LITE, connection, load_config
from kandiflux.errors import ServerError, ServerUnreachable
from kandiflux.launch import running
from kandiflux.server import Server

__all__ = ["is_comfyui", "named_server", "open_client", "running_lite_host"]

_log = logging.getLogger(__name__)

_USUAL = "http://127.0.0.1:8188"
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_DEAD_SECONDS = 5.0
_PROBE = (0.5, 3.0)


def named_server(server: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The server given by option, else by $KANDIFLUX_SERVER, else by the configuration file, else one that
    `kandiflux up` started, else a ComfyUI at the usual place; a name or a URL. None, a lite host, where there is none.

    None is also what the name "lite" stands for, whatever is running.
    """
    named = server or environ.get("KANDIFLUX_SERVER") or load_config(environ).default_server
    if named:
        return None if named == LITE else named
    started = next((found.url for found in running() if is_comfyui(found.url)), None)
    return started or (_USUAL if is_comfyui(_USUAL) else None)


def is_comfyui(url: str) -> bool:
    """True where something answers that describes itself as ComfyUI does; anything may listen on a port."""
    with Server(url, timeout=_PROBE) as server:
        try:
            system = server.system_stats().get("system")
        except (ServerUnreachable, ServerError):
            return False
    return isinstance(system, Mapping) and "comfyui_version" in system


@contextlib.contextmanager
def open_client(
    server: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
    token_env: str | None = None,
    verify: bool | str | None = None,
    cert: str | tuple[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> Generator[Client, None, None]:
    """A client of the server of that name or URL, or of a lite host that lives as long as the `with` block.

    server: see `named_server` for what None means. The rest as in `kandiflux.config.connection`.
    ServerUnreachable where the named server does not answer.
    """
    named = named_server(server)
    if named is not None:
        how = connection(named, headers=headers, user=user, token_env=token_env, verify=verify, cert=cert, ask=ask)
        with Client(how.url, headers=how.headers, verify=how.verify, cert=how.cert) as client:
            yield client
        return
    # A host of our own that has died does not come back.
    with running_lite_host() as url, Client(url, poll_seconds=1.0, patience=_DEAD_SECONDS) as client:
        yield client


@contextlib.contextmanager
def running_lite_host(*options: str) -> Generator[str, None, None]:
    """Starts `kandiflux host` on a free port and gives its URL; it ends with the block, or with this process.

    ServerUnreachable, with the end of its log, where it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="kandiflux-") as folder, Path(folder, "host.log").open("wb") as log:
        command = [sys.executable, "-m", "kandiflux", "host", "--port", "0", "--exit-with-stdin"]
        # What the run makes is fetched from the host, so its own copies need not outlive it.
        command += ["--output", str(Path(folder, "output")), "--temp", str(Path(folder, "temp")), *options]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": _with_this_package(os.environ.get("PYTHONPATH"))},
            # Ctrl-C in the terminal is for the runner, which then asks the host to stop in good order.
            start_new_session=True,
        )
        try:
            yield _first_line(process, Path(log.name))
        finally:
            _stop(process)


def _with_this_package(path: str | None) -> str:
    ours = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([ours, path] if path else [ours])


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    stdout = process.stdout
    if stdout is not None:
        threading.Thread(target=_pass_on, args=(stdout, lines), daemon=True).start()
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=0.2).strip()
        except queue.Empty:
            continue
        if line:
            return line
        break
    tail = log.read_text("utf-8", "replace").strip().splitlines()[-15:]
    raise ServerUnreachable(
        "The lite host did not start." + "".join(f"\n    {line}" for line in tail),
        hint="Run `kandiflux host` to see why, or name a running ComfyUI with --server.",
    )


def _pass_on(stdout: IO[str], lines: queue.SimpleQueue[str]) -> None:
    # An empty line stands for the end of the output. The rest is read so that the host never blocks on it.
    lines.put(stdout.readline())
    for _ in stdout:
        pass


def _stop(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _log.warning("the lite host does not stop, ending it")
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
