"""The commands `kandiflux up` and `kandiflux down`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kandiflux.cli.common import JsonOption, QuietOption, reporting
from kandiflux.cli.signals import SignalReceived, handling
from kandiflux.cli.terminal import print_json, print_message, print_result
from kandiflux.errors import ServerUnreachable, UsageError
from kandiflux.util.paths import expanded

if TYPE_CHECKING:
    from kandiflux.processes.comfyui import Running

__all__ = ["down", "up"]

_POLL_SECONDS = 0.5
_STOPPED = (0, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of ComfyUI if it is stopped from outside."""

ComfyUIOption = Annotated[
    Path | None,
    typer.Option("--comfyui", metavar="PATH", help="The folder of the ComfyUI. Default: $COMFYUI_DIR, else ~/ComfyUI."),
]


def up(
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS…]", help="Options for ComfyUI, as in -- --cpu --lowvram.")
    ] = None,
    comfyui: ComfyUIOption = None,
    python: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="ComfyUI's Python. Default: $COMFYUI_PYTHON, else the one in its .venv, venv or python_embeded.",
        ),
    ] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="File for ComfyUI's output.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it running; `kandiflux down` stops it.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait until it answers.")] = 600,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Start a ComfyUI on a free port and print its URL once it answers; Ctrl-C stops it.

    While it runs, commands without --server use it. If one is already running, it is used and not stopped.

    \b
    Examples:
      kandiflux up --comfyui ~/ComfyUI
      kandiflux up --comfyui ~/ComfyUI -- --cpu --output-directory /tmp/pictures
      kandiflux up --detach && kandiflux run flux_schnell && kandiflux down
    """
    from kandiflux.processes.comfyui import start, stop

    def report(started: Running) -> None:
        if not quiet:
            print_message(f"Starting ComfyUI in {started.folder}; its log is {started.log}")

    with reporting(as_json), handling(_interrupt, in_background=True):
        start_time = time.monotonic()
        started, fresh = start(
            _folder(comfyui), *(options or ()), python=python, log=log, timeout=timeout, on_start=report
        )
        try:
            if as_json:
                print_json({**started.as_dict(), "fresh": fresh})
            else:
                print_result(started.url)
            if not fresh:
                if not quiet:
                    print_message(f"It was already running (pid {started.pid}); its log is {started.log}")
                return
            if not quiet:
                ending = "`kandiflux down` stops it." if detach else "Ctrl-C stops it."
                print_message(f"Ready after {time.monotonic() - start_time:.0f} s. {ending}")
            if not detach:
                _wait(started)
        finally:
            if fresh and not detach:
                stop(started)


def down(
    comfyui: ComfyUIOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop everything that `kandiflux up` started.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Stop the ComfyUI that `kandiflux up` started; prints its URL.

    \b
    Examples:
      kandiflux down
      kandiflux down --comfyui ~/ComfyUI
    """
    from kandiflux.processes.comfyui import running, stop

    with reporting(as_json):
        found = running()
        if comfyui is not None:
            location = expanded(comfyui).resolve()
            found = [one for one in found if Path(one.folder) in (location, location / "ComfyUI")]
        elif len(found) > 1 and not everything:
            raise UsageError(
                "More than one ComfyUI is running.",
                expected="--all, or --comfyui with one of " + ", ".join(one.folder for one in found),
            )
        for one in found:
            stop(one)
            if not as_json:
                print_result(one.url)
        if as_json:
            print_json({"stopped": [one.as_dict() for one in found]})
        elif not found and not quiet:
            print_message("Nothing that `kandiflux up` started is running.")


def _wait(started: Running) -> None:
    """Waits until the user stops ComfyUI. Raises ServerUnreachable if it ends by itself."""
    from kandiflux.processes.comfyui import lives, tail

    try:
        while lives(started):
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        return  # the normal end
    if started.process is not None and started.process.returncode not in _STOPPED:
        raise ServerUnreachable(
            f"ComfyUI ended (exit code {started.process.returncode}). The end of {started.log}:\n{tail(started.log)}"
        )


def _folder(given: Path | None) -> Path:
    return given or Path(os.environ.get("COMFYUI_DIR") or Path.home() / "ComfyUI")


def _interrupt(number: int) -> None:
    """Raises for each signal, not only the first: the started process must not outlive the command."""
    raise SignalReceived(number)
