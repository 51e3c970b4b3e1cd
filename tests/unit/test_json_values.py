"""What JSON from outside is, asked before it is used."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from kandiflux.json_values import as_list, as_object, is_array, is_dict, is_list, is_object, text_or_none

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
