"""What clients get is valid JSON, whatever a node returned."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from kandiflux.lite.jsontext import json_text, plain, text_of
from kandiflux.util.json_values import MAX_DEPTH


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError("no text today")

    __repr__ = __str__


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

PLAIN = [
    (None, None),
    (True, True),
    ("\ud800", "\ud800"),
    (5, 5),
    (0.5, 0.5),
    (math.nan, None),
    (math.inf, None),
    (10**400, None),
    ((1, 2), [1, 2]),
    ({1, }, "{1}"),
    (b"\xff", "b'\\xff'"),
    ({1: 2, None: math.nan, (1, 2): {"a": ()}}, {"1": 2, "None": None, "(1, 2)": {"a": []}}),
    (Unreadable(), "(Unreadable)"),
    ({Unreadable(): 1}, {"(Unreadable)": 1}),
    (nested(199, {"a": 1}), nested(199, {"a": 1})),
    (nested(200, {"a": 1}), nested(200, "{'a': 1}")),
    (nested(200, [1]), nested(200, "[1]")),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), PLAIN, ids=range(len(PLAIN)))
def test_values_become_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


@pytest.mark.parametrize("split", [0, 1, 2, 5])
def test_json_is_valid(split: int) -> None:
    for value, expected in [
        ({"a": [1, {"b": math.nan}], 5: (1,), "ä": []}, {"a": [1, {"b": None}], "5": [1], "ä": []}),
        ([[], {}, [1, 2]], [[], {}, [1, 2]]),
        ({}, {}),
        ([], []),
        ([object], [str(object)]),
        ([Unreadable(), math.nan], ["(Unreadable)", None]),
        (math.inf, None),
    ]:
        assert json.loads(json_text(value, split)) == expected
    assert "NaN" not in json_text([math.nan], split)


def test_a_cycle_ends_somewhere() -> None:
    shown = json.loads(json_text({"a": CYCLE}))
    assert isinstance(shown["a"][0], list)


@pytest.mark.parametrize("level", [lambda value: [value], lambda value: {"a": value}], ids=["lists", "objects"])
def test_what_is_nested_too_deep_becomes_text(level: Callable[[Any], Any]) -> None:
    value: Any = math.nan
    for _ in range(MAX_DEPTH + 5):
        value = level(value)
    shown, levels = plain(value), 0
    while not isinstance(shown, str):
        (shown,) = shown.values() if isinstance(shown, dict) else shown
        levels += 1
    assert levels == MAX_DEPTH
    assert shown.count("nan") == 1


def test_what_json_knows_is_written_as_usual() -> None:
    assert json_text({"a": [1, "é", None]}) == '{"a": [1, "\\u00e9", null]}'
    assert json_text({"a": [1, {"b": 2}]}, 2) == '{"a": [1, {"b": 2}]}'


def test_texts() -> None:
    assert [text_of(value) for value in ("x", 5, None, Unreadable())] == ["x", "5", "None", "(Unreadable)"]
