"""Starts a ComfyUI on a free port, and stops it.

    with comfyui("~/ComfyUI", "--cpu") as url:
        ...

A state file for each ComfyUI folder records the running process, so that a second start finds it, and another process
can stop it later. A ComfyUI keeps its pid if it restarts itself, as ComfyUI-Manager makes it do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kandiflux.errors import ServerError, ServerUnreachable, UsageError
from kandiflux.util.file_lock import held
from kandiflux.util.paths import expanded
from kandiflux.util.user_folders import home

__all__ = ["Running", "comfyui", "find_python", "lives", "running", "start", "stop", "tail"]

_log = logging.getLogger(__name__)

_READY_SECONDS = 600.0
_POLL_SECONDS = 0.2
_PROBE = (1.0, 5.0)
_STOP_SECONDS = 5.0
_TAIL_LINES, _ATTEMPTS = 20, 3
_PORT_IN_USE = ("address already in use", "[errno 98]", "[errno 48]", "error while attempting to bind", "[errno 10048]")
_PYTHON_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONWARNINGS", "PYTHONSAFEPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Running:
    """A ComfyUI that this module started."""

    folder: str
    url: str
    pid: int
    port: int
    log: str
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)
    """Set if this process started it."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the content of the state file."""
        names = ("folder", "url", "pid", "port", "log")
        return {**{name: getattr(self, name) for name in names}, "options": list(self.options)}

    def answers(self) -> bool:
        """Returns whether it answers over HTTP."""
        from kandiflux.api.rest import ComfyApi

        try:
            with ComfyApi(self.url, timeout=_PROBE) as server:
                server.system_stats()
        except (ServerUnreachable, ServerError):
            return False
        return True


@contextlib.contextmanager
def comfyui(
    folder: str | Path,
    *options: str,
    python: str | Path | None = None,
    log: str | Path | None = None,
    timeout: float = _READY_SECONDS,
) -> Generator[str, None, None]:
    """Runs a ComfyUI during the block, and yields its URL.

    folder: contains ComfyUI's main.py. options: passed to ComfyUI, for example `--cpu`. python: see `find_python`.
    log: the file for its output. timeout: seconds until it must answer. If this module has already started a ComfyUI in
    that folder with the same options, that one is used, and is left running.
    UsageError if the folder has no ComfyUI; ServerUnreachable, with the end of its log, if it does not start.
    """
    started, fresh = start(folder, *options, python=python, log=log, timeout=timeout)
    try:
        yield started.url
    finally:
        if fresh:
            stop(started)


def start(
    folder: str | Path,
    *options: str,
    python: str | Path | None = None,
    log: str | Path | None = None,
    timeout: float = _READY_SECONDS,
    on_start: Callable[[Running], None] = lambda _: None,
) -> tuple[Running, bool]:
    """Starts a ComfyUI that runs until `stop`, and waits until it answers; or returns the one already started.

    The second value says whether it is new. on_start: called while a new one is still starting. Arguments and errors as
    `comfyui`; if it does not start, only its log remains.
    """
    location = _comfyui_folder(folder)
    state = _state_file(location)
    state.parent.mkdir(parents=True, exist_ok=True)
    with held(state.with_suffix(".lock"), threading.Event()):
        present = _read(state)
        if present is not None and lives(present):
            if present.options != options:
                raise UsageError(
                    f"The ComfyUI in {location} already runs, at {present.url}, with other options.",
                    expected=" ".join(present.options) or "(no options)",
                    got=" ".join(options) or "(no options)",
                    hint="Stop it with `kandiflux down` first.",
                )
            return present, False
        if "--tls-keyfile" in " ".join(options):
            raise UsageError("A ComfyUI with TLS cannot be started here.", hint="Start it yourself, and pass its URL.")
        file = expanded(log).absolute() if log else state.with_suffix(".log")
        return _start(location, options, find_python(location, python), file, timeout, on_start), True


def running() -> list[Running]:
    """Returns the processes that this module started and that still run, newest first."""
    files: list[tuple[float, Path]] = []
    for file in _state_folder().glob("*.json"):
        # Another process may delete it at this moment.
        with contextlib.suppress(FileNotFoundError):
            files.append((file.stat().st_mtime, file))
    return [found for _, file in sorted(files, reverse=True) if (found := _read(file)) is not None and lives(found)]


def stop(started: Running) -> None:
    """Ends it and its child processes. Does nothing if it has already ended."""
    if lives(started):
        _end(started)
    if started.process is not None:
        started.process.wait()
    state = _state_file(Path(started.folder))
    if _read(state) == started:
        state.unlink(missing_ok=True)


def find_python(folder: Path, python: str | Path | None = None) -> str:
    """Returns `python`, else $COMFYUI_PYTHON, else the folder's (.venv, venv, python_embeded), else this process's."""
    named = python or os.environ.get("COMFYUI_PYTHON")
    if named:
        found = shutil.which(str(expanded(named)))
        if found is None:
            raise UsageError(
                f"There is no Python at {named}.", hint="Check $COMFYUI_PYTHON, or pass another.", parameter="python"
            )
        return found
    inside = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")
    # In the portable package for Windows, python_embeded is next to the folder.
    candidates = [folder / ".venv" / inside, folder / "venv" / inside]
    candidates += [parent / "python_embeded" / "python.exe" for parent in (folder, folder.parent)]
    for path in candidates:
        if path.is_file():
            return str(path)
    return sys.executable


def tail(log: str | Path, lines: int = _TAIL_LINES) -> str:
    """Returns the last lines of a log file, indented; empty if it cannot be read."""
    try:
        last = Path(log).read_text("utf-8", "replace").strip().splitlines()[-lines:]
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in last)


def _start(
    location: Path,
    options: tuple[str, ...],
    python: str,
    log: Path,
    timeout: float,
    on_start: Callable[[Running], None],
) -> Running:
    state, given = _state_file(location), _option(options, "--port")
    attempts = 1 if given else _ATTEMPTS
    while True:
        port = _given_port(given) if given else _free_port()
        command = [python, "main.py", "--disable-auto-launch", *options]
        process = _spawn(command if given else [*command, "--port", str(port)], location, log, python)
        url = f"http://{_address(options)}:{port}"
        started = Running(str(location), url, process.pid, port, str(log), options, process)
        try:
            state.write_text(json.dumps(started.as_dict()), "utf-8")
            on_start(started)
            ready = _wait_until_ready(started, process, timeout)
        except BaseException:
            # Also after Ctrl-C, no process must remain.
            stop(started)
            raise
        if ready:
            return started
        stop(started)
        attempts -= 1
        last = tail(log)
        if attempts == 0 or not any(words in last.lower() for words in _PORT_IN_USE):
            raise ServerUnreachable(
                f"ComfyUI ended while it started (exit code {process.returncode}). The end of {log}:\n{last}",
                hint=f"It was started with {python}. To use another Python, pass it, or set $COMFYUI_PYTHON.",
                parameter="python",
            )
        _log.info("port %d is now in use, trying another", port)


def _spawn(command: list[str], location: Path, log: Path, python: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if python != sys.executable:
        # These variables point to this Python's packages, which another Python must not load.
        environment = {name: value for name, value in environment.items() if name not in _PYTHON_VARIABLES}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=location,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # A separate process group: Ctrl-C in the terminal reaches only this process, which then calls `stop`.
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
    except OSError as error:
        raise UsageError(
            f"ComfyUI cannot be started with {python} and the log {log}: {error.strerror or error}."
        ) from error


def _wait_until_ready(started: Running, process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Returns False if it has ended. ServerUnreachable after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while process.poll() is None:
        if started.answers():
            # If ComfyUI has ended, another program took the port before it and has answered.
            return process.poll() is None
        if time.monotonic() > deadline:
            raise ServerUnreachable(
                f"ComfyUI does not answer at {started.url} after {timeout:.0f} s. The end of {started.log}:\n"
                + tail(started.log),
                hint="Set a longer timeout.",
                parameter="timeout",
            )
        time.sleep(_POLL_SECONDS)
    return False


# State files and processes


def _state_folder() -> Path:
    return home() / "comfyui"


def _state_file(location: Path) -> Path:
    return _state_folder() / f"{location.name}-{hashlib.sha256(str(location).encode()).hexdigest()[:8]}.json"


def _read(state: Path) -> Running | None:
    try:
        data: dict[str, Any] = json.loads(state.read_text("utf-8"))
        options = tuple(str(option) for option in data["options"])
        return Running(data["folder"], data["url"], int(data["pid"]), int(data["port"]), data["log"], options)
    except (OSError, ValueError, KeyError, TypeError):
        # It does not exist, or the machine failed while it was written.
        return None


def lives(started: Running) -> bool:
    """Returns whether the process with that pid is still this ComfyUI. (Operating systems reuse pids.)"""
    if started.process is not None:
        return started.process.poll() is None
    if sys.platform == "win32":
        return started.answers()
    deadline = time.monotonic() + 0.5
    while not (words := _command_line(started.pid)) and _has_program(started.pid):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.001)
    return "main.py" in words and (str(started.port) in words or f"--port={started.port}" in words)


def _command_line(pid: int) -> list[str]:
    """Returns the arguments of a process; empty if it has ended, is a zombie, or has only just started (Linux)."""
    if Path("/proc/self").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return command.decode("utf-8", "replace").split("\0") if command else []
    ps = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return ps.stdout.split()


def _has_program(pid: int) -> bool:
    """Returns whether a process with an empty command runs a program: Linux sets the command shortly after exec."""
    try:
        # Zombies and kernel threads have no such link.
        return bool(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return False


# Stopping


def _end(started: Running) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/PID", str(started.pid), "/T", "/F"], capture_output=True, check=False)
        return
    try:
        # ComfyUI shuts down at SIGINT (Ctrl-C). If it does not react within the timeout, SIGTERM follows.
        for send, number in ((os.kill, signal.SIGINT), (os.killpg, signal.SIGTERM)):
            with contextlib.suppress(ProcessLookupError):
                send(started.pid, number)
            deadline = time.monotonic() + _STOP_SECONDS
            while lives(started) and time.monotonic() < deadline:
                time.sleep(0.05)
            if not lives(started):
                break
    finally:
        # Ends the rest of its group: child processes, and ComfyUI itself if it hangs or Ctrl-C interrupted the wait.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, signal.SIGKILL)


# Options


def _comfyui_folder(folder: str | Path) -> Path:
    location = expanded(folder).resolve()
    # In the portable package, ComfyUI is a subfolder.
    for inside in (location, location / "ComfyUI"):
        if (inside / "main.py").is_file() and (inside / "nodes.py").is_file():
            return inside
    raise UsageError(
        f"There is no ComfyUI in {location}.",
        expected="the folder with ComfyUI's main.py",
        hint="Choose another folder.",
        parameter="comfyui",
    )


def _option(options: Sequence[str], name: str) -> str | None:
    """Returns the value of `--name value` or `--name=value`; empty if it has no value, None if it is not given."""
    for at, option in enumerate(options):
        if option.startswith(f"{name}="):
            return option.partition("=")[2]
        if option == name:
            following = options[at + 1] if at + 1 < len(options) else "-"
            return "" if following.startswith("-") else following
    return None


def _address(options: Sequence[str]) -> str:
    """Returns the host name for requests from this machine to the address that ComfyUI listens on."""
    listen = (_option(options, "--listen") or "").split(",")[0].strip()
    if listen in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{listen}]" if ":" in listen else listen


def _given_port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError("ComfyUI's port is out of range.", expected="a number from 1 to 65535", got=text)
    return int(text)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
