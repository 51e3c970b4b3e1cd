"""Signals and --timeout: what they raise in a block, and that all is as before after it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kandiflux.cli import signals
from kandiflux.cli.signals import SignalReceived, TimeUp, exit_code, handling, interrupting, time_limit

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="Windows has other signals"),
    pytest.mark.skipif(
        threading.current_thread() is not threading.main_thread(), reason="signals need the main thread"
    ),
]
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def installed() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in (*NUMBERS, signal.SIGALRM)}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, Any]]:
    """Those of before each test, which holds for after it, too."""
    before = installed()
    for number in NUMBERS:
        # A suite that runs in the background ignores Ctrl-C.
        signal.signal(number, signal.default_int_handler)
    expected = installed()
    yield expected
    after = installed()
    for number in before:
        signal.signal(number, before[number])
    assert after == expected
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes with which the process would have ended at once."""
    codes: list[int] = []
    monkeypatch.setattr(signals.os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_raised_and_the_second_ends_the_process(number: int, left: list[int]) -> None:
    with interrupting():
        with pytest.raises(SignalReceived) as raised:
            signal.raise_signal(number)
        assert (raised.value.number, exit_code(raised.value), left) == (number, 128 + number, [])
        with pytest.raises(SignalReceived):
            signal.raise_signal(signal.SIGTERM)
        assert left == [143]


def test_exit_codes() -> None:
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(SignalReceived(signal.SIGHUP)) == 129


def test_an_ignored_signal_stays_ignored(left: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    came: list[int] = []
    with handling(came.append):
        for number in NUMBERS:
            signal.raise_signal(number)
    assert came == [signal.SIGTERM]
    with handling(came.append, in_background=True):
        for number in NUMBERS:
            signal.raise_signal(number)
    assert came == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM], "what is started in the background can be ended"
    assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    for number in NUMBERS:
        signal.signal(number, signal.default_int_handler)


def test_a_thread_handles_no_signals(handlers: dict[int, Any]) -> None:
    seen: list[object] = []

    def work() -> None:
        with interrupting(), time_limit(0.001):
            seen.extend(signal.getsignal(number) for number in NUMBERS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handlers[number] for number in NUMBERS]


@pytest.mark.parametrize("seconds", [0.02, 0.0, -5.0])
def test_a_time_limit_is_raised_in_the_block(seconds: float) -> None:
    with pytest.raises(TimeUp), time_limit(seconds):
        threading.Event().wait(30)


def test_a_block_that_is_quick_enough_is_not_interrupted() -> None:
    with time_limit(60):
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
    with time_limit(None):
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_what_is_done_about_a_signal_has_all_the_time(left: list[int]) -> None:
    with interrupting(), time_limit(60):
        with pytest.raises(SignalReceived):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_leaving_shows_the_cursor_again_on_a_terminal(left: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bytes] = []

    class Terminal:
        def __init__(self, yes: bool) -> None:
            self._yes = yes

        def isatty(self) -> bool:
            return self._yes

        def fileno(self) -> int:
            return 2

    monkeypatch.setattr(signals.os, "write", lambda _, content: shown.append(content))
    for yes, cursor in ((False, []), (True, [b"\x1b[?25h"])):
        monkeypatch.setattr(signals.sys, "stderr", Terminal(yes))
        signals.leave(signal.SIGINT)
        assert shown == cursor
    assert left == [130, 130]
