"""What the campaign found, each by itself."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Client, Prompt, Workflow, run_with_retries
from kandiflux.api.rest import Answer, ComfyApi
from kandiflux.batch import Batch, BatchEvent, BatchOptions, JobList, parse_grid, read_jobs
from kandiflux.cli import app
from kandiflux.errors import AnswerLost, JobLost, OutputMissing
from typer.testing import CliRunner

from tests.faults.campaign import BOUND, batch_of, client_of, picture, require_all_done, run_all, runs, some_jobs
from tests.faults.proxy import Fault, Proxy
from tests.faults.test_hosts_killed import Killable
from tests.support import fake_comfyui
from tests.support.fake_comfyui import FakeComfyUI, prompt
from tests.support.hosts import PROTOCOL_PACK, RunningHost
from tests.support.waiting import until


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[Killable]:
    with contextlib.closing(Killable(tmp_path, (PROTOCOL_PACK,))) as killable:
        yield killable


def until_it_runs(notes: Path, number: int) -> None:
    until(lambda: runs(notes)[number] >= 1, BOUND)


def test_a_host_that_dies_over_its_answer(killable: Killable) -> None:
    """It had taken the prompt and begun it, and has forgotten it when it is back: nobody can know. So it is not posted
    again; to run it again is for `on_lost` to decide."""
    ((job, number),) = some_jobs(1, 60).items()
    with (
        Proxy(killable.host.url).serving() as proxy,
        Client(proxy.url, poll_seconds=0.2) as client,
        ThreadPoolExecutor(1) as aside,
    ):
        # The answer is under way when the host is killed, and never comes.
        proxy.plan = {job: [Fault("hang+", "/prompt")]}
        submitting = aside.submit(client.submit, picture(number, job, killable.notes, seconds=30.0), job_id=job)
        until_it_runs(killable.notes, number)
        killable.kill()
        with proxy.gone():
            killable.start_again()
        with pytest.raises((AnswerLost, JobLost)):
            submitting.result(BOUND).result(BOUND)
    assert runs(killable.notes) == {number: 1}


def test_a_clock_that_is_put_forward_in_a_batch(
    lite_host: RunningHost, tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that a gateway hands on late is waited for as long as ever."""
    monkeypatch.setattr("kandiflux.batch.worker._PROBE_SECONDS", 0.2)
    jumped, real = 0.0, time.time

    def put_forward() -> float:
        nonlocal jumped
        jumped += 1e5
        return real() + jumped

    monkeypatch.setattr(time, "time", put_forward)
    workflow, jobs = batch_of(3, notes, tmp_path)
    with Proxy(lite_host.url, stall_seconds=3.0).serving() as proxy:
        plans = iter([[], [Fault("late", "/prompt")]])
        proxy.newcomers = lambda: next(plans, [])
        batch = Batch(
            Workflow.load(workflow),
            JobList(rows=read_jobs(jobs)),
            tmp_path / "out",
            servers=[proxy.url],
            connect=client_of,
            pages=False,
            options=BatchOptions(backlog=1),
        )
        assert batch.run().complete
        # If the late one was sent anew, it arrives only now.
        until(lambda: proxy.posting == 0)
        with client_of(lite_host.url) as client:
            until(lambda: not (client.api.queue().running or client.api.queue().pending))
        assert sum(proxy.accepted.values()) == 3
    assert runs(notes) == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("position", range(5))
def test_pictures_that_went_to_a_websocket_that_was_cut(comfy: FakeComfyUI, client: Client, position: int) -> None:
    """History does not hold them: the job has no picture, and says so."""
    comfy.cut_after = position
    with pytest.raises(OutputMissing, match="sent over a websocket that was lost"):
        client.submit(prompt(saver="SaveImageWebsocket")).result(60)


def test_such_pictures_in_a_batch_are_made_again(
    comfy: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True}
    monkeypatch.setitem(fake_comfyui.OBJECT_INFO, "SaveImageWebsocket", info)
    comfy.cut_after = 3
    batch = Batch(
        Workflow.from_data(prompt(saver="SaveImageWebsocket"), name="picture"),
        JobList(axes=parse_grid(["Canvas.width=1..3"])),
        tmp_path,
        servers=[comfy.url],
        connect=client_of,
        pages=False,
        options=BatchOptions(patience=0.5),
    )
    events: list[BatchEvent] = []
    summary = batch.run(events.append)
    assert summary.complete
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_a_queue_that_cannot_be_read_for_a_moment_keeps_nothing_from_being_submitted() -> None:
    """Where there is no websocket just then, the queue is looked at first; nothing has been sent yet."""
    with FakeComfyUI().serving() as comfy, Proxy(comfy.url).serving() as proxy, client_of(proxy.url) as client:
        proxy.background = {"/ws": (1.0, ("404",))}
        proxy.next_up = {"/queue": ["500"]}
        assert client.submit(prompt()).result(10).images
        assert proxy.met["/queue 500"] == 1


def test_histories_that_hang_cost_no_other_job(lite_host: RunningHost, notes: Path) -> None:
    """A few 502s in a row are nothing, however long it is between them because of others."""
    jobs = some_jobs(11, 61)
    first, *others = jobs
    with (
        Proxy(lite_host.url).serving() as proxy,
        Client(proxy.url, timeout=(2.0, 0.4), poll_seconds=0.3, patience=1.5) as client,
    ):
        proxy.background = {"/history": (1.0, ("500",))}  # so that each is asked for by itself
        proxy.plan = {job: [Fault("hang", "/history", times=2)] for job in others}
        proxy.plan[first] = [Fault("502", "/history", times=4)]
        require_all_done(run_all(client, jobs, notes), notes)


def test_closing_does_not_wait_for_a_server_that_hangs(comfy: FakeComfyUI) -> None:
    """As after `--timeout` or Ctrl-C: a request that is never answered holds nobody up."""
    comfy.ending = "hold"
    with Proxy(comfy.url).serving() as proxy:
        client = Client(proxy.url, timeout=(5.0, 12.0), poll_seconds=0.1)
        client.submit(prompt())
        proxy.background = {"/queue": (1.0, ("hang",))}
        until(lambda: proxy.met["/queue hang"])
        begun = time.monotonic()
        client.close()
        assert time.monotonic() - begun < 6.0
    comfy.call(comfy.release())


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP there")
def test_a_timeout_holds_where_the_server_hangs(
    killable: Killable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It connects and answers nothing; the command ends all the same, and says what may still be there."""
    monkeypatch.setattr("kandiflux.jobs.client._BRISK", (1.0, 2.0))
    posted, post = threading.Event(), ComfyApi.post_prompt

    def noted(server: ComfyApi, body: Mapping[str, Any]) -> Answer:
        answer = post(server, body)
        posted.set()
        return answer

    monkeypatch.setattr(ComfyApi, "post_prompt", noted)
    ((job, number),) = some_jobs(1, 62).items()
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps(picture(number, job, killable.notes, seconds=30.0)))

    def stop() -> None:
        until_it_runs(killable.notes, number)
        assert posted.wait(BOUND)
        killable.host.process.send_signal(signal.SIGSTOP)

    stopping = threading.Thread(target=stop)
    stopping.start()
    begun = time.monotonic()
    words = ["run", str(workflow), "--server", killable.host.url, "--timeout", "8", "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, words)
    taken = time.monotonic() - begun
    stopping.join()
    killable.host.process.send_signal(signal.SIGCONT)
    assert shown.exit_code == 1, shown.output
    assert "The job may still be on the server" in shown.output
    assert taken < 30.0


def test_pictures_that_were_lost_are_made_again_when_run(comfy: FakeComfyUI, client: Client) -> None:
    comfy.cut_after = 3
    again = Prompt.from_api(prompt(saver="SaveImageWebsocket"))
    assert run_with_retries(client, again, lambda job: job.result(10)).images
    assert len(comfy.ran) == 2
