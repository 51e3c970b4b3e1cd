"""Whatever happens to the events, the socket or the server, each job ends as it really ended."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from kandiflux import Client, Saver
from kandiflux.api.events import Event, ExecutionFailed, Preview
from kandiflux.errors import (
    JobError,
    JobInterrupted,
    JobLost,
    JobTimeout,
    NodeFailed,
    OutOfMemory,
    OutputMissing,
    ProtocolError,
    ServerUnreachable,
)

from tests.support.fake_comfyui import PNG, FakeComfyUI, prompt
from tests.support.waiting import until

WAIT = 10
FRAMES_OF_A_JOB = 9


@pytest.mark.parametrize("position", range(FRAMES_OF_A_JOB))
def test_a_socket_cut_at_any_frame(comfy: FakeComfyUI, client: Client, position: int) -> None:
    comfy.cut_after = position
    assert client.submit(prompt()).result(WAIT).images
    assert client.submit(prompt()).result(WAIT).images
    assert len(comfy.ran) == 2
    assert len(set(comfy.client_ids)) == len(comfy.client_ids), "a client id was used for two connections"


def test_events_come_again_after_a_reconnection(comfy: FakeComfyUI, client: Client) -> None:
    client.submit(prompt()).result(WAIT)
    comfy.call(comfy.cut())
    until(lambda: comfy.sockets)
    assert "executed" in [event.kind for event in client.submit(prompt())]


def test_garbage_frames_cost_nothing(comfy: FakeComfyUI, client: Client) -> None:
    comfy.garbage = True
    job = client.submit(prompt())
    assert "executed" in [event.kind for event in job]
    assert job.result().images


def test_no_frames_at_all(comfy: FakeComfyUI, client: Client) -> None:
    comfy.silent = True
    assert client.submit(prompt()).result(WAIT).images


def test_a_restart_that_forgets_the_job_is_reported(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    comfy.call(comfy.forget())
    comfy.call(comfy.down())
    comfy.call(comfy.up())
    with pytest.raises(JobLost, match="neither the queue nor the history"):
        job.result(WAIT)
    assert job.state == "lost"


def test_a_server_that_is_gone_for_a_moment(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    comfy.call(comfy.down())
    time.sleep(0.5)
    comfy.call(comfy.up())
    comfy.call(comfy.release())
    assert job.result(WAIT).images
    assert len(comfy.ran) == 1


def test_a_server_that_stays_away_ends_the_wait(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    comfy.call(comfy.down())
    with pytest.raises(ServerUnreachable, match="has not answered"):
        job.result(WAIT)


def test_a_history_that_was_cleared(comfy: FakeComfyUI, client: Client) -> None:
    """Its events have told how the job ended, and with what."""
    comfy.ending = "vanish"
    result = client.submit(prompt()).result(WAIT)
    assert [image.read() for image in result.images] == [PNG]
    assert result.images[0].title == "Result"


def test_a_history_that_was_cleared_and_no_events(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending, comfy.silent = "vanish", True
    with pytest.raises(JobLost, match="neither the queue nor the history"):
        client.submit(prompt()).result(WAIT)


@pytest.mark.parametrize("ending", ["success", "error"])
def test_a_job_that_is_for_one_look_in_neither_queue_nor_history(
    comfy: FakeComfyUI, client: Client, ending: str
) -> None:
    comfy.silent, comfy.absences, comfy.ending = True, 1, ending
    job = client.submit(prompt())
    if ending == "success":
        assert job.result(WAIT).images
    else:
        with pytest.raises(NodeFailed):
            job.result(WAIT)


def test_a_failing_node_is_named(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "error"
    job = client.submit(prompt())
    with pytest.raises(NodeFailed, match=r"'Canvas' .*ValueError: no such colour") as caught:
        job.result(WAIT)
    assert caught.value.inputs == {"width": ["64"]}
    assert job.state == "failed"


def test_running_out_of_memory_is_its_own_error(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "memory"
    with pytest.raises(OutOfMemory):
        client.submit(prompt()).result(WAIT)


def test_an_interruption_is_no_failure(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "interrupted"
    with pytest.raises(JobInterrupted) as caught:
        client.submit(prompt()).result(WAIT)
    assert caught.value.exit_code == 130


def test_a_blocked_branch_does_not_end_the_job(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "blocked"
    job = client.submit(prompt())
    assert any(isinstance(event, ExecutionFailed) and not event.terminal for event in job)
    assert job.result().images


def test_cancelling_the_running_job(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    until(lambda: comfy.running)
    job.cancel()
    with pytest.raises(JobInterrupted):
        job.result(WAIT)
    assert comfy.interrupts == [job.prompt_id]
    job.cancel()


def test_cancelling_a_waiting_job_leaves_the_running_one_alone(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    first, second = client.submit(prompt()), client.submit(prompt())
    until(lambda: comfy.running)
    second.cancel()
    with pytest.raises(JobInterrupted, match="before it began"):
        second.result(WAIT)
    comfy.call(comfy.release())
    assert first.result(WAIT).images
    assert comfy.interrupts == []
    assert comfy.ran == [first.prompt_id]


def test_a_wait_can_be_bounded(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    with pytest.raises(JobTimeout, match="has not ended in time"):
        job.result(0.1)
    with pytest.raises(JobTimeout):
        list(job.events(0.1))
    job.cancel()


def test_pictures_that_come_over_the_websocket(comfy: FakeComfyUI, client: Client) -> None:
    job = client.submit(prompt(saver="SaveImageWebsocket"))
    assert any(isinstance(event, Preview) and event.image == PNG for event in job)
    assert [image.read() for image in job.result().images] == [PNG]


def test_many_jobs_from_many_threads_over_one_socket(comfy: FakeComfyUI, client: Client) -> None:
    comfy.job_seconds = 0.001
    ended: list[str] = []

    def work() -> None:
        for _ in range(5):
            job = client.submit(prompt())
            job.add_done_callback(lambda job: ended.append(job.prompt_id))
            assert [image.filename for image in job.result(30).images] == [f"{job.prompt_id}.png"]

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(comfy.ran) == 40
    assert sorted(ended) == sorted(comfy.ran)
    assert len(comfy.client_ids) == 1


@pytest.mark.parametrize("listed", [True, False])
def test_jobs_that_end_together_are_read_together(comfy: FakeComfyUI, client: Client, listed: bool) -> None:
    """Where a server has many of ours, one request tells of all that have ended; where it cannot, each is asked for."""
    comfy.job_seconds, comfy.lists_history = 0.001, listed
    jobs = [client.submit(prompt(width=64 + number)) for number in range(30)]
    assert [job.result(WAIT).images[0].filename for job in jobs] == [f"{job.prompt_id}.png" for job in jobs]
    asked_one_by_one = [path for path in comfy.asked if path.startswith("/history/")]
    assert "/history" in comfy.asked
    if not listed:
        assert len(asked_one_by_one) >= 25


def test_a_cached_file_that_is_gone(comfy: FakeComfyUI, client: Client) -> None:
    comfy.view = "missing"
    result = client.submit(prompt()).result(WAIT)
    with pytest.raises(OutputMissing, match="no longer exists"):
        result.images[0].read()


def test_a_broken_download_leaves_no_file(
    comfy: FakeComfyUI, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.jobs.outputs._PAUSES", (0.0, 0.0))
    comfy.view = "truncated"
    result = client.submit(prompt()).result(WAIT)
    with pytest.raises(ServerUnreachable, match="was cut off"):
        Saver(tmp_path).save(result.images[0])
    assert list(tmp_path.iterdir()) == []


def test_a_callback_on_a_job_that_has_ended(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "error"
    job = client.submit(prompt())
    with pytest.raises(JobError):
        job.result(WAIT)
    seen: list[str] = []
    job.add_done_callback(lambda job: seen.append(job.state))
    assert seen == ["failed"]


def test_events_go_to_a_callback(comfy: FakeComfyUI, client: Client) -> None:
    told: list[Event] = []
    job = client.submit(prompt(), on_event=told.append)
    late: list[Event] = []
    job.result(WAIT)
    job.add_event_callback(late.append)
    until(lambda: told and told[-1].kind == "finished")
    assert [event.kind for event in told] == [event.kind for event in job]
    assert late == []


def test_an_event_callback_that_fails_harms_nothing(comfy: FakeComfyUI, client: Client) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("mine")

    assert client.submit(prompt(), on_event=fail).result(WAIT).images
    assert comfy.client_ids == [comfy.client_ids[0]]


def test_a_job_goes_before_those_that_wait(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    first = client.submit(prompt(width=65))
    until(lambda: comfy.running)
    last, urgent = client.submit(prompt(width=66)), client.submit(prompt(width=67), front=True)
    assert [entry.prompt_id for entry in client.api.queue().pending] == [urgent.prompt_id, last.prompt_id]
    comfy.ending = "success"
    comfy.call(comfy.release())
    for job in (first, last, urgent):
        job.result(WAIT)
    assert comfy.ran == [first.prompt_id, urgent.prompt_id, last.prompt_id]


def test_a_callback_that_fails_harms_no_other_job(
    comfy: FakeComfyUI, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(job: object) -> None:
        raise RuntimeError("mine")

    client.submit(prompt()).add_done_callback(fail)
    assert client.submit(prompt()).result(WAIT).images
    assert client.submit(prompt()).result(WAIT).images


def test_a_history_entry_that_cannot_be_read(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "nonsense"
    with pytest.raises(ProtocolError, match="history entry"):
        client.submit(prompt()).result(WAIT)
