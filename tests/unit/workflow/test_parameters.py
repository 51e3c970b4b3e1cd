"""What an input takes: ranges with their ends, choices of every type, truth values, files; and which input is meant."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from kandiflux.errors import ParameterError, WorkflowError
from kandiflux.util.wording import names_text, near_names
from kandiflux.workflow.editor_format.inputs import InputSpec
from kandiflux.workflow.parameters import Declared, coerce, declared_parameters, find_targets, range_text


def spec(kind: str, choices: tuple[Any, ...] | None = None, name: str = "x", **options: Any) -> InputSpec:
    return InputSpec(name, kind, True, options, choices)


def taken(value: Any, wanted: InputSpec, declared: Declared | None = None) -> tuple[type, Any]:
    found = coerce("it", value, wanted, declared=declared)
    return type(found), found


def refused(value: Any, wanted: InputSpec, **options: Any) -> ParameterError:
    with pytest.raises(ParameterError) as error:
        coerce("it", value, wanted, **options)
    return error.value


def narrowed(low: float | None = None, high: float | None = None, description: str = "") -> Declared:
    return Declared("it", (), description, low, high)


@pytest.mark.parametrize(
    ("kind", "low", "high", "declared", "lowest", "highest"),
    [
        ("INT", 1, 64, None, 1, 64),
        ("INT", -3, 64, narrowed(5, 60), 5, 60),
        ("INT", 5, 60, narrowed(1, 64), 5, 60),
        ("FLOAT", 0.5, 2.0, None, 0.5, 2.0),
        ("FLOAT", None, None, narrowed(0, 1), 0, 1),
        ("FLOAT", 0.25, None, narrowed(None, 1), 0.25, 1),
    ],
)
def test_the_ends_of_a_range_are_in_it(
    kind: str, low: float | None, high: float | None, declared: Declared | None, lowest: float, highest: float
) -> None:
    wanted = spec(kind, min=low, max=high)
    step = 1 if kind == "INT" else 0.125
    for value in (lowest, highest, str(lowest), str(highest), lowest + step):
        assert coerce("it", value, wanted, declared=declared) == float(value)
    for value, nearest in ((lowest - step, lowest), (highest + step, highest)):
        error = refused(value, wanted, declared=declared)
        assert error.hint == f"The nearest value is {nearest:g}."
        assert (error.got, error.message) == (str(value), "it is out of range.")


def test_a_range_with_one_end() -> None:
    assert taken(10**9, spec("INT", min=1)) == (int, 10**9)
    assert taken(-(10**9), spec("INT", max=1)) == (int, -(10**9))
    assert refused(0, spec("INT", min=1)).expected == "a whole number of at least 1"
    assert refused(2, spec("INT", max=1)).expected == "a whole number of at most 1"


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        (" 7 ", "INT", (int, 7)),
        (7.0, "INT", (int, 7)),
        ("-7", "INT", (int, -7)),
        ("7", "FLOAT", (float, 7.0)),
        (7, "FLOAT", (int, 7)),
        ("1e2", "FLOAT", (float, 100.0)),
        ("", "STRING", (str, "")),
        (True, "BOOLEAN", (bool, True)),
        (False, "BOOLEAN", (bool, False)),
        *((word, "BOOLEAN", (bool, True)) for word in ("true", "Yes", " ON ", "1", 1)),
        *((word, "BOOLEAN", (bool, False)) for word in ("false", "NO", "off", "0", 0)),
    ],
)
def test_a_value_becomes_what_the_input_takes(value: Any, kind: str, found: tuple[type, Any]) -> None:
    assert taken(value, spec(kind)) == found


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("7.0", "INT"), (7.5, "INT"), (True, "INT"), (False, "FLOAT"), (None, "INT"), ([1], "FLOAT"), ("random", "INT"),
        ("inf", "FLOAT"), (float("nan"), "FLOAT"), (float("inf"), "FLOAT"), (5, "STRING"), ("maybe", "BOOLEAN"),
        (2, "BOOLEAN"), ("x", "MODEL"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit(value: Any, kind: str) -> None:
    refused(value, spec(kind))


@pytest.mark.parametrize(
    ("value", "choices", "found"),
    [
        (1, (True, 1), (int, 1)),
        (True, (1, True), (bool, True)),
        (1.0, (True, 1, 1.0), (float, 1.0)),
        ("1", (2, 1), (int, 1)),
        ("2", (2, "2"), (str, "2")),
        (2, ("2",), (str, "2")),
        ("True", (True, "x"), (bool, True)),
        ("anything", None, (str, "anything")),
    ],
)
def test_a_choice_keeps_its_type(value: Any, choices: tuple[Any, ...] | None, found: tuple[type, Any]) -> None:
    assert taken(value, spec("COMBO", choices)) == found


def test_a_choice_that_is_not_there() -> None:
    error = refused("eular", spec("COMBO", ("heun", "euler", "euler_a", "euler_b", "euler_cd")))
    assert error.expected == "heun, euler, euler_a, euler_b, euler_cd"
    assert (error.hint or "").count("'euler") == 3
    assert refused("zzz", spec("COMBO", ("heun",))).hint is None
    assert refused("zzz", spec("COMBO", ())).expected == "(no choices)"


@pytest.mark.parametrize(
    ("options", "declared", "first", "last"),
    [
        ({"min": 7, "max": 9}, None, 7, 9),
        ({"min": -5, "max": 1}, None, 0, 1),
        ({"min": 3, "max": 9}, narrowed(8.5, 9), 9, 9),
        ({"min": 2**32 - 1, "max": 2**64}, None, 2**32 - 1, 2**32 - 1),
        ({"min": 2**40}, None, 2**40, 2**40),
        ({"min": 4, "max": 5.9}, None, 4, 5),
    ],
)
def test_a_random_seed_is_in_its_range(
    options: dict[str, Any], declared: Declared | None, first: int, last: int
) -> None:
    drawn = {coerce("it", "random", spec("INT", name="seed", **options), declared=declared) for _ in range(200)}
    assert (min(drawn), max(drawn)) == (first, last)


def test_a_random_seed_has_at_most_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def largest(_self: random.SystemRandom, _first: int, last: int) -> int:
        return last

    monkeypatch.setattr(random.SystemRandom, "randint", largest)
    for options in ({}, {"min": 0, "max": 2**64 - 1}, {"max": 2**32}):
        assert coerce("it", "random", spec("INT", name="seed", **options)) == 2**32 - 1
    assert coerce("it", "random", spec("INT", name="seed", max=2**32 - 2)) == 2**32 - 2


def test_only_a_seed_is_drawn() -> None:
    assert isinstance(coerce("it", "random", spec("INT", name="noise_seed")), int)
    refused("random", spec("INT", name="steps"))
    refused("random", spec("FLOAT", name="seed"))


@pytest.mark.parametrize(
    ("value", "options", "description", "expected", "hint"),
    [
        (100, {}, "Width, a multiple of 64.", "a whole number, a multiple of 64", "Use 64 or 128."),
        (100, {"max": 100}, "Width, a multiple of 64.", "a whole number of at most 100, a multiple of 64", "Use 64."),
        (100, {"min": 100, "max": 200}, "W, a multiple of 64.", "a whole number from 100 to 200, a multiple of 64",
         "Use 128."),
        (100, {"min": 99, "max": 101}, "W, a multiple of 64.", "a whole number from 99 to 101, a multiple of 64", None),
    ],
)  # fmt: skip
def test_what_fits_instead_of_a_wrong_multiple(
    value: int, options: dict[str, Any], description: str, expected: str, hint: str | None
) -> None:
    error = refused(value, spec("INT", **options), declared=narrowed(description=description))
    assert (error.expected, error.hint) == (expected, hint)


@pytest.mark.parametrize("description", ["W, a multiple of 0.", "", "W, a multiple of 64."])
def test_what_is_out_of_range_or_of_no_multiple(description: str) -> None:
    assert coerce("it", 128, spec("INT"), declared=narrowed(description=description)) == 128
    assert "out of range" in refused(-1, spec("INT", min=0), declared=narrowed(description=description)).message


@pytest.mark.parametrize(
    ("low", "high", "text"), [(0, 1, "n from 0 to 1"), (0, None, "n of at least 0"), (None, 0, "n of at most 0"),
                              (None, None, "n")]
)  # fmt: skip
def test_a_range_in_words(low: float | None, high: float | None, text: str) -> None:
    assert range_text("n", low, high) == text


def test_names_in_words() -> None:
    names = [f"n{number}" for number in range(21)]
    assert names_text(names[:20]) == ", ".join(names[:20])
    assert names_text(names) == ", ".join(names[:20]) + ", … (21 in all)"
    assert near_names("STEP", ["steps", "stop", "seed"], 2) == "'steps' or 'stop'"
    assert near_names("step", ["width"]) == ""


def test_a_file_is_uploaded_or_one_of_the_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.png").touch()
    wanted = spec("COMBO", ("there.png",), image_upload=True)
    for given in (tmp_path / "mine.png", "~/mine.png"):
        assert coerce("it", given, wanted, upload=lambda path: f"up {path.name}") == "up mine.png"
    assert coerce("it", "there.png", wanted, upload=lambda path: "wrong") == "there.png"
    error = refused(str(tmp_path / "mine.png"), wanted)
    assert error.expected == "a path to a file, or one of there.png"
    assert refused("x", spec("COMBO", image_upload=True)).expected == "a path to a file"
    many = refused("x", spec("COMBO", tuple(f"{number:02}" for number in range(20)), image_upload=True))
    assert (many.expected or "").endswith("08, 09")


NODES: dict[str, dict[str, Any]] = {
    "3": {"class_type": "KSampler", "inputs": {"steps": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}, "_meta": {"title": "Positive"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}, "_meta": {"title": "positive"}},
    "8": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}, "_meta": {"title": "a.b"}},
    "9": {"class_type": "X", "inputs": {}, "_meta": {"title": "6"}},
    "10": {"class_type": "X", "inputs": {}, "_meta": {"title": "Twice"}},
    "11": {"class_type": "X", "inputs": {"q": 1}, "_meta": {"title": "Twice"}},
}
DECLARED = {"prompt": Declared("prompt", (("6", "text"), ("7", "text"))), "a.b": Declared("a.b", (("3", "steps"),))}


@pytest.mark.parametrize(
    ("address", "targets"),
    [
        ("prompt", (("6", "text"), ("7", "text"))),
        ("a.b", (("3", "steps"),)),
        ("a.b.text", (("8", "text"),)),
        ("3.steps", (("3", "steps"),)),
        (" 3 .steps", (("3", "steps"),)),
        ("6.text", (("6", "text"),)),
        ('"6".text', (("9", "text"),)),
        ("'6'.text", (("9", "text"),)),
        ("Positive.text", (("6", "text"),)),
        ("positive.text", (("7", "text"),)),
        ("KSAMPLER.steps", (("3", "steps"),)),
    ],
)
def test_which_input_is_meant(address: str, targets: tuple[tuple[str, str], ...]) -> None:
    assert find_targets(address, NODES, DECLARED) == targets


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("POSITIVE.text", "2 nodes are called 'POSITIVE': 6 (CLIPTextEncode), 7 (CLIPTextEncode).",
         "Use the id, as in 6.text."),
        ("Twice.q", "2 nodes are called 'Twice': 10 (X), 11 (X).", "Use the id, as in 10.input."),
        ("KSamplr.steps", "There is no node with the title or id 'KSamplr'.", "Did you mean 'KSampler'?"),
        ("zzz.steps", "There is no node with the title or id 'zzz'.", None),
        ("promt", "There is no parameter 'promt'.", "Did you mean 'prompt'?"),
        ("zzz", "There is no parameter 'zzz'.", "`kandiflux params` and Workflow.describe list what can be set."),
        ('".text', "There is no node with the title or id '\"'.", None),
    ],
)  # fmt: skip
def test_an_address_that_means_nothing_or_several(address: str, message: str, hint: str | None) -> None:
    with pytest.raises(ParameterError) as error:
        find_targets(address, NODES, DECLARED)
    assert (error.value.message, error.value.hint) == (message, hint)


def test_what_there_is_instead_of_a_parameter_that_is_not_there() -> None:
    found: list[str | None] = []
    for declared in (DECLARED, {}):
        with pytest.raises(ParameterError) as error:
            find_targets("zzz", NODES, declared)
        found.append(error.value.expected)
    assert found == ["prompt, a.b", "a node's title or id and an input, as in 6.text"]


def test_what_a_workflow_declares() -> None:
    one = {"node": 6, "input": "text", "description": "What to draw.", "min": 1, "max": 2}
    found = declared_parameters({"parameters": {"a": one, "b": {"nodes": [[6, "text"], ["7", "text"]]}}})
    assert found == {
        "a": Declared("a", (("6", "text"),), "What to draw.", 1, 2),
        "b": Declared("b", (("6", "text"), ("7", "text"))),
    }
    assert declared_parameters({}) == declared_parameters({"parameters": []}) == {}
    for wrong in ({"node": 6}, {"nodes": [[6]]}, {"nodes": 5}, 5, None):
        with pytest.raises(WorkflowError, match="parameter 'a' does not say"):
            declared_parameters({"parameters": {"a": wrong}})
