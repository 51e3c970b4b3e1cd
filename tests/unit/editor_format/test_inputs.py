"""What object_info says of an input is read the same, whichever of its dialects it is in."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.inputs import InputSpec, input_specs

DYNAMIC = "COMFY_DYNAMICCOMBO_V3"


def spec(*declared: Any, name: str = "x", required: bool = True) -> InputSpec:
    group = "required" if required else "optional"
    return input_specs({"input": {group: {name: list(declared)}}})[name]


@pytest.mark.parametrize(
    ("declared", "kind", "choices"),
    [
        (["INT", {"default": 3}], "INT", None),
        ([["a", "b"]], "COMBO", ("a", "b")),
        ([["a", "b"], {"default": "b"}], "COMBO", ("a", "b")),
        (["COMBO", {"options": ["a", "b"]}], "COMBO", ("a", "b")),
        (["COMBO", {}], "COMBO", None),
        (["COMBO", {"options": "ab"}], "COMBO", None),
        ([DYNAMIC, {"options": [{"key": "a", "inputs": {}}, {"key": "b"}, {}, 5]}], DYNAMIC, ("a", "b")),
        (["IMAGE"], "IMAGE", None),
        (["IMAGE", 5], "IMAGE", None),
        ([], "*", None),
    ],
)
def test_the_type_and_the_choices(declared: list[Any], kind: str, choices: tuple[str, ...] | None) -> None:
    found = spec(*declared)
    assert (found.type, found.choices, found.required) == (kind, choices, True)


def test_a_declaration_that_is_no_list_is_its_type() -> None:
    assert input_specs({"input": {"required": {"x": "IMAGE"}}})["x"].type == "IMAGE"


@pytest.mark.parametrize("info", [{}, {"input": 5}, {"input": {"required": 5}}, {"input": {}, "input_order": 5}])
def test_a_class_that_says_nothing_of_use_has_no_inputs(info: dict[str, Any]) -> None:
    assert input_specs(info) == {}


def test_required_inputs_come_first_in_the_order_of_input_order() -> None:
    about = {"input": {"optional": {"d": ["INT"], "c": ["INT"]}, "required": {"b": ["INT"], "a": ["INT"]}}}
    assert list(input_specs(about)) == ["b", "a", "d", "c"]
    order = {"required": ["a", "gone", 5, "b"], "optional": "cd"}
    found = input_specs({**about, "input_order": order})
    assert list(found) == ["a", "b", "d", "c"]
    assert [one.required for one in found.values()] == [True, True, False, False]
    assert list(input_specs({**about, "input_order": {"required": ["a"]}})) == ["a", "b", "d", "c"], "one not listed"


@pytest.mark.parametrize(
    ("declared", "default"),
    [
        (["INT", {"default": 7}], 7),
        (["INT", {"default": 0}], 0),
        (["INT"], 0),
        (["FLOAT"], 0.0),
        (["STRING"], ""),
        (["STRING", {"default": ""}], ""),
        (["BOOLEAN"], False),
        (["BOOLEAN", {"default": True}], True),
        (["IMAGE"], None),
        ([["a", "b"]], "a"),
        ([["a", "b"], {"default": "b"}], "b"),
        ([["a", "b"], {"default": ""}], "a"),
        ([[]], None),
        ([["a", "b"], {"multi_select": True}], []),
        ([["a", "b"], {"multi_select": True, "default": "b"}], []),
        ([DYNAMIC, {"options": [{"key": "a"}]}], "a"),
        (["IMAGE", {"widgetType": "INT"}], 0),
    ],
)
def test_what_the_editor_fills_in(declared: list[Any], default: Any) -> None:
    found = spec(*declared).default
    assert (found, type(found)) == (default, type(default))


@pytest.mark.parametrize(
    ("declared", "name", "has_control", "is_seed"),
    [
        (["INT"], "seed", True, True),
        (["INT"], "noise_seed", True, True),
        (["INT"], "steps", False, False),
        (["FLOAT"], "seed", False, False),
        (["INT", {"control_after_generate": False}], "seed", False, True),
        (["INT", {"control_after_generate": True}], "steps", True, True),
        ([["a"], {"control_after_generate": True}], "which", True, False),
        ([["a"]], "seed", False, False),
        (["STRING", {"control_after_generate": True}], "seed", False, False),
        (["IMAGE", {"widgetType": "INT", "control_after_generate": True}], "x", True, False),
        (["IMAGE", {"widgetType": "INT"}], "seed", False, False),
    ],
)
def test_seeds_and_their_controls(declared: list[Any], name: str, has_control: bool, is_seed: bool) -> None:
    found = spec(*declared, name=name)
    assert (found.has_control, found.is_seed) == (has_control, is_seed)


@pytest.mark.parametrize(
    ("declared", "is_widget", "is_value", "forced"),
    [
        (["INT"], True, True, False),
        ([["a"]], True, True, False),
        (["IMAGE"], False, False, False),
        (["COLOR"], True, False, False),
        ([DYNAMIC], True, False, False),
        (["COMFY_DYNAMICGROUP_V3"], True, False, False),
        (["COMFY_AUTOGROW_V3"], False, False, False),
        (["INT", {"forceInput": True}], False, True, True),
        (["INT", {"forceInput": False}], True, True, False),
        (["IMAGE", {"widgetType": "STRING"}], True, False, False),
        (["INT", {"widgetType": 5}], True, True, False),
        (["INT", {"widgetType": "NOBODY_HAS_THIS"}], False, True, False),
    ],
)
def test_what_has_a_widget(declared: list[Any], is_widget: bool, is_value: bool, forced: bool) -> None:
    found = spec(*declared)
    assert (found.is_widget, found.is_value, found.forced) == (is_widget, is_value, forced)


@pytest.mark.parametrize(
    ("kind", "is_dynamic"),
    [(DYNAMIC, True), ("COMFY_DYNAMICGROUP_V3", True), ("COMFY_AUTOGROW_V3", True), ("COMFY_MATCHTYPE_V3", True),
     ("COMBO", False), ("IMAGE", False)],
)  # fmt: skip
def test_which_inputs_stand_for_others(kind: str, is_dynamic: bool) -> None:
    assert spec(kind).is_dynamic is is_dynamic


def test_branches_belong_to_dynamic_choices() -> None:
    options = {"options": [{"key": "a", "inputs": {"required": {"n": ["INT"]}}}, {"key": "b"}, {"inputs": {}}, "c"]}
    assert spec(DYNAMIC, options).branches == {"a": {"required": {"n": ["INT"]}}, "b": {}}
    assert spec("COMBO", options).branches == {}
    assert spec(DYNAMIC, {"options": 5}).branches == {}


@pytest.mark.parametrize(
    "key", ["image_upload", "video_upload", "audio_upload", "file_upload", "animated_image_upload"]
)
def test_which_choices_take_a_file(key: str) -> None:
    assert spec(["a.png"], {key: True}).takes_file
    assert not spec(["a.png"], {key: False}).takes_file
    assert not spec(["a.png"], {}).takes_file
