"""Starts and stops the lite host as a process: signals, standard input, and the line that says it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kandiflux.lite.editor_routes import PACKAGE, Editor, frontend_folder
from kandiflux.lite.folders import Folders
from kandiflux.lite.host import Host
from kandiflux.lite.origin import HostNames
from kandiflux.lite.server import WorkerEnded, serve
from kandiflux.util.paths import pack_root
from kandiflux.util.user_folders import home

__all__ = ["Settings", "launch"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The options of `kandiflux host`. Sizes are in bytes. If `temp` is None, a temporary folder is used.

    user: folder for settings and the graph editor's workflows. host_names: additional names of this machine.
    """

    listen: str
    port: int
    models: list[Path]
    input: Path
    output: Path
    temp: Path | None
    node_packs: list[Path]
    max_upload: int
    exit_with_stdin: bool
    cpu: bool
    editor: bool
    user: Path
    host_names: list[str]


def launch(settings: Settings) -> None:
    """Runs the host until a signal or the end of standard input stops it. Exits the process; does not return."""
    if importlib.util.find_spec("torch") is None:
        log.error("The lite host needs torch, which is not installed: pip install torch")
        sys.exit(2)
    frontend = frontend_folder() if settings.editor else None
    if settings.editor and frontend is None:
        log.error('The graph editor needs %s, which is not installed: pip install "kandiflux[editor]"', PACKAGE)
        sys.exit(2)
    if settings.cpu:
        # torch reads this when it looks for devices, whichever pack triggers that.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    temp = settings.temp or _own_temp()
    host = Host(Folders(settings.input, settings.output, temp, settings.models), settings.max_upload, settings.user)
    editor = None
    if frontend is not None:
        editor = Editor(host, frontend)
    packs = [pack for pack in [pack_root()] if (pack / "__init__.py").is_file()]
    # Standard output must only contain the URL, so what packs print goes to standard error.
    with contextlib.redirect_stdout(sys.stderr):
        host.load_packs([*packs, *settings.node_packs])
        code = asyncio.run(_serve(host, settings, editor))
    if settings.temp is None:
        shutil.rmtree(temp, ignore_errors=True)
    sys.stderr.flush()
    # Not sys.exit(): it would wait for a node that ignored the interrupt and is still running.
    os._exit(code)


async def _serve(host: Host, settings: Settings, editor: Editor | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_soon(*_: object) -> None:
        loop.call_soon_threadsafe(stop.set)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, stop_soon)
    if settings.exit_with_stdin:
        threading.Thread(target=_wait_for_stdin, args=(stop_soon,), daemon=True).start()
    try:
        names = HostNames.of(settings.listen, settings.host_names)
        await serve(host, settings.listen, settings.port, _say_ready, stop, names, editor)
    except WorkerEnded as error:
        log.error("%s", error)  # noqa: TRY400 - its traceback is already in the log
        return 1
    except OSError as error:
        # A port in use needs no traceback.
        log.error("Cannot listen on %s port %s: %s", settings.listen, settings.port, error)  # noqa: TRY400
        return 3
    return 0


def _own_temp() -> Path:
    """Creates a folder for this host alone: file names of previews are numbered, and it is deleted at the end."""
    shared = home() / "temp"
    shared.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=shared))


def _say_ready(url: str) -> None:
    stdout = sys.__stdout__
    if stdout is not None:
        stdout.write(url + "\n")
        stdout.flush()
    log.info("Listening on %s", url)


def _wait_for_stdin(ended: Callable[[], None]) -> None:
    # sys.stdin is None if the process was started without standard input: treated as ended.
    while sys.stdin is not None and os.read(sys.stdin.fileno(), 4096):
        pass
    ended()
