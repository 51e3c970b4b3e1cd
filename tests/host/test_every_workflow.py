"""Every shipped Kandinsky workflow runs on a real ComfyUI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hosts import RunningHost
from tests.support.kandinsky_runs import WORKFLOWS, run
from tests.support.pocket_runs import Runner


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow(stocked_host: RunningHost, tmp_path: Path, name: str) -> None:
    run(Runner(stocked_host.url, tmp_path), name)
