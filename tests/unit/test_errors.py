"""The exception tree keeps its promises: one base, exit codes, messages that say what to do."""

from __future__ import annotations

import inspect
import json

from kandiflux import errors
from kandiflux.errors import JobInterrupted, KandifluxError, NodeFailed, ParameterError, ServerUnreachable, UsageError


def test_every_error_has_the_one_base_and_is_in_the_docstring() -> None:
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]
    assert all(issubclass(error, KandifluxError) for error in classes)
    assert {error.__name__ for error in classes} <= set(errors.__all__)
    for error in classes:
        assert error.__name__ in (errors.__doc__ or "")


def test_exit_codes() -> None:
    assert KandifluxError("x").exit_code == 1
    assert UsageError("x").exit_code == ParameterError("x").exit_code == 2
    assert ServerUnreachable("x").exit_code == 3
    assert JobInterrupted("x", prompt_id="p").exit_code == 130


def test_a_message_says_what_was_expected_what_came_and_what_to_do() -> None:
    said = str(KandifluxError("Wrong.", expected="one", got="two", hint="Give one."))
    assert said.splitlines() == ["Wrong.", "  expected: one", "  got:      two", "  to do:    Give one."]


def test_errors_become_json() -> None:
    error = NodeFailed(
        prompt_id="p", node_id="1", title="T", class_type="C", exception_type="E", exception_message="m\n"
    )
    as_json = json.loads(json.dumps(error.as_dict()))
    assert (as_json["error"], as_json["prompt_id"], as_json["title"]) == ("NodeFailed", "p", "T")
