"""Seeded noise, always float32 on the CPU, so that a seed gives the same noise on every device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Noise = Callable[[Sequence[int]], Tensor]
"""Returns the next standard normal tensor of a shape [B, …], float32, on the CPU."""


def seeded_noise(seeds: Sequence[int]) -> Noise:
    """Return a Noise with one generator per row, so that row i equals a batch of one with seeds[i]."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(shape: Sequence[int]) -> Tensor:
        if len(generators) != shape[0]:
            raise ValueError(
                f"Expected noise for {len(generators)} rows, one for each seed; got the shape {tuple(shape)}."
            )
        return torch.cat([torch.randn((1, *shape[1:]), generator=generator) for generator in generators])

    return draw
