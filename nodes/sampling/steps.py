"""Shared by the sampling loops: the callback after each step, and the timesteps that remain for a strength."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class OnStep(Protocol):
    """Called after each step, `step` counting from 1; `x0` is the predicted clean latents [B, 4, h, w], None in the
    prior. May raise to stop the loop."""

    def __call__(self, step: int, total: int, x0: Tensor | None, /) -> None: ...


def no_callback(step: int, total: int, x0: Tensor | None, /) -> None:
    """Do nothing."""


def steps_for_strength(timesteps: list[int], strength: float) -> list[int]:
    """Return the last int(steps · strength) of `timesteps`. Raises ValueError if there are none."""
    if not 0 < strength <= 1:
        raise ValueError(f"Expected a strength above 0 and up to 1, got {strength}.")
    count = min(int(len(timesteps) * strength), len(timesteps))
    if count == 0:
        raise ValueError(
            f"A strength of {strength} with {len(timesteps)} steps leaves no step to run: expected at least one. "
            f"Use a strength of {1 / len(timesteps):.2g} or more, or more steps."
        )
    return timesteps[-count:]
