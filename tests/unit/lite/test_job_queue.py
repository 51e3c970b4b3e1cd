"""The queue and the history, without a server."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from kandiflux.lite.job_queue import Interrupt, JobQueue, LiteJob, Outcome
from kandiflux.lite.seam import Interrupted

from tests.support.waiting import until


def job(name: str, number: float = 0, **extra: Any) -> LiteJob:
    return LiteJob(number, name, {"1": {"of": name}}, extra, ["1"])


class Queue(JobQueue):
    """Counts its changes."""

    def __init__(self) -> None:
        self.changes = 0
        self.interruption = Interrupt()
        super().__init__(self._count, self.interruption)

    def _count(self) -> None:
        self.changes += 1

    def ran(self, *names: str) -> None:
        for name in names:
            self.put(job(name))
            assert self.take()
            self.finish(Outcome(True))

    def interrupted(self) -> bool:
        try:
            self.interruption.check()
        except Interrupted:
            return True
        return False


@pytest.fixture
def queue() -> Queue:
    return Queue()


def take(queue: JobQueue) -> str | None:
    taken = queue.take()
    return taken.prompt_id if taken else None


def test_jobs_run_by_number_and_then_as_they_came(queue: Queue) -> None:
    for name, number in (("a", 1), ("b", 0), ("c", 1), ("d", -3.5), ("e", 0)):
        queue.put(job(name, number))
    assert queue.changes == 5
    ran = [take(queue) for _ in range(5)]
    assert ran == ["d", "b", "e", "a", "c"]


def test_the_queue_is_shown_in_the_order_in_which_it_will_run(queue: Queue) -> None:
    for name, number in (("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 1), ("f", -2)):
        queue.put(job(name, number))
    while queue.remaining():
        shown = [entry[1] for entry in queue.snapshot()["queue_pending"]]
        assert take(queue) == shown[0]
        assert [entry[1] for entry in queue.snapshot()["queue_pending"]] == shown[1:]
        queue.finish(Outcome(True))


def test_what_is_shown_of_the_queue(queue: Queue) -> None:
    secrets = {"auth_token_comfy_org": "x", "api_key_comfy_org": "x", "client_id": "me", "kept": 1}
    for name in ("a", "b"):
        queue.put(job(name, 2.0, **secrets))
    assert (queue.remaining(), take(queue), queue.remaining()) == (2, "a", 2)
    shown = [2.0, "a", {"1": {"of": "a"}}, {"client_id": "me", "kept": 1}, ["1"]]
    assert queue.snapshot() == {
        "queue_running": [shown],
        "queue_pending": [[2.0, "b", {"1": {"of": "b"}}, *shown[3:]]],
    }
    queue.finish(Outcome(True))
    assert queue.snapshot()["queue_running"] == []
    assert queue.remaining() == 1
    assert job("a", client_id="me").client_id == "me"
    assert job("a").client_id is None


def test_a_job_that_ended_is_in_the_history(queue: Queue) -> None:
    queue.put(job("a"))
    queue.take()
    before = queue.changes
    queue.finish(Outcome(False, {"1": {"text": ["x"]}}, {"1": {"node_id": "1"}}, [("execution_error", {})]))
    assert queue.changes == before + 1
    assert queue.history_of("a") == queue.history() == {
        "a": {
            "prompt": job("a").json(),
            "outputs": {"1": {"text": ["x"]}},
            "status": {"status_str": "error", "completed": False, "messages": [("execution_error", {})]},
            "meta": {"1": {"node_id": "1"}},
        }
    }  # fmt: skip
    assert queue.history_of("b") == {}
    queue.ran("c")
    assert queue.history_of("c")["c"]["status"] == {"status_str": "success", "completed": True, "messages": []}
    before = queue.changes
    queue.finish(Outcome(True))
    assert queue.changes == before, "nothing ran"
    assert list(queue.history()) == ["a", "c"]


@pytest.mark.parametrize(
    ("max_items", "offset", "names"),
    [
        (None, -1, "abcd"),
        (2, -1, "cd"),
        (2, 1, "bc"),
        (None, 3, "d"),
        (None, 9, ""),
        (9, -1, "abcd"),
        (0, -1, ""),
        (4, 0, "abcd"),
    ],
)
def test_the_history_in_parts(queue: Queue, max_items: int | None, offset: int, names: str) -> None:
    queue.ran(*"abcd")
    assert "".join(queue.history(max_items, offset)) == names
    assert ("".join(queue.history()), "".join(queue.history(2))) == ("abcd", "cd")


def test_the_history_is_forgotten(queue: Queue) -> None:
    queue.ran(*"abcd")
    queue.delete_history(["b", "unknown", "d"])
    assert list(queue.history()) == ["a", "c"]
    queue.clear_history()
    assert queue.history() == {}


def test_the_history_is_bounded(queue: Queue) -> None:
    names = [str(number) for number in range(10_001)]
    queue.ran(*names)
    assert list(queue.history()) == names[1:]


def test_pending_jobs_are_removed(queue: Queue) -> None:
    for number, name in enumerate("abcde"):
        queue.put(job(name, -number))
    before = queue.changes
    queue.delete(["unknown"])
    assert queue.changes == before
    queue.delete(["e", "b", "unknown"])
    assert queue.changes == before + 1
    assert (take(queue), queue.remaining()) == ("d", 3)
    queue.clear()
    assert queue.remaining() == 1
    queue.wake()
    assert take(queue) is None


# Interrupts


def test_an_interrupt_is_for_what_runs_when_it_comes(queue: Queue) -> None:
    assert not queue.interrupt()
    queue.interruption.request()  # one that came too late for the job before
    queue.put(job("a"))
    queue.put(job("b"))
    queue.take()
    assert not queue.interrupted()
    assert not queue.interrupt("b"), "which waits"
    assert not queue.interrupted()
    for prompt_id in (None, "a"):
        assert queue.interrupt(prompt_id)
        assert queue.interrupted()
        assert not queue.interrupted(), "once"


def test_a_job_is_cancelled_whether_it_waits_or_runs(queue: Queue) -> None:
    for name in "abc":
        queue.put(job(name))
    queue.take()
    assert queue.cancel("b")
    assert not queue.interrupted()
    assert [entry[1] for entry in queue.snapshot()["queue_pending"]] == ["c"]
    assert queue.cancel("a")
    assert queue.interrupted()
    assert not queue.cancel("b")
    assert not queue.cancel("unknown")
    assert queue.remaining() == 2


# Threads


def test_take_waits_for_a_job_or_to_be_woken(queue: Queue) -> None:
    taken: list[str | None] = []

    def work() -> None:
        while taken[-1:] != ["last"]:
            taken.append(take(queue))

    worker = threading.Thread(target=work)
    worker.start()
    queue.put(job("a"))
    until(lambda: taken == ["a"])
    queue.wake()
    until(lambda: taken == ["a", None])
    queue.put(job("last"))
    worker.join(30)
    assert taken == ["a", None, "last"]


def test_a_wake_is_spent_once(queue: Queue) -> None:
    queue.wake()
    queue.put(job("a"))
    assert take(queue) == "a"
    queue.wake()
    assert take(queue) is None
    queue.put(job("b"))
    assert take(queue) == "b"
