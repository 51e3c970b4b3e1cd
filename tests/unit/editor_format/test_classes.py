"""What a node has of its class: inputs in the editor's order, values, its title; and of a class that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.classes import Classes
from kandiflux.workflow.editor_format.graph import Node

from tests.support.conversion_cases import OBJECT_INFO, node

CLASSES = Classes({**OBJECT_INFO, "Odd": 5, "Named": {"display_name": "Shown", "output": ["IMAGE", ["a", "b"], 0]},
                   "Free": {"input": {"required": {"a": ["INT", {"socketless": True}], "b": ["INT"]}}}})  # fmt: skip


def read(kind: str, values: Any = None, inputs: list[Any] | None = None, outputs: Any = None, **more: Any) -> Node:
    return Node.read(node(1, kind, values, inputs, outputs, **more))


@pytest.mark.parametrize(
    ("kind", "title", "shown"),
    [("Named", "Mine", "Mine"), ("Named", None, "Shown"), ("Blur", None, "Blur"), ("Nobody", None, "Nobody"),
     ("Odd", None, "Odd")],
)  # fmt: skip
def test_the_title_that_the_editor_shows(kind: str, title: str | None, shown: str) -> None:
    assert CLASSES.title(read(kind, title=title)) == shown


def test_what_object_info_says_of_a_class() -> None:
    assert CLASSES.info("Odd") is CLASSES.info("Nobody") is None
    assert list(CLASSES.specs("Blur")) == ["mask", "image", "radius"]
    assert CLASSES.specs("Nobody") == {}
    assert [CLASSES.is_output(kind) for kind in ("SaveImage", "Blur", "Nobody")] == [True, False, False]


def test_inputs_are_all_of_the_class_sockets_first_with_the_links_of_those_listed() -> None:
    listed = [["radius", "INT", 8, True], ["gone", "INT", 9], ["image", "IMAGE", 7]]
    found = [(slot.name, slot.type, slot.link, slot.widget) for slot in CLASSES.inputs(read("Blur", None, listed))]
    assert found == [
        ("mask", "MASK", None, None), ("image", "IMAGE", "7", None), ("radius", "INT", "8", "radius"),
        ("gone", "INT", "9", None),
    ]  # fmt: skip
    assert [slot.name for slot in CLASSES.inputs(read("Free"))] == ["b"]


@pytest.mark.parametrize("kind", ["Nobody", "Batch", "Resize"])
def test_inputs_are_the_files_if_the_class_does_not_tell_them_all(kind: str) -> None:
    about = read(kind, None, [["how.width", "INT", 7]])
    assert CLASSES.inputs(about) == about.inputs


@pytest.mark.parametrize(
    ("kind", "inputs", "has_one"),
    [("Blur", [["radius", "INT", 7]], True), ("Blur", [["image", "IMAGE", 7]], False),
     ("Blur", [["image", "IMAGE", 7, True]], True), ("Nobody", [["x", "INT", 7]], False),
     ("Nobody", [["x", "INT", 7, True]], True)],
)  # fmt: skip
def test_which_inputs_have_a_widget(kind: str, inputs: list[Any], has_one: bool) -> None:
    about = read(kind, None, inputs)
    assert CLASSES.has_widget(about, about.inputs[0]) is has_one


@pytest.mark.parametrize(
    ("kind", "outputs", "number", "expected"),
    [
        ("Named", [["LATENT"]], 0, "IMAGE"),
        ("Named", [["LATENT"]], 1, "COMBO"),
        ("Named", [["LATENT"]], 2, "*"),
        ("Named", [["LATENT"]] * 4, 3, "LATENT"),
        ("Named", [["LATENT"]], 3, "*"),
        ("Named", [["LATENT"]], -1, "*"),
        ("Nobody", [["LATENT"], ["MASK"]], 1, "MASK"),
        ("Nobody", [["LATENT"]], 1, "*"),
    ],
)
def test_the_type_of_an_output(kind: str, outputs: Any, number: int, expected: str) -> None:
    assert CLASSES.output_type(read(kind, None, [], outputs), number) == expected


SEED_AND_NAME = [["seed", "INT", None, True], ["image", "IMAGE", None], ["name", "STRING", None, True]]


@pytest.mark.parametrize(
    ("stored", "values"),
    [
        ([3, "x"], {"seed": 3, "name": "x"}),
        ([3, "fixed", "x"], {"seed": 3, "name": "x"}),
        ([3, "increment", "x"], {"seed": 3, "name": "x"}),
        ([3, "decrement", "x"], {"seed": 3, "name": "x"}),
        ([3, "randomize", "x"], {"seed": 3, "name": "x"}),
        ([3, "fixed"], {}),
        ([3, "other", "x"], {}),
        (["fixed", "x"], {"seed": "fixed", "name": "x"}),
        ([True, "fixed"], {"seed": True, "name": "fixed"}),
        (["a", "fixed"], {"seed": "a", "name": "fixed"}),
        ([3], {}),
        ([3, "x", "y"], {}),
        ([], {}),
        ({"seed": 3, "other": 4}, {"seed": 3, "other": 4}),
    ],
)
def test_values_of_a_class_that_nobody_knows(stored: Any, values: dict[str, Any]) -> None:
    assert CLASSES.values(read("Nobody", stored, SEED_AND_NAME)) == values


def test_values_by_name_of_a_class_that_nobody_knows() -> None:
    named = {"name": "x", "control_after_generate": "fixed", "seed": 3, "image": 4}
    about = read("Nobody", [1, 2], SEED_AND_NAME, widgets_values_named=named)
    assert CLASSES.values(about) == {"name": "x", "seed": 3}


def test_a_value_as_a_widget_has_it() -> None:
    about = read("Text")
    assert CLASSES.normal(about, "value", "a\r\nb") == "a\nb"
    assert CLASSES.normal(about, "gone", "a\r\nb") == "a\r\nb"
    assert CLASSES.normal(read("LoadImage"), "image", "") == "p.png"


LORAS = "Power Lora Loader (rgthree)"
ROW = {"on": True, "lora": "a", "strength": 1}


@pytest.mark.parametrize(
    ("stored", "shown", "rows"),
    [
        ([{}, ROW, "x", {"type": "header"}, ROW], None, {"lora_1": ROW, "lora_2": ROW}),
        ([{**ROW, "strengthTwo": 0.5}], "Single Strength", {"lora_1": ROW}),
        ([{**ROW, "strengthTwo": 0.5}], "Separate Model & Clip", {"lora_1": {**ROW, "strengthTwo": 0.5}}),
        ([{**ROW, "strengthTwo": None}], "Separate Model & Clip", {"lora_1": {**ROW, "strengthTwo": 1}}),
        ([ROW], "Separate Model & Clip", {"lora_1": {**ROW, "strengthTwo": 1}}),
        ({"lora_1": ROW}, None, {"lora_1": ROW}),
        ([], None, {}),
    ],
)
def test_the_rows_of_a_list_of_loras(stored: Any, shown: str | None, rows: dict[str, Any]) -> None:
    assert CLASSES.values(read(LORAS, stored, properties={"Show Strengths": shown})) == rows
    assert CLASSES.values(read("Nobody", [ROW])) == {}
