"""The command line without a server: help, versions, and what is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kandiflux
import pytest
from kandiflux.cli import app
from typer.testing import CliRunner

from tests.support.places import ROOT

RUNNER = CliRunner()


@pytest.mark.parametrize("command", ["run", "params", "convert", "workflows"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = RUNNER.invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert f"kandiflux {command}" in shown.output


def test_version() -> None:
    assert RUNNER.invoke(app, ["--version"]).output.strip() == kandiflux.__version__


def test_no_command_shows_the_help() -> None:
    assert "run" in RUNNER.invoke(app, []).output


def test_wrong_options_are_exit_code_2() -> None:
    assert RUNNER.invoke(app, ["run"]).exit_code == 2
    assert RUNNER.invoke(app, ["run", "x", "--nonsense"]).exit_code == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json\n"
        "from typer.testing import CliRunner\n"
        "from kandiflux.cli import app\n"
        "CliRunner().invoke(app, ['--help'])\n"
        "heavy = ('torch', 'numpy', 'requests', 'websocket', 'PIL', 'aiohttp')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env={"PYTHONPATH": str(ROOT / "runner")})  # fmt: skip
    assert json.loads(shown.stdout) == []


def test_every_public_name_exists() -> None:
    for name in kandiflux.__all__:
        assert getattr(kandiflux, name) is not None
    with pytest.raises(AttributeError):
        kandiflux.nonsense  # noqa: B018


def test_a_saved_object_info_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[]")
    workflow = str(ROOT / "tests" / "data" / "empty_image.json")
    shown = RUNNER.invoke(app, ["convert", workflow, "--object-info", str(file)])
    assert shown.exit_code == 2
    assert "not a valid object_info" in shown.output
