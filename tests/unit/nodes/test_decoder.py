"""What the decoder's run begins with: sizes, masks, and the start of 2.1's img2img."""

from __future__ import annotations

import pytest
import torch

from nodes.sampling.decoder import add_noise_21, keep_mask, latent_side


@pytest.mark.parametrize(("pixels", "side"), [(1, 8), (64, 8), (65, 16), (512, 64), (513, 72)])
def test_latents_have_8_places_for_each_64_pixels_begun(pixels: int, side: int) -> None:
    assert latent_side(pixels) == side


@pytest.mark.parametrize(("value", "repainted"), [(0.0, 0), (0.49, 0), (0.5, 25), (1.0, 25)])
def test_half_grey_is_repainted(value: float, repainted: int) -> None:
    assert (keep_mask(torch.full((1, 1, 5, 5), value), (5, 5)) == 0).sum() == repainted


def test_places_beside_what_is_repainted_are_repainted_too() -> None:
    mask = torch.zeros(1, 1, 5, 5)
    mask[..., 2, 2] = 1
    assert keep_mask(mask, (5, 5))[0, 0].tolist() == [
        [1, 1, 1, 1, 1],
        [1, 0, 0, 1, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 0, 0, 1],
        [1, 1, 1, 1, 1],
    ]


def test_a_mask_is_sampled_at_the_nearest_pixels() -> None:
    mask = torch.zeros(1, 1, 16, 32)
    mask[..., :8, :16] = 1
    keep = keep_mask(mask, (2, 4))[0, 0]
    assert keep.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]


@pytest.mark.parametrize(("strength", "timestep"), [(1.0, 998), (0.3, 298), (0.003, 1), (0.001, 0)])
def test_21_starts_with_the_noise_of_its_strength(strength: float, timestep: int) -> None:
    alphas_cumprod = torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000), 0)
    share = alphas_cumprod[timestep]
    ones = torch.ones(1, 4, 2, 2)
    torch.testing.assert_close(add_noise_21(ones, 0 * ones, strength), share.sqrt() * ones)
    torch.testing.assert_close(add_noise_21(0 * ones, ones, strength), (1 - share).sqrt() * ones)
