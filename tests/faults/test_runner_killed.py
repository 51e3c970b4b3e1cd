"""A runner that is killed with SIGKILL at any moment of a batch, again and again, and goes on each time.

The moments come from a seed: some while it starts and plans, some while it resumes, most while it runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from kandiflux.batch.ledger import LEDGER

from tests.faults.campaign import BOUND, SEED, batch_of, colour_of, runs
from tests.support.hosts import RunningHost
from tests.support.places import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")


def live(line: list[str], results: int, seconds: float) -> tuple[int, int]:
    """Runs the command until it has printed so many results and `seconds` more have gone by, or no result is wanted
    and they have; then kills it. How many it printed, and its exit status.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner")}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        seen = 0
        while seen < results and run.stdout.readline():
            seen += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(seconds)
        run.kill()
        printed, said = run.communicate(timeout=BOUND)
    assert "Traceback" not in said, said
    return seen + len(printed.splitlines()), run.returncode


def test_a_batch_whose_runner_is_killed(lite_host: RunningHost, tmp_path: Path, full_campaign: bool) -> None:
    count, kills = (500, 12) if full_campaign else (120, 4)
    # Results that a life may see: so it is killed often enough, however quick the machine.
    longest_life = count // (kills + 1)
    chance, out, notes = random.Random(SEED), tmp_path / "out", tmp_path / "notes"
    workflow, jobs = batch_of(count, notes, tmp_path, seconds=0.01)
    line = [sys.executable, "-m", "kandiflux", "batch", str(workflow), "--jobs", str(jobs), "--out", str(out)]
    line += ["--server", lite_host.url]
    for kill in range(kills):
        results = chance.choice((0, chance.randrange(1, longest_life)))
        seconds = chance.uniform(0.0, 0.02) if results else chance.uniform(0.05, 0.9)
        _, status = live(line, results, seconds)
        assert status == -signal.SIGKILL, f"it had ended before kill {kill + 1}"
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=2 * BOUND, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runner")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    require_whole(out, notes, count)


def require_whole(out: Path, notes: Path, count: int) -> None:
    """Each job's own picture is there, each ran once, and ledger and report say so."""
    numbers = range(1, count + 1)
    assert [colour_of((out / f"{number:04}.png").read_bytes()) for number in numbers] == [*numbers]
    assert sorted(path.name for path in out.glob("*.png") if path.stem.isdigit()) == [f"{n:04}.png" for n in numbers]
    assert list(out.glob(".*.part")) == []
    ran = runs(notes)
    assert {number: times for number, times in ran.items() if times > 1} == {}
    assert set(ran) == set(numbers)
    with contextlib.closing(sqlite3.connect(out / LEDGER)) as ledger:
        assert ledger.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall() == [("done", count)]
        attempts = Counter(dict(ledger.execute("SELECT state, count(*) FROM attempts GROUP BY state").fetchall()))
        # An attempt that was written down and never sent is lost, too; one that ran is done.
        assert attempts["done"] == count
        assert attempts["open"] == attempts["failed"] == 0
    report = (out / "batch-report.html").read_text()
    assert report.count('<li class="job">') == count
    assert f"<b>{count}</b> done" in report
    assert len(set(re.findall(r'href="(\d{4}\.png)"', report))) == count
