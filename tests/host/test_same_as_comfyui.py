"""A real ComfyUI holds the same conversations, and word for word the same as the lite host's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import requests

from tests.conversations import SCENARIOS, Scenario, forget
from tests.support.hosts import RunningHost
from tests.support.recorder import Recorder

OLDER = {
    "invalid_prompts_are_refused_with_the_reason": "other errors for a missing class, a cycle, a list of values",
    "masks_are_loaded_from_each_channel": "the alpha of an opaque picture has its size, not 64 by 64",
    "previews_are_plain_unless_metadata_is_negotiated": "the flags have no `assets`",
    "feature_flags_are_answered_only_as_the_first_message": "the flags have no `assets`",
    "nodes_are_described_alike": "nodes have other titles and categories, and no search_aliases",
    "system_stats_have_comfyuis_keys": "another version, `os` is os.name, no comfy_package_versions",
    "model_folders_are_listed": "fewer kinds of models",
}
"""Conversations in which ComfyUI before 0.33 says something else, and why."""


def conversation(scenario: Scenario, host: RunningHost, without: Collection[str]) -> list[Any]:
    with Recorder(host) as client:
        forget(client)
        scenario(client)
        return client.comparable(without)


@pytest.fixture(scope="module")
def is_older(comfy_host: RunningHost) -> bool:
    """Whether this ComfyUI is older than the one whose protocol the lite host speaks."""
    version = requests.get(f"{comfy_host.url}/system_stats", timeout=10).json()["system"]["comfyui_version"]
    return tuple(map(int, version.split("."))) < (0, 33)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_same_as_comfyui(scenario: Scenario, comfy_host: RunningHost, lite_host: RunningHost, is_older: bool) -> None:
    without = {"create_time"} if is_older else set[str]()
    ours, theirs = (conversation(scenario, host, without) for host in (lite_host, comfy_host))
    if is_older and scenario.__name__ in OLDER:
        assert ours != theirs, f"no longer true: {OLDER[scenario.__name__]}"
    else:
        assert ours == theirs
