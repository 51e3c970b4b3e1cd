"""Where the pack lies, and names of files that the system refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux.util import paths
from kandiflux.util.paths import expanded, is_file, pack_root, workflows_folder

from tests.support.places import ROOT


def test_the_pack_of_a_checkout_and_of_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (pack_root(), workflows_folder()) == (ROOT, ROOT / "workflows")
    monkeypatch.setattr(paths, "_CHECKOUT", tmp_path)
    assert pack_root() == ROOT / "runner" / "kandiflux" / "pack"
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "host.py").touch()
    assert pack_root() == tmp_path


def test_a_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a"
    assert expanded(Path("a/~")) == Path("a/~")
    assert expanded("~no-such-user/a") == Path("~no-such-user/a")


def test_what_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert is_file(tmp_path / "a")
    for name in ("", "b", "a" * 5000, "a\0"):
        assert not is_file(tmp_path / name)
