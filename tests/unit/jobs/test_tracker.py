"""Following jobs to their end, with a server that answers what a test tells it to."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kandiflux import Client, Job
from kandiflux.api.events import ExecutionFailed, ExecutionSucceeded, JobQueued, NodeExecuted
from kandiflux.api.rest import ComfyApi, Queue, QueueEntry
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    JobInterrupted,
    JobLost,
    KandifluxError,
    NodeFailed,
    OutputMissing,
    ProtocolError,
    ServerError,
    ServerUnreachable,
)
from kandiflux.jobs.tracker import JobTracker
from kandiflux.workflow.prompt import Prompt

from tests.support.fake_comfyui import prompt
from tests.support.waiting import until

WAIT = 20
SELDOM = 1000.0
SILENT = ServerUnreachable("silent")
DENIED = AccessDenied("no access", hint="Sign in.")
SUCCESS = {"status": {"status_str": "success", "messages": []}, "outputs": {"2": {"images": [{"filename": "a.png"}]}}}
Meets = Mapping[str, Any] | Exception | None


@dataclass
class Told:
    """A server. queues: what each look at the queue finds, ids of running and pending jobs; the last one stays.
    histories: by job, what each look at its history finds, an entry or an error; the last one stays."""

    queues: list[tuple[list[str], list[str]] | BaseException] = field(default_factory=lambda: [([], [])])
    histories: dict[str, list[Meets]] = field(default_factory=dict)
    recent: Mapping[str, Any] | KandifluxError = field(default_factory=dict)
    url: str = "http://comfy.test"
    asked: list[str] = field(default_factory=list)
    within: list[float] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def queue(self, *, within: float) -> Queue:
        self.asked.append("queue")
        self.within.append(within)
        found = self.queues.pop(0) if len(self.queues) > 1 else self.queues[0]
        if isinstance(found, BaseException):
            raise found
        running, pending = (tuple(QueueEntry(1, name) for name in names) for names in found)
        return Queue(running, pending)

    def history(self, prompt_id: str, *, again: bool, within: float) -> Mapping[str, Any] | None:
        assert not again, "it is looked at again soon anyway"
        self.asked.append(prompt_id)
        self.within.append(within)
        told = self.histories.get(prompt_id, [None])
        found = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(found, Exception):
            raise found
        return found

    def recent_history(self, max_items: int, *, again: bool, within: float) -> Mapping[str, Any]:
        self.asked.append(f"newest {max_items}")
        if isinstance(self.recent, KandifluxError):
            raise self.recent
        return self.recent

    def delete_pending(self, prompt_id: str) -> None:
        self.deleted.append(prompt_id)
        raise ServerError("not now")


Watch = Callable[..., JobTracker]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(told: Told) -> Iterator[Watch]:
    """Makes a watcher; poll_seconds and patience are long unless a test is about them."""
    watchers: list[JobTracker] = []

    def make(
        *jobs: Job, poll: float = SELDOM, patience: float = 60.0, orphaned: Callable[[Job], bool] = lambda job: False
    ) -> JobTracker:
        watcher = JobTracker(cast(ComfyApi, told), poll_seconds=poll, patience=patience, orphaned=orphaned)
        watchers.append(watcher)
        for job in jobs:
            watcher.add(job)
        return watcher

    yield make
    for watcher in watchers:
        watcher.close()


def a_job(name: str = "j", saver: str = "SaveImage") -> Job:
    return Job(cast(Client, SimpleNamespace(closed=False)), Prompt.from_api(prompt(saver=saver)), name)


# Hints


def test_a_hint_has_the_history_read_and_nothing_else(told: Told, watch: Watch) -> None:
    told.histories = {"j": [SUCCESS]}
    job = a_job()
    watch(job).hint(job)
    assert [one.filename for one in job.result(WAIT).images] == ["a.png"]
    assert told.asked == ["j"]


def test_after_a_hint_it_is_read_again_until_it_is_there(told: Told, watch: Watch) -> None:
    told.histories = {"j": [None, None, SUCCESS]}
    job = a_job()
    watch(job).hint(job, 0.01)
    assert job.result(WAIT).images
    assert told.asked == ["j"] * 3


def test_hints_end_after_a_while(told: Told, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.jobs.tracker._LAST_HINT_PAUSE", 0.05)
    job, other = a_job(), a_job("k")
    watcher = watch(job, other)
    watcher.hint(job)
    until(lambda: told.asked == ["j"] * 3)  # after pauses of 0.02 and 0.04; the next would be 0.08
    told.histories = {"k": [None, None, None, None, SUCCESS]}
    watcher.hint(other)
    until(lambda: told.asked.count("k") == 3)
    assert told.asked.count("j") == 3
    assert not job.finished


def test_between_the_looks_after_a_hint_there_are_growing_pauses(told: Told, watch: Watch) -> None:
    told.histories = {"j": [None, None, None, SUCCESS]}
    job = a_job()
    begun = time.monotonic()
    watch(job).hint(job)
    assert job.result(WAIT).images
    assert time.monotonic() - begun >= 0.02 + 0.04 + 0.08


def test_a_hint_for_a_job_that_has_ended_meanwhile_is_forgotten(told: Told, watch: Watch) -> None:
    told.queues = [([], ["k"])]
    told.histories = {"j": [SUCCESS], "k": [SUCCESS]}
    job, other = a_job(), a_job("k")
    watcher = watch(job, other)
    watcher.hint(job, 0.1)
    watcher.sweep_now()
    assert job.result(WAIT).images
    watcher.hint(other, 0.2)
    assert other.result(WAIT).images
    assert told.asked.count("j") == 1


def test_a_hint_for_a_job_that_is_not_followed_is_nothing(told: Told, watch: Watch) -> None:
    told.histories = {"j": [SUCCESS]}
    job, other = a_job(), a_job("k")
    watcher = watch(job)
    watcher.hint(other)
    watcher.hint(job)
    assert job.result(WAIT).images
    assert told.asked == ["j"]


@pytest.mark.parametrize("listed", [True, False])
def test_jobs_that_end_together_are_read_together(told: Told, watch: Watch, listed: bool) -> None:
    jobs = [a_job(f"j{number}") for number in range(6)]
    told.histories = {job.prompt_id: [SUCCESS] for job in jobs}
    told.recent = dict.fromkeys(told.histories, SUCCESS) if listed else SILENT
    begun, held = threading.Event(), threading.Event()
    first = a_job("first")

    def hold(prompt_id: str, **_: Any) -> Mapping[str, Any]:
        begun.set()
        held.wait(WAIT)
        return SUCCESS

    history, told.history = told.history, hold  # type: ignore[method-assign,assignment]
    watcher = watch(first, *jobs)
    watcher.hint(first)
    assert begun.wait(WAIT)
    for job in jobs:
        watcher.hint(job)
    told.history = history  # type: ignore[method-assign]
    held.set()
    for job in jobs:
        assert job.result(WAIT).images
    newest = [asked for asked in told.asked if asked.startswith("newest")]
    assert newest[0] == "newest 10", "as many as are due, and some of other clients"
    assert sum(asked in told.histories for asked in told.asked) == (0 if listed else 6)


# Looking


def test_a_look_tells_where_each_job_is(told: Told, watch: Watch) -> None:
    told.queues = [(["x", "a"], ["y", "b", "c"])]
    jobs = [a_job(name) for name in "abc"]
    watch(*jobs, poll=0.02)
    until(lambda: told.asked.count("queue") >= 2)
    assert [job.state for job in jobs] == ["running", "queued", "queued"]
    assert [job.latest(JobQueued) for job in jobs] == [None, JobQueued("b", position=3), JobQueued("c", position=4)]
    assert set(told.asked) == {"queue"}, "history is not asked for what is in the queue"


def test_the_first_look_comes_after_the_interval_or_when_asked_for(told: Told, watch: Watch) -> None:
    told.histories = {"j": [SUCCESS]}
    job = a_job()
    watcher = watch(job)
    watcher.sweep_now()
    assert job.result(WAIT).images
    assert told.asked == ["queue", "j"]


@pytest.mark.parametrize(("cancelled", "kind"), [(False, JobLost), (True, JobInterrupted)])
def test_a_job_that_is_nowhere_in_two_looks_is_lost(
    told: Told, watch: Watch, cancelled: bool, kind: type[KandifluxError]
) -> None:
    job = a_job()
    if cancelled:
        job.withdrawn()
    watch(job).sweep_now()
    with pytest.raises(kind) as caught:
        job.result(WAIT)
    assert told.asked == ["queue", "j"] * 2
    assert ("before it began" in str(caught.value)) == cancelled


def test_absences_count_only_in_a_row(told: Told, watch: Watch) -> None:
    nowhere, there = ([], []), ([], ["j"])
    told.queues = [nowhere, there, nowhere, there, nowhere]
    told.histories = {"j": [None, None, SUCCESS]}
    job = a_job()
    watch(job, poll=0.02)
    assert job.result(WAIT).images


def test_what_the_events_have_told_counts_if_a_job_is_nowhere(told: Told, watch: Watch) -> None:
    ended, failed = a_job("a"), a_job("b")
    ended.deliver(NodeExecuted("a", "2", "2", {"images": [{"filename": "b.png"}]}))
    ended.deliver(ExecutionSucceeded("a"))
    failed.deliver(ExecutionFailed("b", "1", None, "ValueError", "no"))
    watch(ended, failed).sweep_now()
    assert [one.filename for one in ended.result(WAIT).images] == ["b.png"]
    with pytest.raises(NodeFailed):
        failed.result(WAIT)


@pytest.mark.parametrize(
    ("queue", "deleted"),
    [
        ((["j"], ["x", "j"]), ["j"]),
        (([], ["j", "x", "j", "j"]), ["j"]),
        ((["j"], ["x"]), []),
        (([], ["x", "j"]), []),
        ((["j", "j"], []), []),
    ],
)
def test_a_job_that_is_in_the_queue_twice_is_removed_once(
    told: Told, watch: Watch, queue: tuple[list[str], list[str]], deleted: list[str]
) -> None:
    told.queues = [queue]
    job = a_job()
    watch(job).sweep_now()
    until(lambda: job.state != "submitting")
    assert told.deleted == deleted
    assert not job.finished


def test_a_job_that_has_ended_is_forgotten(told: Told, watch: Watch) -> None:
    told.queues = [([], []), ([], ["k"])]
    told.histories = {"j": [SUCCESS]}
    job, other = a_job(), a_job("k")
    watch(job, other, poll=0.01)
    assert job.result(WAIT).images
    until(lambda: told.asked.count("queue") >= 4)
    assert told.asked.count("j") == 1


def test_without_events_it_is_looked_at_each_second(told: Told, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.jobs.tracker._ORPHAN_SECONDS", 0.02)
    told.queues = [(["j"], [])]
    job = a_job()
    watch(job, orphaned=lambda one: one is job).sweep_now()
    until(lambda: told.asked.count("queue") >= 4)


# Faults


def test_a_history_that_cannot_be_read_is_tried_for_the_whole_patience(told: Told, watch: Watch) -> None:
    told.queues = [([], ["k"])]
    told.histories = {"j": [error := ProtocolError("nonsense")], "k": [SUCCESS]}
    job, other = a_job(), a_job("k")
    watcher = watch(job, other, poll=0.02, patience=0.3)
    with pytest.raises(ProtocolError) as caught:
        job.result(WAIT)
    assert caught.value is error
    assert told.asked.count("j") >= 6
    assert not other.finished
    watcher.hint(other)
    assert other.result(WAIT).images


def test_a_few_failures_are_nothing_however_long_they_last(told: Told, watch: Watch) -> None:
    told.histories = {"j": [*[ProtocolError("nonsense")] * 5, SUCCESS]}
    job = a_job()
    watch(job, poll=0.02, patience=0.0).sweep_now()
    assert job.result(WAIT).images


def test_an_entry_that_is_there_and_cannot_be_read_ends_its_job_after_six_looks(told: Told, watch: Watch) -> None:
    told.histories = {"j": [{"status": 3}]}
    job = a_job()
    watch(job, poll=0.02, patience=SELDOM).sweep_now()
    with pytest.raises(ProtocolError, match="The server's answer about the job j cannot be read") as caught:
        job.result(WAIT)
    assert told.asked.count("j") == 6
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_history_without_access_is_given_up_soon(told: Told, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.jobs.tracker._ACCESS_SECONDS", 0.5)
    told.histories = {"j": [DENIED]}
    job = a_job()
    watch(job, poll=0.02, patience=SELDOM).sweep_now()
    with pytest.raises(AccessDenied) as caught:
        job.result(WAIT)
    assert caught.value is DENIED
    assert told.asked.count("j") >= 2, "once is nothing"


def test_a_history_that_hangs_keeps_no_other_waiting(told: Told, watch: Watch) -> None:
    told.histories = {"a": [AnswerLost("slow", still_coming=True)], "b": [SUCCESS], "c": [SUCCESS]}
    jobs = [a_job(name) for name in "abc"]
    watch(*jobs).sweep_now()
    assert jobs[1].result(WAIT).images
    assert jobs[2].result(WAIT).images
    assert told.asked[:5] == ["queue", "a", "queue", "b", "c"], "what hangs is asked last"
    assert not jobs[0].finished


def test_a_history_that_only_broke_off_holds_nobody_up(told: Told, watch: Watch) -> None:
    told.histories = {"a": [AnswerLost("cut")], "b": [SUCCESS]}
    jobs = [a_job(name) for name in "ab"]
    watch(*jobs).sweep_now()
    assert jobs[1].result(WAIT).images
    assert told.asked[:3] == ["queue", "a", "b"]


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (SILENT, ServerUnreachable, r"http://comfy\.test has not answered for \d+ s; the job [jk] may still be there"),
        (ProtocolError("a page"), ServerUnreachable, "Last error: a page"),
        (ValueError("strange"), ServerUnreachable, "Last error: The queue of .* cannot be read: strange"),
        (DENIED, AccessDenied, "no access The job [jk] may still be there"),
    ],
)
def test_a_queue_that_stays_unreadable_ends_all_jobs(
    told: Told, watch: Watch, error: Exception, kind: type[KandifluxError], said: str
) -> None:
    told.queues = [error]
    jobs = [a_job("j"), a_job("k")]
    watch(*jobs, poll=0.02, patience=1.0)
    for job in jobs:
        with pytest.raises(kind, match=said) as caught:
            job.result(WAIT)
        assert type(caught.value) is kind
        assert caught.value.hint
    assert told.asked.count("queue") >= 3


def test_access_that_is_denied_is_given_up_before_the_patience_ends(
    told: Told, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.jobs.tracker._ACCESS_SECONDS", 0.1)
    told.queues = [SILENT, DENIED]
    job = a_job()
    watch(job, poll=0.02, patience=SELDOM)
    with pytest.raises(AccessDenied, match="may still be there"):
        job.result(WAIT)


def test_silence_and_denial_count_only_without_an_answer_between(
    told: Told, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.jobs.tracker._ACCESS_SECONDS", 2.0)
    there = (["j"], [])
    told.queues = [
        *[error for _ in range(20) for error in (SILENT, there, DENIED, SILENT, DENIED, there)], ([], [])
    ]  # fmt: skip
    told.histories = {"j": [SUCCESS]}
    job = a_job()
    watch(job, poll=0.02, patience=2.0)
    assert job.result(WAIT).images
    assert told.asked.count("queue") == 121


def test_troubles_of_the_server_are_none_of_the_job(told: Told, watch: Watch) -> None:
    """While the queue cannot be read, a history that cannot be read says nothing."""
    told.queues = [SILENT]
    told.histories = {"j": [ProtocolError("nonsense")]}
    job = a_job()
    watcher = watch(job, poll=0.01, patience=0.3)
    for _ in range(20):
        watcher.hint(job)
    with pytest.raises(ServerUnreachable, match="has not answered"):
        job.result(WAIT)


def test_no_request_may_take_longer_than_the_patience(told: Told, watch: Watch) -> None:
    told.queues = [SILENT]
    job = a_job()
    watch(job, poll=0.1, patience=0.4)
    with pytest.raises(ServerUnreachable):
        job.result(WAIT)
    assert told.within[0] == 0.4
    # The shortest time is 0.05 s, and may come twice.
    assert all(later == 0.05 or 0.05 < later < before for before, later in itertools.pairwise(told.within))


@pytest.mark.parametrize(("patience", "within"), [(0.1, 1.0), (7.0, 7.0), (60.0, 15.0)])
def test_a_history_is_given_its_time(told: Told, watch: Watch, patience: float, within: float) -> None:
    told.histories = {"j": [SUCCESS]}
    job = a_job()
    watch(job, patience=patience).hint(job)
    job.result(WAIT)
    assert told.within == [within]


# Pictures over the websocket


@pytest.mark.parametrize("gone", ["history", "events"])
def test_pictures_that_do_not_come_fail_the_job(
    told: Told, watch: Watch, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr("kandiflux.jobs.tracker._PICTURES_SECONDS", 0.2)
    told.histories = {"j": [SUCCESS if gone == "events" else None]}
    job = a_job(saver="SaveImageWebsocket")
    job._unsent = {"2"}
    if gone == "history":
        monkeypatch.setattr(type(job), "has_all_pictures", False)
        job.deliver(ExecutionSucceeded("j"))
    watch(job, poll=0.02).sweep_now()
    with pytest.raises(OutputMissing, match="Pictures of the job j were sent over a websocket that was lost"):
        job.result(WAIT)
    assert len(told.asked) > 2


def test_pictures_that_cannot_come_are_not_waited_for(told: Told, watch: Watch) -> None:
    told.histories = {"j": [SUCCESS]}
    job = a_job(saver="SaveImageWebsocket")
    watch(job, orphaned=lambda job: True).sweep_now()
    with pytest.raises(OutputMissing):
        job.result(WAIT)
    assert told.asked == ["queue", "j"]


def test_pictures_that_come_a_little_later_are_waited_for(told: Told, watch: Watch) -> None:
    told.histories = {"j": [SUCCESS]}
    job = a_job(saver="SaveImageWebsocket")
    watch(job).sweep_now()
    until(lambda: told.asked.count("j") >= 2)  # soon again, and not only after the interval
    job.deliver(ExecutionSucceeded("j"))
    assert job.result(WAIT).images


# The thread


def test_closing_ends_the_thread_and_leaves_the_jobs(told: Told, watch: Watch) -> None:
    told.queues = [(["j"], [])]
    job = a_job()
    watcher = watch(job)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "kandiflux-watcher")
    watcher.close()
    assert not thread.is_alive()
    assert not job.finished
    watcher.add(a_job("k"))
    assert not any(thread.name == "kandiflux-watcher" for thread in threading.enumerate())


def test_jobs_end_with_the_thread_that_follows_them_and_the_next_has_a_new_one(
    told: Told, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    told.queues = [SystemExit()]
    job, other = a_job(), a_job("k")
    watcher = watch(job)
    watcher.sweep_now()
    with pytest.raises(JobLost, match="no longer followed"):
        job.result(WAIT)
    told.queues, told.histories = [([], [])], {"k": [SUCCESS]}
    watcher.add(other)
    watcher.hint(other)
    assert other.result(WAIT).images


def test_what_cannot_be_handled_of_one_job_is_no_matter_of_another(
    told: Told, watch: Watch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = a_job(), a_job("k")
    monkeypatch.setattr(job, "running", lambda: 1 / 0)
    told.queues = [(["j"], [])]
    told.histories = {"k": [SUCCESS]}
    with caplog.at_level(logging.WARNING):
        watch(job, other).sweep_now()
        assert other.result(WAIT).images
        with pytest.raises(ProtocolError, match="cannot be read") as caught:
            job.result(WAIT)
    assert "ZeroDivisionError" in str(caught.value.got)
    assert "the server's answer about j cannot be read" in caplog.text
