"""A batch on a real ComfyUI: run, stopped, killed, resumed; each job executed once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import requests
from kandiflux.batch import Batch, BatchEvent, JobList, parse_grid
from PIL import Image

from tests.support.hosts import RunningHost
from tests.support.places import ROOT

PLAIN = ROOT / "tests" / "data" / "empty_image.json"
WAIT = 60


def runs_of(host: RunningHost, prefix: str) -> Counter[int]:
    prompts = [entry["prompt"][2] for entry in requests.get(f"{host.url}/history", timeout=30).json().values()]
    return Counter(
        nodes["1"]["inputs"]["color"]
        for nodes in prompts
        if nodes.get("2", {}).get("inputs", {}).get("filename_prefix") == prefix
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_runner_killed_in_a_batch_is_resumed(comfy_host: RunningHost, tmp_path: Path) -> None:
    out, prefix = tmp_path / "out", tmp_path.name
    line = [sys.executable, "-m", "kandiflux", "batch", str(PLAIN), "--grid", "colour=1..60", "--out", str(out)]
    line += ["--set", f"name={prefix}", "--server", comfy_host.url, "--no-report", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runner")}
    for kill_after in (7, 20):
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as runner:
            for _ in range(kill_after):
                assert runner.stdout is not None
                assert runner.stdout.readline()
            runner.kill()
    events: list[BatchEvent] = []
    jobs = JobList({"name": prefix}, axes=parse_grid(["colour=1..60"]))
    assert Batch(PLAIN, jobs, out, servers=[comfy_host.url]).run(events.append).complete
    assert runs_of(comfy_host, prefix) == dict.fromkeys(range(1, 61), 1)
    for number in range(1, 61):
        with Image.open(out / f"{number:04}.png") as picture:
            assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, number)


def test_a_batch_is_stopped_and_its_waiting_job_taken_back(comfy_host: RunningHost, tmp_path: Path) -> None:
    jobs = JobList({"name": tmp_path.name}, axes=parse_grid(["colour=1..200"]))
    batch = Batch(PLAIN, jobs, tmp_path, servers=[comfy_host.url], pages=False)
    summary = batch.run(lambda event: batch.stop() if event.kind == "done" else None)
    assert summary.stopped
    assert 0 < summary.done < 200
    assert requests.get(f"{comfy_host.url}/queue", timeout=10).json() == {"queue_running": [], "queue_pending": []}
    assert sum(runs_of(comfy_host, tmp_path.name).values()) == summary.done
