"""File names: what a template takes from a job, and names that are given once."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.batch.file_names import NameTemplate, Unique
from kandiflux.errors import UsageError


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{text}", "x" * 80),
        ("{text:3}", "xxx"),
        ("{text:100}", "x" * 100),
        ("{padded:4}", "a_b"),
        ("{index:04}", "0007"),
        ("{cfg}_{cfg:.2f}", "2.5_2.50"),
        ("{on}", "True"),
        ("{on:2}", "Tr"),
        ("{slashes}", "a_b_c"),
        ("a{{b}}c", "a{b}c"),
        ("a {index} b", "a 7 b"),
        ("{index}{index}", "77"),
        ("a//b/./../{none}/{index}", "a/b/7"),
        ("{dashes}", "x"),
    ],
)
def test_what_a_template_makes_of_a_job(template: str, name: str) -> None:
    values: dict[str, Any] = {
        "text": "x" * 100, "padded": "  a b c  ", "index": 7, "cfg": 2.5, "on": True, "slashes": "a/b\\ :c",
        "none": None, "dashes": "_/x/_",
    }  # fmt: skip
    assert NameTemplate(template, values).fill(values) == name


@pytest.mark.parametrize(
    ("template", "said", "expected"),
    [
        ("a}", "unmatched brace", None),
        ("{}", "unmatched brace", None),
        ("{index:{x}}", "unmatched brace", None),
        ("{other}", r"uses \{other\}, which no job has", "index, prompt"),
        (
            "{index:q}",
            r"'q' is not a valid format for index, which is a number",
            "a format as in {index:04} or {guidance:.1f}",
        ),
        (
            "{prompt:1.5}",
            r"'1.5' is not a valid length for prompt, which is a text",
            "a number of characters, as in {prompt:40}",
        ),
        (" /.. ", "is empty", "a name such as {index:04}_{prompt:40}"),
    ],
)
def test_a_template_that_cannot_be_used(template: str, said: str, expected: str | None) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        NameTemplate(template, {"index", "prompt"}, ["index", "prompt"]).fill({"index": 1, "prompt": "x"})
    assert refused.value.expected == expected


def test_a_name_that_is_not_known_and_nothing_to_choose_from() -> None:
    with pytest.raises(UsageError) as refused:
        NameTemplate("a{other}", ())
    assert (refused.value.expected, refused.value.got) == (None, "a{other}")


def test_a_name_is_given_once() -> None:
    unique = Unique(["A_2"])
    unique.block("b")
    unique.block("C_3")
    assert [unique.take(name) for name in ("a", "a", "A", "B", "c", "c", "c", "B")] == [
        "a", "a_3", "A_4", "B_2", "c", "c_2", "c_4", "B_3"
    ]  # fmt: skip
