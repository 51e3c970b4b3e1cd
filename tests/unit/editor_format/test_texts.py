"""Dynamic prompts, and names of files made of dates and widgets."""

from __future__ import annotations

import random
from datetime import datetime

import pytest
from kandiflux.workflow.editor_format.texts import as_queued, has_choices, replace_placeholders


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("a fox", {"a fox"}),
        ("a {red} fox", {"a red fox"}),
        ("{a|b}", {"a", "b"}),
        ("{a|b|}c", {"ac", "bc", "c"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{a|b{c|d}e}", {"a", "bce", "bde"}),
        ("{a|b} {c|d}", {"a c", "a d", "b c", "b d"}),
        ("{a|b", {"a", "b"}),
        ("a|b", {"a|b"}),
        ("a}|b", {"a}|b"}),
        ("{a} b|c", {"a b|c"}),
        ("}{a|b}", {"}a", "}b"}),
        (r"\{a\|b\}", {"{a|b}"}),
        (r"{a\|b|c\}}", {"a|b", "c}"}),
        (r"{\{a|b}", {"{a", "b"}),
        (r"a\n\\", {r"a\n\\"}),
        ("a\\", {"a\\"}),
        ("a // not {x|y}\nb /* {1|2}\n3 */c", {"a \nb c"}),
        ("/* a */ b */", {" b */"}),
        ("{a /* | */|b}", {"a ", "b"}),
        ("{}", {""}),
    ],
)
def test_choices_of_dynamic_prompts(text: str, drawn: set[str]) -> None:
    assert {as_queued(text, random.Random(seed)) for seed in range(60)} == drawn
    assert has_choices(text) is (len(drawn) > 1)


def test_each_choice_is_as_likely_as_the_others() -> None:
    lots = random.Random(5)
    drawn = [as_queued("{a|b|c}", lots) for _ in range(600)]
    assert all(150 < drawn.count(choice) < 250 for choice in "abc")


def test_choices_within_choices_go_a_hundred_levels_deep() -> None:
    assert as_queued("{" * 101 + "x" + "}" * 101, random.Random(0)) == "x"
    assert as_queued("{" * 5000 + "x" + "}" * 5000, random.Random(0)).count("{") == 4899


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("%date:yyyy-MM-dd%", "2026-03-04"),
        ("%date:yy-M-d%", "26-3-4"),
        ("%date:hh_mm_ss%", "15_06_07"),
        ("%date:h_m_s%", "15_6_7"),
        ("%date:yyy%", "yyy"),
        ("%date:ddd%", "044"),
        ("%date:%", ""),
        ("%date%", "%date%"),
        ("a%date:dd%b%date:MM%", "a04b03"),
        ("%%", "%%"),
        ("100% of %date:dd%", "100% of %date:dd%"),
        ("%a.b%", "a_b"),
        ("%a.none%", "%a.none%"),
        ("%a.b.c%", "%a.b.c%"),
    ],
)  # fmt: skip
def test_placeholders(pattern: str, name: str) -> None:
    now = datetime(2026, 3, 4, 15, 6, 7)
    assert (
        replace_placeholders(pattern, now, lambda node, widget: None if widget == "none" else f"{node}/{widget}")
        == name
    )


def test_a_widgets_value_is_made_a_part_of_a_file_name() -> None:
    odd = '/?<>\\:*|"\x00\x1f\x7f'
    assert replace_placeholders("%a.b%", datetime(2026, 1, 1), lambda *_: f"x{odd}é y.") == f"x{'_' * len(odd)}é y."
