"""The log stays readable: repeated lines, clients' errors, a machine without resources."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import Any

import pytest
from aiohttp.http_exceptions import BadHttpMessage
from kandiflux.lite.logs import OneLineErrors, Sparingly, loop_error_handler


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that time.monotonic returns."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_of_a_kind_once_in_a_while(clock: list[float]) -> None:
    sparingly = Sparingly(5.0)
    assert [sparingly.may("a"), sparingly.may("a"), sparingly.may("b")] == [True, False, True]
    clock[0] += 4.9
    assert not sparingly.may("a")
    clock[0] += 0.1
    assert [sparingly.may("a"), sparingly.may("a")] == [True, False]


def test_a_new_machine_logs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """time.monotonic may begin with 0 when the machine starts."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    assert Sparingly(5.0).may("a")


class Loop:
    def __init__(self) -> None:
        self.handled: list[Any] = []

    def default_exception_handler(self, context: Any) -> None:
        self.handled.append(context)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_lack_of_resources_is_one_line_in_ten_seconds(
    number: int, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    handle, loop = loop_error_handler(), Loop()
    for seconds in (0.0, 1.0, 9.0):
        clock[0] += seconds
        handle(loop, {"exception": OSError(number, "Too many")})
    assert caplog.messages == ["New connections must wait: Too many. Close some connections, or raise the limit."] * 2
    assert loop.handled == []


@pytest.mark.parametrize(
    "context", [{"exception": OSError(errno.EPIPE, "x")}, {"exception": ValueError()}, {"message": "x"}]
)
def test_other_errors_of_the_loop_are_handled_as_usual(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop()
    loop_error_handler()(loop, context)
    assert loop.handled == [context]
    assert caplog.messages == []


def filtered(error: BaseException | None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "x.py", 1, "Error %s", ("of ours",), info)
    record.exc_text = "cached"
    assert OneLineErrors().filter(record)
    return record


@pytest.mark.parametrize("error", [BadHttpMessage("bad\n  head"), ConnectionResetError("gone")])
def test_a_clients_error_is_one_line(error: BaseException) -> None:
    record = filtered(error)
    assert record.getMessage() == "A request cannot be read: " + " ".join(str(error).split())
    assert (record.exc_info, record.exc_text) == (None, None)
    assert (record.levelno, record.levelname) == (logging.WARNING, "WARNING")


def test_a_clients_error_is_cut() -> None:
    assert len(filtered(ConnectionError("x" * 5000)).getMessage()) < 400


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError(), None])
def test_other_errors_keep_their_traceback(error: BaseException | None) -> None:
    record = filtered(error)
    assert record.getMessage() == "Error of ours"
    assert (record.exc_text, record.levelno) == ("cached", logging.ERROR)
