"""The same workflows, files unchanged, on a real ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hosts import RunningHost
from tests.support.pocket_runs import CHECKS, Runner


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_pictures(comfy_host: RunningHost, tmp_path: Path, check: Callable[[Runner], None]) -> None:
    check(Runner(comfy_host.url, tmp_path))
