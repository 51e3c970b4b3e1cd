"""Time that passes only when somebody sleeps."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """Stands in for the module `time`. The first moment is not 0, which counts as false."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
