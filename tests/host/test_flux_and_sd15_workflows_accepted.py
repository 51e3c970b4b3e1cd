"""A real ComfyUI accepts every FLUX.1 and SD 1.5 workflow, as it is and with every preset.

The models are empty files, so nothing may run: one job holds the queue up, and what is accepted behind it is taken
out again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from kandiflux import Client, Prompt, Workflow
from kandiflux.errors import InvalidPrompt

from tests.support.hosts import RunningHost
from tests.support.placeholders import FLUX_AND_SD15, WORKFLOWS

BLOCKER = {
    "1": {"class_type": "ProbeSteps", "inputs": {"steps": 1000, "delay": 0.5, "preview": "none"}},
    "2": {"class_type": "ProbeShow", "inputs": {"value": ["1", 0]}},
}
PRESETS = {name: sorted(Workflow.load(WORKFLOWS[name]).presets) for name in FLUX_AND_SD15}
CASES = [(name, preset) for name in FLUX_AND_SD15 for preset in (None, *PRESETS[name])]


@pytest.fixture(scope="module")
def client(stocked_host: RunningHost) -> Iterator[Client]:
    """Of a ComfyUI that is busy."""
    with Client(stocked_host.url) as client:
        blocker = client.submit(Prompt.from_api(BLOCKER))
        yield client
        blocker.cancel()


@pytest.mark.parametrize(("name", "preset"), CASES, ids=lambda value: str(value))
def test_accepted(client: Client, name: str, preset: str | None) -> None:
    workflow = Workflow.load(WORKFLOWS[name])
    prompt = workflow.prompt(client.object_info(), preset=preset)
    answer = client.api.post_prompt({"prompt": prompt.nodes, "prompt_id": str(uuid.uuid4())})
    assert answer.status == 200, answer.body
    assert isinstance(answer.body, dict)
    client.api.delete_pending(answer.body["prompt_id"])
    assert answer.body["node_errors"] == {}
    for parameter, value in workflow.presets.get(preset or "", {}).items():
        assert prompt.values[parameter] == value


@pytest.mark.parametrize("name", FLUX_AND_SD15)
def test_parameters_say_what_they_take(client: Client, name: str) -> None:
    """Each leads to an input, and what the file has there is something it takes."""
    workflow = Workflow.load(WORKFLOWS[name])
    for parameter in workflow.describe(client.object_info()):
        assert parameter.description
        assert parameter.value is not None
        if parameter.choices is not None:
            assert parameter.value in parameter.choices, parameter.name
        elif parameter.min is not None and parameter.max is not None:
            assert parameter.min <= parameter.value <= parameter.max, parameter.name
        assert workflow.prompt(client.object_info(), {parameter.name: parameter.value}).nodes


def test_a_missing_model_is_named_with_its_node_and_widget(client: Client) -> None:
    text = WORKFLOWS["flux_dev"].read_text("utf-8").replace('"ae.safetensors"', '"another.safetensors"')
    with pytest.raises(InvalidPrompt) as refused:
        Workflow.from_data(json.loads(text)).prompt(client.object_info())
    (problem,) = refused.value.problems
    assert (problem.title, problem.input_name) == ("VAE", "vae_name")
    assert "another.safetensors" in str(problem)
