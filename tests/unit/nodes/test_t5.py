"""T5's parts that have no size: buckets of distances, and weights in eight bits."""

from __future__ import annotations

import pytest
import torch

from nodes.models.t5 import FP8, FP8_MAX, relative_position_bucket, to_fp8


def test_near_distances_have_a_bucket_each_and_far_ones_share() -> None:
    """As T5's: 32 buckets, half for keys behind; up to 7 exact, then wider and wider, all from 128 on in the last."""
    expected = {0: 0, -1: 1, -7: 7, -8: 8, -11: 8, -12: 9, -16: 10, -90: 14, -91: 15, -127: 15, -128: 15, -5000: 15}
    distances = torch.tensor(list(expected))
    assert relative_position_bucket(distances, 32, 128).tolist() == list(expected.values())
    behind = [0 if distance == 0 else bucket + 16 for distance, bucket in expected.items()]
    assert relative_position_bucket(-distances, 32, 128).tolist() == behind


def test_buckets_are_as_transformers_has_them() -> None:
    attention = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    distances = torch.arange(-300, 301)
    for buckets, farthest in ((32, 128), (8, 20)):
        theirs = attention._relative_position_bucket(distances, True, buckets, farthest)
        assert torch.equal(relative_position_bucket(distances, buckets, farthest), theirs)


@pytest.mark.parametrize("rows", [1, 5, 3000])
def test_eight_bits_with_a_scale_for_each_row(rows: int) -> None:
    weight = torch.randn(rows, 700) * torch.logspace(-6, 4, rows)[:, None]
    weight[-1] = 0
    stored, scale = to_fp8(weight)
    assert (stored.dtype, stored.shape, scale.shape) == (FP8, weight.shape, (rows, 1))
    largest = weight.abs().amax(1, keepdim=True)
    # The largest of each row is the largest there is in eight bits; three bits behind the first are kept.
    torch.testing.assert_close(scale[:-1] * FP8_MAX, largest[:-1])
    assert ((stored.float() * scale - weight).abs() <= weight.abs() / 16 + largest * 2e-5).all()
