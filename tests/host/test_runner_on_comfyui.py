"""The runner's tests again, against a real ComfyUI; and what only that has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kandiflux import Client, Saver

from tests.lite.test_runner import (
    WAIT,
    test_a_cached_prompt_has_its_outputs_too,
    test_a_failing_node_is_named_by_title,
    test_a_picture_of_ones_own_is_uploaded,
    test_a_refused_prompt_names_node_and_input,
    test_a_running_job_is_cancelled,
    test_a_workflow_becomes_a_file,
    test_many_jobs_at_once,
    test_steps_and_previews_arrive,
)
from tests.support.hosts import RunningHost

__all__ = [
    "test_a_cached_prompt_has_its_outputs_too",
    "test_a_failing_node_is_named_by_title",
    "test_a_picture_of_ones_own_is_uploaded",
    "test_a_refused_prompt_names_node_and_input",
    "test_a_running_job_is_cancelled",
    "test_a_workflow_becomes_a_file",
    "test_many_jobs_at_once",
    "test_steps_and_previews_arrive",
]


@pytest.fixture
def client(comfy_host: RunningHost) -> Iterator[Client]:
    with Client(comfy_host.url, poll_seconds=1.0) as client:
        yield client


def test_pictures_over_the_websocket(client: Client, tmp_path: Path) -> None:
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 3, "color": 255}},
        "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}},
    }
    if "SaveImageWebsocket" not in client.object_info():
        pytest.skip("this ComfyUI runs without its own SaveImageWebsocket")
    images = client.submit(prompt).result(WAIT).images
    assert len(images) == 3
    saver = Saver(tmp_path)
    assert all(saver.save(image) is not None for image in images)
