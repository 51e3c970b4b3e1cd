"""What is told of an exception that a node's code raised."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest
from kandiflux.lite.guard import Failure, Returned, attempt


class Outer:
    class Error(Exception):
        pass


class Unreadable(Exception):
    def __str__(self) -> str:
        raise LookupError("no text today")


def failing(error: BaseException) -> Failure:
    def foreign() -> NoReturn:
        raise error

    done = attempt(foreign)
    assert isinstance(done, Failure)
    assert done.error is error
    return done


def test_what_is_returned() -> None:
    assert attempt(lambda: 5) == Returned(5)
    assert attempt(lambda: None) == Returned(None)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), GeneratorExit(), BaseException("no")], ids=repr)
def test_whatever_is_raised(error: BaseException) -> None:
    assert failing(error).message == str(error)


def test_only_ctrl_c_passes_and_only_in_the_main_thread() -> None:
    with pytest.raises(KeyboardInterrupt):
        failing(KeyboardInterrupt())
    failures: list[Failure] = []
    thread = threading.Thread(target=lambda: failures.append(failing(KeyboardInterrupt("a node's"))))
    thread.start()
    thread.join()
    assert [one.message for one in failures] == ["a node's"]


def test_the_name_of_its_class() -> None:
    assert failing(ValueError()).type_name == "ValueError"
    assert failing(Outer.Error()).type_name == f"{__name__}.Outer.Error"


def test_its_text_is_bounded_and_always_there() -> None:
    assert failing(ValueError("x" * 10_001)).message == "x" * 10_000
    assert failing(Unreadable()).message == "(the exception's text cannot be read: LookupError)"


def test_its_traceback() -> None:
    failure = failing(ValueError("no"))
    assert ["in attempt" in failure.traceback[0], "in foreign" in failure.traceback[-1]] == [True, True]
    assert failure.text.startswith("Traceback (most recent call last):\n")
    assert failure.text.endswith("ValueError: no\n")
