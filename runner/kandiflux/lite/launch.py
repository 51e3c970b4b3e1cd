"""Starting and stopping the lite host as a process: signals, standard input, the ready line."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kandiflux.lite.folders import Folders
from kandiflux.lite.host import Host
from kandiflux.paths import pack_root

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What `kandiflux host` was asked for. Sizes in bytes."""

    listen: str
    port: int
    models: list[Path]
    input: Path
    output: Path
    temp: Path
    node_packs: list[Path]
    max_upload: int
    exit_with_stdin: bool
    cpu: bool


def launch(settings: Settings) -> None:
    """Run the host until a signal, or the end of standard input, stops it. Does not return."""
    if importlib.util.find_spec("torch") is None:
        log.error("The lite host needs torch, which is not installed: pip install torch")
        sys.exit(2)
    if settings.cpu:
        # Read by torch when it looks for devices, whichever pack makes it look.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    host = Host(Folders(settings.input, settings.output, settings.temp, settings.models), settings.max_upload)
    packs = [pack for pack in [pack_root()] if (pack / "__init__.py").is_file()]
    # The ready line is all that may appear on standard output; packs that print do so on standard error.
    with contextlib.redirect_stdout(sys.stderr):
        host.load_packs([*packs, *settings.node_packs])
        code = asyncio.run(_serve(host, settings))
    sys.stderr.flush()
    # Not sys.exit(): a node that did not heed the interrupt still runs, and would hold up the exit.
    os._exit(code)


async def _serve(host: Host, settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_soon(*_: object) -> None:
        loop.call_soon_threadsafe(stop.set)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, stop_soon)
    if settings.exit_with_stdin:
        threading.Thread(target=_wait_for_stdin, args=(stop_soon,), daemon=True).start()
    try:
        await host.serve(settings.listen, settings.port, _say_ready, stop)
    except OSError as error:
        log.error("Cannot listen on %s port %s: %s", settings.listen, settings.port, error)
        return 3
    return 0


def _say_ready(url: str) -> None:
    stdout = sys.__stdout__
    if stdout is not None:
        stdout.write(url + "\n")
        stdout.flush()
    log.info("Listening on %s", url)


def _wait_for_stdin(ended: Callable[[], None]) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    ended()
