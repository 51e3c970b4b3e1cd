"""Starting and stopping the lite host as a process: signals, standard input, the ready line."""

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
    """What `kandiflux host` was asked for. Sizes in bytes. Without `temp`, one of its own for as long as it runs.

    `user`: the folder of settings and of the graph editor's workflows. `host_names`: further names of this machine.
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
    """Run the host until a signal, or the end of standard input, stops it. Does not return."""
    if importlib.util.find_spec("torch") is None:
        log.error("The lite host needs torch, which is not installed: pip install torch")
        sys.exit(2)
    frontend = frontend_folder() if settings.editor else None
    if settings.editor and frontend is None:
        log.error('The graph editor needs %s, which is not installed: pip install "kandiflux[editor]"', PACKAGE)
        sys.exit(2)
    if settings.cpu:
        # Read by torch when it looks for devices, whichever pack makes it look.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    temp = settings.temp or _own_temp()
    host = Host(Folders(settings.input, settings.output, temp, settings.models), settings.max_upload, settings.user)
    editor = None
    if frontend is not None:
        editor = Editor(host, frontend)
    packs = [pack for pack in [pack_root()] if (pack / "__init__.py").is_file()]
    # The ready line is all that may appear on standard output; packs that print do so on standard error.
    with contextlib.redirect_stdout(sys.stderr):
        host.load_packs([*packs, *settings.node_packs])
        code = asyncio.run(_serve(host, settings, editor))
    if settings.temp is None:
        shutil.rmtree(temp, ignore_errors=True)
    sys.stderr.flush()
    # Not sys.exit(): a node that did not heed the interrupt still runs, and would hold up the exit.
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
        log.error("%s", error)  # noqa: TRY400 - its traceback is in the log already
        return 1
    except OSError as error:
        # A port in use needs no traceback.
        log.error("Cannot listen on %s port %s: %s", settings.listen, settings.port, error)  # noqa: TRY400
        return 3
    return 0


def _own_temp() -> Path:
    """A folder no other host uses: previews are numbered, and thrown away at the end."""
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
    # A process started without a standard input has None here: that has ended, too.
    while sys.stdin is not None and os.read(sys.stdin.fileno(), 4096):
        pass
    ended()
