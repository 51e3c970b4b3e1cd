"""Where the random numbers come from: always float32 on the CPU, so that a seed means the same on every device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Noise = Callable[[Sequence[int]], Tensor]
"""Gives the next standard normal tensor of a shape [B, …], float32, on the CPU."""


def seeded_noise(seeds: Sequence[int]) -> Noise:
    """A generator for each row: row i of a batch is the same picture as a batch of one with its seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(shape: Sequence[int]) -> Tensor:
        if len(generators) != shape[0]:
            raise ValueError(
                f"Expected noise for {len(generators)} rows, one for each seed; got the shape {tuple(shape)}."
            )
        return torch.cat([torch.randn((1, *shape[1:]), generator=generator) for generator in generators])

    return draw
