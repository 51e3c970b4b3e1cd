"""What clients get is valid JSON, whatever a node returned; and what foreign code raised is told, whatever that is."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import pytest
from kandiflux.lite.guard import Failure, Returned, attempt
from kandiflux.lite.jsontext import json_text, plain, text_of


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError("no text today")

    __repr__ = __str__


class UnreadableError(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no text today")


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


def test_what_json_knows_is_written_as_usual() -> None:
    assert json_text({"a": [1, "é", None]}) == '{"a": [1, "\\u00e9", null]}'
    assert json_text({"a": [1, {"b": 2}]}, 2) == '{"a": [1, {"b": 2}]}'


def test_texts() -> None:
    assert [text_of(value) for value in ("x", 5, None, Unreadable())] == ["x", "5", "None", "(Unreadable)"]


# Foreign code


def raised(error: BaseException) -> Failure:
    def foreign() -> None:
        raise error

    failure = attempt(foreign)
    assert isinstance(failure, Failure)
    return failure


def test_what_is_returned_and_raised() -> None:
    assert attempt(lambda: 5) == Returned(5)
    for error in (ValueError("broken"), SystemExit(3), GeneratorExit(), MemoryError()):
        failure = raised(error)
        assert failure.error is error
        assert (failure.type_name, failure.message) == (type(error).__name__, str(error))
    assert raised(UnreadableError()).type_name == "tests.unit.lite.test_jsontext.UnreadableError"
    assert raised(UnreadableError()).message == "(the exception's text cannot be read: RuntimeError)"
    assert raised(ValueError("x" * 20_000)).message == "x" * 10_000
    failure = raised(ValueError("broken"))
    assert "raise error" in failure.traceback[-1]
    assert failure.text.startswith("Traceback")
    assert failure.text.endswith("ValueError: broken\n")


def test_only_the_users_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        raised(KeyboardInterrupt())
    caught: list[Failure] = []
    thread = threading.Thread(target=lambda: caught.append(raised(KeyboardInterrupt())))
    thread.start()
    thread.join(30)
    assert caught[0].type_name == "KeyboardInterrupt"
