"""The nodes that change pictures and masks, on small tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kandiflux.lite.nodes_image import scale
from kandiflux.lite.nodes_transform import CLASSES

IMAGE = torch.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3).float() / 72


def run(kind: str, *inputs: Any, **more: Any) -> Any:
    return CLASSES[kind]().run(*inputs, **more)


def rows(image: torch.Tensor) -> list[list[int]]:
    """The first channel of the first picture, as numbers of IMAGE's pixels."""
    return (image[0, :, :, 0] * 24).round().int().tolist()


def test_inverting() -> None:
    assert torch.equal(run("ImageInvert", IMAGE)[0], 1 - IMAGE)
    assert torch.equal(run("InvertMask", IMAGE[..., 0])[0], 1 - IMAGE[..., 0])


@pytest.mark.parametrize(("by", "size"), [(2.0, (6, 8)), (0.5, (2, 2)), (0.4, (1, 2))])
def test_scaling(by: float, size: tuple[int, int]) -> None:
    (image,) = run("ImageScaleBy", IMAGE, "area", by)
    assert torch.equal(image, scale(IMAGE, size[1], size[0], "area", centre=False))


@pytest.mark.parametrize(
    ("width", "height", "x", "y", "expected"),
    [
        (2, 1, 1, 2, [[9, 10]]),
        (99, 99, 2, 1, [[6, 7], [10, 11]]),
        (99, 99, 99, 0, [[3], [7], [11]]),
        (1, 1, 99, 99, [[11]]),
    ],
)
def test_cropping(width: int, height: int, x: int, y: int, expected: list[list[int]]) -> None:
    (image,) = run("ImageCrop", IMAGE, width, height, x, y)
    assert rows(image) == expected
    assert len(image) == 2


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (("ImageFlip", "x-axis: vertically"), [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]),
        (("ImageFlip", "y-axis: horizontally"), [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8]]),
        (("ImageRotate", "none"), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (("ImageRotate", "90 degrees"), [[8, 4, 0], [9, 5, 1], [10, 6, 2], [11, 7, 3]]),
        (("ImageRotate", "180 degrees"), [[11, 10, 9, 8], [7, 6, 5, 4], [3, 2, 1, 0]]),
        (("ImageRotate", "270 degrees"), [[3, 7, 11], [2, 6, 10], [1, 5, 9], [0, 4, 8]]),
    ],
)
def test_flipping_and_turning(way: tuple[str, str], expected: list[list[int]]) -> None:
    assert rows(run(way[0], IMAGE, way[1])[0]) == expected


def test_batches() -> None:
    (repeated,) = run("RepeatImageBatch", IMAGE, 2)
    assert torch.equal(repeated, torch.cat((IMAGE, IMAGE)))
    for index, length, expected in (
        (0, 1, [0]),
        (1, 5, [1]),
        (0, 9, [0, 1]),
        (7, 1, [1]),
        (-1, 5, [1]),
        (-2, 1, [0]),
        (-5, 1, [0]),
    ):
        (picked,) = run("ImageFromBatch", IMAGE, index, length)
        assert torch.equal(picked, IMAGE[expected])
    (picked,) = run("ImageFromBatch", IMAGE, 0, 1)
    picked += 1
    assert IMAGE.max() < 1, "a copy"


def test_masks() -> None:
    (solid,) = run("SolidMask", 0.25, width=3, height=2)
    assert torch.equal(solid, torch.full((1, 2, 3), 0.25))
    (image,) = run("MaskToImage", IMAGE[0, :, :, 0])
    assert torch.equal(image, IMAGE[:1, :, :, :1].expand(-1, -1, -1, 3))
    (many,) = run("MaskToImage", IMAGE[..., 1])
    assert torch.equal(many, IMAGE[..., 1:2].expand(-1, -1, -1, 3))
    for index, name in enumerate(("red", "green", "blue")):
        assert torch.equal(run("ImageToMask", IMAGE, name)[0], IMAGE[..., index])
    with_alpha = torch.cat((IMAGE, IMAGE[..., :1] + 1), -1)
    assert torch.equal(run("ImageToMask", with_alpha, "alpha")[0], IMAGE[..., 0] + 1)


# Padding


def test_a_picture_is_put_on_a_larger_grey_one() -> None:
    padded, mask = run("ImagePadForOutpaint", IMAGE, 1, 2, 3, 4, 0)
    assert (padded.shape, mask.shape) == ((2, 9, 8, 3), (1, 9, 8))
    assert torch.equal(padded[:, 2:5, 1:5], IMAGE)
    assert torch.equal(mask[0, 2:5, 1:5], torch.zeros(3, 4))
    padded[:, 2:5, 1:5] = 0.5
    mask[0, 2:5, 1:5] = 1
    assert (padded == 0.5).all()
    assert (mask == 1).all()


def line(sides: tuple[int, int, int, int], feathering: int, size: int = 9) -> tuple[list[float], list[float]]:
    """The mask along the middle row, and along the middle column, of what was there before."""
    _, mask = run("ImagePadForOutpaint", torch.zeros(1, size, size, 3), *sides, feathering)
    left, top = sides[:2]
    inner = mask[0, top : top + size, left : left + size]
    middle = size // 2
    return [[round(value * 16, 3) for value in each.tolist()] for each in (inner[middle], inner[:, middle])]  # type: ignore[return-value]


FLAT = [0.0] * 9
FROM_LEFT = [16.0, 9.0, 4.0, 1.0, *[0.0] * 5]
FROM_RIGHT = [*[0.0] * 6, 1.0, 4.0, 9.0]


@pytest.mark.parametrize(
    ("sides", "row", "column"),
    [
        ((5, 0, 0, 0), FROM_LEFT, FLAT),
        ((0, 5, 0, 0), FLAT, FROM_LEFT),
        ((0, 0, 5, 0), FROM_RIGHT, FLAT),
        ((0, 0, 0, 5), FLAT, FROM_RIGHT),
        ((0, 0, 0, 0), FLAT, FLAT),
        ((1, 0, 1, 0), [a + b for a, b in zip(FROM_LEFT, FROM_RIGHT, strict=True)], FLAT),
        ((0, 1, 0, 1), FLAT, [a + b for a, b in zip(FROM_LEFT, FROM_RIGHT, strict=True)]),
    ],
)
def test_the_inner_edges_are_soft(sides: tuple[int, int, int, int], row: list[float], column: list[float]) -> None:
    assert line(sides, 4) == [row, column]


def test_a_corner_takes_the_nearer_side() -> None:
    _, mask = run("ImagePadForOutpaint", torch.zeros(1, 9, 9, 3), 3, 3, 0, 0, 4)
    inner = mask[0, 3:, 3:] * 16
    assert inner[0].tolist() == [16] * 9
    assert inner[2].tolist() == [16, 9, 4, 4, 4, 4, 4, 4, 4]
    assert inner[:, 2].tolist() == [16, 9, 4, 4, 4, 4, 4, 4, 4]


def test_a_picture_too_small_for_the_feathering_has_hard_edges() -> None:
    assert line((5, 0, 0, 0), 5) == [FLAT, FLAT]
    assert line((5, 0, 0, 0), 4)[0][0] == 16.0
    assert line((5, 0, 0, 0), 4, size=8) == [[0.0] * 8] * 2


# Values
