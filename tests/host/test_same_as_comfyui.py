"""A real ComfyUI holds the same conversations, and word for word the same as the lite host's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversations import SCENARIOS, Scenario, forget
from tests.support.hosts import RunningHost
from tests.support.recorder import Recorder


def conversation(scenario: Scenario, host: RunningHost) -> list[Any]:
    with Recorder(host) as client:
        forget(client)
        scenario(client)
        return client.comparable()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_same_as_comfyui(scenario: Scenario, comfy_host: RunningHost, lite_host: RunningHost) -> None:
    assert conversation(scenario, lite_host) == conversation(scenario, comfy_host)
