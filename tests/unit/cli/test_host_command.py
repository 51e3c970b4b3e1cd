"""`kandiflux host`: what its options come to. The host itself is tested with the lite host."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from kandiflux.cli import app
from kandiflux.lite.process import Settings

from tests.support.commands import RUNNER


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Settings]]:
    """What each host was started with."""
    seen: list[Settings] = []
    monkeypatch.setattr("kandiflux.lite.process.launch", seen.append)
    monkeypatch.setenv("KANDIFLUX_HOME", str(tmp_path))
    ours, handlers, levels = logging.getLogger("kandiflux"), logging.root.handlers[:], logging.root.level
    before = ours.level
    # basicConfig closes handlers that it replaces; pytest's own must stay.
    logging.root.handlers[:] = []
    yield seen
    logging.root.handlers[:] = handlers
    logging.root.setLevel(levels)
    ours.setLevel(before)


def test_without_options(settings: list[Settings], tmp_path: Path) -> None:
    assert RUNNER.invoke(app, ["host"]).exit_code == 0
    assert settings == [
        Settings(
            listen="127.0.0.1", port=8188, models=[tmp_path / "models"], input=tmp_path / "input",
            output=tmp_path / "output", temp=None, node_packs=[], max_upload=100 * 1024 * 1024,
            exit_with_stdin=False, cpu=False, editor=False, user=tmp_path / "user", host_names=[],
        )
    ]  # fmt: skip


def test_with_options(settings: list[Settings]) -> None:
    words = "--listen 0.0.0.0 --port 0 --models a --models b --input i --output o --temp t --user u --editor --cpu"
    words += " --node-pack n --allow-host h --max-upload-size 1 --exit-with-stdin"
    assert RUNNER.invoke(app, ["host", *words.split()]).exit_code == 0
    assert settings == [
        Settings(
            listen="0.0.0.0", port=0, models=[Path("a"), Path("b")], input=Path("i"), output=Path("o"), temp=Path("t"),
            node_packs=[Path("n")], max_upload=1024 * 1024, exit_with_stdin=True, cpu=True, editor=True,
            user=Path("u"), host_names=["h"],
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--port", "-1"), 2), (("--port", "65535"), 0), (("--port", "65536"), 2), (("--max-upload-size", "0"), 2)],
)
def test_numbers_out_of_range(words: tuple[str, str], code: int, settings: list[Settings]) -> None:
    assert RUNNER.invoke(app, ["host", *words]).exit_code == code
    assert bool(settings) == (code == 0)


@pytest.mark.parametrize(
    ("words", "ours", "others"),
    [
        ((), logging.INFO, logging.WARNING),
        (("--verbose",), logging.DEBUG, logging.INFO),
        (("--quiet",), logging.ERROR, logging.ERROR),
    ],
)
def test_what_is_logged(words: tuple[str, ...], ours: int, others: int) -> None:
    RUNNER.invoke(app, ["host", *words])
    assert logging.getLogger("kandiflux.lite").getEffectiveLevel() == ours
    assert logging.getLogger("aiohttp").getEffectiveLevel() == others
