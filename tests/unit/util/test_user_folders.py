"""Where kandiflux keeps its data, and where it looks for its configuration."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest
from kandiflux.util.user_folders import config_folder, home


def test_the_folder_for_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found: list[Path] = []
    for named in ("~/data", "data", str(tmp_path / "data")):
        monkeypatch.setenv("KANDIFLUX_HOME", named)
        found.append(home())
    assert found == [tmp_path / "data"] * 3
    for nothing in (None, ""):
        if nothing is None:
            monkeypatch.delenv("KANDIFLUX_HOME")
        else:
            monkeypatch.setenv("KANDIFLUX_HOME", nothing)
        assert home() == platformdirs.user_data_path("kandiflux", appauthor=False)
        assert home().name == "kandiflux"


def test_the_folder_for_the_configuration() -> None:
    assert config_folder() == platformdirs.user_config_path("kandiflux", appauthor=False, roaming=True)
