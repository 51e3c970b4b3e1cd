"""What a shell offers on Tab, asked as the shells' scripts ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kandiflux.cli import app
from typer.testing import CliRunner

POCKET = "kandinsky22_pocket_text_to_image"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "none"))
    monkeypatch.delenv("KANDIFLUX_CONFIG", raising=False)


def offered(line: str) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_KANDIFLUX_COMPLETE": "complete_bash"}
    return CliRunner().invoke(app, [], prog_name="kandiflux", env=words).stdout.split()


def test_commands() -> None:
    assert {"cancel", "check", "convert"} <= set(offered("kandiflux c"))


def test_workflows_by_name_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "kandi").mkdir()
    (tmp_path / "kandi" / "mine.json").touch()
    (tmp_path / "kandi" / "notes.txt").touch()
    assert POCKET in offered("kandiflux run kandinsky22_pocket")
    assert "kandi/" in offered("kandiflux run kan")
    assert offered("kandiflux run kandi/") == ["kandi/mine.json"]
    assert offered("kandiflux check no/such/folder/") == []


def test_servers(tmp_path: Path) -> None:
    assert offered("kandiflux queue --server ") == ["lite"]
    (tmp_path / "kandiflux.toml").write_text("[servers.gpu]\nurl = 'http://u:secret@gpu:8188'\n")
    assert offered("kandiflux queue --server ") == ["gpu", "lite"]
    assert offered("kandiflux run x --server g") == ["gpu"]
    (tmp_path / "kandiflux.toml").write_text("damaged")
    assert offered("kandiflux queue --server ") == ["lite"]


def test_parameters_of_the_workflow_on_the_line(tmp_path: Path) -> None:
    assert set(offered(f"kandiflux run {POCKET} --set s")) >= {"seed=", "steps="}
    assert offered(f"kandiflux run {POCKET} --set seed=") == []
    api = {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["1", 0]}}}
    (tmp_path / "api.json").write_text(json.dumps(api))
    assert offered("kandiflux run api.json --set ") == ["3.seed="]
    strange = {
        "a\x1b]0;x\x07": {"class_type": "X\x1b", "inputs": {"b": 1}},
        "4": {"class_type": "\x9b", "inputs": {"c": 2}},
    }
    (tmp_path / "api.json").write_text(json.dumps({**strange, "5": 3}))
    assert offered("kandiflux run api.json --set ") == ["4.c="]
    (tmp_path / "api.json").write_text("[" * 100_000)
    assert offered("kandiflux run api.json --set ") == []
    (tmp_path / "api.json").write_text("damaged")
    assert offered("kandiflux run api.json --set ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_has_its_script(shell: str) -> None:
    shown = CliRunner().invoke(app, [], prog_name="kandiflux", env={"_KANDIFLUX_COMPLETE": f"source_{shell}"})
    assert "_KANDIFLUX_COMPLETE" in shown.stdout
