"""docs/python.md: its examples run, in order, and mypy --strict finds nothing in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hosts import RunningHost
from tests.support.places import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text("utf-8"), re.DOTALL)


def test_the_examples_run_in_order(lite_host: RunningHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDIFLUX_SERVER", lite_host.url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"docs/python.md, example {number}", "exec"), names)
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert len(list((tmp_path / "twenty").iterdir())) == 20


def test_mypy_finds_nothing_in_them(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "examples.py").write_text("\n\n".join(BLOCKS), "utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    done = subprocess.run(
        [*command, "examples.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout
