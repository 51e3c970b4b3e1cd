"""What every sampling loop has: a report after each step, and a start part of the way."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class OnStep(Protocol):
    """Called after each step: `step` of `total` are done; `x0` is the predicted latents [B, 4, h, w], if there are
    any. May raise, to stop the loop."""

    def __call__(self, step: int, total: int, x0: Tensor | None, /) -> None: ...


def quiet(step: int, total: int, x0: Tensor | None, /) -> None:
    """Report nothing."""


def steps_for_strength(timesteps: list[int], strength: float) -> list[int]:
    """The last int(steps · strength) of `timesteps`: where a run that starts from something begins.

    Raises ValueError where that is none.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"Expected a strength above 0 and up to 1, got {strength}.")
    count = min(int(len(timesteps) * strength), len(timesteps))
    if count == 0:
        raise ValueError(
            f"A strength of {strength} with {len(timesteps)} steps leaves no step to run: expected at least one. "
            f"Use a strength of {1 / len(timesteps):.2g} or more, or more steps."
        )
    return timesteps[-count:]
