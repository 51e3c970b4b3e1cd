"""What ComfyUI checks since its V3 schema: lists of values named COMBO, types that fit any, and cycles."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.lite.registry import Registry
from kandiflux.lite.validate import Verdict, validate

from tests.conversations.common import node

Json = dict[str, Any]
OPTIONS = {"options": ["a", "b"], "multiselect": False}


class Link:
    """Passes its input on."""

    CATEGORY, FUNCTION, RETURN_TYPES = "testing", "run", ("A",)

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"required": {"first": ("A", {})}, "optional": {"second": ("A", {})}}


class Output(Link):
    OUTPUT_NODE = True


class Choice:
    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "testing", "run", (), True

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        many = {"options": [str(number) for number in range(21)], "multiselect": True}
        return {"optional": {"one": ("COMBO", OPTIONS), "more": ("COMBO", many), "none": ("COMBO", {})}}


def typed(given: Any, wanted: Any) -> Verdict:
    """The verdict on a link from an output of the type `given` to an input of the type `wanted`."""

    class Source:
        CATEGORY, FUNCTION, RETURN_TYPES = "testing", "run", (given,)

        @classmethod
        def INPUT_TYPES(cls) -> Json:
            return {}

    class Sink:
        CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "testing", "run", (), True

        @classmethod
        def INPUT_TYPES(cls) -> Json:
            return {"required": {"value": (wanted, {})}}

    registry = Registry({"Source": Source, "Sink": Sink}, {})
    return validate({"1": node("Source"), "2": node("Sink", value=["1", 0])}, registry)


def verdict(**nodes: Json) -> Verdict:
    return validate(nodes, Registry({"Link": Link, "Output": Output, "Choice": Choice}, {}))


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        ("A", "B", False),
        ("A,B", "B, C", True),
        ("*", "B", True),
        ("A", "*", True),
        ("A,*", "B", True),
        ("A", "B, *", True),
        ("COMFY_MATCHTYPE_V3", "B", True),
        ("A", "COMFY_MATCHTYPE_V3", True),
        (["a", "b"], "COMBO", True),
        (["a", "b"], "STRING", False),
        ("COMBO", ["a", "b"], False),
        ("COMBO", "COMBO", True),
    ],
)
def test_types_that_fit(given: Any, wanted: Any, fits: bool) -> None:
    found = typed(given, wanted)
    assert (found.error is None) == fits
    if not fits:
        assert found.node_errors["2"]["errors"][0]["type"] == "return_type_mismatch"


@pytest.mark.parametrize(
    ("inputs", "details", "config"),
    [
        ({"one": "a"}, None, None),
        ({"one": "c"}, "one: 'c' not in ['a', 'b']", ("COMBO", OPTIONS)),
        ({"one": {"__value__": ["a"]}}, "one: ['a'] not in ['a', 'b']", ("COMBO", OPTIONS)),
        ({"more": "20"}, None, None),
        ({"more": "21"}, "more: '21' not in (list of length 21)", None),
        ({"more": {"__value__": ["1", "20"]}}, None, None),
        ({"more": {"__value__": ["1", "x", "y"]}}, "more: 'x', 'y' not in (list of length 21)", None),
        ({"none": "a"}, "none: 'a' not in []", ("COMBO", {})),
    ],
)
def test_lists_of_values(inputs: Json, details: str | None, config: Any) -> None:
    found = verdict(n=node("Choice", **inputs))
    if details is None:
        assert found == Verdict(outputs=["n"])
        return
    (error,) = found.node_errors["n"]["errors"]
    assert (error["type"], error["details"]) == ("value_not_in_list", details)
    assert error["extra_info"]["input_config"] == config


def cycles_of(found: Verdict) -> dict[str, list[str]]:
    """By node: the nodes of the cycle it is told to be in."""
    cycles: dict[str, list[str]] = {}
    for name, about in found.node_errors.items():
        (error,) = (error for error in about["errors"] if error["type"] == "dependency_cycle")
        assert error["extra_info"]["node_id"] == name
        cycles[name] = error["extra_info"]["cycle_nodes"]
    return cycles


def test_every_node_of_a_cycle_is_told_of_it_and_none_beside_it() -> None:
    found = verdict(
        a=node("Link", first=["b", 0]), b=node("Link", first=["c", 0]), c=node("Link", first=["b", 0]),
        out=node("Output", first=["a", 0]),
    )  # fmt: skip
    assert found.outputs == []
    assert cycles_of(found) == {"b": ["b", "c"], "c": ["b", "c"]}
    (error,) = found.node_errors["c"]["errors"]
    assert error["message"] == "Dependency cycle detected"
    assert error["details"] == "b (Link) -> c (Link) -> b (Link)"
    assert found.error is not None
    assert found.error["type"] == "prompt_outputs_failed_validation"


def test_a_node_that_feeds_itself() -> None:
    assert cycles_of(verdict(out=node("Output", first=["out", 0]))) == {"out": ["out"]}


def test_two_cycles_and_another_error() -> None:
    found = verdict(
        a=node("Link", first=["b", 0]), b=node("Link", first=["a", 0], second=["out", 0]),
        out=node("Output", second=["a", 0]),
    )  # fmt: skip
    assert cycles_of(found) == {"a": ["out", "a", "b"], "b": ["out", "a", "b"], "out": ["out", "a", "b"]}
    kinds = [error["type"] for error in found.node_errors["out"]["errors"]]
    assert kinds == ["dependency_cycle", "required_input_missing"]
    assert [about["dependent_outputs"] for about in found.node_errors.values()] == [["out"]] * 3


def test_another_output_runs_beside_a_cycle() -> None:
    found = verdict(a=node("Output", first=["a", 0]), good=node("Choice", one="a"))
    assert (found.error, found.outputs, cycles_of(found)) == (None, ["good"], {"a": ["a"]})
