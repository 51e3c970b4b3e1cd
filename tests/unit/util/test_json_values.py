"""What JSON from outside is, asked before it is used."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from kandiflux.util.addresses import is_loopback
from kandiflux.util.json_values import (
    MAX_DEPTH,
    as_float,
    as_list,
    as_object,
    is_array,
    is_dict,
    is_list,
    is_object,
    parse_json,
    text_or_none,
)

OTHERS: list[Any] = [None, 0, 1.5, True, "{}", "[]", b"x", {1}]


@pytest.mark.parametrize("value", OTHERS)
def test_what_is_neither_object_nor_list_counts_as_absent(value: Any) -> None:
    assert not any(asked(value) for asked in (is_object, is_dict, is_list, is_array))
    assert as_object(value) == {}
    assert as_list(value) == []


def test_an_object_and_a_list_are_given_as_they_are_and_not_copied() -> None:
    found: dict[str, Any] = {"nodes": [1]}
    assert as_object(found) is found
    assert as_list(found["nodes"]) is found["nodes"]
    assert as_object(found["nodes"]) == {}
    assert as_list(found) == []


def test_a_mapping_that_cannot_be_changed_is_an_object_and_no_dict() -> None:
    frozen = MappingProxyType({"a": 1})
    assert is_object(frozen)
    assert not is_dict(frozen)


def test_a_tuple_is_an_array_as_nodes_in_python_have_them_and_no_list() -> None:
    assert is_array((1, 2))
    assert not is_list((1, 2))


@pytest.mark.parametrize(("value", "text"), [(" a b ", "a b"), ("", None), (" \n", None), (5, None), (None, None)])
def test_a_text_without_its_blanks(value: Any, text: str | None) -> None:
    assert text_or_none(value) == text


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_is_read_to_a_depth_that_recursive_code_survives(opening: str, closing: str) -> None:
    parse_json(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)
    for depth in (MAX_DEPTH + 2, 3_000, 200_000):
        with pytest.raises(ValueError, match="nested deeper"):
            parse_json(opening * depth + "1" + closing * depth)


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", '{"a": 1e999}', "1" + "0" * 400])
def test_numbers_that_json_does_not_have_are_refused_only_if_asked(text: str) -> None:
    parse_json(text)
    with pytest.raises(ValueError, match="number"):
        parse_json(text, finite=True)


def test_a_number_too_long_for_python_is_not_valid_json() -> None:
    with pytest.raises(ValueError, match="digits"):
        parse_json("1" * 5_000)


def test_only_finite_numbers_become_floats() -> None:
    assert [as_float(value) for value in (3, -2.5)] == [3.0, -2.5]
    for other in (True, "3", None, [], float("nan"), float("inf"), 10**400):
        assert as_float(other) is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("127.example.com", False),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_only_this_machine_is_loopback(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_numbers_that_fit_are_read_as_they_are() -> None:
    assert parse_json('{"a": [1.5, -3, 1e308, 10]}', finite=True) == {"a": [1.5, -3, 1e308, 10]}
