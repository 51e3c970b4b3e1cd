"""The campaign: hundreds of jobs on a real host, each of them with faults of its own, from a seed.

There are two thousand with --campaign=full.

Whatever befalls a job, it runs once and its picture arrives; or, where the host truly never took it or forgot it, the
job ends with a typed error. Nothing hangs: every wait is bounded. What ran is known from the nodes themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from kandiflux.errors import AnswerLost

from tests.faults.campaign import (
    EVERYWHERE,
    NEVER_TAKEN,
    ON_FRAME,
    ON_HISTORY,
    ON_POST,
    ON_VIEW,
    SEED,
    campaign,
    client_of,
    every_fault_at_every_frame,
    require_all_done,
    require_bounded,
    rob,
    run_all,
    runs,
    some_jobs,
)
from tests.faults.proxy import Fault, Proxy
from tests.support.hosts import RunningHost, running_lite


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    with running_lite(tmp_path_factory.mktemp("campaign")) as host:
        yield host


@pytest.fixture
def proxy(host: RunningHost) -> Iterator[Proxy]:
    with Proxy(host.url, SEED).serving() as proxy:
        yield proxy


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def test_jobs_with_faults_of_their_own(proxy: Proxy, notes: Path, full_campaign: bool) -> None:
    campaign(proxy, some_jobs(2000 if full_campaign else 400, 1), notes, clients=16)
    kinds = {f"/prompt {kind}" for kind in ON_POST + NEVER_TAKEN} | {f"/history {kind}" for kind in ON_HISTORY}
    kinds |= {f"/view {kind}" for kind in ON_VIEW} | {f"frame {kind}" for kind in ON_FRAME}
    kinds |= {f"/queue {kind}" for kind in EVERYWHERE["/queue"][1]}
    assert all(proxy.met[kind] >= (5 if full_campaign else 1) for kind in kinds), proxy.met
    assert sum(proxy.met[f"/ws {kind}"] for kind in EVERYWHERE["/ws"][1]) >= (10 if full_campaign else 1)


def test_every_fault_at_every_frame(proxy: Proxy, notes: Path) -> None:
    """Of text frames and previews."""
    every_fault_at_every_frame(proxy, notes)


def test_a_connection_that_is_open_and_dead(proxy: Proxy, notes: Path) -> None:
    """Nothing comes any more and nothing says so: queue and history are read all the same."""
    jobs = some_jobs(40, 3)
    proxy.plan = {job: [Fault("mute", position=1)] for job in jobs}
    with client_of(proxy.url) as client:
        require_all_done(run_all(client, jobs, notes), notes)
    assert proxy.met["frame mute"] == 1


def test_a_socket_that_never_comes_about(proxy: Proxy, notes: Path) -> None:
    jobs = some_jobs(20, 4)
    proxy.background = {"/ws": (1.0, ("refuse", "404", "500", "503"))}
    with client_of(proxy.url) as client:
        require_all_done(run_all(client, jobs, notes), notes)
    assert proxy.met.total() >= 2
    assert not proxy.client_ids


def test_a_host_that_is_gone_for_a_while_and_has_forgotten_nothing(proxy: Proxy, notes: Path) -> None:
    """As behind a way that breaks: what connects is cut off, or refused. Who cannot tell says so."""
    jobs = some_jobs(300, 5)
    with client_of(proxy.url, patience=8.0) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs, notes)
        for refused in (False, True, False, True):
            time.sleep(0.3)
            proxy.dead = True
            proxy.cut_all()
            with proxy.gone() if refused else contextlib.nullcontext():
                time.sleep(0.6)
            proxy.dead = False
        ended = running.result()
    require_bounded(ended)
    ran = runs(notes)
    for job, end in ended.items():
        assert end.colour == end.number or isinstance(end.error, AnswerLost), f"{job}: {end.error!r}"
        assert ran[end.number] <= 1 if end.error else ran[end.number] == 1, f"{job} ran {ran[end.number]} times"
    assert sum(end.error is None for end in ended.values()) >= 200


def test_a_history_that_somebody_clears(host: RunningHost, proxy: Proxy, notes: Path) -> None:
    """Of a job whose entry could not be read in time its events have told the end: it is done, and runs once."""
    jobs = some_jobs(300, 6)
    with client_of(proxy.url) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs, notes)
        while not running.done():
            requests.post(f"{host.url}/history", json={"clear": True}, timeout=10)
            time.sleep(0.2)
        ended = running.result()
    require_bounded(ended)
    ran = runs(notes)
    for job, end in ended.items():
        assert end.colour == end.number, f"{job}: {end.error!r}"
        assert ran[end.number] == 1, job


def test_another_client_with_the_same_id(host: RunningHost, proxy: Proxy, notes: Path) -> None:
    """The host forgets the first socket of an id for the second, and both as either closes."""
    jobs = some_jobs(200, 7)
    with client_of(proxy.url) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs, notes)
        thieves = rob(host.url, proxy, running.done)
        require_all_done(running.result(), notes)
    assert thieves >= 3


def test_a_clock_that_jumps(proxy: Proxy, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner's; back and forth between any two looks at it."""
    rng, real = random.Random(SEED), time.time
    monkeypatch.setattr(time, "time", lambda: real() + rng.choice((-1e6, 0.0, 1e6, 1e8)))
    jobs = some_jobs(60, 8)
    kinds = itertools.cycle(("cut", "stall", "504+"))
    proxy.plan = {job: [Fault("cut", position=1), Fault(next(kinds), "/prompt")] for job in jobs}
    with client_of(proxy.url) as client:
        require_all_done(run_all(client, jobs, notes), notes)
    assert proxy.met["/prompt cut"] == proxy.met["/prompt stall"] == proxy.met["/prompt 504+"] == 20
