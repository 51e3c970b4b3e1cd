"""The lite host that is started: a small script in its place."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from kandiflux.errors import ServerUnreachable
from kandiflux.jobs.connect import open_client
from kandiflux.processes.lite_host import running_lite_host

from tests.support.stub_server import StubServer
from tests.support.waiting import until


def script(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """Has `text` run in place of Python; it finds `folder` in $HERE."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    monkeypatch.setattr("kandiflux.processes.lite_host.sys.executable", str(file))
    monkeypatch.setenv("HERE", str(folder))
    return folder / "said"


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no /bin/sh there")


@pytest.mark.parametrize("path", [None, "/elsewhere"])
def test_a_lite_host_runs_as_long_as_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    if path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", path)
    text = 'sleep 0.3; echo "$PYTHONPATH" "$@" > $HERE/said; echo http://here; echo more; cat; echo ended >> $HERE/said'
    said = script(tmp_path, monkeypatch, text)
    with running_lite_host("--cpu") as url:
        assert url == "http://here"
    begin, end = said.read_text().splitlines()
    places, *words = begin.split(" ")
    assert places.split(os.pathsep)[1:] == ([path] if path else [])
    assert Path(places.split(os.pathsep)[0], "kandiflux").is_dir()
    assert words[:6] == ["-m", "kandiflux", "host", "--port", "0", "--exit-with-stdin"]
    assert [word for word in words[6:] if not word.startswith("/")] == ["--output", "--temp", "--cpu"]
    assert end == "ended"


def test_ctrl_c_in_the_terminal_does_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner asks it to stop in good order: it is in a group of its own."""
    said = script(tmp_path, monkeypatch, "echo $$ > $HERE/said; echo http://here; exec cat")
    with running_lite_host():
        assert os.getpgid(int(said.read_text())) != os.getpgid(0)


def test_what_it_prints_later_never_blocks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = script(tmp_path, monkeypatch, "echo http://here; seq 100000; echo done > $HERE/said; exec cat")
    with running_lite_host():
        until(said.exists)


def test_a_child_of_it_that_keeps_its_output_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = script(tmp_path, monkeypatch, "sleep 1000 & echo $! > $HERE/said; echo http://here; exec cat")
    with running_lite_host():
        pass
    os.kill(int(said.read_text()), signal.SIGKILL)


def test_a_lite_host_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, monkeypatch, "for i in $(seq 20); do echo line $i >&2; done; exit 1")
    with pytest.raises(ServerUnreachable, match="did not start") as caught, running_lite_host():
        pass
    assert caught.value.message.split("\n    ")[1:] == [f"line {number}" for number in range(6, 21)]


def test_a_lite_host_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.processes.lite_host._START_SECONDS", 0.3)
    script(tmp_path, monkeypatch, "exec cat")
    with pytest.raises(ServerUnreachable, match="did not start"), running_lite_host():
        pass


def test_a_lite_host_that_does_not_stop_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kandiflux.processes.lite_host._STOP_SECONDS", 0.2)
    said = script(tmp_path, monkeypatch, "echo $$ > $HERE/said; echo http://here; exec sleep 1000")
    with running_lite_host():
        pass
    assert "did not stop within" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


def test_a_client_of_a_named_server_and_of_a_lite_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StubServer().serving() as stub:
        with open_client(stub.url, headers={"X-Key": "k"}) as client:
            client.api.queue()
        assert stub.headers[0]["x-key"] == "k"
        said = script(tmp_path, monkeypatch, f"echo {stub.url}; cat; echo ended >> $HERE/said")
        with open_client("lite") as client:
            assert client.url == stub.url
            assert not said.exists()
        assert said.read_text() == "ended\n"
        client = open_client("lite")
        assert (client.url, client.closed) == (stub.url, False)
        client.close()
        assert (client.closed, said.read_text()) == (True, "ended\nended\n")
