"""`kandiflux convert`: the prompt on standard output, everything else on standard error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from typer.testing import CliRunner

from tests.support.conversion_cases import CASES, OBJECT_INFO, file, node

RUNNER = CliRunner()


@pytest.fixture
def object_info(tmp_path: Path) -> str:
    path = tmp_path / "object_info.json"
    path.write_text(json.dumps(OBJECT_INFO), "utf-8")
    return str(path)


def written(folder: Path, workflow: Any) -> str:
    path = folder / "file.json"
    path.write_text(json.dumps(workflow), "utf-8")
    return str(path)


def test_it_prints_the_prompt(tmp_path: Path, object_info: str) -> None:
    workflow = written(tmp_path, CASES["a_linked_widget_keeps_its_slot"])
    shown = RUNNER.invoke(app, ["convert", workflow, "--object-info", object_info])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["2"]["inputs"] == {"width": ["1", 0], "height": 20}
    assert shown.stderr == ""


def test_unknown_nodes_are_named_with_their_titles(tmp_path: Path, object_info: str) -> None:
    workflow = written(tmp_path, file([node(at, "Mystery", title=f"Riddle {at}") for at in range(1, 8)]))
    shown = RUNNER.invoke(app, ["convert", workflow, "--object-info", object_info])
    assert shown.exit_code == 0
    assert len(json.loads(shown.stdout)) == 7
    assert "Mystery (Riddle 1, Riddle 2, Riddle 3, Riddle 4, Riddle 5, and 2 more)" in shown.stderr
    six = written(tmp_path, file([node(at, "Mystery", title=f"Riddle {at}") for at in range(1, 7)]))
    assert "Riddle 5, and 1 more)" in RUNNER.invoke(app, ["convert", six, "--object-info", object_info]).stderr
    five = written(tmp_path, file([node(at, "Mystery", title=f"Riddle {at}") for at in range(1, 6)]))
    assert "Riddle 5): values may" in RUNNER.invoke(app, ["convert", five, "--object-info", object_info]).stderr
    workflow = written(tmp_path, file([node(at, "Mystery", title=f"Riddle {at}") for at in range(1, 8)]))
    strict = RUNNER.invoke(app, ["convert", workflow, "--object-info", object_info, "--strict"])
    assert strict.exit_code == 2
    assert strict.stdout == ""
    assert "Riddle 1" in strict.stderr


def test_choices_are_drawn_when_asked_for(tmp_path: Path, object_info: str) -> None:
    workflow = written(tmp_path, file([node(1, "CLIPTextEncode", ["a {red|blue} fox"])]))

    def text(*options: str) -> str:
        shown = RUNNER.invoke(app, ["convert", workflow, "--object-info", object_info, *options])
        return json.loads(shown.stdout)["1"]["inputs"]["text"]

    assert text() == "a {red|blue} fox"
    assert text("--draw-prompts") in ("a red fox", "a blue fox")
    assert text("--draw-seed", "3") == text("--draw-seed", "3")
    assert {text("--draw-seed", str(number)) for number in range(20)} == {"a red fox", "a blue fox"}


def test_a_file_in_the_api_format_is_printed_as_it_is(tmp_path: Path, object_info: str) -> None:
    api = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8}}}
    shown = RUNNER.invoke(app, ["convert", written(tmp_path, api), "--object-info", object_info])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == api
    assert "already" in shown.stderr


def test_half_a_character_can_be_printed(tmp_path: Path, object_info: str) -> None:
    workflow = written(tmp_path, file([node(1, "Text", ["\ud83d, alone"])]))
    shown = RUNNER.invoke(app, ["convert", workflow, "--object-info", object_info])
    assert json.loads(shown.stdout)["1"]["inputs"]["value"] == "\ud83d, alone"


def test_a_broken_file_is_refused_in_words(tmp_path: Path, object_info: str) -> None:
    shown = RUNNER.invoke(
        app, ["convert", written(tmp_path, {"nodes": [7], "links": []}), "--object-info", object_info]
    )
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert "expected" in shown.stderr


def test_what_a_person_should_know_is_noted(tmp_path: Path, object_info: str) -> None:
    image = {"id": 1, "type": "EmptyImage", "mode": 2, "widgets_values": [8, 8, 1, 0]}
    path = tmp_path / "muted.json"
    path.write_text(json.dumps({"nodes": [image], "links": []}))
    shown = RUNNER.invoke(app, ["convert", str(path), "--object-info", object_info])
    assert (shown.exit_code, json.loads(shown.stdout)) == (0, {})
    assert shown.stderr == "note: Nothing runs: 1 of 1 nodes are muted or bypassed, the rest is not sent.\n"
