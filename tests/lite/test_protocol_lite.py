"""The lite host holds the conversations of tests/conversations as ComfyUI does."""

from __future__ import annotations

import pytest

from tests.conversations import SCENARIOS, Scenario, forget
from tests.support.hosts import RunningHost
from tests.support.recorder import Recorder


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_lite_host(scenario: Scenario, lite_host: RunningHost) -> None:
    with Recorder(lite_host) as client:
        forget(client)
        scenario(client)
