"""One wrong thing in any workflow is one clear message; here with what a real ComfyUI says of every node.

ComfyUI itself refuses each of them, too: nothing is refused here that would have run.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kandiflux import Client, Workflow
from kandiflux.workflow.workflow import shipped_workflows

from tests.support.hosts import RunningHost
from tests.support.one_wrong_thing import (
    Broken,
    breakages,
    require_one_message,
    require_one_message_on_setting,
    with_every_file,
)


@pytest.fixture(scope="module")
def client(comfy_host: RunningHost) -> Iterator[Client]:
    with Client(comfy_host.url) as client:
        yield client


@pytest.fixture(scope="module")
def known(client: Client) -> dict[str, Any]:
    return client.object_info()


@pytest.mark.parametrize("name", shipped_workflows())
def test_one_wrong_thing_is_said_once(client: Client, known: dict[str, Any], name: str) -> None:
    workflow = Workflow.load(name)
    full = with_every_file(workflow, known)
    assert workflow.prompt(full).nodes
    for broken in breakages(workflow, full):
        require_one_message(broken, full)
        require_refused(client, broken, full)
    require_one_message_on_setting(workflow, full)


def require_refused(client: Client, broken: Broken, full: dict[str, Any]) -> None:
    nodes = Workflow.from_data(broken.editor).nodes(full)
    answer = client.api.post_prompt({"prompt": nodes, "prompt_id": str(uuid.uuid4())})
    assert answer.status == 400, broken
    if broken.how != "no class":
        assert isinstance(answer.body, dict)
        errors = answer.body["node_errors"][broken.node_id]["errors"]
        assert broken.input_name in {error["extra_info"].get("input_name") for error in errors}
