"""Schedules of FLUX guidance.

FLUX.1 dev and models based on it are guidance-distilled: guidance is an input of the network, taken from the key
`guidance` of each conditioning entry. comfyui/guidance.py applies a schedule at each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Conditioning = list[Any]
SCHEDULES = ("constant", "linear", "cosine", "interval")
_EPSILON = 1e-6
"""Tolerance for rounding of widget values and of sigma_to_percent."""


@dataclass(frozen=True)
class Schedule:
    """Guidance as a function of ComfyUI's percent, 0 at the start of sampling (all noise), 1 at the end.

    constant: `guidance`. linear, cosine: from `guidance` at `start_percent` to `end_guidance` at `end_percent`, and
    constant before and after. interval: `guidance` from `start_percent` to `end_percent`, `end_guidance` elsewhere
    (Kynkäänniemi et al., "Applying Guidance in a Limited Interval", 2024, with 1 elsewhere). Raises ValueError.
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
        """(minimum, maximum) guidance of the run, or (guidance,) if it is constant."""
        whole = self.kind == "interval" and (self.start_percent, self.end_percent) == (0, 1)
        if self.kind == "constant" or whole or self.guidance == self.end_guidance:
            return (self.guidance,)
        return tuple(sorted((self.guidance, self.end_guidance)))

    def at(self, percent: float, last: float = 1.0) -> float:
        """Guidance at `percent`. last: percent of the last step, where a ramp ends at the latest."""
        if self.kind == "constant":
            return self.guidance
        if self.kind == "interval":
            started = percent >= self.start_percent - _EPSILON
            ended = self.end_percent < 1 and percent >= self.end_percent - _EPSILON
            return self.guidance if started and not ended else self.end_guidance
        end = min(self.end_percent, last)
        if percent <= self.start_percent + _EPSILON:
            return self.guidance
        if percent >= end - _EPSILON:
            return self.end_guidance
        progress = (percent - self.start_percent) / (end - self.start_percent)
        if self.kind == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.guidance + (self.end_guidance - self.guidance) * progress


def apply(conditioning: Conditioning, schedule: Schedule) -> Conditioning:
    """Copy of `conditioning` with the guidance of `schedule`, replacing an earlier one. A constant schedule gives the
    same as ComfyUI's FluxGuidance; others work in ComfyUI only."""
    guided = [[tensor, {**keys, "guidance": schedule.guidance}] for tensor, keys in conditioning]
    constant = schedule.kind == "constant"
    if constant and not any("control" in keys for _, keys in guided):
        return guided
    from .comfyui.guidance import with_schedule

    return with_schedule(guided, None if constant else schedule)


@dataclass(frozen=True)
class Advice:
    """Guidance ranges of a model: `usual` as recommended by its authors; outside `far` pictures get worse."""

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
    """Return a warning about `schedule` for `model`, or None. Raises ValueError for an unknown model."""
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
