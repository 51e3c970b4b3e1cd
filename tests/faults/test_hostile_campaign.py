"""Hundreds of jobs, any answer to which may be one that no ComfyUI gives, from a seed (--campaign=full: thousands).

Every job ends in time, with its own picture or a typed error; none runs twice, no thread dies, and the runner's memory
stays small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.campaign import BOUND, SEED, runs, some_jobs
from tests.faults.hostile import ANSWERS
from tests.faults.proxy import Proxy
from tests.support.hosts import running_lite
from tests.support.places import ROOT

SHARE = {"/prompt": 0.15, "/queue": 0.3, "/history": 0.3, "/view": 0.2, "/ws": 0.2}
RARE = ("endless", "bomb", "drip")
"""These take time; each of the others comes eight times as often."""
MAX_BYTES = 200 * 10**6


def kinds() -> tuple[str, ...]:
    return tuple(f"hostile {kind}" for kind in (*[kind for kind in ANSWERS if kind not in RARE] * 8, *RARE))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_jobs_with_hostile_answers(tmp_path: Path, full_campaign: bool) -> None:
    jobs, notes = some_jobs(2000 if full_campaign else 400, 71), tmp_path / "notes"
    with running_lite(tmp_path) as host, Proxy(host.url, SEED).serving() as proxy:
        proxy.everywhere = {path: (share, kinds()) for path, share in SHARE.items()}
        ended = subprocess.run(
            [sys.executable, "-m", "tests.faults.hostile_runner", proxy.url, str(notes), str(tmp_path / "saved")],
            input=json.dumps(jobs), capture_output=True, text=True, check=False, timeout=600, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["runner", "."])},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-5000:]
        report = json.loads(ended.stdout)
        ran = runs(notes)
        met = Counter(proxy.met)
    results = report["jobs"]
    print(
        Counter(result["error"] for result in results.values()),
        max(r["seconds"] for r in results.values()),
        report["peak_bytes"],
    )
    assert len(results) == len(jobs)
    for number, result in results.items():
        assert result["seconds"] < BOUND, result
        assert (result["colour"] == int(number)) != (result["error"] is not None), result
        assert result["error"] != "JobTimeout", result
        assert ran[int(number)] <= 1, result
    assert report["died"] == []
    assert sorted(report["alive"]) == ["kandiflux-events", "kandiflux-watcher"]
    assert "Traceback" not in ended.stderr, ended.stderr[-5000:]
    assert report["peak_bytes"] < MAX_BYTES
    done = sum(result["error"] is None for result in results.values())
    assert done > len(jobs) // 2
    missing = {
        f"{path} hostile {kind}" for path in SHARE if path != "/ws" for kind in ANSWERS if kind not in RARE
    } - set(met)
    assert not (full_campaign and missing)
    assert len(missing) < len(ANSWERS)
