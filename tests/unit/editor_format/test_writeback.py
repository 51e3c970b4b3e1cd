"""What is set is written into the editor's file, too: opened in the editor, a picture's workflow makes it again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kandiflux import Workflow
from kandiflux.workflow.editor_format.convert import convert
from kandiflux.workflow.editor_format.inputs import input_specs
from kandiflux.workflow.editor_format.writeback import write_back

from tests.support.conversion_cases import CASES, OBJECT_INFO, file, link, node, slot, subgraph

LEFT = {
    "dynamic_prompts_without_choices": "the editor takes the braces of another input for choices",
    "one_input_of_a_subgraph_for_two_widgets": "one value in the file stands for two",
    "a_primitive_before_a_subgraph": "one value in the file stands for two",
    "one_subgraph_after_another": "two instances share what the definition says",
}
"""Where no place in the file would change this value and nothing else: the file stays as it is."""


def plain_inputs(workflow: dict[str, Any], object_info: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(node id, input, another value) of every plain number and text."""
    found: list[tuple[str, str, Any]] = []
    for node_id, about in convert(workflow, object_info).prompt.items():
        specs = input_specs(object_info.get(about["class_type"]) or {})
        for name, value in about["inputs"].items():
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
    assert [(one.name, one.value) for one in carried.describe(OBJECT_INFO)] == [("size", 48)]
    again = carried.prompt(OBJECT_INFO, {"size": 56}, check=False)
    assert (again.nodes["2"]["inputs"]["width"], again.nodes["2"]["inputs"]["height"]) == (56, 56)
    assert again.workflow is not None
    assert convert(again.workflow, OBJECT_INFO).prompt["2"]["inputs"]["width"] == 56


def in_file(data: dict[str, Any], target: str, value: Any, info: dict[str, Any] = OBJECT_INFO) -> dict[str, Any]:
    """A copy of the file in which the value is set."""
    changed = copy.deepcopy(data)
    node_id, _, name = target.rpartition(".")
    write_back(changed, info, [(node_id, name)], value)
    return changed


@pytest.mark.parametrize(
    ("stored", "target", "value", "expected"),
    [
        ([1, 2], "1.height", 9, [1, 9]),
        (None, "1.height", 9, [64, 9]),
        ([1], "1.height", 9, [1, 9]),
        ([1], "1.width", 9, [9]),
        ([1, 2], "1.gone", 9, [1, 2]),
        ({"width": 1}, "1.height", 9, {"width": 1, "height": 9}),
        ("odd", "1.width", 9, "odd"),
        ([1, 2], "7.width", 9, [1, 2]),
    ],
)
def test_where_a_value_is_written(stored: Any, target: str, value: Any, expected: Any) -> None:
    changed = in_file(file([node(1, "EmptyImage", stored)]), target, value)
    assert changed["nodes"][0]["widgets_values"] == expected


def test_the_value_beside_the_name_changes_too() -> None:
    both = node(1, "EmptyImage", [1, 2], widgets_values_named={"width": 1})
    changed = in_file(in_file(file([both]), "1.width", 9), "1.height", 8)["nodes"][0]
    assert (changed["widgets_values"], changed["widgets_values_named"]) == ([9, 8], {"width": 9})


def test_a_value_that_is_missing_behind_a_seed_leaves_its_control_empty() -> None:
    changed = in_file(file([node(1, "KSampler", [7])]), "1.steps", 3)
    assert changed["nodes"][0]["widgets_values"][:3] == [7, None, 3]


@pytest.mark.parametrize("links", [[[5, 1, 0, 2, 0, "INT"], [6, 1, 0, 2, 1, "INT"]],
                                   [link(5, 1, 0, 2, 0, "INT"), link(6, 1, 0, 2, 1, "INT")]])  # fmt: skip
def test_a_link_that_would_win_is_taken_out_and_no_other(links: list[Any]) -> None:
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5, 6]])
    image = node(2, "EmptyImage", [1, 2], [["width", "INT", 5, True], ["height", "INT", 6, True]], [])
    changed = in_file(file([number, image], links), "2.width", 9)
    assert [one["link"] for one in changed["nodes"][1]["inputs"]] == [None, 6]
    assert changed["links"] == links[1:]
    assert changed["nodes"][0]["outputs"][0]["links"] == [6]
    assert convert(changed, OBJECT_INFO).prompt["2"]["inputs"] == {"width": 9, "height": ["1", 0]}


def test_a_value_over_a_link_from_the_subgraphs_input_is_written_inside() -> None:
    inner = node(21, "EmptyImage", [11, 22], [["width", "INT", 1, True], ["height", "INT", 3, True]], [])
    ends = [slot("w", "INT", [1]), slot("h", "INT", [3])]
    definition = subgraph("s", [inner], [link(1, -10, 0, 21, 0, "INT"), link(3, -10, 1, 21, 1, "INT")], ends, [])
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 5]])
    use = node(5, "s", [], [["w", "INT", 5, True]], [])
    data = file([number, use], [[5, 1, 0, 5, 0, "INT"]], definitions={"subgraphs": [definition]})
    changed = in_file(data, "5:21.width", 9)
    assert convert(changed, OBJECT_INFO).prompt["5:21"]["inputs"] == {"width": 9, "height": 22}
    (written,) = changed["definitions"]["subgraphs"]
    assert [end["linkIds"] for end in written["inputs"]] == [[], [3]]
    assert [one["id"] for one in written["links"]] == [3]


def test_the_outermost_place_that_changes_nothing_else_is_chosen() -> None:
    data = CASES["nested_subgraphs"]
    changed = in_file(data, "5:27:21.width", 5)
    assert [one["widgets_values"] for one in changed["nodes"] if one["id"] == 5] == [[5]]
    assert changed["definitions"] == data["definitions"]


@pytest.mark.parametrize("target", ["5:27:21.gone", "5:99.width", "99:21.width", "5:27:21.width"])
def test_nothing_is_written_where_there_is_no_such_place(target: str) -> None:
    data = CASES["nested_subgraphs"]
    same = convert(data, OBJECT_INFO).prompt["5:27:21"]["inputs"]["width"]
    assert in_file(data, target, same) == data


def test_a_place_of_an_equal_value_of_another_type_is_not_the_place() -> None:
    """1, True and 1.0 are equal in Python and different in a file."""
    inner = node(21, "EmptyImage", [1, 2], [["width", "INT", 1, True], ["height", "INT", 3, True]], [])
    ends = [slot("w", "INT", [1]), slot("h", "INT", [3])]
    definition = subgraph("s", [inner], [link(1, -10, 0, 21, 0, "INT"), link(3, -10, 1, 21, 1, "INT")], ends, [])
    use = node(5, "s", [7, 1], [], [])
    data = file([use], definitions={"subgraphs": [definition]})
    assert in_file(data, "5:21.height", 9)["nodes"][0]["widgets_values"] == [7, 9]
    assert in_file(data, "5:21.width", 9)["nodes"][0]["widgets_values"] == [9, 1]
