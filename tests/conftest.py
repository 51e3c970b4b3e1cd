"""Fixtures all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kandiflux import Client

pytest_plugins = ["tests.support.plugin"]
pytest.register_assert_rewrite("tests.support.recorder", "tests.conversations")

from tests.support.fake_comfyui import FakeComfyUI  # noqa: E402
from tests.support.hosts import RunningHost, running_comfyui, running_lite, why_no_comfyui  # noqa: E402
from tests.support.places import ROOT  # noqa: E402


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


@pytest.fixture(scope="session")
def stocked_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """A real ComfyUI with every model and picture that a shipped workflow names: Kandinsky's tiny, the others empty."""
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    from tests.support.kandinsky_runs import save_repositories  # imports diffusers
    from tests.support.placeholders import save_placeholders

    base = tmp_path_factory.mktemp("stocked")
    (base / "models").mkdir()
    save_repositories(base / "models")
    save_placeholders(base / "models")
    with running_comfyui(base) as host:
        (host.input / "example.png").write_bytes((ROOT / "docs" / "demo.png").read_bytes())
        yield host


@pytest.fixture(scope="session")
def full_campaign(pytestconfig: pytest.Config) -> bool:
    """Whether fault campaigns run with all their jobs: --campaign=full."""
    return pytestconfig.getoption("--campaign") == "full"


@pytest.fixture
def comfy() -> Iterator[FakeComfyUI]:
    """A ComfyUI that misbehaves as a test wants."""
    with FakeComfyUI().serving() as server:
        yield server


@pytest.fixture
def client(comfy: FakeComfyUI) -> Iterator[Client]:
    """A client of `comfy` that is quick to notice."""
    with Client(comfy.url, timeout=(1.0, 0.4), poll_seconds=0.2, patience=1.5) as client:
        yield client
