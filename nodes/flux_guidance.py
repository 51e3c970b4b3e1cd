"""Guidance that changes over the run, as timestep ranges of CONDITIONING.

FLUX.1 dev and its kin are distilled: guidance is an input of the network, read from each conditioning entry
(`guidance`). An entry may also carry `start_percent` and `end_percent`, between which it is in force. So a schedule is
cut into pieces, one a step, and every entry becomes one entry a piece; the model is not touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

Conditioning = list[Any]
SCHEDULES = ("constant", "linear", "cosine", "interval")
_HAIR = 1e-6
"""Widgets count in steps of 0.01, and what 35 of them add up to need not be 0.35."""


class Piece(NamedTuple):
    """`guidance` from `start` to `end`, in percent of the run as ComfyUI counts it: 0 all noise, 1 none."""

    start: float
    end: float
    guidance: float


@dataclass(frozen=True)
class Schedule:
    """Guidance as a function of the percent of the run. Raises ValueError where it makes no sense.

    constant: `guidance`. linear, cosine: from `guidance` at `start_percent` to `end_guidance` at `end_percent`, and
    held before and after. interval: `guidance` from `start_percent` up to `end_percent`, `end_guidance` elsewhere
    (Kynkäänniemi et al., "Applying Guidance in a Limited Interval", 2024, with 1 elsewhere).
    `steps`: into how many pieces it is cut.
    """

    kind: str
    guidance: float
    end_guidance: float = 3.5
    start_percent: float = 0.0
    end_percent: float = 1.0
    steps: int = 20

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ValueError(f"Expected a schedule of {', '.join(SCHEDULES)}, got {self.kind!r}.")
        if self.steps < 1:
            raise ValueError(f"Expected 1 step or more, got {self.steps}. Give the sampler's number of steps.")
        if self.kind != "constant" and not 0 <= self.start_percent < self.end_percent <= 1:
            raise ValueError(
                f"Expected start_percent less than end_percent, both from 0 to 1, got {self.start_percent:g} and "
                f"{self.end_percent:g}. 0 and 1 are the whole run."
            )

    def at(self, percent: float) -> float:
        """The guidance at `percent`."""
        if self.kind == "constant":
            return self.guidance
        if self.kind == "interval":
            begun = percent >= self.start_percent - _HAIR
            over = self.end_percent < 1 and percent >= self.end_percent - _HAIR
            return self.guidance if begun and not over else self.end_guidance
        # No step runs after the last step's percent: a ramp to the end of the run is to arrive there.
        arrival = min(self.end_percent, (self.steps - 1) / self.steps)
        if percent <= self.start_percent:
            return self.guidance
        if percent >= arrival:
            return self.end_guidance
        done = (percent - self.start_percent) / (arrival - self.start_percent)
        if self.kind == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.guidance + (self.end_guidance - self.guidance) * done

    def pieces(self) -> list[Piece]:
        """The schedule as a staircase from 0 to 1 without gaps, equal neighbours merged.

        Step i of n runs at percent i/n with the scheduler "simple"; with others near it. Pieces end midway between
        two steps, for ComfyUI takes both ends of a range as within it: on a common end two entries would be averaged.
        """
        n = self.steps
        merged: list[Piece] = []
        for i in range(n):
            start = (i - 0.5) / n if i else 0.0
            end = (i + 0.5) / n if i < n - 1 else 1.0
            guidance = self.at(i / n)
            if merged and merged[-1].guidance == guidance:
                start = merged.pop().start
            merged.append(Piece(start, end, guidance))
        return merged


def apply(conditioning: Conditioning, schedule: Schedule) -> Conditioning:
    """`conditioning` under `schedule`: each entry [tensor, keys] once for each piece, all else of it kept.

    An entry's own range stays its own: it is cut, not widened. One that is in force at one point only, or never, stays
    so. A constant schedule gives what ComfyUI's FluxGuidance does.
    """
    pieces = schedule.pieces()
    result: Conditioning = []
    for tensor, keys in conditioning:
        cut = [entry for piece in pieces if (entry := _within(keys, piece)) is not None]
        if not cut:
            cut = [{**keys, "guidance": schedule.at(keys.get("start_percent", 0.0))}]
        result += [[tensor, entry] for entry in cut]
    return result


def _within(keys: dict[str, Any], piece: Piece) -> dict[str, Any] | None:
    start = max(keys.get("start_percent", 0.0), piece.start)
    end = min(keys.get("end_percent", 1.0), piece.end)
    if start >= end:
        return None
    entry = {**keys, "guidance": piece.guidance}
    # The ends of the run stay open: some samplers begin at a sigma above the one of percent 0.
    if piece.start > 0:
        entry["start_percent"] = start
    if piece.end < 1:
        entry["end_percent"] = end
    return entry


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
    values = sorted({piece.guidance for piece in schedule.pieces()})
    far = [f"{value:g}" for value in (values[0], values[-1]) if not advice.far[0] <= value <= advice.far[1]]
    if not far:
        return None
    low, high = advice.usual
    usual = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    far = list(dict.fromkeys(far))
    verb = "is" if len(far) == 1 else "are"
    return f"{advice.name} is used with a guidance of {usual}; {' and '.join(far)} {verb} far from that."
