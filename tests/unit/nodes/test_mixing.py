"""Blends of embeds, in numbers that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nodes.sampling.mixing import interpolate, mix, slerp

X, Y, Z = torch.eye(3).split(1)
HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # The first two meet at 45°; the third then gets its share of all three.
        ([1, 1, 2], [0.5, 0.5, HALF]),
        ([1, 1, 1], [HALF * math.sin(math.pi / 3)] * 2 + [math.sin(math.pi / 6)]),
        ([2, 1, 0], [math.cos(math.pi / 6), math.sin(math.pi / 6), 0]),
        ([0, 1, 1], [0, HALF, HALF]),
        ([0, 0, 3], [0.0, 0.0, 1.0]),
    ],
)
def test_slerp_of_three_gives_each_its_share(weights: list[float], expected: list[float]) -> None:
    torch.testing.assert_close(mix([X, Y, Z], weights, "slerp"), torch.tensor([expected]))


def test_slerp_is_an_even_turn_at_any_share() -> None:
    for t in (0.1, 0.25, 0.8):
        angle = t * math.pi / 2
        turned = math.cos(angle) * X + math.sin(angle) * Y
        torch.testing.assert_close(slerp(X, Y, t), turned)
        # Lengths go in a straight line from 2 to 6.
        torch.testing.assert_close(slerp(2 * X, 6 * Y, t), turned * (2 + 4 * t))


def test_nearly_parallel_embeds_are_blended_in_a_straight_line() -> None:
    near = X + 1e-5 * Y
    torch.testing.assert_close(slerp(X, near, 0.5), X + 0.5e-5 * Y, atol=1e-7, rtol=0)
    assert torch.isfinite(slerp(X, 0 * X, 0.5)).all()


@pytest.mark.parametrize("method", ["sum", "normalised", "slerp"])
def test_a_single_embed_is_blended_with_each_of_a_batch(method: str) -> None:
    batch = torch.cat([X, Y, X + Y])
    for parts in ([batch, Z], [Z, batch]):
        made = mix(parts, [0.25, 0.75], method)
        alone = [
            mix([part[i : i + 1] if len(part) > 1 else part for part in parts], [0.25, 0.75], method) for i in range(3)
        ]
        torch.testing.assert_close(made, torch.cat(alone))


@pytest.mark.parametrize("weights", [[1.0, -0.5], [0.0, -1.0], [0.0, 0.0]])
@pytest.mark.parametrize("method", ["normalised", "slerp"])
def test_only_a_sum_takes_weights_below_0_or_none_above(method: str, weights: list[float]) -> None:
    with pytest.raises(ValueError, match="expects weights of 0 or more, not all 0"):
        mix([X, Y], weights, method)
    torch.testing.assert_close(mix([X, Y], weights), weights[0] * X + weights[1] * Y)


@pytest.mark.parametrize(("embeds", "weights"), [([], []), ([X], []), ([X], [1, 1])])
def test_as_many_weights_as_embeds(embeds: list[Tensor], weights: list[float]) -> None:
    with pytest.raises(ValueError, match="as many weights as embeds, at least one"):
        mix(embeds, weights)


def test_frames_are_evenly_spaced_from_a_to_b() -> None:
    torch.testing.assert_close(interpolate(X, Y, 2), torch.cat([X, Y]))
    angles = [0, math.pi / 6, math.pi / 3, math.pi / 2]
    expected = torch.cat([math.cos(angle) * X + math.sin(angle) * Y for angle in angles])
    torch.testing.assert_close(interpolate(X, Y, 4), expected)
    for a, b, frames in ((X, Y, 1), (torch.cat([X, X]), Y, 3), (X, torch.cat([Y, Y]), 3)):
        with pytest.raises(ValueError, match=r"at least 2 frames|one embed at each end"):
            interpolate(a, b, frames)
