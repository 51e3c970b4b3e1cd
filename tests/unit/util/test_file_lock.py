"""A lock between processes: who has it, who waits, and who gives up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from kandiflux.util.file_lock import held

from tests.support.waiting import until


class Counted(threading.Event):
    """Notes for how long it is waited for, and cuts the waits short."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        return super().wait(0.01)


def test_a_lock_is_held_during_the_block_and_its_file_is_gone_after_it(tmp_path: Path) -> None:
    path, stop = tmp_path / "x.lock", threading.Event()
    waits: list[str] = []
    for _ in range(2):
        with held(path, stop, lambda: waits.append("waits")) as mine:
            assert mine
            assert path.exists()
        assert not path.exists()
    assert waits == []


def test_another_waits_for_it_and_says_so_once(tmp_path: Path) -> None:
    path, stop = tmp_path / "x.lock", Counted()
    done: list[str] = []

    def other() -> None:
        with held(path, stop, lambda: done.append("waits")) as mine:
            done.append(f"has it: {mine}")

    with held(path, threading.Event()):
        thread = threading.Thread(target=other)
        thread.start()
        until(lambda: len(stop.pauses) >= 3)
        assert done == ["waits"]
    thread.join(30)
    assert done == ["waits", "has it: True"]
    assert all(pause is not None and 0 < pause <= 1 for pause in stop.pauses)


def test_one_that_waits_can_be_stopped(tmp_path: Path) -> None:
    path, stop = tmp_path / "x.lock", threading.Event()
    with held(path, threading.Event()):
        with held(path, stop, stop.set) as mine:
            assert not mine
        assert path.exists(), "it is the other's"
    with held(path, stop) as mine:
        assert not mine
    assert not path.exists()


def test_an_error_in_the_block_frees_it(tmp_path: Path) -> None:
    path, stop = tmp_path / "x.lock", threading.Event()
    with pytest.raises(KeyError), held(path, stop):
        raise KeyError
    assert not path.exists()
    with held(path, stop) as mine:
        assert mine
