"""The editor's format becomes what the editor would send: each rule by a small file, and what no such file shows."""

from __future__ import annotations

import json
import random
from datetime import datetime
from typing import Any

import pytest
from kandiflux.errors import ConversionError, WorkflowError
from kandiflux.workflow.editor_format.convert import convert

from tests.support.conversion_cases import CASES, OBJECT_INFO, file, link, node, slot, subgraph
from tests.support.places import DATA

RECORDED = json.loads((DATA / "conversions.json").read_text("utf-8"))


def inputs(workflow: dict[str, Any], **options: Any) -> dict[str, Any]:
    """{id: inputs} of the converted file."""
    prompt = convert(workflow, OBJECT_INFO, **options).prompt
    return {node_id: about["inputs"] for node_id, about in prompt.items()}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    """What the editor made of the file was recorded: see tests/editor/test_conversion_in_editor.py."""
    prompt = convert(CASES[name], OBJECT_INFO).prompt
    assert {node_id: [about["class_type"], about["inputs"]] for node_id, about in prompt.items()} == RECORDED[name]


def test_every_recorded_case_is_there() -> None:
    assert RECORDED.keys() == CASES.keys()


def test_numbers_come_before_the_nodes_of_subgraphs_as_in_javascript() -> None:
    prompt = convert(CASES["a_subgraph_with_values_of_its_own"], OBJECT_INFO).prompt
    assert list(prompt) == ["9", "5:21"]
    assert prompt["9"]["_meta"] == {"title": "SaveImage"}


def test_it_says_what_a_primitive_feeds() -> None:
    conversion = convert(CASES["a_primitive_is_written_into_what_it_feeds"], OBJECT_INFO)
    assert conversion.fed_by == {"1": [("2", "width"), ("2", "height")]}


FOX = file([node(1, "CLIPTextEncode", ["a {red|blue|{old|young} green} fox // seen"])])


def test_choices_of_dynamic_prompts_are_kept_unless_lots_are_drawn() -> None:
    assert inputs(FOX)["1"]["text"] == "a {red|blue|{old|young} green} fox // seen"
    drawn = {inputs(FOX, draw=random.Random(seed))["1"]["text"] for seed in range(50)}
    assert drawn == {"a red fox ", "a blue fox ", "a old green fox ", "a young green fox "}


def test_the_same_lots_give_the_same_prompt() -> None:
    first, second = (inputs(FOX, draw=random.Random(7)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("%date:yyyy-MM-dd%", "2026-03-04"),
        ("%date:yy.M.d%", "26"),  # the editor reads a date as far as the first dot
        ("%date:yy.M%", "%date:yy.M%"),  # … and looks for a node where there is one dot
        ("%date:hhmmss%/x", "050607/x"),
        ("100%", "100%"),
    ],
)
def test_dates_in_names_of_files(pattern: str, name: str) -> None:
    made = inputs(file([node(1, "SaveImage", [pattern])]), now=datetime(2026, 3, 4, 5, 6, 7))
    assert made["1"]["filename_prefix"] == name


def test_unknown_classes_are_named_and_do_not_stop_it() -> None:
    nodes = [
        node(1, "EmptyImage", [1, 2], [], [["IMAGE", 3]]),
        node(
            2,
            "Mystery",
            [1, "x"],
            [["image", "IMAGE", 3], ["depth", "INT", 5, True]],
            [["IMAGE", 4]],
            title="Riddle",
        ),
        node(4, "Mystery", ["only"], [["name", "STRING", None, True]], [["INT", 5]]),
        node(3, "SaveImage", ["out"], [["images", "IMAGE", 4]]),
    ]
    links = [[3, 1, 0, 2, 0, "IMAGE"], [4, 2, 0, 3, 0, "IMAGE"], [5, 4, 0, 2, 1, "INT"]]
    conversion = convert(file(nodes, links), OBJECT_INFO)
    assert conversion.unknown == {"Mystery": ["Riddle", "Mystery"]}
    assert conversion.prompt["2"]["inputs"] == {"image": ["1", 0], "depth": ["4", 0]}, (
        "two values, one widget: none is known"
    )
    assert conversion.prompt["4"]["inputs"] == {"name": "only"}
    assert conversion.prompt["3"]["inputs"]["images"] == ["2", 0]


def test_unknown_classes_keep_values_that_are_stored_with_their_names() -> None:
    slots = [["depth", "INT", None, True], ["name", "STRING", None, True]]
    riddle = node(
        1, "Mystery", [3, "fixed", "x"], slots, widgets_values_named={"depth": 3, "control": "fixed", "name": "x"}
    )
    assert inputs(file([riddle]))["1"] == {"depth": 3, "name": "x"}


def test_unknown_classes_keep_values_that_are_as_many_as_their_widgets() -> None:
    slots = [["seed", "INT", None, True], ["name", "STRING", None, True]]
    nodes = [node(1, "Mystery", [3, "randomize", "x"], slots), node(2, "Mystery", [3, "x", "y"], slots)]
    assert inputs(file(nodes)) == {"1": {"seed": 3, "name": "x"}, "2": {}}


def test_format_1_may_have_no_links() -> None:
    assert inputs({"version": 1, "nodes": [node(1, "EmptyImage", [8, 9])]}) == {"1": {"width": 8, "height": 9}}


def test_a_group_node_without_its_definition_is_an_unknown_class() -> None:
    conversion = convert(file([node(1, "workflow>lost")], extra={"groupNodes": {}}), OBJECT_INFO)
    assert conversion.unknown == {"workflow>lost": ["workflow>lost"]}


def test_values_meet_by_name_what_setters_and_getters_pass_on() -> None:
    nodes = [
        node(1, "EmptyImage", [1, 2], [], [["IMAGE", 3]]),
        node(2, "SetNode", ["picture"], [["IMAGE", "IMAGE", 3]]),
        node(3, "GetNode", ["picture"], [], [["IMAGE", 4]]),
        node(4, "SaveImage", ["out"], [["images", "IMAGE", 4]]),
    ]
    conversion = convert(file(nodes, [[3, 1, 0, 2, 0, "IMAGE"], [4, 3, 0, 4, 0, "IMAGE"]]), OBJECT_INFO)
    assert conversion.prompt["4"]["inputs"]["images"] == ["1", 0]
    assert conversion.prompt.keys() == {"1", "4"}
    assert not conversion.unknown


@pytest.mark.parametrize(
    ("shown", "rows"),
    [
        ("Single Strength", [{"on": True, "lora": "a", "strength": 0.5}, {"on": False, "lora": "b", "strength": 1}]),
        (
            "Separate Model & Clip",
            [
                {"on": True, "lora": "a", "strength": 0.5, "strengthTwo": 0.2},
                {"on": False, "lora": "b", "strength": 1, "strengthTwo": 1},
            ],
        ),
    ],
)
def test_a_list_of_loras_keeps_its_rows(shown: str, rows: list[Any]) -> None:
    first = {"on": True, "lora": "a", "strength": 0.5, "strengthTwo": 0.2}
    second = {"on": False, "lora": "b", "strength": 1, "strengthTwo": None}
    values = [{}, {"type": "PowerLoraLoaderHeaderWidget"}, first, second, {}, ""]
    loader = node(1, "Power Lora Loader (rgthree)", values, properties={"Show Strengths": shown})
    assert inputs(file([loader]))["1"] == {"lora_1": rows[0], "lora_2": rows[1]}


def test_a_circle_of_reroutes_is_refused() -> None:
    nodes = [
        node(1, "Reroute", None, [["", "*", 2]]),
        node(2, "Reroute", None, [["", "*", 1]]),
        node(3, "SaveImage", ["x"], [["images", "IMAGE", 3]]),
    ]
    with pytest.raises(ConversionError, match="form a cycle"):
        convert(file(nodes, [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 2, 0, 3, 0, "IMAGE"]]), OBJECT_INFO)


def test_a_long_row_of_reroutes_is_followed_to_its_end() -> None:
    count = 3000
    reroutes = [node(at, "Reroute", None, [["", "*", at]]) for at in range(2, count)]
    nodes = [node(1, "EmptyImage", [1, 2]), *reroutes, node(count, "SaveImage", ["x"], [["images", "IMAGE", count]])]
    links = [[at, at - 1, 0, at, 0, "*"] for at in range(2, count + 1)]
    assert inputs(file(nodes, links))[str(count)]["images"] == ["1", 0]


def _containing(name: str, *inner: str) -> dict[str, Any]:
    nodes = [node(at, other, [], [], []) for at, other in enumerate(inner, 1)]
    return subgraph(name, nodes, [link(1, 1, 0, -20, 0, "IMAGE")], [], [slot("IMAGE", "IMAGE", [1])])


def test_subgraphs_that_contain_each_other_are_refused() -> None:
    definitions = {"subgraphs": [_containing("one", "two"), _containing("two", "one")]}
    with pytest.raises(ConversionError, match="contain each other"):
        convert(file([node(5, "one")], definitions=definitions), OBJECT_INFO)


def test_subgraphs_that_multiply_beyond_measure_are_refused() -> None:
    levels = [_containing(f"level{at}", *[f"level{at + 1}"] * 10) for at in range(12)]
    definitions = {"subgraphs": [*levels, _containing("level12", "EmptyImage")]}
    with pytest.raises(ConversionError, match="more than"):
        convert(file([node(5, "level0")], definitions=definitions), OBJECT_INFO)


def test_links_that_lead_nowhere_are_left_out() -> None:
    save = node(3, "SaveImage", ["x"], [["images", "IMAGE", 3]])
    assert inputs(file([save], [[3, 77, 0, 3, 0, "IMAGE"]])) == {"3": {"filename_prefix": "x"}}
    assert inputs(file([save])) == {"3": {"filename_prefix": "x"}}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"1": {"class_type": "X", "inputs": {}}}, "not an editor-format"),
        ({"nodes": [{"type": "X"}], "links": []}, "a node is malformed"),
        ({"nodes": [5], "links": []}, "a node is malformed"),
        ({"nodes": [{"id": 1, "type": "X", "inputs": 7}], "links": []}, r"`inputs` of node 1 \(X\)"),
        ({"nodes": [{"id": 1, "type": "X", "inputs": [7]}], "links": []}, "an input or output of node 1"),
        ({"nodes": [], "links": [[1, 2]]}, "a link is malformed"),
        ({"nodes": [], "links": [[1, 2, "x", 3, 4]]}, "a link is malformed"),
        ({"nodes": [], "links": 5}, "`links` of the workflow"),
        ({"nodes": [], "links": [], "definitions": {"subgraphs": [{}]}}, "a subgraph is malformed"),
        (file([node(1, "workflow>x")], extra={"groupNodes": {"x": 5}}), "no readable definition"),
        (file([node(1, "workflow>x")], extra={"groupNodes": {"x": {"nodes": [], "links": [5]}}}), "A link in a group"),
    ],
)
def test_what_is_no_workflow_is_refused_in_words(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkflowError, match=said):
        convert(broken, OBJECT_INFO)


def test_numbers_come_first_by_their_size_and_then_the_other_ids() -> None:
    nodes = [node(one, "EmptyImage", []) for one in ("b", "999999999", "07", "a", "5", "٣", "-1", "60")]
    numbered = [{**about, "order": at} for at, about in enumerate(nodes)]
    assert list(convert(file(numbered), OBJECT_INFO).prompt) == ["5", "07", "60", "999999999", "b", "a", "٣", "-1"]


def test_nodes_are_sent_in_the_order_in_which_they_run_and_muted_ones_are_not() -> None:
    nodes = [
        node(one, "EmptyImage", [], order=at, mode=mode) for one, at, mode in (("b", 2, 0), ("a", 1, 0), ("c", 0, 2))
    ]
    assert list(convert(file(nodes), OBJECT_INFO).prompt) == ["a", "b"]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("%Twin.width%", "1"),  # the first of two of one title
        ("%Named.width%", "3"),  # the name given for this purpose, before a title
        ("%Deep.width%", "5"),
        ("%Blank.text%", ""),
        ("%Blank.gone%", "%Blank.gone%"),
        ("%Loaded.on%", "true"),
        ("%Loaded.ratio%", "2"),
    ],
)
def test_widgets_in_names_of_files(pattern: str, name: str) -> None:
    definition = subgraph("s", [node(7, "EmptyImage", [5, 6], title="Deep")], [], [], [])
    nodes = [
        node(1, "EmptyImage", [1, 2], title="Twin"), node(2, "EmptyImage", [2, 2], title="Twin"),
        node(3, "EmptyImage", [3, 2], title="Twin", properties={"Node name for S&R": "Named"}),
        node(4, "EmptyImage", [4, 2], title="Named"), node(5, "s"),
        node(6, "Nobody", {"text": None}, title="Blank"), node(8, "Nobody", {"on": True, "ratio": 2.0}, title="Loaded"),
        node(9, "SaveImage", [pattern]), node(10, "Text", [pattern]),
    ]  # fmt: skip
    made = inputs(file(nodes, definitions={"subgraphs": [definition]}))
    assert made["9"]["filename_prefix"] == name
    assert made["10"]["value"] == pattern, "only what is saved has such a name"


def test_values_that_are_lists_and_curves_are_wrapped() -> None:
    info = {"Some": {"input": {"required": {"curve": ["CURVE"], "kinds": [["a"], {"multi_select": True}]}}}}
    sent = convert(file([node(1, "Some", [[[0, 1]], ["a"]]), node(2, "Some", [None, []])]), info).prompt
    assert sent["1"]["inputs"] == {"curve": {"__type__": "CURVE", "__value__": [[0, 1]]}, "kinds": {"__value__": ["a"]}}
    assert sent["2"]["inputs"] == {"curve": None, "kinds": {"__value__": []}}


def test_lots_are_drawn_for_dynamic_prompts_only() -> None:
    made = inputs(file([node(1, "CLIPTextEncode", ["{a|a}"]), node(2, "Text", ["{a|a}"])]), draw=random.Random(1))
    assert (made["1"]["text"], made["2"]["value"]) == ("a", "{a|a}")


@pytest.mark.parametrize(
    ("outer", "inner", "sent"), [(0, 0, True), (4, 0, False), (0, 4, False), (4, 4, False), (0, 2, False)]
)
def test_outputs_in_subgraphs_within_subgraphs(outer: int, inner: int, sent: bool) -> None:
    deep = subgraph("deep", [node(7, "SaveImage", ["x"]), node(8, "EmptyImage", [])], [], [], [])
    around = subgraph("around", [node(6, "deep", mode=inner)], [], [], [])
    made = inputs(file([node(5, "around", mode=outer)], definitions={"subgraphs": [deep, around]}))
    assert ("5:6:7" in made) is sent
    assert ("5:6:8" in made) is sent
