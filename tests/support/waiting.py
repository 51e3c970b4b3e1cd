"""Waiting for what another thread, process or server does."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["until"]


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Returns as soon as `condition()` is true. Fails after `seconds`, which should be far more than it ever takes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds:g} s"
        time.sleep(0.01)
