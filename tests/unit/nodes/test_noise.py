"""Noise by seeds."""

from __future__ import annotations

import pytest
import torch

from nodes.pipelines import row_seeds
from nodes.sampling.noise import seeded_noise


def test_each_row_has_the_noise_of_its_own_seed() -> None:
    batch = seeded_noise(row_seeds(40, 5))
    alone = [seeded_noise([seed]) for seed in (40, 41, 42, 43, 44)]
    for shape in ((4, 2, 2), (3,)):  # the second draw goes on from the first
        drawn = batch((5, *shape))
        assert torch.equal(drawn, torch.cat([noise((1, *shape)) for noise in alone]))
    assert len({float(row.flatten()[0]) for row in drawn}) == 5


def test_seeds_go_on_from_0_after_the_largest() -> None:
    assert row_seeds(2**64 - 2, 4) == [2**64 - 2, 2**64 - 1, 0, 1]


def test_noise_is_float32_and_for_as_many_rows_as_seeds() -> None:
    assert seeded_noise([1])((1, 2)).dtype == torch.float32
    with pytest.raises(ValueError, match=r"Expected noise for 2 rows, one for each seed; got the shape \(3, 4\)"):
        seeded_noise([1, 2])((3, 4))
