"""The exception tree keeps its promises: one base, exit codes, messages that say what to do."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import kandiflux
import pytest
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
    assert ServerUnreachable("x").exit_code == errors.AnswerLost("x").exit_code == 3
    assert errors.ProtocolError("x").exit_code == 3
    for kind in (errors.InvalidPrompt, errors.BodyTooLarge, errors.AccessDenied, errors.WorkflowError):
        assert kind("x").exit_code == 2
    for kind in (errors.ServerError, errors.OutputError, errors.DownloadError, errors.WrongFile):
        assert kind("x").exit_code == 1
    for lost in (errors.JobError, errors.JobLost, errors.JobTimeout):
        assert lost("x", prompt_id="p").exit_code == 1
    assert JobInterrupted("x", prompt_id="p").exit_code == 130


def test_a_message_says_what_was_expected_what_came_and_what_to_do() -> None:
    said = str(KandifluxError("Wrong.", expected="one", got="two", hint="Give one."))
    assert said.splitlines() == ["Wrong.", "  expected: one", "  got:      two", "  hint:     Give one."]


def test_a_message_leaves_out_what_is_not_known() -> None:
    said = [str(KandifluxError("Wrong.", **{name: ""})) for name in ("expected", "got", "hint")]
    assert said == ["Wrong.\n  expected: ", "Wrong.\n  got:      ", "Wrong.\n  hint:     "]
    assert str(KandifluxError("Wrong.", parameter="folder")) == "Wrong."
    assert KandifluxError("Wrong.").as_dict() == {"error": "KandifluxError", "message": "Wrong."}
    assert UsageError("Wrong.", expected="", got="two", parameter="folder").as_dict() == {
        "error": "UsageError", "message": "Wrong.", "expected": "", "got": "two",
    }  # fmt: skip


def test_each_problem_of_a_prompt_is_a_line() -> None:
    problems = [errors.NodeProblem("1", "T", "C", "k", "m", details) for details in ("d", "")]
    refused = errors.InvalidPrompt("Refused:", problems, hint="Do this.", parameter="check")
    assert str(refused).splitlines() == [
        "Refused:", "  'T' (node 1, C): m: d", "  'T' (node 1, C): m", "  hint:     Do this.",
    ]  # fmt: skip
    assert (refused.problems, refused.parameter) == (tuple(problems), "check")


def test_what_errors_of_a_server_say_besides() -> None:
    assert [ServerUnreachable("x", refused=refused).refused for refused in (True, False)] == [True, False]
    assert not ServerUnreachable("x").refused
    lost = errors.AnswerLost("x", still_coming=True, hint="Wait.")
    assert (lost.refused, lost.still_coming, lost.hint) == (False, True, "Wait.")
    assert not errors.AnswerLost("x").still_coming


def test_all_of_a_failed_node_becomes_json() -> None:
    error = NodeFailed(
        prompt_id="p", node_id="1", title="T", class_type="C", exception_type="E", exception_message=" m\n",
        traceback=("a", "b"), inputs={"w": [64]}, hint="Do this.",
    )  # fmt: skip
    assert error.as_dict() == {
        "error": "NodeFailed", "message": "'T' (node 1, C) failed: E: m", "hint": "Do this.", "prompt_id": "p",
        "node_id": "1", "title": "T", "class_type": "C", "exception_type": "E", "traceback": ["a", "b"],
    }  # fmt: skip
    assert (error.exception_message, error.traceback, error.inputs) == ("m", ("a", "b"), {"w": [64]})


def test_errors_become_json() -> None:
    error = NodeFailed(
        prompt_id="p", node_id="1", title="T", class_type="C", exception_type="E", exception_message="m\n"
    )
    as_json = json.loads(json.dumps(error.as_dict()))
    assert (as_json["error"], as_json["prompt_id"], as_json["title"]) == ("NodeFailed", "p", "T")


def samples() -> list[KandifluxError]:
    """One error of each class, with everything that its constructor takes."""
    values: dict[str, object] = {
        "message": "Wrong.", "expected": "one", "got": "two", "hint": "Do this.", "prompt_id": "p", "refused": True,
        "parameter": "folder",
        "still_coming": True, "node_id": "1", "title": "T", "class_type": "C", "exception_type": "E",
        "exception_message": "m", "traceback": ("a", "b"), "inputs": {"width": [64]},
        "problems": [errors.NodeProblem("1", "T", "C", "k", "m", "d", "width")],
    }  # fmt: skip
    classes = [getattr(errors, name) for name in errors.__all__ if name != "NodeProblem"]
    taken = {kind: inspect.signature(kind).parameters.keys() & values for kind in classes}
    return [kind(**{name: values[name] for name in names}) for kind, names in taken.items()]


@pytest.mark.parametrize("error", samples(), ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: KandifluxError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (vars(copy), str(copy), copy.args) == (vars(error), str(error), error.args)


@pytest.mark.parametrize("error", samples(), ids=lambda error: type(error).__name__)
def test_the_message_is_the_argument_of_the_exception(error: KandifluxError) -> None:
    """As of any other exception: logs and debuggers show it."""
    assert error.args == (error.message,)


def raise_node_failed(number: int) -> None:
    raise NodeFailed(
        prompt_id=str(number), node_id="1", title="T", class_type="C", exception_type="E", exception_message="m"
    )


def test_an_error_comes_out_of_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for number in range(2):
            with pytest.raises(NodeFailed, match="failed: E: m") as caught:
                pool.submit(raise_node_failed, number).result(60)
            assert caught.value.prompt_id == str(number)


def test_every_exception_of_the_package_can_be_pickled() -> None:
    """Those that are not in errors.py, too."""
    for module in pkgutil.walk_packages(kandiflux.__path__, "kandiflux."):
        if module.name.startswith("kandiflux.pack") or module.name.endswith("__main__"):
            continue
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if not issubclass(kind, Exception) or kind.__module__ != module.name or issubclass(kind, KandifluxError):
                continue
            try:
                parameters = inspect.signature(kind).parameters.values()
            except ValueError:  # it is Exception's own
                parameters = ()
            positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
            named = {one.name: "named" for one in parameters if one.kind is one.KEYWORD_ONLY}
            error = kind(*positional, **named)
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), vars(copy), copy.args) == (kind, vars(error), error.args), kind
