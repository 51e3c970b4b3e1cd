"""Every SD1.5 workflow draws in a real ComfyUI, with small random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import RunningHost
from tests.support.places import ROOT
from tests.support.small_runs import draw, small_comfyui

FILES = [*(ROOT / "workflows").glob("sd15_*.json"), ROOT / "workflows" / "upscale.json"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    with small_comfyui(tmp_path_factory.mktemp("sd15"), "sd15") as host:
        yield host


@pytest.mark.parametrize("name", sorted(path.stem for path in FILES))
def test_a_workflow_draws(host: RunningHost, tmp_path: Path, name: str) -> None:
    draw(host, tmp_path, name)
