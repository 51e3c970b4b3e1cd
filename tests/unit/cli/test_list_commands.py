"""`kandiflux params` and `kandiflux workflows`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.cli import app
from kandiflux.workflow.workflow import Workflow, shipped_workflows
from typer.testing import Result

from tests.support.commands import RUNNER

CHOICES = [f"c{number}" for number in range(7)]
INPUTS: dict[str, Any] = {
    "seed": ["INT", {"min": 0, "max": 9}], "low": ["INT", {"min": 1}], "high": ["FLOAT", {"max": 1.5}],
    "free": ["STRING", {}], "six": [CHOICES[:6]], "seven": [CHOICES],
}  # fmt: skip
VALUES = {"seed": 5, "low": 1, "high": 0.5, "free": "x", "six": "c1", "seven": "c2"}
ABOUT = {
    "title": "A title",
    "parameters": {name: {"node": 1, "input": name, "description": f"the {name}"} for name in VALUES},
    "presets": {"fast": {"seed": 1, "free": "y"}, "slow": {"low": 3}},
}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("info.json").write_text(json.dumps({"Node": {"input": {"required": INPUTS}, "output_node": True}}))
    # The editor has a second widget beside a seed.
    seed, *others = VALUES.values()
    nodes = [{"id": 1, "type": "Node", "widgets_values": [seed, "fixed", *others]}]
    Path("w.json").write_text(json.dumps({"nodes": nodes, "links": [], "extra": {"kandiflux": ABOUT}}))


def params(*words: str) -> Result:
    shown = RUNNER.invoke(app, ["params", "w.json", "--object-info", "info.json", *words])
    assert (shown.exit_code, shown.stderr) == (0, "")
    return shown


def test_a_line_for_each_parameter_and_each_preset() -> None:
    lines = params().stdout.splitlines()
    assert lines[0] == "name\ttype\tvalue\trange"
    rows = {line.split("\t")[0]: line.split("\t")[2:] for line in lines[1:7]}
    assert rows == {
        "seed": ["5", "0 … 9", "the seed"],
        "low": ["1", "1 …", "the low"],
        "high": ["0.5", "… 1.5", "the high"],
        "free": ["x", "", "the free"],
        "six": ["c1", "c0, c1, c2, c3, c4, c5", "the six"],
        "seven": ["c2", "c0, c1, c2, c3, c4, c5, … (7)", "the seven"],
    }
    assert lines[7:] == ["--preset fast: seed=1, free=y", "--preset slow: low=3"]


def test_parameters_as_json_hold_no_nulls() -> None:
    answer = json.loads(params("--json").stdout)
    assert answer["presets"] == ABOUT["presets"]
    listed = {one["name"]: one for one in answer["parameters"]}
    assert list(listed) == list(VALUES)
    assert (listed["seed"]["value"], listed["seed"]["min"], listed["seed"]["max"]) == (5, 0, 9)
    assert listed["seven"]["choices"] == CHOICES
    assert "max" not in listed["low"]
    assert not [one for one in answer["parameters"] if None in one.values()]


def test_nodes_of_unknown_classes_are_counted() -> None:
    nodes = [
        {"id": 1, "type": "Node", "widgets_values": [5, "fixed", 1, 0.5, "x", "c1", "c2"]},
        {"id": 2, "type": "Mystery", "widgets_values": ["a"], "inputs": [{"name": "x", "type": "*", "link": 1}]},
        {"id": 3, "type": "Mystery", "widgets_values": ["a"], "inputs": [{"name": "x", "type": "*", "link": 1}]},
    ]
    Path("u.json").write_text(json.dumps({"nodes": nodes, "links": []}))
    shown = RUNNER.invoke(app, ["params", "u.json", "--object-info", "info.json"])
    assert (shown.exit_code, shown.stderr) == (0, "Left out: 2 node(s) of unknown classes: Mystery.\n")
    assert [line.split("\t")[0] for line in shown.stdout.splitlines()[1:]] == [f"1.{name}" for name in VALUES]
    answer = json.loads(RUNNER.invoke(app, ["params", "u.json", "--object-info", "info.json", "--json"]).stdout)
    assert answer["left_out"] == {"Mystery": ["Mystery", "Mystery"]}


def test_the_shipped_workflows() -> None:
    shown = RUNNER.invoke(app, ["workflows"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    head, *rows = shown.stdout.splitlines()
    assert head == "name\ttitle"
    assert [row.split("\t")[0] for row in rows] == list(shipped_workflows())
    listed = json.loads(RUNNER.invoke(app, ["workflows", "--json"]).stdout)
    for about, path in zip(listed, shipped_workflows().values(), strict=True):
        workflow = Workflow.load(path)
        assert about == {"name": workflow.name, "title": workflow.title, "description": workflow.description}
