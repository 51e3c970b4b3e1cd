"""Which values and outputs fit an input, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.inputs import InputSpec
from kandiflux.workflow.validation.fitting import (
    as_number,
    bound,
    fits,
    is_truth,
    kind_text,
    nearest_number,
    shown,
    what_it_takes,
)


def spec(kind: str, choices: tuple[Any, ...] | None = None, **options: Any) -> InputSpec:
    return InputSpec("x", kind, True, options, choices)


@pytest.mark.parametrize(
    ("given", "wanted", "fit"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("*", "MASK", True),
        ("IMAGE", "*", True),
        ("IMAGE", "MASK, IMAGE", True),
        ("LATENT, IMAGE", "MASK,IMAGE", True),
        ("LATENT,IMAGE", "MASK", False),
        ("IMAG", "IMAGE", False),
        ("COMFY_MATCHTYPE_V3", "IMAGE", True),
        ("IMAGE", "COMFY_AUTOGROW_V3", True),
        (5, "IMAGE", True),
        (None, "IMAGE", True),
        # Choices fit each other whatever they are: the server compares no lists.
        ("COMBO", "COMBO", True),
        (["a", "b"], "COMBO", True),
        (["a", "b"], "*", True),
        (["a", "b"], "COMFY_DYNAMICCOMBO_V3", True),
        ("COMBO", "STRING", False),
        (["a", "b"], "STRING", False),
        ("STRING", "COMBO", False),
    ],
)
def test_which_outputs_fit(given: Any, wanted: str, fit: bool) -> None:
    assert fits(given, spec(wanted)) is fit


@pytest.mark.parametrize(
    ("value", "number", "whole"),
    [
        (3, 3, 3), (-3, -3, -3), (2.9, 2.9, 2), (-2.9, -2.9, -2), (0, 0, 0), (10**400, 10**400, 10**400),
        ("20", 20.0, 20), (" 20 ", 20.0, 20), ("-7", -7.0, -7), ("2.5", 2.5, None), ("1e3", 1000.0, None),
        ("many", None, None), ("", None, None), ("nan", None, None), ("inf", None, None), ("1,5", None, None),
        (float("nan"), None, None), (float("inf"), None, None), (True, 1.0, 1), (False, 0.0, 0), (None, None, None),
        ([1], None, None), ({}, None, None), ("9" * 5000, None, None),
    ],
)  # fmt: skip
def test_the_number_the_server_makes_of_a_value(value: Any, number: float | None, whole: int | None) -> None:
    for found, right in ((as_number(value, whole=False), number), (as_number(value, whole=True), whole)):
        assert (found, type(found)) == (right, type(right))


@pytest.mark.parametrize(
    ("kind", "number", "low", "high", "step", "nearest"),
    [
        ("INT", 0, 1, 10, None, "1"),
        ("INT", 11, 1, 10, None, "10"),
        ("INT", 3.6, 1, 10, None, "4"),
        ("INT", 3.4, None, None, None, "3"),
        ("INT", -99, None, 10, None, "-99"),
        ("INT", 99, 1, None, None, "99"),
        # Steps are counted from the least value, and only within the range.
        ("INT", 1000.5, 16, 16384, 8, "1000"),
        ("INT", 19, 16, 16384, 8, "16"),
        ("INT", 21, 16, 16384, 8, "24"),
        ("INT", 21, 1, 100, 8, "17"),
        ("INT", 21, None, None, 8, "24"),
        ("INT", 16, 16, 20, 8, "16"),
        ("INT", 20, 0, 20, 8, "16"),
        ("INT", 15, 0, 15, 8, "15"),
        ("INT", 3, 16, 64, 8, "16"),
        ("INT", 99, 16, 60, 8, "60"),
        ("INT", 5.2, 0, 10, 0, "5"),
        ("INT", 5.2, 0, 10, -2, "5"),
        ("FLOAT", 0.123, 0, 1, 0.01, "0.12"),
        ("FLOAT", 1.5, 0.0, 1.0, 0.01, "1"),
        ("FLOAT", -1, 0.25, 1, None, "0.25"),
        ("FLOAT", 1 / 3, None, None, None, "0.3333333333"),
        ("FLOAT", 0.3, 0, 1, "x", "0.3"),
        ("FLOAT", 0.3, 0, 1, True, "0.3"),
    ],
)
def test_the_nearest_number(
    kind: str, number: float, low: float | None, high: float | None, step: Any, nearest: str
) -> None:
    assert nearest_number(number, spec(kind, step=step), low, high) == nearest


@pytest.mark.parametrize(
    ("value", "limit"), [(3, 3), (2.5, 2.5), (0, 0), (True, None), ("3", None), (None, None), ([3], None)]
)
def test_a_limit_counts_if_it_is_a_number(value: Any, limit: float | None) -> None:
    assert bound(value) is limit


@pytest.mark.parametrize(
    ("value", "truth"),
    [(True, True), (False, True), (0, True), (1, True), (None, True), ("true", True), ("False", False), ("yes", False),
     ("", False), ("1", False), (2, False), ({}, False), ([], False)],
)  # fmt: skip
def test_what_can_mean_on_or_off(value: Any, truth: bool) -> None:
    assert is_truth(value) is truth


@pytest.mark.parametrize(
    ("wanted", "takes", "kind"),
    [
        (spec("INT"), "a whole number", "INT"),
        (spec("FLOAT"), "a number", "FLOAT"),
        (spec("BOOLEAN"), "true or false", "BOOLEAN"),
        (spec("STRING"), "a string", "STRING"),
        (spec("COMBO", ("a", 5)), "one of a, 5", "a choice"),
        (spec("COMBO"), "one of (no choices)", "a choice"),
    ],
)
def test_what_an_input_takes_in_words(wanted: InputSpec, takes: str, kind: str) -> None:
    assert (what_it_takes(wanted), kind_text(wanted)) == (takes, kind)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "'a'"), (5, "5"), ("x" * 78, repr("x" * 78)), ("x" * 79, "'" + "x" * 76 + "…")],
)
def test_a_value_in_a_message_is_not_too_long(value: Any, text: str) -> None:
    assert shown(value) == text
    assert len(text) <= 80
