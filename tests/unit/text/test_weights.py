"""Weights in parentheses, as ComfyUI reads them (test_lint compares with ComfyUI's own parser, if it is there)."""

from __future__ import annotations

import pytest

from nodes.text import weights


@pytest.mark.parametrize(
    ("text", "plain", "found"),
    [
        ("a (red:1.3) fox", "a red fox", [("red", 1.3, True)]),
        ("a (red) fox", "a red fox", [("red", 1.1, False)]),
        ("((a:1.2) b:0.5) c", "a b c", [("(a:1.2) b", 0.5, True)]),
        (r"(a \(b\):1.3) \)", "a (b) )", [(r"a \(b\)", 1.3, True)]),
        ("(a:b:1.1)", "a:b", [("a:b", 1.1, True)]),
        ("(:1.2) (a:) (a: 1.2 )", ":1.2 a: a", [(":1.2", 1.1, False), ("a:", 1.1, False), ("a", 1.2, True)]),
        ("((((b))))", "b", [("(((b)))", 1.1, False)]),
        ("a) (b", "a) (b", []),
        ("(a) (b:2) c)", "a b c)", [("a", 1.1, False), ("b", 2.0, True)]),
        ("(a:-.5)", "a", [("a", -0.5, True)]),
        (r"\(a:1.2)", "(a:1.2)", []),
    ],
)
def test_weights_are_found_and_dropped(text: str, plain: str, found: list[tuple[str, float, bool]]) -> None:
    read = weights.find_weights(text)
    assert [(weight.inner, weight.value, weight.explicit) for weight in read] == found
    assert all(text[weight.start] == "(" and text[weight.end - 1] == ")" for weight in read)
    assert weights.plain(text) == plain


@pytest.mark.parametrize(
    ("text", "places"), [("(a)", []), ("a) (b", [1, 3]), ("((a)", [0]), ("(a))", [3]), (r"\(a) \)", [3]), ("", [])]
)
def test_parentheses_without_a_partner(text: str, places: list[int]) -> None:
    assert weights.stray_parentheses(text) == places


def test_parentheses_within_each_other_are_limited() -> None:
    deepest = "(" * weights.DEEPEST + "a" + ")" * weights.DEEPEST
    assert weights.plain(deepest) == "a"
    with pytest.raises(ValueError, match="Expected at most 100 parentheses within each other, got more"):
        weights.find_weights(f"({deepest})")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a (b:1.2) (c)", r"a (b:1.2) \(c\)"), ("(a (b:2))", r"\(a (b:2)\)"), (r"\(a\) )", r"\(a\) \)"), ("(a:1.0)", "a")],
)
def test_all_but_weights_with_a_number_is_escaped(text: str, escaped: str) -> None:
    assert weights.escape_text(text) == escaped
    assert weights.plain(escaped) == weights.plain(text) or "c" in text or text.startswith("(a (")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a (red fox:1.2) in snow", "a red fox in snow"),
        ("((a:1.2) b:0.5) (c)", "a b (c)"),
        ("((b)) (((b))) ((b:1.5))", "b b b"),
        ("((a) b)", "((a) b)"),
        ("(so:1,2) (a: 1 , 2)", "so (a: 1 , 2)"),
        (r"\(c\)", "(c)"),
        ("", ""),
    ],
)
def test_weights_are_taken_out_and_remarks_stay(text: str, plain: str) -> None:
    assert weights.without_weights(text) == plain


@pytest.mark.parametrize(
    ("value", "made"), [(1.0, "a"), (1.004, "a"), (1.1, "(a:1.1)"), (1.256, "(a:1.26)"), (0.5, "(a:0.5)"), (2, "(a:2)")]
)
def test_a_weight_is_written_with_two_places(value: float, made: str) -> None:
    assert weights.weighted("a", value) == made
