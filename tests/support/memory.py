"""How much memory a call takes at its peak."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")


def anonymous() -> int:
    """Bytes this process holds, without mapped files (VmHWM, the peak that Linux notes, counts those too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def peak_of(call: Callable[[], Made]) -> tuple[int, Made]:
    """(bytes added at the peak of `call`, what it returns). The peak is sampled every millisecond."""
    gc.collect()
    highest = before = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.001):
            highest = max(highest, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        made = call()
    finally:
        done.set()
        watcher.join()
    return max(highest, anonymous()) - before, made
