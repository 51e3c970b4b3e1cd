"""Starting a ComfyUI, with a small program in its place: what goes wrong, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kandiflux.errors import ServerUnreachable, UsageError
from kandiflux.processes.comfyui import Running, comfyui, find_python, lives, running, start, stop, tail

MAIN = """
import argparse, http.server, json, subprocess, sys, time
parser = argparse.ArgumentParser()
for name in ("--port", "--listen", "--mode"):
    parser.add_argument(name)
parser.add_argument("--disable-auto-launch", action="store_true")
args = parser.parse_args()
print("a line of the log", flush=True)
if args.mode == "broken":
    sys.exit("this pack is broken")
if args.mode == "taken":
    open("tries", "a").write("x")
    sys.exit("[Errno 98] error while attempting to bind on address: address already in use")
if args.mode == "hangs":
    time.sleep(1000)
if args.mode == "stubborn":
    import signal
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if args.mode == "polite":
    import signal
    def leave(number, frame):
        time.sleep(0.1)
        open("left", "w").write(str(number))
        sys.exit()
    signal.signal(signal.SIGINT, leave)
if args.mode == "terminated":
    import os, signal
    def leave(number, frame):
        open("left", "w").write(str(number))
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
if args.mode == "environment":
    import os
    open("environment", "w").write(json.dumps({**os.environ, "stdin": sys.stdin.read(), "words": sys.argv}))
if args.mode == "child":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    open("child", "w").write(str(child.pid))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"system": {"comfyui_version": "0.3.64"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(args.port)), Handler).serve_forever()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("KANDIFLUX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    monkeypatch.setattr("kandiflux.processes.comfyui._POLL_SECONDS", 0.02)
    place = tmp_path / "ComfyUI"
    place.mkdir()
    (place / "main.py").write_text(MAIN)
    (place / "nodes.py").touch()
    yield place
    for one in running():
        stop(one)


def test_it_runs_as_long_as_the_block(folder: Path) -> None:
    with comfyui(folder) as url:
        (one,) = running()
        assert one.url == url
        assert one.answers()
    assert running() == []
    assert not one.answers()
    assert "a line of the log" in Path(one.log).read_text()


def test_a_second_start_finds_the_first_even_at_the_same_moment(folder: Path) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(start(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.pid for one, _ in found}) == 1
    assert sum(fresh for _, fresh in found) == 1
    for one, fresh in found:
        if fresh:
            stop(one)


def test_one_that_ends_at_once(folder: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(ServerUnreachable, match="this pack is broken"):
        start(folder, "--mode", "broken")
    assert time.monotonic() - begun < 20, "its end is noticed, not waited for"
    assert running() == []


def test_one_that_never_answers(folder: Path) -> None:
    with pytest.raises(ServerUnreachable, match=r"does not answer at .* after 1 s"):
        start(folder, "--mode", "hangs", timeout=1)
    assert running() == []


def test_a_port_that_was_taken_meanwhile_is_tried_again_elsewhere(folder: Path) -> None:
    with pytest.raises(ServerUnreachable, match="address already in use"):
        start(folder, "--mode", "taken")
    assert (folder / "tries").read_text() == "xxx"


def test_a_port_that_was_asked_for_is_the_one(folder: Path) -> None:
    with pytest.raises(ServerUnreachable):
        start(folder, "--mode", "taken", "--port", "59999")
    assert (folder / "tries").read_text() == "x"
    with pytest.raises(UsageError, match="from 1 to 65535"):
        start(folder, "--port=many")


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_what_it_started_ends_with_it(folder: Path) -> None:
    with comfyui(folder, "--mode", "child"):
        child = int((folder / "child").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_one_that_heeds_nothing_ends_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.processes.comfyui._STOP_SECONDS", 0.3)
    with comfyui(folder, "--mode", "stubborn"):
        (one,) = running()
    assert not lives(one)
    assert not one.answers()


def test_a_process_that_only_has_the_pid_is_left_alone(folder: Path) -> None:
    one, _ = start(folder)
    told = (Path(os.environ["KANDIFLUX_HOME"]) / "comfyui").glob("*.json")
    (file,) = told
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as other:
        file.write_text(file.read_text().replace(f'"pid": {one.pid}', f'"pid": {other.pid}'))
        assert running() == []
        assert other.poll() is None
        other.kill()
    stop(one)


def test_a_state_file_that_is_damaged_is_no_state(folder: Path) -> None:
    one, _ = start(folder)
    (file,) = (Path(os.environ["KANDIFLUX_HOME"]) / "comfyui").glob("*.json")
    file.write_text(file.read_text()[:20])
    assert running() == []
    stop(one)
    assert not lives(one)


def test_a_state_file_that_disappears_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process stops its ComfyUI while we look."""
    one, _ = start(folder)
    gone = Path(os.environ["KANDIFLUX_HOME"]) / "comfyui" / "gone.json"
    real = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [*real(self, pattern), gone])
    assert running() == [one]
    stop(one)


def test_no_comfyui_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no ComfyUI in .*"):
        start(tmp_path)


def test_which_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    assert find_python(tmp_path) == sys.executable
    own = tmp_path / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable)
    assert find_python(tmp_path) == str(own)
    assert find_python(tmp_path, sys.executable) == sys.executable
    monkeypatch.setenv("COMFYUI_PYTHON", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="COMFYUI_PYTHON"):
        find_python(tmp_path)


def test_one_that_runs_with_other_options_is_not_taken_for_it(folder: Path) -> None:
    one, fresh = start(folder, "--mode", "plain")
    assert fresh
    assert (one.options, Path(one.folder), one.process is not None) == (("--mode", "plain"), folder, True)
    with pytest.raises(UsageError, match=r"already runs, at http://.*, with other options") as caught:
        start(folder)
    assert (caught.value.expected, caught.value.got) == ("--mode plain", "(no options)")
    assert "kandiflux down" in (caught.value.hint or "")
    again, fresh = start(folder, "--mode", "plain")
    assert (again, fresh) == (one, False)
    stop(one)
    assert running() == []
    stop(one)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        (("--listen", "0.0.0.0", "--port", "PORT"), "http://127.0.0.1:PORT"),
        (("--listen=::", "--port=PORT"), "http://127.0.0.1:PORT"),
        (("--listen", "--port", "PORT"), "http://127.0.0.1:PORT"),
        (("--listen", "::1,127.0.0.1", "--port", "PORT"), "http://[::1]:PORT"),
        (("--listen", "localhost", "--port", "PORT"), "http://localhost:PORT"),
    ],
)
def test_where_it_is_reached(folder: Path, options: tuple[str, ...], url: str) -> None:
    """Told while it starts; whether it answers does not matter here."""
    told: list[Running] = []
    with pytest.raises(ServerUnreachable, match="ended while it started"):
        start(folder, "--mode", "broken", *(word.replace("PORT", "59998") for word in options), on_start=told.append)
    assert [(one.url, one.port) for one in told] == [(url.replace("PORT", "59998"), 59998)]


@pytest.mark.parametrize("port", ["0", "65536", "-1", ""])
def test_a_port_that_is_none(folder: Path, port: str) -> None:
    with pytest.raises(UsageError, match="from 1 to 65535"):
        start(folder, f"--port={port or 'x'}")


def test_tls_is_not_for_here(folder: Path) -> None:
    with pytest.raises(UsageError, match="TLS cannot be started here"):
        start(folder, "--tls-keyfile", "key.pem")


def test_its_log_may_be_elsewhere_and_its_end_is_shown(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "comfyui.log"
    with pytest.raises(ServerUnreachable, match=r"exit code 1\)\. The end of .*comfyui\.log:\n    a line") as caught:
        start(folder, "--mode", "broken", log=log)
    assert caught.value.parameter == "python"
    assert "this pack is broken" in log.read_text()
    log.write_text("".join(f"line {number}\n" for number in range(30)) + "\n")
    assert tail(log).splitlines() == [f"    line {number}" for number in range(10, 30)]
    assert tail(log, 1) == "    line 29"
    assert tail(tmp_path / "none.log") == ""


def test_the_portable_package_is_a_folder_around_it(folder: Path) -> None:
    with comfyui(folder.parent):
        assert [Path(one.folder) for one in running()] == [folder]


def test_the_python_of_the_portable_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    comfy = tmp_path / "ComfyUI"
    inside = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")
    # In the order from the least to the most wanted.
    for place in (
        tmp_path / "python_embeded" / "python.exe", comfy / "python_embeded" / "python.exe",
        comfy / "venv" / inside, comfy / ".venv" / inside,
    ):  # fmt: skip
        place.parent.mkdir(parents=True)
        place.touch()
        assert find_python(comfy) == str(place)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("mode", "number"), [("polite", signal.SIGINT), ("terminated", signal.SIGTERM)])
def test_it_is_asked_to_end_before_it_is_killed(
    mode: str, number: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode == "terminated":
        # For the signal that it ignores, and for the end after the next one, which takes a moment on a busy machine.
        monkeypatch.setattr("kandiflux.processes.comfyui._STOP_SECONDS", 1.0)
    with comfyui(folder, "--mode", mode):
        pass
    assert (folder / "left").read_text() == str(int(number))


def test_what_it_is_started_with(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "of-this-python")
    with comfyui(folder, "--mode", "environment") as url:
        told = json.loads((folder / "environment").read_text())
    assert told["words"] == [
        "main.py", "--disable-auto-launch", "--mode", "environment", "--port", url.rpartition(":")[2],
    ]  # fmt: skip
    assert (told["stdin"], told["PYTHONUNBUFFERED"], told["PYTHONPATH"]) == ("", "1", "of-this-python")
    if sys.platform != "win32":
        other = tmp_path / "python"
        other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        other.chmod(0o755)
        with comfyui(folder, "--mode", "environment", "--port", str(free_port()), python=other):
            told = json.loads((folder / "environment").read_text())
        assert not {"PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV"} & told.keys(), "they would lead it astray"
        assert (told["PYTHONUNBUFFERED"], told["words"].count("--port")) == ("1", 1)


def test_all_that_run_are_listed_the_newest_first(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "main.py").write_text(MAIN)
    (other / "nodes.py").touch()
    first, _ = start(folder)
    port = first.port
    second, _ = start(other, f"--port={free_port()}")
    assert running() == [second, first]
    states = sorted((Path(os.environ["KANDIFLUX_HOME"]) / "comfyui").glob("*.json"), key=lambda file: file.name)
    times = dict(zip([file.name.startswith("other") for file in states], states, strict=True))
    os.utime(times[True], (1, 1))
    assert running() == [first, second]
    assert first.as_dict() == {
        "folder": str(folder), "url": f"http://127.0.0.1:{port}", "pid": first.pid, "port": port, "log": first.log,
        "options": [],
    }  # fmt: skip
    stop(second)
    assert running() == [first]
    stop(first)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_it_is_listed_while_it_starts_and_ends_if_that_fails(folder: Path) -> None:
    told: list[Running] = []

    def fail(started: Running) -> None:
        told.append(started)
        assert running() == [started]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        start(folder, on_start=fail)
    (one,) = told
    assert not lives(one)
    assert running() == []


@pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="commands are read with ps on this system")
def test_a_process_whose_command_cannot_be_read_yet_is_running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def just_after_exec(path: Path) -> bytes:
        # Linux closes the pipe that Popen waits for before it stores the new command.
        return b"" if path.name == "cmdline" else read(path)

    started, _ = start(folder)
    try:
        monkeypatch.setattr(Path, "read_bytes", just_after_exec)
        assert running() == [started]
        os.kill(started.pid, signal.SIGKILL)
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        assert running() == []  # a zombie's command is empty, too
    finally:
        stop(started)


def test_what_another_started_since_is_not_forgotten(folder: Path) -> None:
    first, _ = start(folder)
    stop(first)
    second, _ = start(folder)
    stop(first)
    assert running() == [second]
    stop(second)


def test_a_log_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"ComfyUI cannot be started with .* and the log .*x\.log"):
        start(folder, log=tmp_path / "file" / "x.log")
    assert running() == []


@pytest.mark.parametrize("port", ["1", "65535"])
def test_ports_at_the_ends_of_their_range(folder: Path, port: str) -> None:
    told: list[Running] = []
    with pytest.raises(ServerUnreachable, match="this pack is broken"):
        start(folder, "--mode", "broken", "--port", port, on_start=told.append)
    assert [one.port for one in told] == [int(port)]


def test_a_python_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    with pytest.raises(UsageError, match=r"There is no Python at .*none") as caught:
        find_python(tmp_path, tmp_path / "none")
    assert caught.value.parameter == "python"
