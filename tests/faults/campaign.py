"""What the campaigns share: jobs that note down on the host each time they run, and how they ended.

A job's number is the colour of its picture and what its node writes down, so neither a picture of another job nor a
second run of the same can pass unseen. (The history cannot tell: posted twice under one id, a job has one entry.)
"""

from __future__ import annotations

import json
import random
import struct
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import websocket
from kandiflux import Client
from kandiflux.errors import AnswerLost, JobTimeout, KandifluxError, ServerUnreachable
from kandiflux.jobs.outputs import Output

from tests.faults.proxy import Fault, Proxy

SEED = 20261121
BOUND = 120.0
"""Seconds that no wait may last."""

READ_TIMEOUT = 2.0
"""Seconds; a busy machine answers far sooner. Each fault that is a silence lasts longer."""

ON_POST = ("refuse", "cut", "truncate", "stall", "late", "hang+", "garbage", "429", "500", "502+", "504+")
NEVER_TAKEN = ("502", "503", "504", "hang")
"""A gateway answers, or nobody, and nothing came through; as a POST may still be under way then, it is not repeated."""
ON_HISTORY = ("refuse", "cut", "truncate", "stall", "hang", "garbage", "429", "500", "502", "503")
ON_VIEW = ("refuse", "cut", "truncate", "stall", "hang", "garbage", "429", "500", "502", "503")
ON_FRAME = ("cut", "half", "after", "stall", "garbage", "huge", "twice", "swap")
EVERYWHERE = {
    "/queue": (0.1, ("refuse", "cut", "truncate", "stall", "garbage", "429", "500", "502", "503")),
    "/history": (0.2, ("refuse", "cut", "truncate", "stall", "hang", "garbage", "429", "500", "502", "503")),
    "/ws": (0.2, ("refuse", "stall", "404", "500", "503")),
}
"""What meets the requests that are of no one job."""


_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Ended:
    """How job `number` ended: its picture's colour, or the error; and after how many seconds."""

    number: int
    colour: int | None
    error: KandifluxError | None
    seconds: float


def client_of(url: str, patience: float = 16.0) -> Client:
    return Client(url, timeout=(4.0, READ_TIMEOUT), poll_seconds=0.5, patience=patience)


def picture(number: int, job_id: str, notes: Path, *, seconds: float = 0.0, previews: int = 0) -> dict[str, Any]:
    """A prompt whose picture is all of the colour `number`, in a file that is called as the job is.

    It notes its number in the file `notes` as it runs, and then takes `seconds` more.
    """
    size = {"width": 16, "height": 16, "batch_size": 1}
    noted = {"value": ["1", 0], "number": number, "file": str(notes), "seconds": seconds}
    prompt: dict[str, Any] = {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": number}},
        "2": {"class_type": "ProbeNoted", "inputs": noted},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": f"campaign/{job_id}"}},
    }
    if previews:
        prompt["4"] = {"class_type": "ProbeSteps", "inputs": {"steps": previews, "delay": 0.0, "preview": "PNG"}}
        prompt["5"] = {"class_type": "ProbeShow", "inputs": {"value": ["4", 0]}}
    return prompt


def batch_of(count: int, notes: Path, folder: Path, *, seconds: float = 0.0, ballast: int = 0) -> tuple[Path, Path]:
    """A workflow and a list of `count` jobs for it, as files; ballast: bytes that each picture carries besides."""
    workflow, jobs = folder / "workflow.json", folder / "jobs.csv"
    nodes = picture(0, "batch", notes, seconds=seconds)
    if ballast:
        nodes["4"] = {"class_type": "ProbeQuiet", "inputs": {"value": "x" * ballast}}
    workflow.write_text(json.dumps(nodes))
    jobs.write_text("".join(["1.color,2.number\n", *(f"{number},{number}\n" for number in range(1, count + 1))]))
    return workflow, jobs


def runs(notes: Path) -> Counter[int]:
    """How often each job ran, as the nodes themselves wrote it down."""
    return Counter(int(line) for line in notes.read_text().split()) if notes.exists() else Counter()


def colour_of(png: bytes) -> int:
    """The first pixel's, read by hand so that two thousand are quick."""
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return int.from_bytes(zlib.decompress(data)[1:4], "big")


def some_jobs(count: int, seed: int) -> dict[str, int]:
    """Job ids with numbers that no other seed gives."""
    rng = random.Random(seed)
    ids = (str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count))
    return {job: (seed << 12) + at for at, job in enumerate(ids, 1)}


def faults(rng: random.Random) -> list[Fault]:
    """One to four for a job; the first is one that its way cannot miss."""
    if rng.random() < 0.03:
        return [Fault(rng.choice(NEVER_TAKEN), "/prompt", times=9)]
    post = Fault(rng.choice(ON_POST), "/prompt", times=rng.choice((1, 1, 2)))
    view = Fault(rng.choice(ON_VIEW), "/view")
    chosen = rng.sample((post, view), rng.choice((1, 1, 2)))
    # Its history may be read together with others', and a socket that another job's fault cut brings no frames.
    if rng.random() < 0.6:
        chosen += [Fault(rng.choice(ON_HISTORY), "/history", times=rng.choice((1, 2)))]
    if rng.random() < 0.4:
        chosen += [Fault(rng.choice(ON_FRAME), position=rng.randrange(4))]
    return chosen


def run_job(
    client: Client,
    prompt: Mapping[str, Any],
    job_id: str,
    number: int,
    colour: Callable[[Output], int] = lambda output: colour_of(output.read()),
) -> Ended:
    """If nobody is there to take it, it is submitted again: nothing was sent. colour: fetches the picture and looks."""
    begun = time.monotonic()
    try:
        result = _unless_unreachable(begun + BOUND, lambda: client.submit(prompt, job_id=job_id)).result(timeout=BOUND)
        seen = _unless_unreachable(begun + BOUND, lambda: colour(result.images[0]))
        return Ended(number, seen, None, time.monotonic() - begun)
    except KandifluxError as error:
        return Ended(number, None, error, time.monotonic() - begun)


def _unless_unreachable(deadline: float, ask: Callable[[], _Answer]) -> _Answer:
    """What it gives; asked again while there is no server: a host that was killed takes its time to start."""
    while True:
        try:
            return ask()
        except AnswerLost:
            raise
        except ServerUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def run_all(
    client: Client, jobs: Mapping[str, int], notes: Path, *, threads: int = 32, seconds: float = 0.0
) -> dict[str, Ended]:
    """Every job to its end. TimeoutError where one hangs."""
    pool = ThreadPoolExecutor(threads)
    try:
        waiting = {
            job: pool.submit(run_job, client, picture(number, job, notes, seconds=seconds), job, number)
            for job, number in jobs.items()
        }
        return {job: future.result(timeout=5 * BOUND) for job, future in waiting.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def require_bounded(ended: Mapping[str, Ended]) -> None:
    """No wait lasted too long, from the submission to the picture."""
    for job, end in ended.items():
        assert not isinstance(end.error, JobTimeout), f"{job}: {end.error}"
        assert end.seconds < BOUND, f"{job}: {end.seconds:.1f} s, {end.error!r}"


def require_all_done(ended: Mapping[str, Ended], notes: Path) -> None:
    """Each job's own picture came, and each ran once."""
    require_bounded(ended)
    ran = runs(notes)
    for job, end in ended.items():
        assert end.colour == end.number, f"{job}: {end.error!r}"
        assert ran[end.number] == 1, f"{job} ran {ran[end.number]} times"


def require_as_planned(
    proxy: Proxy, planned: Mapping[str, list[Fault]], ended: Mapping[str, Ended], notes: Path
) -> None:
    """Each job met a fault, ran once, and its picture came; but for those that never came through to the host.

    A few of the others may end in AnswerLost, too: after a POST without an answer the host was silent for so long that
    it may have been restarted, or took it only after the client's patience. Or it was silent before the job was sent.
    (None to 1 % on a quiet machine.)
    """
    require_bounded(ended)
    ran = runs(notes)
    unknown = 0
    for job, end in ended.items():
        if type(end.error) is ServerUnreachable:
            # The host was silent before the job was sent.
            assert (proxy.accepted[job], ran[end.number]) == (0, 0), f"{planned[job]}: {end.error!r}"
            unknown += 1
            continue
        assert proxy.hit[job] >= 1, f"{job} met none of {planned[job]}: {end.error!r}"
        if any(fault.path == "/prompt" and fault.kind in NEVER_TAKEN for fault in planned[job]):
            assert isinstance(end.error, AnswerLost), f"{planned[job]}: {end.error!r}"
            assert (proxy.accepted[job], ran[end.number]) == (0, 0), f"{planned[job]}: {end.error!r}"
        elif isinstance(end.error, AnswerLost) and any(fault.path == "/prompt" for fault in planned[job]):
            assert proxy.accepted[job] == ran[end.number] <= 1, planned[job]
            unknown += 1
        else:
            assert end.colour == end.number, f"{planned[job]}: {end.error!r}"
            assert (proxy.accepted[job], ran[end.number]) == (1, 1), planned[job]
    assert unknown <= len(ended) // 20


def campaign(proxy: Proxy, jobs: Mapping[str, int], notes: Path, *, clients: int = 1) -> None:
    """Runs the jobs, each with faults of its own, over so many clients, and checks all of them."""
    rng = random.Random(SEED)
    proxy.plan = {job: faults(rng) for job in jobs}
    proxy.stall_seconds = 1.4 * READ_TIMEOUT
    planned = {job: list(plan) for job, plan in proxy.plan.items()}
    ended: dict[str, Ended] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(clients))
        crew = [stack.enter_context(client_of(proxy.url)) for _ in range(clients)]
        assert all(client.listen() for client in crew)
        proxy.background = dict(EVERYWHERE)
        shares = [dict(list(jobs.items())[at::clients]) for at in range(clients)]
        for share in pool.map(lambda client, share: run_all(client, share, notes, threads=6), crew, shares):
            ended |= share
    require_as_planned(proxy, planned, ended, notes)


def every_fault_at_every_frame(proxy: Proxy, notes: Path) -> None:
    """Each job has a socket to itself, so that no other job's fault hides its own."""
    jobs = iter(some_jobs(600, 2).items())

    def run(fault: Fault | None) -> tuple[str, int]:
        with lock:
            job, number = next(jobs)
        proxy.plan[job] = [fault] if fault is not None else []
        with client_of(proxy.url) as client:
            ended[job] = run_job(client, picture(number, job, notes, previews=2), job, number)
        return job, proxy.frames[job]

    lock, ended = threading.Lock(), {}
    # Frames of progress may be sent or not, as time allows.
    frames = min(run(None)[1] for _ in range(3))
    assert frames >= 10
    planned = [Fault(kind, position=at) for kind in (*ON_FRAME, "mute") for at in range(frames)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, planned))
    require_all_done(ended, notes)
    assert {kind: proxy.met[f"frame {kind}"] for kind in (*ON_FRAME, "mute")} == dict.fromkeys(
        (*ON_FRAME, "mute"), frames
    )


def rob(url: str, proxy: Proxy, ended: Callable[[], bool]) -> int:
    """Takes the client's websocket id at the host `url` again and again; how often."""
    thieves = 0
    while not ended():
        if proxy.client_ids:
            address = f"{url.replace('http', 'ws', 1)}/ws?clientId={proxy.client_ids[-1]}"
            thief = websocket.create_connection(address, timeout=5)
            time.sleep(0.05)
            thief.close()
            thieves += 1
    return thieves
