"""Every shipped Kandinsky workflow that needs no ComfyUI runs on the lite host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import RunningHost, running_lite
from tests.kandinsky_runs import NATIVE, WORKFLOWS, run, save_repositories
from tests.pocket_runs import Runner


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    base = tmp_path_factory.mktemp("lite")
    (base / "models").mkdir()
    save_repositories(base / "models")
    with running_lite(base) as host:
        yield host


@pytest.mark.parametrize("name", sorted(WORKFLOWS.keys() - NATIVE))
def test_workflow(host: RunningHost, tmp_path: Path, name: str) -> None:
    run(Runner(host.url, tmp_path), name)
