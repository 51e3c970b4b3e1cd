"""The lite host's own nodes are described as a recorded ComfyUI 0.33.0 describes its."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from tests.conversations.serving import CORE
from tests.support.hosts import RunningHost
from tests.support.places import shared

RECORDED = "comfyui/object_info-0.33.0.json"


@pytest.fixture
def no_input(lite_host: RunningHost) -> Iterator[None]:
    """An empty input folder, as the recorded ComfyUI had; what other tests uploaded is elsewhere meanwhile."""
    aside = lite_host.base / "input of other tests"
    lite_host.input.rename(aside)
    lite_host.input.mkdir()
    yield
    lite_host.input.rmdir()
    aside.rename(lite_host.input)


@pytest.mark.usefixtures("no_input")
@pytest.mark.parametrize("name", CORE)
def test_object_info_equals_the_recorded(name: str, lite_host: RunningHost) -> None:
    expected = json.loads(shared(RECORDED).read_text())[name]
    assert requests.get(f"{lite_host.url}/object_info/{name}", timeout=10).json() == {name: expected}
