"""The fault campaign, smaller, against a real ComfyUI; which is killed, too, and keeps no history over a restart."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from kandiflux import Prompt, Workflow, run_with_retries
from kandiflux.batch import Batch, BatchEvent, JobList, read_jobs
from kandiflux.errors import JobLost

from tests.faults.campaign import (
    BOUND,
    SEED,
    batch_of,
    campaign,
    client_of,
    colour_of,
    every_fault_at_every_frame,
    picture,
    require_all_done,
    require_bounded,
    rob,
    run_all,
    runs,
    some_jobs,
)
from tests.faults.proxy import Proxy
from tests.support.hosts import PROTOCOL_PACK, RunningHost, running_comfyui, why_no_comfyui
from tests.support.waiting import until


@pytest.fixture
def proxy(comfy_host: RunningHost) -> Iterator[Proxy]:
    with Proxy(comfy_host.url, SEED).serving() as proxy:
        yield proxy


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def test_jobs_with_faults(proxy: Proxy, notes: Path) -> None:
    campaign(proxy, some_jobs(200, 40), notes, clients=8)
    assert proxy.met.total() >= 300


def test_every_fault_at_every_frame(proxy: Proxy, notes: Path) -> None:
    every_fault_at_every_frame(proxy, notes)


def test_another_client_with_the_same_id(comfy_host: RunningHost, proxy: Proxy, notes: Path) -> None:
    jobs = some_jobs(60, 41)
    with client_of(proxy.url) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs, notes, threads=16)
        assert rob(comfy_host.url, proxy, running.done) >= 2
        require_all_done(running.result(), notes)


def test_a_history_that_somebody_clears(comfy_host: RunningHost, notes: Path) -> None:
    jobs = some_jobs(60, 42)
    with client_of(comfy_host.url) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs, notes, threads=16)
        while not running.done():
            requests.post(f"{comfy_host.url}/history", json={"clear": True}, timeout=10)
            time.sleep(0.1)
        ended = running.result()
    require_bounded(ended)
    assert runs(notes) == dict.fromkeys(jobs.values(), 1)
    for job, end in ended.items():
        assert end.colour == end.number or isinstance(end.error, JobLost), f"{job}: {end.error!r}"


class Killable:
    """A ComfyUI behind a proxy, so that it has the same address however often it is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0
        self._life = contextlib.ExitStack()
        self._start()
        self.proxy = Proxy(self.host.url, SEED)

    def kill(self) -> None:
        """SIGKILL; connections are refused until the next one is up."""
        self.host.process.kill()
        with self.proxy.gone():
            self._life.close()
            self._start()
            self.proxy.upstream = self.host.url

    def close(self) -> None:
        self._life.close()

    def _start(self) -> None:
        self.lives += 1
        base = self.folder / f"life {self.lives}"
        self.host = self._life.enter_context(running_comfyui(base, packs=(PROTOCOL_PACK,)))


def test_a_comfyui_that_is_killed_mid_job(tmp_path: Path, notes: Path) -> None:
    """What ran and what waited is lost, and runs again only where that is wanted; what had ended has ended."""
    if reason := why_no_comfyui():
        pytest.skip(reason)
    (ended, first), (again, second), (lost, third) = some_jobs(3, 43).items()
    with ExitStack() as stack:
        comfyui = stack.enter_context(contextlib.closing(Killable(tmp_path)))
        proxy = stack.enter_context(comfyui.proxy.serving())
        client = stack.enter_context(client_of(proxy.url, patience=2 * BOUND))
        aside = stack.enter_context(ThreadPoolExecutor(2))
        done = client.submit(picture(first, ended, notes), job_id=ended).result(BOUND)
        assert colour_of(done.images[0].read()) == first
        batch = aside.submit(run_batch, proxy.url, tmp_path)
        until(lambda: runs(tmp_path / "batch notes").total() >= 3)
        prompt = Prompt.from_api(picture(second, again, notes, seconds=3.0))
        wanted = aside.submit(run_with_retries, client, prompt, lambda job: job.result(2 * BOUND), on_lost="resubmit")
        until(lambda: runs(notes)[second] == 1)
        waiting = client.submit(picture(third, lost, notes), job_id=lost)
        comfyui.kill()
        with pytest.raises(JobLost):
            waiting.result(BOUND)
        assert colour_of(wanted.result(BOUND).images[0].read()) == second
        assert runs(notes) == {first: 1, second: 2}
        require_batch(batch.result(2 * BOUND), tmp_path)


COUNT = 12


def run_batch(url: str, folder: Path) -> list[BatchEvent]:
    workflow, jobs = batch_of(COUNT, folder / "batch notes", folder, seconds=0.2)
    events: list[BatchEvent] = []
    batch = Batch(Workflow.load(workflow), JobList(rows=read_jobs(jobs)), folder / "out", servers=[url])
    assert batch.run(events.append).complete
    return events


def require_batch(events: list[BatchEvent], folder: Path) -> None:
    """All is there; what was on the host was lost, and ran again, and nothing else ran twice."""
    numbers = range(1, COUNT + 1)
    assert [colour_of((folder / "out" / f"{at:04}.png").read_bytes()) for at in numbers] == [*numbers]
    lost = {event.about["index"] for event in events if event.kind == "lost"}
    assert lost
    # The picture of one that had ended may not have been fetched, or not be whole: then it failed, and ran again.
    again = lost | {event.about["index"] for event in events if event.kind == "failed"}
    ran = runs(folder / "batch notes")
    assert set(ran) == set(numbers)
    assert {number for number, times in ran.items() if times > 1} <= again
    assert max(ran.values()) <= 2
