"""What a shell offers on Tab, asked as the shells' scripts ask."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.cli.completion import complete_preset, complete_server, complete_setting, complete_workflow
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


def names(offers: list[tuple[str, str]]) -> list[str]:
    return [name for name, _ in offers]


def line(*words: str, **params: Any) -> Any:
    """What typer has made of the line so far."""
    return SimpleNamespace(args=list(words), params=params)


def test_files_that_may_hold_a_workflow(tmp_path: Path) -> None:
    for name in ("a.json", "b.PNG", "c.webp", ".hidden.json"):
        (tmp_path / name).touch()
    (tmp_path / ".folder").mkdir()
    (tmp_path / "folder").mkdir()
    shipped = [offer for offer in complete_workflow("") if offer[1]]
    assert (POCKET, "shipped") in shipped
    assert complete_workflow("")[len(shipped) :] == [("a.json", ""), ("b.PNG", ""), ("folder/", "")]
    assert names(complete_workflow(".")) == [".folder/", ".hidden.json"]
    assert names(complete_workflow(f"{tmp_path}/b")) == [f"{tmp_path}/b.PNG"]
    assert complete_workflow("no/such/folder/") == []
    (tmp_path / "a\x1b.json").touch()
    (tmp_path / "a\n.json").touch()
    assert names(complete_workflow("a")) == ["a.json"]


def test_servers_with_their_addresses_and_no_passwords(tmp_path: Path) -> None:
    (tmp_path / "kandiflux.toml").write_text("[servers.gpu]\nurl = 'http://u:secret@gpu:8188'\n")
    assert complete_server("") == [("gpu", "gpu:8188"), ("lite", "a lite host")]
    assert complete_server("l") == [("lite", "a lite host")]


def described(folder: Path, name: str = "w.json", padding: int = 0) -> str:
    about = {
        "parameters": {"seed": {"description": "The\nseed"}, "steps": {}, "size": 3},
        "presets": {"fast": {}, "fine": {}, "slow": {}},
    }
    text = json.dumps({"nodes": [], "extra": {"kandiflux": about}})
    (folder / name).write_text(text + " " * (padding - len(text)))
    return name


def test_settings_and_presets_of_a_workflow(tmp_path: Path) -> None:
    name = described(tmp_path)
    for context in (line(workflow=name), line(name), line("other", workflow=name)):
        assert complete_setting(context, "s") == [("seed=", "The seed"), ("steps=", ""), ("size=", "")]
        assert complete_setting(context, "st") == [("steps=", "")]
        assert complete_setting(context, "seed=") == []
        assert names(complete_preset(context, "f")) == ["fast", "fine"]
    assert names(complete_setting(line(f"{POCKET}.json"), "see")) == ["seed="]


def test_what_is_no_workflow_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    described(tmp_path, "w.png")
    for context in (line(), line("none"), line(workflow=3), line("list.json"), line("w.png")):
        assert complete_setting(context, "") == complete_preset(context, "") == []


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    limit = 4 * 1024 * 1024
    assert complete_preset(line(described(tmp_path, padding=limit)), "fa") == [("fast", "")]
    assert complete_preset(line(described(tmp_path, padding=limit + 1)), "fa") == []


def test_values_of_a_file_in_the_api_format(tmp_path: Path) -> None:
    inputs = {"text": "x", "model": ["1", 0], "about": {"a": 1}, "steps": 3}
    api = {"3": {"class_type": "KSampler", "inputs": inputs}, "4": {"inputs": {"x": 1}}, "5": {"class_type": "Y"}}
    (tmp_path / "api.json").write_text(json.dumps(api))
    assert complete_setting(line("api.json"), "") == [("3.text=", "KSampler"), ("3.steps=", "KSampler"), ("4.x=", "")]
