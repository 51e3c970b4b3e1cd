"""Starting a ComfyUI of one's own on a free port, and stopping it.

    with comfyui("~/ComfyUI", "--cpu") as url:
        ...

What runs is written down in a small file for each ComfyUI folder, so that a second start finds the first, and a
process that was started to stay (`start`) can be stopped later (`stop`). A ComfyUI keeps its pid when it restarts
itself, as ComfyUI-Manager has it do.
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
_LOOK_SECONDS = 0.2
_PROBE = (1.0, 5.0)
_STOP_SECONDS = 5.0
_TAIL_LINES = 20
_ATTEMPTS = 3
_TAKEN = ("address already in use", "[errno 98]", "[errno 48]", "error while attempting to bind", "[errno 10048]")
_FOR_OTHERS = ("PYTHONHOME", "PYTHONPATH", "PYTHONWARNINGS", "PYTHONSAFEPATH", "VIRTUAL_ENV")


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
    """Where it was started by this process."""

    def as_dict(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "folder": self.folder,
            "url": self.url,
            "pid": self.pid,
            "port": self.port,
            "log": self.log,
            "options": list(self.options),
        }

    def answers(self) -> bool:
        """Whether its HTTP side answers."""
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
    """The URL of a ComfyUI that runs as long as the block.

    folder: where ComfyUI's main.py is. options: for ComfyUI, as in `--cpu`. python: its Python; see `find_python`.
    log: where its output goes. timeout: seconds it may take to get ready. One that this module already started in that
    folder, with the same options, is used, and left running.
    UsageError where there is no ComfyUI, ServerUnreachable, with the end of its log, where it does not come up.
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
    """Starts a ComfyUI that stays until `stop`, and waits until it answers; or finds the one that was started before.

    The second value says whether it is new. on_start is called while a new one is still getting ready. Arguments and
    errors as `comfyui`; if it does not come up, nothing stays behind but its log.
    """
    place = _comfyui_folder(folder)
    about = _about(place)
    about.parent.mkdir(parents=True, exist_ok=True)
    wait = threading.Event()
    with held(about.with_suffix(".lock"), wait):
        present = _read(about)
        if present is not None and lives(present):
            if present.options != options:
                raise UsageError(
                    f"The ComfyUI in {place} already runs, at {present.url}, with other options.",
                    expected=" ".join(present.options) or "(no options)",
                    got=" ".join(options) or "(no options)",
                    hint="Stop it with `kandiflux down` first.",
                )
            return present, False
        if "--tls-keyfile" in " ".join(options):
            raise UsageError("A ComfyUI with TLS cannot be started here.", hint="Start it yourself, and name its URL.")
        file = expanded(log).absolute() if log else about.with_suffix(".log")
        return _start(place, options, find_python(place, python), file, timeout, on_start), True


def running() -> list[Running]:
    """What was started here and still lives, the newest first."""
    written: list[tuple[float, Path]] = []
    for file in _state_folder().glob("*.json"):
        # Another process may have stopped that ComfyUI just now.
        with contextlib.suppress(FileNotFoundError):
            written.append((file.stat().st_mtime, file))
    return [found for _, file in sorted(written, reverse=True) if (found := _read(file)) is not None and lives(found)]


def stop(started: Running) -> None:
    """Ends it and the processes it started; no harm where it has ended already."""
    if lives(started):
        _end(started)
    if started.process is not None:
        started.process.wait()
    about = _about(Path(started.folder))
    if _read(about) == started:
        about.unlink(missing_ok=True)


def find_python(folder: Path, python: str | Path | None = None) -> str:
    """The given one, else $COMFYUI_PYTHON, else that of the folder (.venv, venv, python_embeded), else this one."""
    named = python or os.environ.get("COMFYUI_PYTHON")
    if named:
        found = shutil.which(str(expanded(named)))
        if found is None:
            raise UsageError(
                f"There is no Python at {named}.", hint="Check $COMFYUI_PYTHON, or name another.", parameter="python"
            )
        return found
    inside = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")
    # The portable package for Windows has it beside the folder.
    places = [folder / ".venv" / inside, folder / "venv" / inside]
    places += [above / "python_embeded" / "python.exe" for above in (folder, folder.parent)]
    for place in places:
        if place.is_file():
            return str(place)
    return sys.executable


def tail(log: str | Path, lines: int = _TAIL_LINES) -> str:
    """The end of a log file, indented."""
    try:
        last = Path(log).read_text("utf-8", "replace").strip().splitlines()[-lines:]
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in last)


def _start(
    place: Path,
    options: tuple[str, ...],
    python: str,
    log: Path,
    timeout: float,
    on_start: Callable[[Running], None],
) -> Running:
    about, given = _about(place), _option(options, "--port")
    attempts = 1 if given else _ATTEMPTS
    while True:
        port = _given_port(given) if given else _free_port()
        command = [python, "main.py", "--disable-auto-launch", *options]
        process = _spawn(command if given else [*command, "--port", str(port)], place, log, python)
        url = f"http://{_address(options)}:{port}"
        started = Running(str(place), url, process.pid, port, str(log), options, process)
        try:
            _write(about, started)
            on_start(started)
            ready = _wait_until_ready(started, process, timeout)
        except BaseException:
            # Whatever it was, Ctrl-C among it: nothing half started stays behind.
            stop(started)
            raise
        if ready:
            return started
        stop(started)
        attempts -= 1
        said = tail(log)
        if attempts == 0 or not any(words in said.lower() for words in _TAKEN):
            raise ServerUnreachable(
                f"ComfyUI ended while it started (exit code {process.returncode}). The end of {log}:\n{said}",
                hint=f"It was started with {python}; another can be named, or set in $COMFYUI_PYTHON.",
                parameter="python",
            )
        _log.info("port %d was taken meanwhile, trying another", port)


def _spawn(command: list[str], place: Path, log: Path, python: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if python != sys.executable:
        # What leads this Python to its packages would lead that one astray.
        environment = {name: value for name, value in environment.items() if name not in _FOR_OTHERS}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # A group of its own: Ctrl-C in the terminal is for this process, which then stops it in good order.
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
    except OSError as error:
        raise UsageError(
            f"ComfyUI cannot be started with {python} and the log {log}: {error.strerror or error}."
        ) from error


def _wait_until_ready(started: Running, process: subprocess.Popen[bytes], timeout: float) -> bool:
    """False where it has ended; ServerUnreachable where it takes too long."""
    deadline = time.monotonic() + timeout
    while process.poll() is None:
        if started.answers():
            # Not somebody else who took the port between our look and ComfyUI's.
            return process.poll() is None
        if time.monotonic() > deadline:
            raise ServerUnreachable(
                f"ComfyUI does not answer at {started.url} after {timeout:.0f} s. The end of {started.log}:\n"
                + tail(started.log),
                hint="Allow more time.",
                parameter="timeout",
            )
        time.sleep(_LOOK_SECONDS)
    return False


# What runs, as it is written down


def _state_folder() -> Path:
    return home() / "comfyui"


def _about(place: Path) -> Path:
    """The file that tells of the ComfyUI in this folder."""
    return _state_folder() / f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}.json"


def _write(about: Path, started: Running) -> None:
    about.write_text(json.dumps(started.as_dict()), "utf-8")


def _read(about: Path) -> Running | None:
    try:
        told: dict[str, Any] = json.loads(about.read_text("utf-8"))
        options = tuple(str(option) for option in told["options"])
        return Running(told["folder"], told["url"], int(told["pid"]), int(told["port"]), told["log"], options)
    except (OSError, ValueError, KeyError, TypeError):
        # Not there, or half written when the machine went down: as good as nothing.
        return None


def lives(started: Running) -> bool:
    """Whether the process of that pid is still this ComfyUI; pids are given out again."""
    if started.process is not None:
        return started.process.poll() is None
    if sys.platform == "win32":
        return started.answers()
    words = _command_line(started.pid)
    return "main.py" in words and (str(started.port) in words or f"--port={started.port}" in words)


def _command_line(pid: int) -> list[str]:
    """The words that started a process; empty where there is none, or only a dead one that nobody has fetched."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            return []
    told = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.split()


# Stopping


def _end(started: Running) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/PID", str(started.pid), "/T", "/F"], capture_output=True, check=False)
        return
    try:
        # Ctrl-C is how ComfyUI is stopped; where it does not heed it, it has to go less politely.
        for send, number in ((os.kill, signal.SIGINT), (os.killpg, signal.SIGTERM)):
            with contextlib.suppress(ProcessLookupError):
                send(started.pid, number)
            deadline = time.monotonic() + _STOP_SECONDS
            while lives(started) and time.monotonic() < deadline:
                time.sleep(0.05)
            if not lives(started):
                break
    finally:
        # What is left of its group: children, and itself where it hangs or the user did not want to wait.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, signal.SIGKILL)


# Options


def _comfyui_folder(folder: str | Path) -> Path:
    place = expanded(folder).resolve()
    # The portable package is a folder around it.
    for inside in (place, place / "ComfyUI"):
        if (inside / "main.py").is_file() and (inside / "nodes.py").is_file():
            return inside
    raise UsageError(
        f"There is no ComfyUI in {place}.",
        expected="the folder with ComfyUI's main.py",
        hint="Name another.",
        parameter="comfyui",
    )


def _option(options: Sequence[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`; empty where it stands there without one."""
    for at, option in enumerate(options):
        if option.startswith(f"{name}="):
            return option.partition("=")[2]
        if option == name:
            following = options[at + 1] if at + 1 < len(options) else "-"
            return "" if following.startswith("-") else following
    return None


def _address(options: Sequence[str]) -> str:
    """Where the address that it listens on is reached from here."""
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
