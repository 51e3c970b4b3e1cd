"""What is set is written into the editor's file, too: opened in the editor, a picture's workflow makes it again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kandiflux import Workflow
from kandiflux.conversion.convert import convert
from kandiflux.conversion.inputs import input_specs

from tests.support.conversion_cases import CASES, OBJECT_INFO

LEFT = {
    "dynamic_prompts_without_choices": "the editor takes the braces of another input for choices",
    "a_forced_input_has_no_slot": "the file still has a slot for an input that became a socket",
    "one_input_of_a_subgraph_for_two_widgets": "one value in the file stands for two",
    "a_primitive_before_a_subgraph": "one value in the file stands for two",
    "one_subgraph_after_another": "two instances share what the definition says",
}
"""Where no place in the file would change this value and nothing else: the file stays as it is."""


def plain_inputs(workflow: dict[str, Any], object_info: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(node id, input, another value) of every plain number and text."""
    found: list[tuple[str, str, Any]] = []
    for node_id, node in convert(workflow, object_info).prompt.items():
        specs = input_specs(object_info.get(node["class_type"]) or {})
        for name, value in node["inputs"].items():
            if name in specs and specs[name].type == "INT" and isinstance(value, int):
                found.append((node_id, name, value + 1 if value < 100 else value - 1))
            elif name in specs and specs[name].type == "STRING" and isinstance(value, str):
                found.append((node_id, name, f"another {value}"))
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_value_of_every_kind_of_file(name: str) -> None:
    workflow = Workflow.from_data(CASES[name])
    left = []
    for node_id, input_name, value in plain_inputs(CASES[name], OBJECT_INFO):
        prompt = workflow.prompt(OBJECT_INFO, {f"{node_id}.{input_name}": value}, check=False)
        assert prompt.nodes[node_id]["inputs"][input_name] == value
        assert prompt.workflow is not None
        again = convert(prompt.workflow, OBJECT_INFO).prompt
        if again[node_id]["inputs"] != prompt.nodes[node_id]["inputs"]:
            left.append((node_id, input_name))
    assert bool(left) == (name in LEFT), left


def test_the_workflow_itself_is_not_changed() -> None:
    name = "nested_subgraphs"
    before = copy.deepcopy(CASES[name])
    for node_id, input_name, value in plain_inputs(CASES[name], OBJECT_INFO):
        Workflow.from_data(CASES[name]).prompt(OBJECT_INFO, {f"{node_id}.{input_name}": value}, check=False)
    assert CASES[name] == before


def test_parameters_of_a_primitive_keep_their_names_in_what_a_file_carries() -> None:
    """In the API format a PrimitiveNode is gone, but the workflow beside it says what it fed."""
    about = {"parameters": {"size": {"node": 1, "input": "value", "description": "Width and height."}}}
    case = {**CASES["a_primitive_is_written_into_what_it_feeds"], "extra": {"kandiflux": about}}
    prompt = Workflow.from_data(case).prompt(OBJECT_INFO, {"size": 48}, check=False)
    carried = Workflow.from_data({"prompt": prompt.nodes, "workflow": prompt.workflow})
    assert [(one.name, one.value) for one in carried.parameters(OBJECT_INFO)] == [("size", 48)]
    again = carried.prompt(OBJECT_INFO, {"size": 56}, check=False)
    assert (again.nodes["2"]["inputs"]["width"], again.nodes["2"]["inputs"]["height"]) == (56, 56)
    assert again.workflow is not None
    assert convert(again.workflow, OBJECT_INFO).prompt["2"]["inputs"]["width"] == 56
