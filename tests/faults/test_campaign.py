"""The campaign: two thousand jobs on a real host, each of them with faults of its own, from a seed.

Whatever befalls a job, it runs once and its picture arrives; or, where the host truly never took it or forgot it, the
job ends with a typed error. Nothing hangs: every wait is bounded.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from kandiflux import Client
from kandiflux.errors import AnswerLost, JobLost, JobTimeout, KandifluxError, OutputMissing, ServerUnreachable

from tests.faults.proxy import Fault, Proxy
from tests.hosts import ROOT, RunningHost, running_lite

SEED = 20261121
BOUND = 60.0
"""Seconds that no wait may last."""

ON_POST = ("refuse", "cut", "truncate", "stall", "garbage", "429", "500", "502+", "504+")
NEVER_TAKEN = ("502", "503")
"""A gateway answers and nothing came through; as a POST may still be under way then, it is not repeated."""
ON_HISTORY = ("refuse", "cut", "truncate", "stall", "garbage", "500", "502", "503")
ON_VIEW = ("refuse", "cut", "truncate", "stall", "garbage", "500", "503")
ON_FRAME = ("cut", "half", "stall", "garbage", "huge", "twice", "swap")
FRAMES = 8
"""A job has about so many frames; later positions are met by none."""


@dataclass(frozen=True)
class Ended:
    """How job `number` ended: its picture's colour, or the error."""

    number: int
    colour: int | None
    error: KandifluxError | None


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    with running_lite(tmp_path_factory.mktemp("campaign"), packs=()) as host:
        yield host


@pytest.fixture
def proxy(host: RunningHost) -> Iterator[Proxy]:
    with Proxy(host.url, SEED).serving() as proxy:
        yield proxy


def client_of(proxy: Proxy, patience: float = 2.5) -> Client:
    return Client(proxy.url, timeout=(1.0, 0.4), poll_seconds=0.2, patience=patience)


def picture(number: int, job_id: str) -> dict[str, Any]:
    """A prompt whose picture is all of the colour `number`, in a file that is called as the job is."""
    size = {"width": 16, "height": 16, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": number}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"campaign/{job_id}"}},
    }


def colour_of(png: bytes) -> int:
    """The first pixel's, read by hand so that two thousand are quick."""
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return int.from_bytes(zlib.decompress(data)[1:4], "big")


def ids(rng: random.Random) -> Iterator[str]:
    while True:
        yield str(uuid.UUID(int=rng.getrandbits(128), version=4))


def faults(rng: random.Random) -> list[Fault]:
    """One to three for a job: always one that its way cannot miss."""
    sure = [Fault(rng.choice(ON_POST), "/prompt", times=rng.choice((1, 1, 2)))]
    sure += [Fault(rng.choice(ON_HISTORY), "/history", times=rng.choice((1, 2)))]
    sure += [Fault(rng.choice(ON_VIEW), "/view")]
    sure += [Fault(rng.choice(ON_FRAME), position=rng.randrange(3))]
    if rng.random() < 0.03:
        return [Fault(rng.choice(NEVER_TAKEN), "/prompt", times=9)]
    return rng.sample(sure, rng.choice((1, 1, 2, 3)))


def run_job(client: Client, job_id: str, number: int) -> Ended:
    try:
        result = client.submit(picture(number, job_id), job_id=job_id).result(timeout=BOUND)
        return Ended(number, colour_of(result.images[0].read()), None)
    except KandifluxError as error:
        return Ended(number, None, error)


def run_all(client: Client, jobs: dict[str, int], threads: int = 32) -> dict[str, Ended]:
    with ThreadPoolExecutor(threads) as pool:
        waiting = {job: pool.submit(run_job, client, job, number) for job, number in jobs.items()}
        return {job: future.result() for job, future in waiting.items()}


def histories(host: RunningHost, jobs: dict[str, int]) -> Counter[int]:
    """How often each job's picture was asked for, as the host itself tells: by the colour in its history."""
    entries = requests.get(f"{host.url}/history", timeout=30).json()
    mine = set(jobs.values())
    firsts = [entry["prompt"][2].get("1", {"inputs": {}}) for entry in entries.values()]
    colours = [node["inputs"].get("color") for node in firsts]
    return Counter(colour for colour in colours if colour in mine)


def require_as_planned(
    host: RunningHost, proxy: Proxy, jobs: dict[str, int], planned: dict[str, list[Fault]], ended: dict[str, Ended]
) -> None:
    """Every job ran once and its picture arrived, but for those that never came through to the host."""
    ran = histories(host, jobs)
    for job, end in ended.items():
        assert not isinstance(end.error, JobTimeout), f"{planned[job]}: {end.error}"
        if any(fault.kind in NEVER_TAKEN and fault.path == "/prompt" for fault in planned[job]):
            assert isinstance(end.error, AnswerLost), planned[job]
            assert (proxy.accepted[job], ran[end.number]) == (0, 0)
        else:
            assert end.colour == end.number, f"{planned[job]}: {end.error!r}"
            assert (proxy.accepted[job], ran[end.number]) == (1, 1), planned[job]


def test_two_thousand_jobs(host: RunningHost, proxy: Proxy) -> None:
    rng = random.Random(SEED)
    jobs = dict(zip(ids(rng), range(1, 2001), strict=False))
    proxy.plan = {job: faults(rng) for job in jobs}
    planned = {job: list(plan) for job, plan in proxy.plan.items()}
    with client_of(proxy) as client:
        ended = run_all(client, jobs)
    require_as_planned(host, proxy, jobs, planned, ended)
    kinds = {f"/prompt {kind}" for kind in ON_POST + NEVER_TAKEN} | {f"/history {kind}" for kind in ON_HISTORY}
    kinds |= {f"/view {kind}" for kind in ON_VIEW} | {f"frame {kind}" for kind in ON_FRAME}
    assert all(proxy.met[kind] >= 5 for kind in kinds), proxy.met


def some_jobs(count: int, seed: int) -> dict[str, int]:
    """Job ids with colours that no other test here has."""
    return dict(zip(ids(random.Random(seed)), range(seed << 12, (seed << 12) + count), strict=False))


def require_all_done(ended: dict[str, Ended], proxy: Proxy) -> None:
    for job, end in ended.items():
        assert end.colour == end.number, f"{job}: {end.error!r}"
        assert proxy.accepted[job] == 1


def test_a_connection_that_is_open_and_dead(proxy: Proxy) -> None:
    """Nothing comes any more and nothing says so: queue and history are read all the same."""
    jobs = some_jobs(40, 1)
    proxy.plan = {job: [Fault("mute", position=1)] for job in jobs}
    with client_of(proxy) as client:
        require_all_done(run_all(client, jobs), proxy)
    assert proxy.met["frame mute"] == 1


def test_a_host_that_is_gone_for_a_while_and_has_forgotten_nothing(proxy: Proxy) -> None:
    jobs = some_jobs(300, 2)
    with client_of(proxy, patience=8.0) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs)
        for _ in range(3):
            time.sleep(0.4)
            proxy.dead = True
            proxy.cut_all()
            time.sleep(0.6)
            proxy.dead = False
        ended = running.result()
    for job, end in ended.items():
        # A submission that found nobody was never taken, and says so.
        untaken = isinstance(end.error, ServerUnreachable) and proxy.accepted[job] == 0
        assert untaken or (end.colour == end.number and proxy.accepted[job] == 1), f"{job}: {end.error!r}"
    assert sum(end.error is None for end in ended.values()) >= 200


def test_a_host_that_is_killed_and_starts_anew(tmp_path: Path) -> None:
    """Its queue and its history are gone with it: what was in them is lost, and named so; the rest arrives."""
    with ExitStack() as stack:
        first = stack.enter_context(running_lite(tmp_path / "first", packs=()))
        proxy = stack.enter_context(Proxy(first.url, SEED).serving())
        client = stack.enter_context(client_of(proxy, patience=60.0))
        jobs = some_jobs(300, 3)
        with ThreadPoolExecutor(1) as aside:
            running = aside.submit(run_all, client, jobs)
            deadline = time.monotonic() + BOUND
            while proxy.accepted.total() < 100 and time.monotonic() < deadline:
                time.sleep(0.02)
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            proxy.dead = True
            proxy.cut_all()
            second = stack.enter_context(running_lite(tmp_path / "second", packs=()))
            proxy.upstream, proxy.dead = second.url, False
            ended = running.result()
        lost = 0
        for job, end in ended.items():
            assert proxy.accepted[job] <= 1, job
            if end.error is None:
                assert end.colour == end.number
            elif isinstance(end.error, JobLost):
                lost += 1
            else:  # its picture was still to be fetched, or it never came as far as the host
                assert isinstance(end.error, (ServerUnreachable, OutputMissing)), f"{job}: {end.error!r}"
        assert lost >= 1
        assert histories(second, jobs).total() >= 100


def test_a_history_that_somebody_clears(host: RunningHost, proxy: Proxy) -> None:
    jobs = some_jobs(300, 4)
    with client_of(proxy) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs)
        while not running.done():
            requests.post(f"{host.url}/history", json={"clear": True}, timeout=10)
            time.sleep(0.05)
        ended = running.result()
    for job, end in ended.items():
        assert proxy.accepted[job] == 1
        assert end.colour == end.number or isinstance(end.error, JobLost), f"{job}: {end.error!r}"


def test_another_client_with_the_same_id(host: RunningHost, proxy: Proxy) -> None:
    """The host forgets the first socket of an id for the second, and both as either closes."""
    jobs = some_jobs(200, 5)
    with client_of(proxy) as client, ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_all, client, jobs)
        thieves = 0
        while not running.done():
            if proxy.client_ids:
                thief = websocket.create_connection(
                    f"{host.url.replace('http', 'ws', 1)}/ws?clientId={proxy.client_ids[-1]}", timeout=5
                )
                time.sleep(0.05)
                thief.close()
                thieves += 1
        require_all_done(running.result(), proxy)
    assert thieves >= 3


def test_a_clock_that_jumps(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, real = random.Random(SEED), time.time
    monkeypatch.setattr(time, "time", lambda: real() + rng.choice((-1e6, 0.0, 1e6, 1e8)))
    jobs = some_jobs(60, 6)
    proxy.plan = {job: [Fault("cut", position=1)] for job in jobs}
    with client_of(proxy) as client:
        require_all_done(run_all(client, jobs), proxy)


def test_a_disk_that_is_full(host: RunningHost, tmp_path: Path) -> None:
    """The error names folder and reason, and nothing half-written is left."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "kandiflux", "run", str(ROOT / "tests" / "data" / "empty_image.json")]
    command += ["--server", host.url, "--out", str(out), "--set", "width=64"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runner")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)),
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"cannot be written to {out}: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []
