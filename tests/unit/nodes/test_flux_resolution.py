"""Flux Resolution: sizes by aspect ratio and megapixels."""

from __future__ import annotations

import pytest
import torch

from nodes.flux import KandifluxFluxResolution
from nodes.flux_resolution import ASPECT_RATIOS, resolution

ONE_MEGAPIXEL = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (880, 1184),
    "4:3": (1184, 880),
    "4:5": (912, 1152),
    "5:4": (1152, 912),
    "9:16": (768, 1360),
    "16:9": (1360, 768),
    "9:21": (672, 1568),
    "21:9": (1568, 672),
}


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_one_megapixel(ratio: str) -> None:
    assert resolution(ratio, 1.0) == ONE_MEGAPIXEL[ratio]


@pytest.mark.parametrize("megapixels", [0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_near_to_what_was_asked(ratio: str, megapixels: float) -> None:
    width, height = resolution(ratio, megapixels)
    across, down = map(int, ratio.split(":"))
    assert width % 16 == height % 16 == 0
    # Half a multiple of 16 off, at most, on both sides.
    off = 8 / width + 8 / height + 0.01
    assert width / height == pytest.approx(across / down, rel=off)
    assert width * height == pytest.approx(megapixels * 1024**2, rel=off)


@pytest.mark.parametrize("megapixels", [0.1, 0.7, 1.0, 2.3])
def test_turned_on_its_side(megapixels: float) -> None:
    assert resolution("21:9", megapixels) == resolution("9:21", megapixels)[::-1]


def test_no_other_size_is_nearer() -> None:
    def off(width: int, height: int) -> float:
        area = 0.6 * 1024**2
        return max(width / height / 1.25, 1.25 * height / width) * max(width * height / area, area / width / height)

    sides = range(16, 2048, 16)
    assert off(*resolution("5:4", 0.6)) == min(off(width, height) for width in sides for height in sides)


def test_full_hd_is_a_size_of_flux() -> None:
    assert resolution("16:9", 1.99) == (1920, 1088)


def test_the_node_gives_the_latent_too() -> None:
    width, height, latent = KandifluxFluxResolution().run("3:2", 1.0, 2)
    assert (width, height) == (1248, 832)
    assert torch.equal(latent["samples"], torch.zeros(2, 16, 104, 156))


@pytest.mark.parametrize("wrong", ["3x2", "3:", ":2", "0:1", "-3:2", "a:b", ""])
def test_no_ratio(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"aspect ratio such as 3:2"):
        resolution(wrong, 1.0)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_no_area(wrong: float) -> None:
    with pytest.raises(ValueError, match="megapixels above 0"):
        resolution("3:2", wrong)
