"""Hosts that are killed with SIGKILL while jobs run, and start again: with their history, or without.

Their queue is gone each time. A job that had ended is found again where the history was kept; any other is lost, and
named so, and is not run a second time unless that was asked for.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from kandiflux import Prompt, run_with_retries
from kandiflux.errors import AnswerLost, JobLost

from tests.faults.campaign import BOUND, SEED, client_of, colour_of, picture, require_bounded, run_all, runs, some_jobs
from tests.support.hosts import PROTOCOL_PACK, RunningHost, running_lite
from tests.support.waiting import until

KEEPER = Path(__file__).parent / "history_keeper"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")


class Killable:
    """A lite host that always has the same port, output folder and notes, however often it is killed."""

    def __init__(self, base: Path, packs: tuple[Path, ...]) -> None:
        self.base, self.packs = base, packs
        self.notes = base / "notes"
        self._life = contextlib.ExitStack()
        self._port = _free_port()
        self.host = self._start()

    def kill(self) -> None:
        self.host.process.send_signal(signal.SIGKILL)
        self.host.process.wait()

    def start_again(self) -> None:
        self._life.close()
        self.host = self._start()

    def close(self) -> None:
        self._life.close()

    def _start(self) -> RunningHost:
        return self._life.enter_context(running_lite(self.base, "--port", str(self._port), packs=self.packs))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(params=["forgets", "keeps"])
def killable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Killable]:
    """Without its history after a restart, as ComfyUI is, and with it."""
    packs = (PROTOCOL_PACK, KEEPER) if request.param == "keeps" else (PROTOCOL_PACK,)
    with contextlib.closing(Killable(tmp_path, packs)) as killable:
        yield killable


def test_a_host_that_is_killed_again_and_again(killable: Killable) -> None:
    chance, jobs = random.Random(SEED), some_jobs(300, 20)
    with client_of(killable.host.url, patience=BOUND) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs, killable.notes, seconds=0.005)
        for _ in range(3):
            # At any moment of any job, once some more have run.
            wanted = runs(killable.notes).total() + 40
            while runs(killable.notes).total() < wanted:
                assert not running.done(), "there is nothing left that could be lost"
                time.sleep(0.005)
            time.sleep(chance.random() * 0.02)
            killable.kill()
            killable.start_again()
        ended = running.result()
    require_bounded(ended)
    ran = runs(killable.notes)
    lost = 0
    for job, end in ended.items():
        assert ran[end.number] <= 1, f"{job} ran {ran[end.number]} times: {end.error!r}"
        if end.error is None:
            assert (end.colour, ran[end.number]) == (end.number, 1), job
        else:
            assert isinstance(end.error, (JobLost, AnswerLost)), f"{job}: {end.error!r}"
            lost += 1
    assert 3 <= lost <= 150
    if KEEPER in killable.packs:
        kept = requests.get(f"{killable.host.url}/history", timeout=30).json()
        assert not [job for job, end in ended.items() if isinstance(end.error, JobLost) and job in kept]


@pytest.mark.parametrize("killable", ["forgets"], indirect=True)
def test_the_job_that_runs_then(killable: Killable) -> None:
    """It is lost; and runs again where that is wanted."""
    (lost, first), (wanted, second) = some_jobs(2, 21).items()

    def kill_it(number: int) -> None:
        until(lambda: runs(killable.notes)[number] == 1)
        killable.kill()
        killable.start_again()

    with client_of(killable.host.url, patience=BOUND) as client, ThreadPoolExecutor(1) as aside:
        job = client.submit(picture(first, lost, killable.notes, seconds=30.0), job_id=lost)
        kill_it(first)
        with pytest.raises(JobLost):
            job.result(BOUND)
        killing = aside.submit(kill_it, second)
        prompt = Prompt.from_api(picture(second, wanted, killable.notes, seconds=1.0))
        result = run_with_retries(client, prompt, lambda job: job.result(BOUND), on_lost="resubmit")
        killing.result()
        assert colour_of(result.images[0].read()) == second
    assert runs(killable.notes) == {first: 1, second: 2}
