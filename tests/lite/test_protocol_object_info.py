"""The lite host's own nodes are described as a recorded ComfyUI 0.3.64 describes its."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from tests.conversations.common import png
from tests.conversations.serving import CORE
from tests.support.hosts import RunningHost
from tests.support.places import shared

RECORDED = "comfyui/object_info-0.3.64.json"


@pytest.fixture
def example(lite_host: RunningHost) -> Iterator[None]:
    """The one file in the recorded ComfyUI's input folder; what other tests uploaded is elsewhere meanwhile."""
    aside = lite_host.base / "input of other tests"
    lite_host.input.rename(aside)
    lite_host.input.mkdir()
    (lite_host.input / "example.png").write_bytes(png((0, 0, 0, 0)))
    yield
    (lite_host.input / "example.png").unlink()
    lite_host.input.rmdir()
    aside.rename(lite_host.input)


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("name", CORE)
def test_object_info_equals_the_recorded(name: str, lite_host: RunningHost) -> None:
    expected = json.loads(shared(RECORDED).read_text())[name]
    assert requests.get(f"{lite_host.url}/object_info/{name}", timeout=10).json() == {name: expected}
