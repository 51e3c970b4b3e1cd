"""The start and the end of the lite host's process: its folders, its one line of output, and its exit status."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests
from kandiflux.lite import process, seam
from kandiflux.lite.host import Host
from kandiflux.lite.process import Settings, launch

from tests.support.lite_server import import_torch
from tests.support.waiting import until

PACK = """
import json
from pathlib import Path
from kandiflux.lite import seam
print("hello from a pack")
host = seam.active
told = {name: str(getattr(host, name + "_directory")) for name in ("input", "output", "temp")}
told["loras"] = [str(folder) for folder in host.model_folders("loras")]
told |= {"max_upload": host.max_upload, "user": str(host.user.folder), "packs": [pack.name for pack in host.packs]}
Path(__file__).with_suffix(".json").write_text(json.dumps(told))
NODE_CLASS_MAPPINGS = {}
"""

Then = Callable[[str], None]
WAIT = 30
"""Seconds after which a host that goes on although it was told to end is given up."""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ended by signals")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "pack.py").write_text(PACK)
    return Settings(
        listen="127.0.0.1",
        port=0,
        models=[tmp_path / "m1", tmp_path / "m2"],
        input=tmp_path / "in",
        output=tmp_path / "out",
        temp=tmp_path / "scratch",
        node_packs=[tmp_path / "pack.py"],
        max_upload=12345,
        exit_with_stdin=False,
        cpu=False,
        editor=False,
        user=tmp_path / "user",
        host_names=["named.example"],
    )


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its home is in `tmp_path`, its own pack a small one; signals and loggers are as before when it has ended."""
    import_torch()
    own = tmp_path / "own"
    own.mkdir()
    (own / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}")
    monkeypatch.setattr(process, "pack_root", lambda: own)
    monkeypatch.setenv("KANDIFLUX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(seam, "active", None)
    monkeypatch.setattr(os, "_exit", sys.exit)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, give_up)
    loggers = [logging.getLogger(name) for name in ("", "aiohttp.server")]
    before = [(one.handlers[:], one.filters[:]) for one in loggers]
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for one, (kept, filters) in zip(loggers, before, strict=True):
        one.handlers[:], one.filters[:] = kept, filters


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "__stdout__", stdout)
    return stdout


def give_up(*_: object) -> NoReturn:
    raise TimeoutError("the host goes on")


def terminate(_: str = "") -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def launched(settings: Settings, stdout: io.StringIO, then: Then = terminate) -> int:
    """The exit status. `then` runs as soon as the URL is written, which it gets, and must end the host."""
    problems: list[BaseException] = []

    def watch() -> None:
        until(lambda: stdout.getvalue().endswith("\n") or ended.is_set())
        if not ended.is_set():
            try:
                then(stdout.getvalue().strip())
            except BaseException as error:  # noqa: BLE001 - told by the main thread, once the host has ended
                problems.append(error)
                terminate()
        if not ended.wait(WAIT):
            os.kill(os.getpid(), signal.SIGALRM)

    ended = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(SystemExit) as status:
            launch(settings)
    finally:
        ended.set()
        watcher.join()
    if problems:
        raise problems[0]
    assert isinstance(status.value.code, int)
    return status.value.code


def get(url: str, path: str = "/queue", **headers: str) -> int:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url + path, headers=headers, timeout=30).status_code


# The start


def test_the_settings_reach_the_host(
    settings: Settings, stdout: io.StringIO, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(settings, stdout) == 0
    assert json.loads((tmp_path / "pack.json").read_text()) == {
        "input": str(tmp_path.resolve() / "in"),
        "output": str(tmp_path.resolve() / "out"),
        "temp": str(tmp_path.resolve() / "scratch"),
        "loras": [str(tmp_path.resolve() / name / "loras") for name in ("m1", "m2")],
        "max_upload": 12345,
        "user": str(tmp_path.resolve() / "user" / "default"),
        "packs": ["own"],
    }
    assert (tmp_path / "scratch").is_dir(), "the user's folder is not removed"
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello from a pack\n")
    (url,) = stdout.getvalue().splitlines()
    assert url.startswith("http://127.0.0.1:")


def test_a_temporary_folder_of_its_own_is_removed(settings: Settings, stdout: io.StringIO, tmp_path: Path) -> None:
    seen: list[Path] = []

    def then(_: str) -> None:
        seen.extend((tmp_path / "home" / "temp").iterdir())
        terminate()

    assert launched(dataclasses.replace(settings, temp=None), stdout, then) == 0
    told = json.loads((tmp_path / "pack.json").read_text())
    assert [str(path) for path in seen] == [told["temp"]]
    assert list((tmp_path / "home" / "temp").iterdir()) == []


def test_an_installation_without_a_pack(settings: Settings, stdout: io.StringIO, tmp_path: Path) -> None:
    (tmp_path / "own" / "__init__.py").unlink()
    assert launched(settings, stdout) == 0
    assert json.loads((tmp_path / "pack.json").read_text())["packs"] == []


@pytest.mark.parametrize("cpu", [True, False])
def test_on_the_cpu_no_device_is_visible(
    settings: Settings, stdout: io.StringIO, monkeypatch: pytest.MonkeyPatch, cpu: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    launched(dataclasses.replace(settings, cpu=cpu), stdout)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ("" if cpu else "7")


def test_further_names_are_answered(settings: Settings, stdout: io.StringIO) -> None:
    answers: list[int] = []

    def then(url: str) -> None:
        answers.extend(get(url, Host=name) for name in ("named.example", "other.example"))
        terminate()

    assert launched(settings, stdout, then) == 0
    assert answers == [200, 403]


@pytest.mark.parametrize("editor", [True, False])
def test_the_editor_is_served_if_it_is_asked_for(
    settings: Settings, stdout: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editor: bool
) -> None:
    monkeypatch.setattr(process, "frontend_folder", lambda: tmp_path)
    (tmp_path / "index.html").touch()
    answers: list[int] = []

    def then(url: str) -> None:
        answers.append(get(url, "/i18n"))
        terminate()

    assert launched(dataclasses.replace(settings, editor=editor), stdout, then) == 0
    assert answers == [200 if editor else 404]


def test_without_an_output_nothing_is_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    monkeypatch.setattr(sys, "stdin", None)
    caplog.set_level(logging.INFO)
    with pytest.raises(SystemExit) as status:
        launch(dataclasses.replace(settings, exit_with_stdin=True))
    assert status.value.code == 0
    assert any(text.startswith("Listening on http://127.0.0.1:") for text in caplog.messages)


# The end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_a_signal(settings: Settings, stdout: io.StringIO, number: int) -> None:
    answers: list[int] = []

    def then(url: str) -> None:
        answers.append(get(url))
        os.kill(os.getpid(), number)

    assert launched(settings, stdout, then) == 0
    assert answers == [200]


@pytest.mark.parametrize("exit_with_stdin", [True, False])
def test_it_ends_with_its_input_if_it_is_asked_to(
    settings: Settings, stdout: io.StringIO, monkeypatch: pytest.MonkeyPatch, exit_with_stdin: bool
) -> None:
    reading, writing = os.pipe()
    answers: list[int] = []

    def then(url: str) -> None:
        os.write(writing, b"more input")
        answers.extend(get(url) for _ in range(5))
        os.close(writing)
        if not exit_with_stdin:
            answers.extend(get(url) for _ in range(20))
            terminate()

    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert launched(dataclasses.replace(settings, exit_with_stdin=exit_with_stdin), stdout, then) == 0
    assert answers == [200] * (5 if exit_with_stdin else 25)


def test_a_port_in_use(settings: Settings, stdout: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        assert launched(dataclasses.replace(settings, port=port), stdout) == 3
    (message,) = caplog.messages
    assert message.startswith(f"Cannot listen on 127.0.0.1 port {port}: ")
    assert "Traceback" not in caplog.text
    assert stdout.getvalue() == ""


def test_a_worker_that_ended(
    settings: Settings, stdout: io.StringIO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def work(_: Host) -> NoReturn:
        raise MemoryError("no more")

    monkeypatch.setattr(Host, "work", work)
    assert launched(settings, stdout, lambda _: None) == 1
    assert caplog.messages[-1] == "The worker thread has ended; the log has the traceback."
    assert caplog.text.count("Traceback") == 1
    assert "The worker ended: no more" in caplog.text


@pytest.mark.parametrize("lacking", ["torch", "comfyui_frontend_package"])
def test_what_is_not_installed_is_named(
    settings: Settings, lacking: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nothing: Any = None
    monkeypatch.setitem(sys.modules, lacking, nothing)
    with pytest.raises(SystemExit) as status:
        launch(dataclasses.replace(settings, editor=True))
    assert status.value.code == 2
    (message,) = caplog.messages
    assert ("pip install torch" in message) == (lacking == "torch")
    assert ('pip install "kandiflux[editor]"' in message) == (lacking != "torch")
    assert ("comfyui-frontend-package" in message) == (lacking != "torch")
