"""The runner's side of the hostile campaign, in a process of its own so that its memory can be measured.

    python -m tests.faults.hostile_runner URL NOTES FOLDER < jobs.json

Runs every job ({id: number}), saves its picture in FOLDER and prints a JSON object: how each ended, the peak memory and
which threads have died.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kandiflux import Client, Saver
from kandiflux.jobs.outputs import Output

from tests.faults.campaign import colour_of, picture, run_job

_THREADS = 32


def main() -> None:
    url, notes, saver = sys.argv[1], Path(sys.argv[2]), Saver(sys.argv[3])

    def colour_of_saved(output: Output) -> int:
        path = saver.save(output)
        try:
            return colour_of(path.read_bytes())
        finally:
            path.unlink()

    jobs: dict[str, int] = json.load(sys.stdin)
    logging.basicConfig(level=logging.ERROR)
    died: list[str] = []
    threading.excepthook = lambda about: died.append(f"{about.thread}: {about.exc_value!r}")
    with (
        Client(url, timeout=(2.0, 0.8), poll_seconds=0.5, patience=8.0) as client,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        ended = [
            pool.submit(run_job, client, picture(number, job, notes), job, number, colour_of_saved)
            for job, number in jobs.items()
        ]
        results = [future.result() for future in ended]
        alive = [thread.name for thread in threading.enumerate()]
    print(
        json.dumps(
            {
                "jobs": {
                    str(end.number): {
                        "colour": end.colour,
                        "error": None if end.error is None else type(end.error).__name__,
                        "message": None if end.error is None else end.error.message[:300],
                        "seconds": end.seconds,
                    }
                    for end in results
                },
                "died": died,
                "alive": [name for name in alive if name in ("kandiflux-events", "kandiflux-watcher")],
                "peak_bytes": _peak_bytes(),
            }
        )
    )


def _peak_bytes() -> int:
    # Not getrusage, whose figure a process inherits from the one that started it.
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
