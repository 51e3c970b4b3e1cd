"""`kandiflux doctor` and `kandiflux servers`: what they print. What doctor finds is in test_diagnosis.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from kandiflux.cli import app
from kandiflux.cli.diagnosis import Line
from kandiflux.cli.doctor_command import doctor

from tests.support.commands import RUNNER
from tests.support.screen import call, on_screen
from tests.support.stub_server import StubServer, prompt

LINES = [
    Line("ok", "Python", "3.12"),
    Line("warn", "device", "a \n GPU", "Try another."),
    Line("fail", "w", "x" * 2_000, "See."),
]


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Line]]:
    """What doctor finds."""
    found = list(LINES)
    with StubServer().serving() as stub:
        monkeypatch.setenv("KANDIFLUX_SERVER", stub.url)
        monkeypatch.setattr("kandiflux.cli.diagnosis.examine", lambda client, workflow: iter(found))
        monkeypatch.chdir(tmp_path)
        yield found


def test_a_line_for_a_program(lines: list[Line]) -> None:
    shown = RUNNER.invoke(app, ["doctor"])
    assert (shown.exit_code, shown.stderr) == (2, "")
    assert shown.stdout == f"ok\tPython\t3.12\nwarn\tdevice\ta GPU\tTry another.\nfail\tw\t{'x' * 2_000}\tSee.\n"
    lines.pop()
    assert RUNNER.invoke(app, ["doctor"]).exit_code == 0


def test_lines_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch, "stdout")
    with pytest.raises(typer.Exit) as ended:
        call(doctor)
    assert ended.value.exit_code == 2
    *shown, failed, todo = screen.text.splitlines()
    assert shown == ["  ok  Python           3.12", "warn  device           a GPU", " " * 23 + "Try another."]
    assert (failed[:23], len(failed), todo) == ("fail  w                ", 23 + 1_000, " " * 23 + "See.")
    for state, colour in ((" ok", 32), ("warn", 33), ("fail", 31)):
        assert f"\x1b[{colour}m" in screen.getvalue().split(state)[0].splitlines()[-1]


def test_all_lines_as_json(lines: list[Line]) -> None:
    shown = RUNNER.invoke(app, ["doctor", "--json"])
    assert shown.exit_code == 2
    answer = json.loads(shown.stdout)
    assert (answer["ok"], answer["lines"]) == (False, [line.as_dict() for line in lines])
    lines[2:] = []
    assert json.loads(RUNNER.invoke(app, ["doctor", "--json"]).stdout)["ok"] is True


def test_the_workflow_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr("kandiflux.cli.diagnosis.examine", lambda _, workflow: looked.append(workflow) or iter(()))
    Path("w.json").write_text(json.dumps(prompt()))
    assert RUNNER.invoke(app, ["doctor"]).exit_code == RUNNER.invoke(app, ["doctor", "w.json"]).exit_code == 0
    assert [getattr(workflow, "name", None) for workflow in looked] == [None, "w"]


# Servers


def test_servers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.processes.comfyui.running", list)
    monkeypatch.setenv("XDG_CONFIG_HOME", "none")
    monkeypatch.delenv("KANDIFLUX_CONFIG", raising=False)
    shown = RUNNER.invoke(app, ["servers"])
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "No servers are configured" in shown.stderr
    assert json.loads(RUNNER.invoke(app, ["servers", "--json"]).stdout) == {
        "file": None, "servers": [], "started": [],
    }  # fmt: skip
    Path("kandiflux.toml").write_text(
        'default_server = "b"\n[servers.a]\nurl = "http://u:secret@a"\n[servers.b]\nurl = "http://b"\n'
    )
    started = SimpleNamespace(url="http://127.0.0.1:1", folder="/comfy", pid=7, log="/log")
    monkeypatch.setattr("kandiflux.processes.comfyui.running", lambda: [started])
    assert RUNNER.invoke(app, ["servers"]).stdout.splitlines() == [
        "name\turl", "a\thttp://a", "b\thttp://b\tdefault", "\thttp://127.0.0.1:1\tstarted in /comfy, pid 7",
    ]  # fmt: skip
    answer = json.loads(RUNNER.invoke(app, ["servers", "--json"]).stdout)
    assert [(one["name"], one["url"], one["default"]) for one in answer["servers"]] == [
        ("a", "http://a", False), ("b", "http://b", True),
    ]  # fmt: skip
    assert answer["started"] == [{"url": "http://127.0.0.1:1", "folder": "/comfy", "pid": 7, "log": "/log"}]
    assert Path(answer["file"]).name == "kandiflux.toml"
