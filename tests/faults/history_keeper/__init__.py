"""A pack for the lite host that keeps its history over a restart, in a file beside the folder of outputs."""

from __future__ import annotations

import json
from typing import Any

from kandiflux.lite import seam
from kandiflux.lite.host import Host

NODE_CLASS_MAPPINGS: dict[str, type] = {}


def _keep(host: Host) -> None:
    jobs, kept = host.jobs, host.output_directory.parent / "history.jsonl"
    if kept.exists():
        # A line that a kill cut short is an entry that was never written.
        jobs._history.update(json.loads(line) for line in kept.read_text().splitlines(True) if line.endswith("\n"))
    finish = jobs.finish

    def finish_and_write(outcome: Any) -> None:
        finish(outcome)
        newest = list(jobs._history.items())[-1]
        with kept.open("a") as file:
            file.write(json.dumps(newest) + "\n")

    jobs.finish = finish_and_write


if isinstance(seam.active, Host):
    _keep(seam.active)
