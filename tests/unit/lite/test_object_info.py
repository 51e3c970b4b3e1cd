"""The host's own nodes are described as ComfyUI 0.33.0 describes its: tests/data/core_object_info.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.lite_server import new_host
from tests.support.places import DATA

RECORDED: dict[str, Any] = json.loads((DATA / "core_object_info.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return new_host(tmp_path_factory.mktemp("host")).registry.object_info()


@pytest.mark.parametrize("name", RECORDED)
def test_a_node_is_described_as_in_comfyui(name: str, described: dict[str, Any]) -> None:
    assert json.loads(json.dumps(described[name])) == RECORDED[name]


def test_there_are_no_others(described: dict[str, Any]) -> None:
    assert described.keys() == RECORDED.keys()
