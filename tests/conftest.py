"""Fixtures all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.recorder", "tests.conversations")

from tests.hosts import RunningHost, running_comfyui, running_lite, why_no_comfyui  # noqa: E402


@pytest.fixture(scope="session")
def lite_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """The lite host, with this pack and the protocol pack; `.url` is its base URL."""
    with running_lite(tmp_path_factory.mktemp("lite")) as host:
        yield host


@pytest.fixture(scope="session")
def comfy_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """A real ComfyUI, likewise; the test is skipped where there is none."""
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    with running_comfyui(tmp_path_factory.mktemp("comfyui")) as host:
        yield host
