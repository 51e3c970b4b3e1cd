"""One job: what its readers see, and how it ends, without a server."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from kandiflux import Client, Job
from kandiflux.api.events import (
    Event,
    ExecutionStarted,
    ExecutionSucceeded,
    JobFinished,
    JobQueued,
    NodeProgress,
    NodeStarted,
    Preview,
    ProgressState,
    Unknown,
)
from kandiflux.errors import (
    JobError,
    JobInterrupted,
    JobLost,
    JobTimeout,
    KandifluxError,
    OutputError,
    ServerUnreachable,
)
from kandiflux.jobs.result import Result
from kandiflux.workflow.prompt import Prompt

from tests.support.fake_comfyui import PNG, prompt
from tests.support.waiting import until

SAVER = "SaveImageWebsocket"


class Cancelling:
    """A client that only notes which jobs are cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[Job] = []
        self.closed = False

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job)


def a_job(saver: str = "SaveImage", client: Cancelling | None = None) -> Job:
    return Job(cast(Client, client or Cancelling()), Prompt.from_api(prompt(saver=saver)), "p")


def done(job: Job) -> Result:
    return Result("p", job.prompt, ())


def preview(image: bytes = PNG, node: str | None = "2", mime: str = "image/png") -> Preview:
    return Preview("p", node, node, mime, image)


def progress(value: float) -> NodeProgress:
    return NodeProgress("p", "1", value, 9)


# State


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (None, "done"),
        (JobInterrupted("x", prompt_id="p"), "interrupted"),
        (JobLost("x", prompt_id="p"), "lost"),
        (ServerUnreachable("x"), "lost"),
        (JobError("x", prompt_id="p"), "failed"),
        (OutputError("x"), "failed"),
    ],
)
def test_its_state_from_beginning_to_end(end: KandifluxError | None, state: str) -> None:
    job = a_job()
    seen = [job.state]
    for change in (lambda: job.queued(2), job.running, lambda: job.queued(1), lambda: job.finish(end or done(job))):
        change()
        seen.append(job.state)
    job.running()
    job.queued(0)
    assert [*seen, job.state] == ["submitting", "queued", "running", "running", state, state]
    assert repr(job) == f"<Job p {state}>"
    assert [event.kind for event in job] == ["queued", "finished"]


def test_the_first_end_counts() -> None:
    job, ends = a_job(), list[str]()
    job.add_done_callback(lambda job: ends.append(job.state))
    assert not job.finished
    job.finish(done(job))
    job.finish(JobLost("x", prompt_id="p"))
    job.deliver(progress(1))
    assert job.finished
    assert (job.state, ends, list(job)) == ("done", ["done"], [JobFinished("p", state="done")])
    assert job.result() == done(job)


def test_the_result_of_a_failed_job_is_its_error() -> None:
    job = a_job()
    job.finish(error := JobLost("x", prompt_id="p"))
    with pytest.raises(JobLost) as caught:
        job.result()
    assert caught.value is error


def test_the_place_in_the_queue_is_told_when_it_changes() -> None:
    job, told = a_job(), list[Event]()
    job.add_event_callback(told.append)
    for position in (None, None, 3, 3, None, 2, 0):
        job.queued(position)
    assert [event.position for event in told if isinstance(event, JobQueued)] == [None, 3, 2, 0]
    assert job.latest(JobQueued) == JobQueued("p", position=0)


@pytest.mark.parametrize(
    "show", [lambda job: job.running(), lambda job: job.queued(1), lambda job: job.deliver(progress(1))]
)
def test_when_it_was_last_seen(show: Callable[[Job], None]) -> None:
    job = a_job()
    job.last_seen = 0.0
    show(job)
    assert job.last_seen > 0.0


def test_the_beginning_of_its_run_is_known_from_events() -> None:
    job = a_job()
    job.deliver(ExecutionStarted("p"))
    assert (job.state, job.current_node) == ("running", None)
    job.deliver(NodeStarted("p", "1.0", "1"))
    assert job.current_node == "1"


def test_cancelling_is_the_clients() -> None:
    client = Cancelling()
    job, other = a_job(client=client), a_job(client=client)
    assert not job.cancelled
    job.cancel()
    other.withdrawn()
    assert (job.cancelled, other.cancelled, client.cancelled) == (True, True, [job])


# Events


def test_a_late_reader_sees_only_the_newest_of_what_is_superseded() -> None:
    """Also what makes the memory of a long job small: previews are pictures."""
    job = a_job()
    for value in range(3):
        job.queued(9 - value)
        job.deliver(preview(b"%d" % value))
        job.deliver(progress(value))
        job.deliver(ProgressState("p", {}))
        job.deliver(Unknown("p", "x", value))
    kinds = [event.kind for event in job.told()]
    assert kinds == ["unknown", "unknown", "queued", "preview", "progress", "progress_state", "unknown"]
    assert job.latest(Preview) == preview(b"2")
    assert job.latest(NodeProgress) == progress(2)
    assert a_job().latest(Preview) is None


def test_events_of_a_reader_that_reads_along_are_all_there() -> None:
    job = a_job()
    reader = iter(job)
    for value in range(3):
        job.deliver(progress(value))
        assert next(reader) == progress(value)
    job.finish(done(job))
    assert [event.kind for event in reader] == ["finished"]


def test_a_reader_waits_for_the_next_event() -> None:
    job, seen = a_job(), list[Event]()
    thread = threading.Thread(target=lambda: seen.extend(job.events(30)))
    thread.start()
    job.deliver(progress(1))
    job.finish(done(job))
    thread.join()
    assert seen[-1] == JobFinished("p", state="done")


def test_old_events_are_forgotten_in_halves() -> None:
    job = a_job()
    job.deliver(progress(1))
    reader = iter(job)
    assert next(reader) == progress(1)
    for number in range(20_000 - 1):
        job.deliver(Unknown("p", "x", number))
    assert len(job.told()) == 20_000
    assert job.latest(NodeProgress) == progress(1)
    job.deliver(Unknown("p", "x", 20_000 - 1))
    assert len(job.told()) == 10_001
    assert job.latest(NodeProgress) is None, "forgotten with the others"
    job.deliver(progress(2))
    assert job.latest(NodeProgress) == progress(2)
    job.deliver(progress(3))
    assert job.latest(NodeProgress) == progress(3)
    job.finish(done(job))
    numbers = [event.data for event in reader if isinstance(event, Unknown)]
    assert numbers == list(range(9_999, 20_000)), "what was not read in time is skipped, and nothing more"
    events, position = job.events_since(0)
    assert job.events_since(position) == ([], position)
    assert [event.data for event in events if isinstance(event, Unknown)] == numbers
    assert position == 1 + 20_000 + 3, "those that are forgotten count"
    assert [event for event in job.told() if isinstance(event, NodeProgress)] == [progress(3)]


@pytest.mark.parametrize("wait", [lambda job: job.result(0.01), lambda job: list(job.events(0.01))])
def test_a_wait_ends_in_time(wait: Callable[[Job], Any]) -> None:
    job = a_job()
    job.queued(1)
    with pytest.raises(JobTimeout, match=r"The job p has not ended in time \(it is queued\)") as caught:
        wait(job)
    assert caught.value.prompt_id == "p"
    assert caught.value.hint
    assert not job.finished


# Callbacks


def test_callbacks_are_called_once_and_one_that_fails_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    job, told, ended = a_job(), list[str](), list[Job]()

    def fail(_: object) -> None:
        raise RuntimeError("mine")

    for callback in (fail, lambda event: told.append(event.kind)):
        job.add_event_callback(callback)
    for callback in (fail, ended.append):
        job.add_done_callback(callback)
    job.deliver(progress(1))
    job.finish(done(job))
    job.add_done_callback(ended.append)
    assert (told, ended) == (["progress", "finished"], [job, job])
    assert caplog.text.count("a callback for p failed") == 3


def test_a_waiting_thread_is_woken_by_the_end() -> None:
    job, results = a_job(), list[Result]()
    thread = threading.Thread(target=lambda: results.append(job.result(30)))
    thread.start()
    job.finish(done(job))
    thread.join(10)
    assert results == [done(job)]


# Pictures over the websocket


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to threads")
@pytest.mark.parametrize("wait", [lambda job: job.result(), lambda job: list(job.events())])
def test_a_signal_that_does_not_wake_the_main_thread_is_handled_soon(wait: Callable[[Job], Any]) -> None:
    """As one that arrives just before it sleeps: it is noted, and nothing interrupts the sleep."""
    job, handled = a_job(), threading.Event()

    def handle(*_: object) -> None:
        handled.set()
        job.finish(JobLost("ended by the signal", prompt_id="p"))

    def signal_to_this_thread() -> None:
        until(lambda: job._changed._waiters)  # type: ignore[attr-defined]
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        if not handled.wait(30):
            job.finish(JobLost("the signal was not handled", prompt_id="p"))

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        thread = threading.Thread(target=signal_to_this_thread)
        thread.start()
        with contextlib.suppress(JobLost):
            wait(job)
        with pytest.raises(JobLost, match="ended by the signal"):
            job.result()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_only_the_previews_of_a_saver_are_pictures() -> None:
    job = a_job(SAVER)
    job.deliver(preview(node=None))  # of no node yet
    job.deliver(NodeStarted("p", "1", "1"))
    job.deliver(preview(node=None))
    job.deliver(NodeStarted("p", "2", "2"))
    job.deliver(preview(b"\xff\xd8\xff", node=None, mime="image/jpeg"))
    job.deliver(preview(node="1"))
    job.deliver(preview(node="2:0"))
    job.deliver(preview(node="2.0:1"))
    assert [(one.node_id, one.title, one.filename, one.subfolder) for one in job.over_websocket] == [
        ("2", "Result", "websocket_2_00001.jpg", "p"),
        ("2.0:1", "Result", "websocket_2.0_1_00002.png", "p"),
    ]
    assert job.over_websocket[0].kind == "image"
    plain = a_job()
    plain.deliver(preview())
    assert plain.over_websocket == []


def test_a_picture_carries_its_prompt() -> None:
    from io import BytesIO

    from PIL import Image

    content = BytesIO()
    Image.new("RGB", (1, 1)).save(content, "PNG")
    job = a_job(SAVER)
    job.deliver(preview(content.getvalue()))
    assert "EmptyImage" in Image.open(BytesIO(job.over_websocket[0].read())).info["prompt"]


def test_when_all_pictures_have_come() -> None:
    """A saver's have when the next node begins, and all have at the end."""
    assert a_job().has_all_pictures
    for last in (NodeStarted("p", "1", "1"), NodeStarted("p", None, None), ExecutionSucceeded("p")):
        job = a_job(SAVER)
        assert not job.has_all_pictures
        for event in (NodeStarted("p", "1", "1"), NodeStarted("p", "2", "2"), NodeStarted("p", "2.0", "2"), preview()):
            job.deliver(event)
            assert not job.has_all_pictures
        job.deliver(last)
        assert job.has_all_pictures


def test_too_many_bytes_of_pictures_end_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.jobs.job._MAX_PICTURE_BYTES", 2 * len(PNG))
    job = a_job(SAVER)
    for number in range(2):
        job.deliver(preview())
        assert len(job.over_websocket) == number + 1
    assert not job.finished
    job.deliver(preview())
    with pytest.raises(OutputError, match="'Result' sent more than"):
        job.result()
    assert job.over_websocket == []
    assert [event.kind for event in job] == ["preview", "finished"]


def test_a_job_is_waited_for_from_many_threads() -> None:
    job, seen = a_job(), list[int]()

    def read() -> None:
        seen.append(sum(isinstance(event, Unknown) for event in job))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(100):
        job.deliver(Unknown("p", "x", number))
    job.finish(done(job))
    for thread in threads:
        thread.join()
    until(lambda: seen == [100] * 4)
