"""Guidance that changes over the run.

FLUX.1 dev and its kin are distilled: guidance is an input of the network, read from each conditioning entry
(`guidance`). A schedule sets it anew at each step of the sampler: see comfyui/guidance.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Conditioning = list[Any]
SCHEDULES = ("constant", "linear", "cosine", "interval")
_HAIR = 1e-6
"""Widgets count in steps of 0.01, and what 35 of them add up to need not be 0.35; nor is a percent found exactly."""


@dataclass(frozen=True)
class Schedule:
    """Guidance as a function of the percent of the run. Raises ValueError where it makes no sense.

    constant: `guidance`. linear, cosine: from `guidance` at `start_percent` to `end_guidance` at `end_percent`, and
    held before and after. interval: `guidance` from `start_percent` up to `end_percent`, `end_guidance` elsewhere
    (Kynkäänniemi et al., "Applying Guidance in a Limited Interval", 2024, with 1 elsewhere). Percent is ComfyUI's: 0
    all noise, 1 none.
    """

    kind: str
    guidance: float
    end_guidance: float = 3.5
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ValueError(f"Expected a schedule of {', '.join(SCHEDULES)}, got {self.kind!r}.")
        if self.kind != "constant" and not 0 <= self.start_percent < self.end_percent <= 1:
            raise ValueError(
                f"Expected start_percent less than end_percent, both from 0 to 1, got {self.start_percent:g} and "
                f"{self.end_percent:g}. 0 and 1 are the whole run."
            )

    @property
    def values(self) -> tuple[float, ...]:
        """The least and the greatest guidance of the run, or the only one."""
        whole = self.kind == "interval" and (self.start_percent, self.end_percent) == (0, 1)
        if self.kind == "constant" or whole or self.guidance == self.end_guidance:
            return (self.guidance,)
        return tuple(sorted((self.guidance, self.end_guidance)))

    def at(self, percent: float, last: float = 1.0) -> float:
        """The guidance at `percent`. last: the percent of the run's last step, where a ramp to the end arrives."""
        if self.kind == "constant":
            return self.guidance
        if self.kind == "interval":
            begun = percent >= self.start_percent - _HAIR
            over = self.end_percent < 1 and percent >= self.end_percent - _HAIR
            return self.guidance if begun and not over else self.end_guidance
        arrival = min(self.end_percent, last)
        if percent <= self.start_percent + _HAIR:
            return self.guidance
        if percent >= arrival - _HAIR:
            return self.end_guidance
        done = (percent - self.start_percent) / (arrival - self.start_percent)
        if self.kind == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.guidance + (self.end_guidance - self.guidance) * done


def apply(conditioning: Conditioning, schedule: Schedule) -> Conditioning:
    """`conditioning` with the schedule's guidance, in the place of an earlier one's; a constant one is what ComfyUI's
    FluxGuidance gives. Any other one needs ComfyUI."""
    begun = [[tensor, {**keys, "guidance": schedule.guidance}] for tensor, keys in conditioning]
    constant = schedule.kind == "constant"
    if constant and not any("control" in keys for _, keys in begun):
        return begun
    from .comfyui.guidance import with_schedule

    return with_schedule(begun, None if constant else schedule)


@dataclass(frozen=True)
class Advice:
    """What guidance a model is used with: `usual` in the makers' settings and guides, beyond `far` pictures suffer."""

    name: str
    usual: tuple[float, float]
    far: tuple[float, float]


ADVICE = {
    "dev": Advice("FLUX.1 dev", (2.0, 3.5), (1.0, 5.0)),
    "schnell": None,
    "fill": Advice("FLUX.1 Fill", (30.0, 30.0), (15.0, 60.0)),
    "canny": Advice("FLUX.1 Canny", (30.0, 30.0), (15.0, 60.0)),
    "depth": Advice("FLUX.1 Depth", (10.0, 10.0), (5.0, 20.0)),
    "kontext": Advice("FLUX.1 Kontext", (2.5, 2.5), (1.25, 5.0)),
    "redux": Advice("FLUX.1 dev with Redux", (2.0, 3.5), (1.0, 5.0)),
}


def advise(model: str, schedule: Schedule) -> str | None:
    """What to say of `schedule` for `model`; None if there is nothing to say. Raises ValueError for another model."""
    if model not in ADVICE:
        raise ValueError(f"Expected a model of {', '.join(ADVICE)}, got {model!r}.")
    advice = ADVICE[model]
    if advice is None:
        return "FLUX.1 schnell takes no guidance: the value has no effect."
    far = [f"{value:g}" for value in schedule.values if not advice.far[0] <= value <= advice.far[1]]
    if not far:
        return None
    low, high = advice.usual
    usual = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    verb = "is" if len(far) == 1 else "are"
    return f"{advice.name} is used with a guidance of {usual}; {' and '.join(far)} {verb} far from that."
