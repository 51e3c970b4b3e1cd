"""docs/runner.md: its commands and its configuration file are read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from kandiflux.cli import app
from kandiflux.config import load_config
from typer.main import get_command

from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "runner.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if line.strip()])
def test_the_commands_are_ones_that_can_be_given(line: str) -> None:
    program, name, *words = shlex.split(line, comments=True)
    assert program == "kandiflux"
    commands = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    commands[name].make_context(name, words)


def test_every_command_is_told_of() -> None:
    table = PAGE[PAGE.index("## Commands") : PAGE.index("## Running")]
    for name in get_command(app).commands:  # pyright: ignore[reportAttributeAccessIssue]
        assert re.search(rf"`{name}\b", table), f"docs/runner.md says nothing of `kandiflux {name}`"


def test_the_configuration_file_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "kandiflux.toml"
    (block,) = blocks("toml")
    file.write_text(block, "utf-8")
    config = load_config({"KANDIFLUX_CONFIG": str(file)})
    assert config.default_server == "gpu"
    assert config.servers["studio"].cert == (str(tmp_path / "me.crt"), str(tmp_path / "me.key"))
