"""Pictures and masks on their way to the networks and back."""

from __future__ import annotations

import pytest
import torch

from nodes.images import (
    crop_and_resize,
    for_image_encoder,
    for_keep_mask,
    for_soft_mask,
    from_movq,
    pad_for_outpaint,
    to_pil,
)
from nodes.models.loader import ImageProcessorConfig

PLAIN = ImageProcessorConfig(4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_values_are_rounded_and_kept_in_range() -> None:
    values = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.5])
    (picture,) = to_pil(values[None, None, :, None].expand(1, 1, 6, 3))
    assert list(picture.tobytes()[::3]) == [0, 0, 0, 1, 255, 255]
    assert picture.size == (6, 1)


def test_alpha_is_dropped_and_other_shapes_are_refused() -> None:
    rgba = torch.rand(2, 3, 5, 4)
    assert [picture.mode for picture in to_pil(rgba)] == ["RGB", "RGB"]
    assert [p.tobytes() for p in to_pil(rgba)] == [p.tobytes() for p in to_pil(rgba[..., :3])]
    for shape in ((3, 5, 3), (1, 3, 5, 2), (1, 3, 5, 1)):
        with pytest.raises(ValueError, match="Expected an IMAGE of shape"):
            to_pil(torch.zeros(shape))


@pytest.mark.parametrize(("height", "width"), [(4, 10), (10, 4)])
def test_the_image_encoder_sees_the_middle(height: int, width: int) -> None:
    image = torch.zeros(1, height, width, 3)
    image[:, :, 3:7] = 1 if width > height else 0
    if height > width:
        image[:, 3:7] = 1
    assert for_image_encoder(image, PLAIN).min() == 1
    assert for_image_encoder(image, PLAIN).shape == (1, 3, 4, 4)


def test_the_image_encoder_gets_normalised_channels() -> None:
    image = torch.tensor([0.2, 0.4, 1.0]).expand(1, 4, 4, 3)
    config = ImageProcessorConfig(4, (0.2, 0.2, 0.5), (1.0, 0.5, 0.25))
    seen = for_image_encoder(image, config)[0, :, 0, 0]
    torch.testing.assert_close(seen, torch.tensor([0.0, 0.4, 2.0]))


def test_a_picture_is_resized_and_what_movq_gives_is_a_picture() -> None:
    image = torch.tensor([0.0, 1.0, 0.2]).expand(1, 8, 8, 3)
    assert crop_and_resize(image, 4, 2).shape == (1, 2, 4, 3)
    torch.testing.assert_close(crop_and_resize(image, 4, 2)[0, 0, 0], torch.tensor([0.0, 1.0, 0.2]))
    torch.testing.assert_close(from_movq(image.movedim(-1, 1) * 2 - 1), image)
    assert from_movq(torch.tensor([-3.0, 3.0, 0.0])[None, :, None, None]).flatten().tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("size", [(8, 16), (16, 8), (9, 16), (8, 8)])
def test_what_has_other_proportions_is_cut_in_the_middle_and_not_squeezed(size: tuple[int, int]) -> None:
    """A picture and its mask in the same way."""
    short = min(size)
    top, left = ((side - short) // 2 for side in size)
    image, mask = torch.zeros(1, *size, 3), torch.zeros(1, *size)
    image[:, top : top + short, left : left + short] = mask[:, top : top + short, left : left + short] = 1
    assert crop_and_resize(image, 8, 8).min() == 1
    assert for_keep_mask(mask, 8, 8).min() == 1
    assert for_soft_mask(mask, 8, 8).min() == 1
    assert crop_and_resize(torch.rand(1, 100, 60, 3), 48, 16).shape == (1, 16, 48, 3)
    assert crop_and_resize(torch.rand(1, 1, 300, 3), 8, 64).shape == (1, 64, 8, 3)


def test_a_mask_may_come_without_a_batch_and_is_resized() -> None:
    mask = torch.zeros(6, 4)
    mask[3:] = 1
    kept = for_keep_mask(mask, 4, 6)
    assert torch.equal(kept, mask[None, None])
    assert torch.equal(for_keep_mask(mask[None] * 2 - 0.5, 4, 6), kept)  # values out of 0..1 are clamped
    assert for_keep_mask(mask.expand(2, -1, -1), 8, 12).shape == (2, 1, 12, 8)
    with pytest.raises(ValueError, match=r"Expected a MASK of shape .* got \[1, 1, 6, 4\]"):
        for_keep_mask(mask[None, None], 4, 6)


@pytest.mark.parametrize(
    ("sides", "size", "place"),
    [
        # (left, top, right, bottom): what is missing to a multiple of 8 goes where more is added, else right or bottom
        ((0, 0, 0, 0), (8, 16), (0, 0)),
        ((3, 0, 0, 0), (8, 24), (0, 8)),
        ((0, 0, 3, 0), (8, 24), (0, 0)),
        ((2, 5, 2, 1), (16, 24), (7, 2)),
        ((8, 0, 0, 16), (24, 24), (0, 8)),
    ],
)
def test_room_is_added_up_to_a_multiple(
    sides: tuple[int, int, int, int], size: tuple[int, int], place: tuple[int, int]
) -> None:
    image = torch.rand(1, 8, 16, 3)
    grown, mask = pad_for_outpaint(image, sides, 0, 8)
    assert grown.shape[1:3] == mask.shape[1:] == size
    top, left = place
    assert torch.equal(grown[:, top : top + 8, left : left + 16], image)
    assert (mask == 0).sum() == 8 * 16
    assert mask[:, top : top + 8, left : left + 16].max() == 0


@pytest.mark.parametrize("side", range(4))
def test_the_mask_fades_from_each_side_that_grows(side: int) -> None:
    sides = [0, 0, 0, 0]
    sides[side] = 8
    _, mask = pad_for_outpaint(torch.rand(1, 8, 8, 3), (sides[0], sides[1], sides[2], sides[3]), 4, 8)
    line = mask[0, 0] if side in (0, 2) else mask[0, :, 0]
    from_new = line if side < 2 else line.flip(0)
    torch.testing.assert_close(from_new[:13], torch.tensor([1.0] * 8 + [0.875, 0.625, 0.375, 0.125, 0.0]))


def test_negative_room_and_feather_are_refused() -> None:
    for sides, feather in (((0, 0, 0, -1), 0), ((0, 0, 0, 0), -1)):
        with pytest.raises(ValueError, match="of 0 or more"):
            pad_for_outpaint(torch.rand(1, 8, 8, 3), sides, feather, 8)
