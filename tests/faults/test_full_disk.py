"""A disk that takes no more: the error names folder and reason, nothing half-written stays, and nothing runs twice."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from kandiflux.batch import Batch, BatchOptions, JobList, read_jobs
from kandiflux.batch.ledger import Ledger, Saved
from kandiflux.errors import OutputError

from tests.faults.campaign import BOUND, batch_of, colour_of, runs
from tests.support.hosts import RunningHost
from tests.support.places import ROOT

resource = pytest.importorskip("resource", reason="no limits of file sizes there")

COUNT = 40


def kandiflux(*words: str, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command, on a disk on which no file can grow larger than so many bytes."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest_file, largest_file))
    return subprocess.run(
        [sys.executable, "-m", "kandiflux", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runner")},
        preexec_fn=limit if largest_file is not None else None,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


def test_a_picture_that_does_not_fit(lite_host: RunningHost, tmp_path: Path) -> None:
    out = tmp_path / "out"
    workflow = ROOT / "tests" / "data" / "empty_image.json"
    words = ("run", str(workflow), "--server", lite_host.url, "--out", str(out), "--set", "width=64")
    done = kandiflux(*words, largest_file=50)
    assert done.returncode == 1, done.stderr
    assert f"cannot be written to {out}: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("largest_file", "ballast", "said"),
    [
        pytest.param(1_000, 0, "ledger", id="from the beginning"),
        pytest.param(300_000, 0, "ledger", id="the ledger, midway"),
        pytest.param(300_000, 400_000, "File too large", id="a picture"),
    ],
)
def test_a_batch_that_does_not_fit_goes_on_once_there_is_room(
    lite_host: RunningHost, tmp_path: Path, largest_file: int, ballast: int, said: str
) -> None:
    out, notes = tmp_path / "out", tmp_path / "notes"
    workflow, jobs = batch_of(COUNT, notes, tmp_path, ballast=ballast)
    words = ("batch", str(workflow), "--jobs", str(jobs), "--out", str(out), "--server", lite_host.url)
    full = kandiflux(*words, largest_file=largest_file)
    assert full.returncode == 1, full.stderr
    assert said in full.stderr
    assert str(out) in full.stderr
    assert "Traceback" not in full.stderr
    assert runs(notes).total() < COUNT
    assert list(out.glob(".*.part")) == []
    done = kandiflux(*words)
    assert done.returncode == 0, done.stderr
    assert [colour_of((out / f"{number:04}.png").read_bytes()) for number in range(1, COUNT + 1)] == [
        *range(1, COUNT + 1)
    ]
    assert runs(notes) == dict.fromkeys(range(1, COUNT + 1), 1)


def test_a_thumbnail_that_does_not_fit(lite_host: RunningHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch ends, though other jobs of it are on the server; these are fetched by the next run."""

    def full(ledger: Ledger, file: Saved, webp: bytes) -> None:
        raise OutputError(f"The ledger {ledger.path} cannot be written or read: database or disk is full.")

    out, notes = tmp_path / "out", tmp_path / "notes"
    workflow, jobs = batch_of(COUNT, notes, tmp_path, seconds=0.05)
    batch = partial(Batch, str(workflow), JobList(rows=read_jobs(jobs)), out, servers=[lite_host.url])
    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as aside:
        patched.setattr(Ledger, "keep_thumbnail", full)
        running = aside.submit(batch(options=BatchOptions(backlog=6)).run)
        with pytest.raises(OutputError, match="disk is full"):
            running.result(BOUND)
    assert batch().run().complete
    assert runs(notes) == dict.fromkeys(range(1, COUNT + 1), 1)
