"""The campaign for a batch: each of its jobs has faults of its own, and so has everything else that it asks."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from kandiflux import Client, Workflow
from kandiflux.batch import Batch, BatchEvent, BatchOptions, JobList, read_jobs
from kandiflux.batch.ledger import LEDGER

from tests.faults.campaign import ON_FRAME, ON_HISTORY, ON_POST, ON_VIEW, SEED, batch_of, colour_of, runs
from tests.faults.proxy import Fault, Proxy
from tests.support.hosts import RunningHost

COUNT, WAYS = 96, 16


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at quiet servers more often than it would, and is sooner content with no answer."""
    monkeypatch.setattr("kandiflux.batch.worker._PROBE_SECONDS", 0.2)
    monkeypatch.setattr("kandiflux.batch.worker._PROBE", (2.0, 0.8))
    monkeypatch.setattr("kandiflux.batch.worker._LATE_SECONDS", 5.0)


def connect(server: str, patience: float) -> Client:
    return Client(server, timeout=(2.0, 0.8), poll_seconds=0.5, patience=patience)


def test_a_batch_over_many_bad_ways(lite_host: RunningHost, tmp_path: Path) -> None:
    """To one host, which the batch takes for many, so that they are waited for together."""
    chance, out, notes = random.Random(SEED), tmp_path / "out", tmp_path / "notes"
    workflow, jobs = batch_of(COUNT, notes, tmp_path)

    def faults() -> list[Fault]:
        post = Fault(chance.choice(ON_POST), "/prompt")
        frame = Fault(chance.choice(ON_FRAME), position=chance.randrange(4))
        return [post, frame, Fault(chance.choice(ON_HISTORY), "/history")]

    events: list[BatchEvent] = []
    with ExitStack() as stack:
        ways = [stack.enter_context(Proxy(lite_host.url, SEED + at).serving()) for at in range(WAYS)]
        for way in ways:
            way.newcomers = faults
        batch = Batch(
            Workflow.load(workflow),
            JobList(rows=read_jobs(jobs)),
            out,
            servers=[way.url for way in ways],
            connect=connect,
            options=BatchOptions(patience=60.0),
            pages=False,
        )

        def begin(event: BatchEvent) -> None:
            events.append(event)
            if event.kind == "planned":
                # Until now the list is checked against the servers: that is not what is at stake here.
                for way in ways:
                    way.background = {
                        "/view": (0.3, ON_VIEW),
                        "/queue": (0.1, ("refuse", "cut", "truncate", "stall", "garbage", "429", "500", "503")),
                        "/history": (0.1, ON_HISTORY),
                        "/ws": (0.2, ("refuse", "stall", "404", "503")),
                    }

        summary = batch.run(begin)
        met = sum((way.met for way in ways), Counter[str]())
        hit = sum((way.hit for way in ways), Counter[str]())
    assert summary.done == COUNT, [dict(event.about) for event in events if event.kind == "failed"]
    assert [colour_of((out / f"{at:04}.png").read_bytes()) for at in range(1, COUNT + 1)] == [*range(1, COUNT + 1)]
    assert runs(notes) == dict.fromkeys(range(1, COUNT + 1), 1)
    with contextlib.closing(sqlite3.connect(out / LEDGER)) as ledger:
        done = [row[0] for row in ledger.execute("SELECT id FROM attempts WHERE state = 'done'")]
        assert ledger.execute("SELECT count(*) FROM attempts WHERE state = 'open'").fetchone() == (0,)
    assert len(done) == COUNT
    assert all(hit[job] for job in done)
    assert all(met[f"/prompt {kind}"] for kind in ON_POST), met
    assert sum(times for fault, times in met.items() if fault.startswith("/view")) >= COUNT / 10, met
