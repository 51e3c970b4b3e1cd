"""The shipped pocket workflows on the lite host show what their prompts say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hosts import RunningHost
from tests.support.pocket_runs import CHECKS, Runner


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_pictures(lite_host: RunningHost, tmp_path: Path, check: Callable[[Runner], None]) -> None:
    check(Runner(lite_host.url, tmp_path))


def test_the_runner_brings_its_own_host(tmp_path: Path) -> None:
    (picture,) = Runner("lite", tmp_path).run("kandinsky22_pocket_text_to_image", steps=4, prior_steps=4)
    assert picture.shape == (128, 128, 3)
