"""The checks of a prompt before it is queued: which outputs may run, and what is said of the others."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from kandiflux.lite.nodes_primitive import CLASSES as PRIMITIVES
from kandiflux.lite.registry import Registry
from kandiflux.lite.validate import Verdict, validate

from tests.conversations.common import node, show
from tests.protocol_pack.probes import NODE_CLASS_MAPPINGS as PROBES

Json = dict[str, Any]


class Picky:
    """Declares what the probes do not: no options, hidden inputs, types with blanks, a group of its own."""

    CATEGORY, FUNCTION, RETURN_TYPES = "testing", "run", ("B ,C", "INT")

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {
            "required": {"either": ("A, B", {}), "number": ("INT", {"min": 0, "max": 10})},
            "optional": {"text": ("STRING",), "exact": ("FLOAT", {"min": -1.5, "max": 2.5})},
            "hidden": {"node_id": "UNIQUE_ID"},
        }


class CheckedByName(Picky):
    """Checks `number` itself, sees every input as a list, and says what it saw."""

    seen: list[Json] = []

    @classmethod
    def VALIDATE_INPUTS(cls, number: Any, either: Any = "absent") -> bool | str:
        cls.seen.append({"number": number, "either": either})
        return number != 13 or "13 is unlucky"


class OpenCombo(Picky):
    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"required": {"of_list": ([1, 2, "three"],), "of_many": (list(range(21)), {})}}


REGISTRY = Registry({**PRIMITIVES, **PROBES, **{each.__name__: each for each in (Picky, CheckedByName, OpenCombo)}}, {})
ONE = node("PrimitiveInt", value=1)


def verdict(**nodes: Json) -> Verdict:
    return validate(nodes, REGISTRY)


def errors_of(about: Json, name: str = "n") -> list[Json]:
    """The errors of one node before an output."""
    found = validate({name: about, "one": ONE, "out": show(name, 0)}, REGISTRY)
    if found.error is None:
        assert found == Verdict(outputs=["out"])
        return []
    assert found.error["type"] == "prompt_outputs_failed_validation"
    assert list(found.node_errors) == [name]
    assert found.node_errors[name]["class_type"] == about["class_type"]
    assert found.node_errors[name]["dependent_outputs"] == ["out"]
    return found.node_errors[name]["errors"]


def picky(**inputs: Any) -> Json:
    return node("Picky", **{"either": "x", "number": 5, **inputs})


GOOD: list[Json] = [
    {"number": 0},
    {"number": 10},
    {"exact": -1.5},
    {"exact": 2.5},
    {"unknown": object()},
    {"node_id": "a hidden input is not checked"},
    {"either": {"__value__": ["a", 0]}},
]


@pytest.mark.parametrize("inputs", GOOD, ids=lambda inputs: "-".join(inputs))
def test_what_is_within_the_limits_is_valid(inputs: Json) -> None:
    assert errors_of(picky(**inputs)) == []


RANGE = {"min": 0, "max": 10}
EXACT = {"min": -1.5, "max": 2.5}
WRONG = {
    "below": ({"number": -1}, "value_smaller_than_min", "Value -1 smaller than min of 0", "number", RANGE, -1),
    "above": ({"number": 11}, "value_bigger_than_max", "Value 11 bigger than max of 10", "number", RANGE, 11),
    "a float below": (
        {"exact": -2},
        "value_smaller_than_min",
        "Value -2.0 smaller than min of -1.5",
        "exact",
        EXACT,
        -2.0,
    ),
    "a float above": (
        {"exact": "2.6"},
        "value_bigger_than_max",
        "Value 2.6 bigger than max of 2.5",
        "exact",
        EXACT,
        2.6,
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_out_of_range_is_said_with_the_range(case: str) -> None:
    inputs, kind, message, name, options, value = WRONG[case]
    declared = "INT" if name == "number" else "FLOAT"
    extra = {"input_name": name, "input_config": (declared, options), "received_value": value}
    assert errors_of(picky(**inputs)) == [{"type": kind, "message": message, "details": name, "extra_info": extra}]


@pytest.mark.parametrize(
    ("given", "kind", "becomes"),
    [
        ({"number": "7"}, int, 7),
        ({"number": 2.9}, int, 2),
        ({"number": True}, int, 1),
        ({"exact": "0.25"}, float, 0.25),
        ({"exact": 1}, float, 1.0),
        ({"text": 5}, str, "5"),
        ({"text": None}, str, "None"),
        ({"either": {"__value__": [1]}}, list, [1]),
        ({"either": {"value": [1]}}, dict, {"value": [1]}),
    ],
)
def test_constants_are_converted_in_place(given: Json, kind: type, becomes: Any) -> None:
    about = picky(**given)
    assert errors_of(about) == []
    (name,) = given
    assert about["inputs"][name] == becomes
    assert type(about["inputs"][name]) is kind


def test_a_boolean_is_whatever_is_true() -> None:
    good = {"short": "a", "long": "choice 1", "number": 1, "whole": 1}
    for given, becomes in ((0, False), ("no", True), (True, True)):
        about = node("ProbeChoice", **good, flag=given)
        assert errors_of(about) == []
        assert about["inputs"]["flag"] is becomes


@pytest.mark.parametrize(
    ("inputs", "kind", "why"),
    [
        ({"number": "many"}, "INT", "invalid literal for int() with base 10: 'many'"),
        ({"number": None}, "INT", "int() argument must be"),
        ({"number": 10**400}, "INT", "int too large to convert to float"),
        ({"exact": math.nan}, "FLOAT", "nan is not a finite number"),
        ({"exact": "inf"}, "FLOAT", "inf is not a finite number"),
        ({"exact": []}, "FLOAT", None),
    ],
)
def test_what_cannot_be_converted_is_said_with_the_reason(inputs: Json, kind: str, why: str | None) -> None:
    (name,) = inputs
    (error,) = errors_of(picky(**inputs))
    if why is None:  # any list is a link, here one of a wrong length
        assert error["type"] == "bad_linked_input"
        return
    assert error["type"] == "invalid_input_type"
    assert error["message"] == f"Failed to convert an input value to a {kind} value"
    assert error["details"].startswith(f"{name}, ")
    assert why in error["details"]
    assert why in error["extra_info"]["exception_message"]
    assert error["extra_info"]["input_config"][0] == kind
    assert error["extra_info"]["input_name"] == name


def test_a_long_value_is_cut_in_what_is_said() -> None:
    (error,) = errors_of(picky(exact="x" * 5000))
    assert error["extra_info"]["received_value"] == "x" * 1000 + "…"
    assert len(error["extra_info"]["exception_message"]) == 1000
    assert len(error["details"]) < 2100
    (error,) = errors_of(picky(number={"a": "x" * 991}))
    assert error["extra_info"]["received_value"] == {"a": "x" * 991}, "of 1,000 characters as JSON: shown as it is"
    (error,) = errors_of(picky(number={"a": "x" * 992}))
    assert error["extra_info"]["received_value"] == f'{{"a": "{"x" * 992}"'[:1000] + "…"


def test_a_choice_that_is_not_in_the_list() -> None:
    first, second = errors_of(node("OpenCombo", of_list=3, of_many="x"))
    assert (first["type"], first["message"]) == ("value_not_in_list", "Value not in list")
    assert first["details"].startswith("of_list: ")
    assert first["details"].endswith(" not in [1, 2, 'three']")
    assert first["extra_info"]["input_config"] == ([1, 2, "three"], {})
    assert second["details"] == "of_many: 'x' not in (list of length 21)"
    assert second["extra_info"]["input_config"] is None, "a list of more than 20 is not sent back"
    assert errors_of(node("OpenCombo", of_list="three", of_many=20)) == []


def test_a_list_of_twenty_choices_is_told_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = list(range(20))
    monkeypatch.setattr(OpenCombo, "INPUT_TYPES", lambda: {"required": {"of": (choices, {"tooltip": "x"})}})
    (error,) = errors_of(node("OpenCombo", of=20))
    assert error["details"].endswith(f" not in {choices}")
    assert error["extra_info"]["input_config"] == (choices, {"tooltip": "x"})


def test_required_inputs_are_required_and_optional_ones_are_not() -> None:
    missing = {"type": "required_input_missing", "message": "Required input is missing"}
    assert errors_of(node("Picky", text="x")) == [
        {**missing, "details": name, "extra_info": {"input_name": name}} for name in ("either", "number")
    ]


@pytest.mark.parametrize(
    ("source", "slot", "fits"),
    [("picky", 0, True), ("picky", 1, False), ("one", 0, False)],
    ids=["a type in common", "another output", "another class"],
)
def test_a_link_needs_a_type_in_common(source: str, slot: int, fits: bool) -> None:
    prompt = {"picky": picky(), "one": ONE, "n": picky(either=[source, slot]), "out": show("n", 0)}
    found = validate(prompt, REGISTRY)
    if fits:
        assert found == Verdict(outputs=["out"])
        return
    (error,) = found.node_errors["n"]["errors"]
    assert error == {
        "type": "return_type_mismatch",
        "message": "Return type mismatch between linked nodes",
        "details": "either, received_type(INT) mismatch input_type(A, B)",
        "extra_info": {
            "input_name": "either",
            "input_config": ("A, B", {}),
            "received_type": "INT",
            "linked_node": [source, slot],
        },
    }


@pytest.mark.parametrize("link", [[], ["one"], ["one", 0, 0]])
def test_a_list_of_another_length_is_no_link(link: list[Any]) -> None:
    (error,) = errors_of(picky(number=link))
    assert error == {
        "type": "bad_linked_input",
        "message": "Bad linked input, must be a length-2 list of [node_id, slot_index]",
        "details": "number",
        "extra_info": {"input_name": "number", "input_config": ("INT", RANGE), "received_value": link},
    }


@pytest.mark.parametrize("link", [["nobody", 0], ["one", 1], ["one", "x"], [["one"], 0]], ids=str)
def test_a_link_to_nothing_is_an_exception_of_the_node(link: list[Any]) -> None:
    found = verdict(one=ONE, bad=picky(number=link), out=show("bad", 0))
    (error,) = found.node_errors["bad"]["errors"]
    assert error["type"] == "exception_during_inner_validation"
    assert error["message"] == "Exception when validating inner node"
    assert error["extra_info"]["linked_node"] == ["bad", 0]
    assert error["extra_info"]["exception_type"] in ("KeyError", "IndexError", "TypeError")
    assert error["extra_info"]["traceback"]
    (error,) = verdict(one=ONE, out=show(*link)).node_errors["out"]["errors"]
    assert error["type"] == "exception_during_validation"
    assert error["message"] == "Exception when validating node"
    assert error["extra_info"]["traceback"]


# VALIDATE_INPUTS


@pytest.fixture
def seen() -> list[Json]:
    CheckedByName.seen.clear()
    return CheckedByName.seen


def test_what_a_class_checks_itself_has_no_range(seen: list[Json]) -> None:
    assert errors_of(node("CheckedByName", either="x", number="99")) == []
    assert seen == [{"number": 99, "either": "x"}]


def test_the_answer_of_a_class_is_an_error_of_each_input_it_checks(seen: list[Json]) -> None:
    failed = {"type": "custom_validation_failed", "message": "Custom validation failed for node"}
    assert errors_of(node("CheckedByName", either="x", number=13)) == [
        {**failed, "details": f"{name} - 13 is unlucky", "extra_info": {"input_name": name}}
        for name in ("either", "number")
    ]
    (error,) = [e for e in errors_of(node("ProbeChecked", answer="false", number=1, free=1)) if "answer" in str(e)]
    assert error == {**failed, "details": "answer", "extra_info": {"input_name": "answer"}}


def test_a_class_that_does_not_check_an_input_keeps_its_range() -> None:
    (error,) = errors_of(node("ProbeChecked", answer="true", number=9, free=9))
    assert (error["type"], error["details"]) == ("value_bigger_than_max", "number")


def test_a_class_sees_a_link_as_none(seen: list[Json]) -> None:
    prompt = {"one": ONE, "picky": picky(), "n": node("CheckedByName", either=["picky", 0], number=["one", 0])}
    assert validate({**prompt, "out": show("n", 0)}, REGISTRY).outputs == ["out"]
    assert seen == [{"number": None, "either": None}]


def test_a_class_may_check_the_types_of_links() -> None:
    text, number = node("PrimitiveString", value="x"), node("PrimitiveFloat", value=1)
    assert verdict(a=text, b=node("ProbeTypes", value=["a", 0]), out=show("b", 0)).outputs == ["out"]
    found = verdict(a=number, b=node("ProbeTypes", value=["a", 0]), out=show("b", 0))
    (error, _) = found.node_errors["b"]["errors"]
    assert error["details"].endswith("no floats here")
    assert {one["extra_info"]["input_name"] for one in found.node_errors["b"]["errors"]} == {"value", "input_types"}


# The whole prompt


@pytest.mark.parametrize("about", [5, None, [], {}, {"inputs": {}}], ids=str)
def test_a_node_without_a_class(about: Any) -> None:
    error = validate({"1": ONE, "7": about}, REGISTRY).error
    assert error is not None
    assert error["details"] == "Node ID '#7'"
    assert "class_type" in error["message"]


@pytest.mark.parametrize("name", [5, ["ProbeShow"]], ids=str)
def test_a_class_that_is_not_a_text(name: Any) -> None:
    error = validate({"7": {"class_type": name, "inputs": {}}}, REGISTRY).error
    assert error is not None
    assert "is not a string" in error["message"]


def test_classes_that_are_missing_are_all_named_and_cut() -> None:
    error = verdict(a=ONE, b=node("x" * 2000), c=ONE, d=node("Lacking"), e=node("x" * 2000)).error
    assert error is not None
    assert error["details"] == "Node ID '#b'"
    assert error["extra_info"]["missing_nodes"] == ["x" * 1000, "Lacking"]
    assert f"{'x' * 1000}, Lacking. Start a ComfyUI" in error["message"]
    assert len(error["message"]) < 2300
    many = validate({str(number): node(f"No{number}") for number in range(150)}, REGISTRY).error
    assert many is not None
    assert many["extra_info"]["missing_nodes"] == [f"No{number}" for number in range(100)]


def test_a_prompt_without_outputs() -> None:
    nothing = {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}}
    assert verdict().error == nothing
    assert verdict(one=ONE).error == nothing
    assert validate({"one": ONE, "out": show("one", 0)}, REGISTRY, ["one"]).error == nothing
    assert validate({"one": ONE, "out": show("one", 0)}, REGISTRY, []).error == nothing


def test_only_the_targets_are_checked() -> None:
    prompt = {"one": ONE, "good": show("one", 0), "bad": show("nobody", 0)}
    assert validate(prompt, REGISTRY, ["good", "one"]) == Verdict(outputs=["good"])


def test_valid_outputs_run_beside_invalid_ones(caplog: pytest.LogCaptureFixture) -> None:
    bad = picky(number=99)
    found = verdict(one=ONE, bad=bad, a=show("bad", 0), b=show("one", 0), c=show("bad", 0), d=show("one", 0))
    assert found.error is None
    assert found.outputs == ["b", "d"]
    assert list(found.node_errors) == ["bad"]
    assert found.node_errors["bad"]["dependent_outputs"] == ["a", "c"]
    assert caplog.messages == ["Node bad (Picky): Value 99 bigger than max of 10: number"]


def test_the_details_are_those_of_the_outputs() -> None:
    found = verdict(a=show("nobody", 0), b=node("ProbeShow"))
    assert found.error is not None
    assert found.error["details"].split("\n")[1:] == ["Required input is missing: value"]
    assert found.error["details"].startswith("Exception when validating node: ")
    assert (found.error["message"], found.error["extra_info"]) == ("Prompt outputs failed validation", {})


def test_each_node_is_checked_once(seen: list[Json]) -> None:
    shared = node("CheckedByName", either="x", number=1)
    assert verdict(n=shared, a=show("n", 0), b=show("n", 0)).outputs == ["a", "b"]
    assert len(seen) == 1


def test_a_cycle_is_invalid() -> None:
    found = verdict(a=node("ProbeAdd", a=["b", 0], b=1), b=node("ProbeAdd", a=["a", 0], b=1), out=show("a", 0))
    assert found.error is not None
    assert found.outputs == []


def test_a_broken_output_further_up_is_told_once() -> None:
    """A class that fails is told of as an exception; nodes after it are invalid because of it."""
    failing = node("ProbeChecked", answer="raise", number=1, free=1)
    found = verdict(f=failing, g=node("ProbeTypes", value=["f", 0]), out=show("g", 0))
    (error,) = found.node_errors["f"]["errors"]
    assert error["details"] == "VALIDATE_INPUTS failed"
    assert error["extra_info"]["input_name"] == "value"
    assert error["extra_info"]["exception_message"] == "VALIDATE_INPUTS failed"
    assert error["extra_info"]["exception_type"] == "RuntimeError"
    assert list(found.node_errors) == ["f"]


def test_the_answer_and_the_log_stay_short(caplog: pytest.LogCaptureFixture) -> None:
    nodes = {f"n{number}": picky(number=99) for number in range(103)}
    outs = {f"o{number}": show("n0", 0) for number in range(103)}
    prompt = {**nodes, **{f"last{name}": show(name, 0) for name in nodes}, **outs}
    with caplog.at_level(logging.ERROR):
        found = validate(prompt, REGISTRY)
    assert len(found.node_errors) == 100
    assert len(found.node_errors["n0"]["dependent_outputs"]) == 100
    assert caplog.messages[-1] == "3 more nodes are invalid."
    assert len(caplog.messages) == 101
    direct = validate({f"o{number}": node("ProbeShow") for number in range(103)}, REGISTRY)
    assert direct.error is not None
    assert direct.error["details"].count("Required input is missing: value") == 100
    caplog.clear()
    exactly = validate({f"o{number}": node("ProbeShow") for number in range(100)}, REGISTRY)
    assert len(exactly.node_errors) == len(caplog.messages) == 100
