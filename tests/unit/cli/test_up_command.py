"""`kandiflux up` and `down`, with functions in place of a ComfyUI that is started."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.errors import UsageError
from kandiflux.processes.comfyui import Running
from typer.testing import Result

from tests.support.commands import RUNNER

STARTED = Running("/comfy", "http://127.0.0.1:1234", 7, 1234, "/log", ("--cpu",))
OTHER = Running("/apps/portable/ComfyUI", "http://127.0.0.1:9", 8, 9, "/log2")


class World:
    """What `start`, `stop`, `lives` and `running` answer, and what they were asked."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.stopped: list[Running] = []
        self.fresh = True
        self.started = STARTED
        self.present: list[Running] = []
        self.lives: Callable[[], bool] = lambda: False
        self.on_stop: Callable[[], None] = lambda: None
        self.waited = 0

    def start(self, folder: Path, *options: str, on_start: Callable[[Running], None], **how: Any) -> Any:
        self.given = {"folder": folder, "options": options, **how}
        if self.fresh:
            on_start(self.started)
        return self.started, self.fresh

    def stop(self, started: Running) -> None:
        self.stopped.append(started)
        self.on_stop()

    def _lives(self, _: Running) -> bool:
        self.waited += 1
        return self.lives()


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    module = "kandiflux.processes.comfyui"
    monkeypatch.setattr(f"{module}.start", world.start)
    monkeypatch.setattr(f"{module}.stop", world.stop)
    monkeypatch.setattr(f"{module}.lives", world._lives)
    monkeypatch.setattr(f"{module}.running", lambda: world.present)
    monkeypatch.setattr(f"{module}.tail", lambda log: f"    the end of {log}")
    monkeypatch.delenv("COMFYUI_DIR", raising=False)
    return world


def kandiflux(*words: str) -> Result:
    return RUNNER.invoke(app, list(words))


def ended(code: int) -> Running:
    process: Any = SimpleNamespace(returncode=code)
    return replace(STARTED, process=process)


def test_what_the_options_come_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kandiflux("up")
    assert world.given == {
        "folder": Path.home() / "ComfyUI", "options": (), "python": None, "log": None, "timeout": 600,
    }  # fmt: skip
    monkeypatch.setenv("COMFYUI_DIR", "named")
    kandiflux("up")
    assert world.given["folder"] == Path("named")
    words = ("--comfyui", "c", "--python", "p", "--log", "l", "--timeout", "5", "--", "--cpu", "--port", "1")
    kandiflux("up", *words)
    assert world.given == {
        "folder": Path("c"), "options": ("--cpu", "--port", "1"), "python": Path("p"), "log": Path("l"), "timeout": 5,
    }  # fmt: skip
    assert [kandiflux("up", "--timeout", seconds).exit_code for seconds in ("0.9", "1")] == [2, 0]


def test_it_is_stopped_at_the_end_unless_it_is_to_stay(world: World) -> None:
    shown = kandiflux("up")
    assert (shown.exit_code, shown.stdout) == (0, f"{STARTED.url}\n")
    assert (world.stopped, world.waited) == ([STARTED], 1)
    starting, ready = shown.stderr.splitlines()
    assert starting == "Starting ComfyUI in /comfy; its log is /log"
    assert ready == "Ready after 0 s. Ctrl-C stops it."
    world.stopped.clear()
    shown = kandiflux("up", "--detach")
    assert (shown.stdout, world.stopped, world.waited) == (f"{STARTED.url}\n", [], 1)
    assert shown.stderr.endswith("\nReady after 0 s. `kandiflux down` stops it.\n")
    assert kandiflux("up", "--detach", "--quiet").stderr == ""
    shown = kandiflux("up", "--detach", "--quiet", "--json")
    assert json.loads(shown.stdout) == {**STARTED.as_dict(), "fresh": True}


def test_one_that_was_there_is_left_running(world: World) -> None:
    world.fresh = False
    shown = kandiflux("up")
    assert (shown.exit_code, shown.stdout, world.stopped, world.waited) == (0, f"{STARTED.url}\n", [], 0)
    assert shown.stderr == "It was already running (pid 7); its log is /log\n"
    shown = kandiflux("up", "--quiet", "--json")
    assert (json.loads(shown.stdout)["fresh"], shown.stderr) == (False, "")


@pytest.mark.parametrize(
    ("code", "exit_code"), [(0, 0), (-signal.SIGINT, 0), (-signal.SIGTERM, 0), (1, 3), (-9, 3), (2, 3)]
)
def test_one_that_ends_by_itself_is_an_error_if_nobody_stopped_it(code: int, exit_code: int, world: World) -> None:
    world.started = ended(code)
    shown = kandiflux("up", "--quiet")
    assert (shown.exit_code, world.stopped) == (exit_code, [world.started])
    said = f"Error: ComfyUI ended (exit code {code}). The end of /log:\n    the end of /log\n"
    assert shown.stderr == (said if exit_code else "")


def test_it_is_watched_until_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("kandiflux.cli.up_command.time.sleep", pauses.append)
    world.lives = lambda: world.waited < 4
    kandiflux("up")
    assert (world.waited, world.stopped, pauses) == (4, [STARTED], [0.5] * 3)


def test_what_cannot_be_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> Any:
        raise UsageError("There is no ComfyUI.", hint="Name another.", parameter="comfyui")

    monkeypatch.setattr("kandiflux.processes.comfyui.start", start)
    shown = kandiflux("up")
    assert (shown.exit_code, shown.stderr, world.stopped) == (
        2, "Error: There is no ComfyUI.\n  hint:     Name another. (--comfyui)\n", [],
    )  # fmt: skip
    assert json.loads(kandiflux("up", "--json").stdout)["error"] == "UsageError"


@pytest.fixture(params=[signal.SIG_IGN, signal.default_int_handler], ids=["background", "foreground"])
def sigint(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ctrl-C as a script's background has it, and as a terminal has it."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
@pytest.mark.usefixtures("sigint")
def test_a_signal_ends_it_and_every_other_one_is_raised_too(world: World) -> None:
    def interrupt() -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    world.lives = interrupt
    shown = kandiflux("up")
    assert (shown.exit_code, world.stopped) == (0, [STARTED])
    # While it is being stopped: the process would be left at once if the first had been forgotten.
    world.on_stop = lambda: signal.raise_signal(signal.SIGTERM)
    assert kandiflux("up").exit_code == 143


# Down


def test_the_one_that_runs_is_stopped(world: World) -> None:
    world.present = [STARTED]
    shown = kandiflux("down")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, f"{STARTED.url}\n", "")
    assert world.stopped == [STARTED]
    shown = kandiflux("down", "--json")
    assert (json.loads(shown.stdout), shown.stderr) == ({"stopped": [STARTED.as_dict()]}, "")


def test_nothing_to_stop_is_no_error(world: World) -> None:
    shown = kandiflux("down")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == "Nothing that `kandiflux up` started is running.\n"
    assert kandiflux("down", "--quiet").stderr == ""
    shown = kandiflux("down", "--json")
    assert (json.loads(shown.stdout), shown.stderr) == ({"stopped": []}, "")


def test_which_of_several_has_to_be_said(world: World) -> None:
    world.present = [STARTED, OTHER]
    shown = kandiflux("down")
    assert (shown.exit_code, shown.stdout, world.stopped) == (2, "", [])
    assert "--all, or --comfyui with one of /comfy, /apps/portable/ComfyUI" in shown.stderr
    assert kandiflux("down", "--all").stdout.splitlines() == [STARTED.url, OTHER.url]
    assert world.stopped == [STARTED, OTHER]


@pytest.mark.parametrize(
    ("folder", "stopped"),
    [("/comfy", [STARTED]), ("/apps/portable/ComfyUI", [OTHER]), ("/apps/portable", [OTHER]), ("/apps", [])],
)
def test_the_one_of_a_folder_is_stopped(folder: str, stopped: list[Running], world: World) -> None:
    world.present = [STARTED, OTHER]
    assert kandiflux("down", "--comfyui", folder).exit_code == 0
    assert world.stopped == stopped
