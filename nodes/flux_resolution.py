"""Width and height for FLUX from an aspect ratio and a number of megapixels."""

from __future__ import annotations

import math

MULTIPLE = 16
"""FLUX takes 2×2 patches of latents, and latents are 8 times smaller."""

MEGAPIXEL = 1024 * 1024
ASPECT_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "9:21", "21:9")


def resolution(aspect_ratio: str, megapixels: float) -> tuple[int, int]:
    """(width, height), multiples of 16, nearest to `aspect_ratio` ("3:2") and `megapixels` × 1024² pixels.

    Minimises the sum of the relative errors of ratio and area. 2:3 gives the size of 3:2 with width and height swapped.
    Raises ValueError.
    """
    across, down = _parse(aspect_ratio)
    if not megapixels > 0 or math.isinf(megapixels):
        raise ValueError(f"Expected a number of megapixels above 0, got {megapixels:g}.")
    ratio, area = max(across, down) / min(across, down), megapixels * MEGAPIXEL

    def error(size: tuple[int, int]) -> float:
        long, short = size
        return abs(math.log(long / short / ratio)) + abs(math.log(long * short / area))

    long_sides, short_sides = _multiples_around(math.sqrt(area * ratio)), _multiples_around(math.sqrt(area / ratio))
    long, short = min(((a, b) for a in long_sides for b in short_sides), key=error)
    return (long, short) if across >= down else (short, long)


def _multiples_around(length: float) -> list[int]:
    below = int(length // MULTIPLE)
    return [MULTIPLE * n for n in range(max(1, below - 1), below + 3)]


def _parse(aspect_ratio: str) -> tuple[int, int]:
    across, colon, down = aspect_ratio.partition(":")
    if not (colon and across.isdecimal() and down.isdecimal() and int(across) and int(down)):
        raise ValueError(f"Expected an aspect ratio such as 3:2, got {aspect_ratio!r}.")
    return int(across), int(down)
