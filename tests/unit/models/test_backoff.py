"""What may work a little later is tried again: how often, after which pauses, and what counts as progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kandiflux.errors import DownloadError, ServerUnreachable
from kandiflux.models.backoff import Patience, Stopped
from kandiflux.models.remote_files import Trouble


class Pauses(threading.Event):
    """An event that nobody waits for: it notes for how long one would."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._stop_at = stop_at

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return len(self.seconds) == self._stop_at


def failing(times: int, **about: Any) -> Callable[[], str]:
    """Fails so many times, then gives "done"."""
    left = [times]

    def step() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise Trouble("broke off", **about)
        return "done"

    return step


@pytest.mark.parametrize(("times", "pauses"), [(0, 0), (1, 1), (4, 4)])
def test_it_is_tried_again_until_it_works(times: int, pauses: int) -> None:
    waited = Pauses()
    assert Patience(attempts=5).retry("x", failing(times), waited) == "done"
    assert len(waited.seconds) == pauses


def test_it_is_given_up_after_so_many_failures_in_a_row() -> None:
    waited = Pauses()
    with pytest.raises(DownloadError, match=r"^x cannot be downloaded: broke off \(5 times in a row\)"):
        Patience(attempts=5).retry("x", failing(5), waited)
    assert len(waited.seconds) == 4
    with pytest.raises(DownloadError, match="1 times in a row"):
        Patience(attempts=1).retry("x", failing(1), waited)


def test_how_patient_a_download_is_if_nothing_else_is_said() -> None:
    usual = Patience(attempts=6, first_pause=1.0, longest_pause=30.0, longest_wait=600.0, min_rate=1024.0)
    assert Patience() == usual


def test_no_answer_at_all_is_another_error() -> None:
    with pytest.raises(ServerUnreachable, match="broke off"):
        Patience(attempts=2).retry("x", failing(2, no_answer=True), Pauses())


def test_pauses_double_up_to_the_longest_and_are_not_the_same_for_all() -> None:
    rounds = []
    for _ in range(20):
        waited = Pauses()
        Patience(attempts=9, first_pause=1.0, longest_pause=10.0).retry("x", failing(6), waited)
        rounds.append(waited.seconds)
    for number, longest in enumerate([1, 2, 4, 8, 10, 10]):
        seconds = [waited[number] for waited in rounds]
        assert longest * 0.5 <= min(seconds) < max(seconds) <= longest


@pytest.mark.parametrize("after", [0.0, 7.0, 600.0])
def test_a_server_that_says_when_to_come_again_is_obeyed(after: float) -> None:
    waited = Pauses()
    Patience().retry("x", failing(1, after=after), waited)
    assert waited.seconds == [after]


def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for() -> None:
    waited = Pauses()
    with pytest.raises(DownloadError, match="x: the server asks to retry in 601 seconds"):
        Patience(longest_wait=600.0).retry("x", failing(1, after=601.0), waited)
    assert waited.seconds == []


def test_stopped_during_a_pause() -> None:
    waited = Pauses(stop_at=2)
    with pytest.raises(Stopped):
        Patience().retry("x", failing(5), waited)
    assert len(waited.seconds) == 2


@pytest.mark.parametrize(
    ("rate", "each", "gives_up"),
    [(0.0, 1, False), (0.0, 0, True), (1e12, 1, True), (1e-9, 1, False)],
)
def test_failures_after_progress_do_not_add_up(rate: float, each: int, gives_up: bool) -> None:
    """If enough bytes came since the last failure, the next is the first again."""
    came = [0]
    fails = failing(10)

    def step() -> str:
        came[0] += each
        return fails()

    patience, waited = Patience(attempts=2, first_pause=1.0, min_rate=rate), Pauses()
    if gives_up:
        with pytest.raises(DownloadError, match="2 times in a row"):
            patience.retry("x", step, waited, progress=lambda: came[0])
    else:
        assert patience.retry("x", step, waited, progress=lambda: came[0]) == "done"
        assert len(waited.seconds) == 10
        assert max(waited.seconds) <= 1.0


def test_progress_counts_from_the_last_failure_and_not_from_the_beginning() -> None:
    came, fails = [0], failing(10)

    def step() -> str:
        came[0] = max(came[0], 1000)
        return fails()

    with pytest.raises(DownloadError, match="3 times in a row"):
        Patience(attempts=3, min_rate=0.0).retry("x", step, Pauses(), progress=lambda: came[0])
    came[0] = 5

    def back() -> str:
        came[0] -= 1
        return failing(1)()

    with pytest.raises(DownloadError, match="2 times in a row"):
        Patience(attempts=2, min_rate=0.0).retry("x", back, Pauses(), progress=lambda: came[0])


def test_what_is_no_trouble_is_not_tried_again() -> None:
    waited = Pauses()

    def step() -> str:
        raise DownloadError("gone")

    with pytest.raises(DownloadError, match="gone"):
        Patience().retry("x", step, waited)
    assert waited.seconds == []
