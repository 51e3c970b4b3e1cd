"""Every shipped Kandinsky workflow runs on a real ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import RunningHost, running_comfyui, why_no_comfyui
from tests.support.kandinsky_runs import WORKFLOWS, run, save_repositories
from tests.support.pocket_runs import Runner


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("comfyui")
    (base / "models").mkdir()
    save_repositories(base / "models")
    with running_comfyui(base) as host:
        yield host


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow(host: RunningHost, tmp_path: Path, name: str) -> None:
    run(Runner(host.url, tmp_path), name)
