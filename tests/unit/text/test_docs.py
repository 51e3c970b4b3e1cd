"""docs/prompts.md: what it shows is what comes out."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from kandiflux.cli import app
from typer.testing import CliRunner

from tests.support.places import ROOT

DOC = ROOT / "docs" / "prompts.md"
TEXT = DOC.read_text("utf-8")


def shown() -> list[tuple[str, str]]:
    """The commands of the page, each with what stands below it."""
    blocks = re.findall(r"```console\n(.*?)```", TEXT, re.S)
    return [tuple(part.split("\n", 1)) for block in blocks for part in block.split("$ ")[1:]]


@pytest.mark.parametrize(("command", "output"), shown(), ids=lambda value: value if "kandiflux" in value else "")
def test_commands_print_what_the_page_shows(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (layers,) = re.findall(r"```json\n(.*?)```", TEXT, re.S)
    (tmp_path / "fox.json").write_text(layers, "utf-8")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner(env={"COMFYUI_DIR": ""}).invoke(app, shlex.split(command)[1:])
    assert ran.stderr + ran.stdout == output
    assert ran.exit_code == 0


def test_python_prints_what_the_page_shows() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    examples = doctest.DocTestParser().get_doctest(code, {}, "docs/prompts.md", str(DOC), 0)
    assert len(examples.examples) == 5
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_page_tells_of_every_code() -> None:
    rules = (ROOT / "nodes" / "text" / "rules.py").read_text("utf-8")
    codes = set(re.findall(r'(?:given\.finding|Rule)\(\s*"([a-z-]+)"', rules))
    rows = re.findall(r"^\| ([a-z, -]+) \|", TEXT, re.M)
    assert {code for row in rows for code in row.split(", ")} - {"code", "target"} == codes
