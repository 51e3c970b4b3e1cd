"""What the canvas shows is what can be set: widgets of subgraphs, and the inputs of App Mode."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.errors import ParameterError
from kandiflux.workflow.workflow import Workflow

from tests.support.conversion_cases import file, link, node, slot, subgraph

INFO: dict[str, Any] = {
    "Draw": {
        "input": {"required": {"size": ["INT", {"default": 1}], "color": ["INT", {"default": 2}], "seed": ["INT"]}},
        "input_order": {"required": ["size", "color", "seed"]},
        "output": ["IMAGE"],
    },
    "Save": {"input": {"required": {"images": ["IMAGE"], "name": ["STRING"]}}, "output": [], "output_node": True},
    "Think": {
        "input": {
            "required": {
                "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                    {"key": "on", "inputs": {"required": {"seed": ["INT"], "heat": ["FLOAT"]}}}, {"key": "off"},
                ]}],
            }
        },
        "output_node": True,
    },
    "CustomCombo": {
        "input": {"required": {"choice": ["COMBO", {"options": []}]}}, "output": ["STRING", "INT"], "output_node": True,
    },
}  # fmt: skip
LINKED = [["size", "INT", 11, True], ["color", "INT", 12, True], ["seed", "INT", None, True]]
MAKER = subgraph(
    "maker",
    [node(10, "Draw", [1, 2, 3, "fixed"], LINKED, [["IMAGE", 14]]),
     node(13, "Draw", [1, 2, 3, "fixed"], [["color", "INT", 13, True]])],
    [link(11, -10, 0, 10, 0, "INT"), link(12, -10, 1, 10, 1, "INT"), link(13, -10, 1, 13, 0, "INT"),
     link(14, 10, 0, -20, 0, "IMAGE")],
    [slot("size", "INT", [11]), {**slot("color", "INT", [12, 13]), "label": "Tint"}],
    [slot("IMAGE", "IMAGE", [14])],
)  # fmt: skip


def maker(node_id: int = 2, title: str | None = "Maker", values: list[Any] | None = None) -> dict[str, Any]:
    inputs = [["size", "INT", None, True], ["color", "INT", None, True]]
    return node(node_id, "maker", values or [48, 222], inputs, [["IMAGE", 20]], title=title)


def workflow(*more: dict[str, Any], **extra: Any) -> Workflow:
    save = node(3, "Save", ["x"], [["images", "IMAGE", 20]])
    links = [[20, 2, 0, 3, 0, "IMAGE"]]
    nodes = [maker(), save, *more]
    return Workflow.from_data(file(nodes, links, definitions={"subgraphs": [MAKER]}, extra=extra))


@pytest.mark.parametrize("address", ["Maker.color", "2.color", "2.Tint", "'Maker'.color", '"Maker".Tint'])
def test_a_subgraph_is_set_by_its_title_or_id_and_what_it_shows(address: str) -> None:
    prompt = workflow().prompt(INFO, {address: 7})
    assert [prompt.nodes[at]["inputs"]["color"] for at in ("2:10", "2:13")] == [7, 7]
    assert prompt.nodes["2:10"]["inputs"]["size"] == 48
    assert prompt.workflow is not None
    assert prompt.workflow["nodes"][0]["widgets_values"] == [48, 7], "the workflow in the picture makes the same"
    assert Workflow.from_data(prompt.workflow).prompt(INFO).nodes == prompt.nodes


def test_an_inner_node_is_set_by_its_own_address() -> None:
    prompt = workflow().prompt(INFO, {"2:10.seed": 5})
    assert [prompt.nodes[at]["inputs"]["seed"] for at in ("2:10", "2:13")] == [5, 3]


def test_of_two_uses_of_a_subgraph_only_one_changes() -> None:
    prompt = workflow(maker(5, "Other")).prompt(INFO, {"Other.size": 9})
    assert [prompt.nodes[at]["inputs"]["size"] for at in ("2:10", "5:10")] == [48, 9]
    with pytest.raises(ParameterError, match="2 subgraphs are called 'Maker': 2, 5") as error:
        workflow(maker(5)).prompt(INFO, {"Maker.size": 9})
    assert error.value.hint == "Use the id, as in 2.size."


def test_what_a_subgraph_does_not_show() -> None:
    with pytest.raises(ParameterError, match=r"The subgraph 'Maker' \(node 2\) shows no 'colour'") as error:
        workflow().prompt(INFO, {"Maker.colour": 9})
    assert error.value.expected == "size, Tint"
    with pytest.raises(ParameterError, match="no node with the title or id 'Makr'") as error:
        workflow().prompt(INFO, {"Makr.color": 9})
    assert (error.value.expected, error.value.hint) == ("Maker (2), Draw, Save", "Did you mean 'Maker'?")


def test_a_subgraph_in_a_subgraph() -> None:
    inner = node(6, "maker", [48, 222], [["size", "INT", 30, True], ["color", "INT", None, True]], title="Maker")
    around = subgraph("around", [inner], [link(30, -10, 0, 6, 0, "INT")], [slot("big", "INT", [30])], [])
    outer = node(4, "around", [99], [["big", "INT", None, True]], title="Around")
    data = file([outer], definitions={"subgraphs": [MAKER, around]})
    loaded = Workflow.from_data(data)
    assert loaded.prompt(INFO, {"Around.big": 5}, check=False).nodes["4:6:10"]["inputs"]["size"] == 5
    assert loaded.prompt(INFO, {"4:6.color": 5}, check=False).nodes["4:6:10"]["inputs"]["color"] == 5


def test_what_is_listed_and_in_which_order() -> None:
    listed = {"inputs": [[3, "name"], ["2", "color"], ["10", "seed"], [99, "gone"], ["x"], None]}
    names = [info.name for info in workflow(linearData=listed).describe(INFO)]
    inner = [f"2:{at}.{name}" for at in (10, 13) for name in ("size", "color", "seed")]
    assert names == ["2.size", "2.color", "3.name", *inner, "name", "color", "seed"]
    first = workflow().describe(INFO)[1]
    assert (first.value, first.description, first.type) == (222, "Maker", "INT")


@pytest.mark.parametrize(
    ("entry", "name", "node_id"),
    [([3, "name"], "name", "3"), (["3", "name"], "name", "3"), (["10", "seed"], "seed", "2:10"),
     (["0f3e-uuid:3:name", "name"], "name", "3")],
)  # fmt: skip
def test_an_input_of_app_mode_is_set_by_its_name(entry: list[Any], name: str, node_id: str) -> None:
    loaded = workflow(linearData={"inputs": [entry], "outputs": []})
    value: Any = "y" if name == "name" else 8
    assert loaded.prompt(INFO, {name: value}).nodes[node_id]["inputs"][name] == value


def test_a_name_that_app_mode_shows_twice_means_neither() -> None:
    loaded = workflow(linearData={"inputs": [["10", "seed"], ["13", "seed"]]})
    assert [info.name for info in loaded.describe(INFO)][-1] == "2:13.seed"
    with pytest.raises(ParameterError, match="There is no parameter 'size'"):
        loaded.prompt(INFO, {"size": 1})


def test_declared_names_come_before_all_others() -> None:
    own = {"parameters": {"color": {"node": "2:13", "input": "seed"}}}
    loaded = workflow(linearData={"inputs": [["2", "color"]]}, kandiflux=own)
    assert [info.name for info in loaded.describe(INFO)] == ["color"]
    assert loaded.prompt(INFO, {"color": 9}).nodes["2:13"]["inputs"]["seed"] == 9


def test_what_a_choice_adds_can_be_set() -> None:
    loaded = Workflow.from_data(file([node(1, "Think", ["on", 7, 0.5], title="Brain")]))
    assert [info.name for info in loaded.describe(INFO)] == ["1.mode.seed", "1.mode.heat"]
    assert loaded.prompt(INFO, {"1.mode.heat": 0.25}).nodes["1"]["inputs"]["mode.heat"] == 0.25
    assert loaded.prompt(INFO, {"seed": 5}).nodes["1"]["inputs"]["mode.seed"] == 5


def test_the_choice_of_a_custom_combo_is_one_of_its_options() -> None:
    loaded = Workflow.from_data(file([node(1, "CustomCombo", ["a", 0, "a", "b", ""])]))
    assert loaded.describe(INFO)[0].choices == ("a", "b")
    sent = loaded.prompt(INFO, {"1.choice": "b"}, check=False).nodes["1"]["inputs"]
    assert (sent["choice"], sent["index"]) == ("b", 1)
    with pytest.raises(ParameterError, match="has no choice 'c'"):
        loaded.prompt(INFO, {"1.choice": "c"}, check=False)


def test_of_unknown_classes_what_the_file_names_is_listed() -> None:
    named = node(7, "Mystery", {"text": "a", "size": 2, "ratio": 0.5, "on": True}, [["images", "IMAGE", 21]])
    bare = node(8, "Riddle", ["a", 2], [["images", "IMAGE", 22]])
    draw = node(9, "Draw", [1, 2, 3, "fixed"], [], [["IMAGE", 21, 22]])
    loaded = Workflow.from_data(file([draw, named, bare], [[21, 9, 0, 7, 0, "IMAGE"], [22, 9, 0, 8, 0, "IMAGE"]]))
    types = {info.name: info.type for info in loaded.describe(INFO)}
    assert {name: kind for name, kind in types.items() if name.startswith("7.")} == {
        "7.text": "STRING", "7.size": "INT", "7.ratio": "FLOAT", "7.on": "BOOLEAN",
    }  # fmt: skip
    assert loaded.undescribed(INFO) == {"Riddle": ["Riddle"]}
