"""What a server would refuse in a prompt is found from object_info; each wrong value is one finding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kandiflux.checking.problems import find_problems

from tests.support.checking_cases import OBJECT_INFO, api, node, only_problem


def test_a_whole_prompt_has_no_problem() -> None:
    assert find_problems(api(), OBJECT_INFO) == []


@pytest.mark.parametrize(
    ("where", "value", "kind", "said"),
    [
        ("5.steps", 0, "out_of_range", "steps is out of range: expected a whole number from 1 to 10000, got 0"),
        ("5.steps", "many", "wrong_type", "steps is not a whole number"),
        ("5.steps", 2.5, "wrong_type", "steps is not a whole number"),
        ("5.steps", None, "wrong_type", "steps is not a whole number"),
        ("5.steps", True, "wrong_type", "steps is not a whole number"),
        ("5.steps", 10**400, "out_of_range", "steps is out of range"),
        ("5.seed", "9" * 30, "out_of_range", "The nearest value is 18446744073709551615."),
        ("5.cfg", -(10**400), "out_of_range", "The nearest value is 0."),
        ("5.cfg", float("nan"), "wrong_type", "cfg is not a number"),
        ("5.denoise", 1.5, "out_of_range", "denoise is out of range: expected a number from 0.0 to 1.0, got 1.5"),
        ("5.sampler_name", "eular", "not_in_list", "sampler_name is not in the list"),
        ("5.scheduler", 7, "not_in_list", "scheduler is not in the list"),
        ("2.text", {"a": 1}, "wrong_type", "text takes a text"),
        ("5.model", ["2", 0], "wrong_link", "expected MODEL, got CONDITIONING from 'Positive'"),
        ("5.model", ["1", 7], "wrong_link", "model comes from output 7 of 'Checkpoint', which has 3"),
        ("5.model", ["99", 0], "wrong_link", "model comes from node 99, which is not there"),
        ("5.model", ["1"], "wrong_link", "model has a broken link"),
        ("2.clip", ["7", 0], "wrong_link", "comes from output 0 of 'Save', which has none"),
    ],
)
def test_one_wrong_value_is_one_finding(where: str, value: Any, kind: str, said: str) -> None:
    nodes = api()
    node_id, _, name = where.partition(".")
    nodes[node_id]["inputs"][name] = value
    finding = only_problem(nodes)
    assert (finding.kind, finding.node_id, finding.input_name) == (kind, node_id, name)
    assert said in str(finding)
    assert repr(nodes[node_id]["_meta"]["title"]) in str(finding)


@pytest.mark.parametrize(
    ("where", "value", "nearest"),
    [("5.steps", -3, "1"), ("5.steps", 10**9, "10000"), ("5.steps", 2.6, "3"), ("5.denoise", 1.5, "1"),
     ("4.width", 3, "16"), ("4.width", 99999, "16384"), ("4.width", 1000.5, "1000")],
)  # fmt: skip
def test_the_nearest_number_is_one_the_widget_has(where: str, value: Any, nearest: str) -> None:
    nodes = api()
    node_id, _, name = where.partition(".")
    nodes[node_id]["inputs"][name] = value
    assert only_problem(nodes).hint == f"The nearest value is {nearest}."


def test_the_nearest_choices_are_named() -> None:
    nodes = api()
    nodes["5"]["inputs"]["sampler_name"] = "Euler_ancestrall"
    assert "'euler_ancestral'" in str(only_problem(nodes).hint)


@pytest.mark.parametrize("value", ["20", 20.0])
def test_what_the_server_turns_into_the_right_type_is_no_finding(value: Any) -> None:
    nodes = api()
    nodes["5"]["inputs"]["steps"] = value
    assert find_problems(nodes, OBJECT_INFO) == []


def test_a_removed_link_names_what_could_be_connected() -> None:
    nodes = api()
    del nodes["5"]["inputs"]["positive"]
    finding = only_problem(nodes)
    assert (finding.kind, finding.input_name) == ("not_connected", "positive")
    assert finding.hint == "Connect it; 'Positive' or 'Negative' makes one."


def test_what_the_node_itself_feeds_is_not_offered_to_it() -> None:
    """Newer servers give SaveImage an output, and following the advice would make a circle."""
    info = copy.deepcopy(OBJECT_INFO)
    info["SaveImage"]["output"] = ["IMAGE"]
    info["Blur"]["output"] = ["IMAGE"]
    nodes = api()
    nodes["8"] = node("Blur", "Soft", image=["7", 0], mask=["9", 1], radius=1)
    nodes["9"] = node("LoadImage", "Picture", image="example.png")
    nodes["10"] = node("SaveImage", "Again", images=["8", 0], filename_prefix="y")
    del nodes["7"]["inputs"]["images"]
    (finding,) = find_problems(nodes, info)
    assert finding.hint == "Connect it; 'Decode' or 'Picture' makes one."
    del nodes["6"], nodes["8"], nodes["9"], nodes["10"]
    (finding,) = find_problems(nodes, info)
    assert finding.hint == "Connect it."


def test_a_misspelt_input_is_one_finding_not_two() -> None:
    nodes = api()
    nodes["5"]["inputs"]["stepz"] = nodes["5"]["inputs"].pop("steps")
    finding = only_problem(nodes)
    assert (finding.kind, finding.input_name, finding.hint) == ("unknown_input", "stepz", "Write steps.")


@pytest.mark.parametrize(("name", "kinds"), [("picture3", []), ("pictur2", ["unknown_input"]), ("extra", [])])
def test_inputs_that_a_node_grows_are_not_taken_for_misspelt_ones(name: str, kinds: list[str]) -> None:
    info = copy.deepcopy(OBJECT_INFO)
    info["SaveImage"]["input"]["optional"] = {"picture2": ["IMAGE"]}
    nodes = api()
    nodes["7"]["inputs"][name] = ["6", 0]
    assert [finding.kind for finding in find_problems(nodes, info)] == kinds


def test_a_missing_class_that_is_like_another() -> None:
    nodes = api()
    nodes["5"]["class_type"] = "Ksampler"
    finding = only_problem(nodes)
    assert finding.kind == "missing_node"
    assert "or use 'KSampler'" in str(finding.hint)


def test_a_circle_of_links() -> None:
    info = copy.deepcopy(OBJECT_INFO)
    info["Blur"]["output"] = ["IMAGE"]
    nodes = {
        "1": node("Blur", "One", mask=["9", 1], image=["2", 0], radius=1),
        "2": node("Blur", "Two", mask=["9", 1], image=["1", 0], radius=1),
        "9": node("LoadImage", "Picture", image="example.png"),
        "3": node("SaveImage", "Save", images=["1", 0], filename_prefix="x"),
    }
    (finding,) = find_problems(nodes, info)
    assert finding.kind == "loop"
    assert "'One'" in str(finding) or "'Two'" in str(finding)


def test_what_feeds_no_output_does_not_run_and_is_not_looked_at() -> None:
    nodes = api() | {"8": node("CheckpointLoaderSimple", "Leftover", ckpt_name="gone.safetensors")}
    assert find_problems(nodes, OBJECT_INFO) == []


def test_nothing_that_runs() -> None:
    nodes = api()
    del nodes["7"]
    assert [finding.kind for finding in find_problems(nodes, OBJECT_INFO)] == ["no_output"]
