"""Drawn training pictures: one shape in one colour on a plain background of another colour.

Lengths are in units of the picture's side and y points down, so a scene is the same picture at every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .subjects import COLOUR_NAMES, COLOURS, HELD_OUT, SHAPES, STAR_INNER, TRAINED, TRIPLES, Triple

__all__ = [
    "COLOURS",
    "COLOUR_NAMES",
    "HELD_OUT",
    "SHAPES",
    "TRAINED",
    "TRIPLES",
    "Scenes",
    "Triple",
    "draw",
    "sample_scenes",
    "signed_distance",
]

# Of the circle with the same area, so that size says nothing about shape.
MIN_RADIUS, MAX_RADIUS = 0.17, 0.28
MAX_ROTATION = math.radians(15)
MARGIN = 0.03


@dataclass(frozen=True)
class Scenes:
    """A batch of B scenes; indices are into `SHAPES` and `COLOUR_NAMES`.

    shape, colour, background: [B] int64. centre: [B, 2] (x, y). radius: [B], of the circle with the shape's area.
    rotation: [B], radians, clockwise. jitter: [B, 2, 3], added to the colours of the shape and of the background.
    """

    shape: Tensor
    colour: Tensor
    background: Tensor
    centre: Tensor
    radius: Tensor
    rotation: Tensor
    jitter: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: slice | Tensor) -> Scenes:
        return Scenes(**{name: value[index] for name, value in vars(self).items()})

    @property
    def triples(self) -> list[Triple]:
        rows = zip(self.shape.tolist(), self.colour.tolist(), self.background.tolist(), strict=True)
        return [Triple(SHAPES[s], COLOUR_NAMES[c], COLOUR_NAMES[b]) for s, c, b in rows]


# Each polygon is a ring of `tips` corners with a second ring between them, at `inner` of the outer radius: for the
# regular ones the middle of the side. Turn: from "corner up" to upright. The circle's row is a placeholder.
_TIPS = torch.tensor([4.0, 4.0, 3.0, 5.0])
_INNER = torch.tensor([1.0, math.cos(math.pi / 4), math.cos(math.pi / 3), STAR_INNER])
_TURN = torch.tensor([0.0, math.pi / 4, 0.0, 0.0])


def _circumradius(shape: Tensor, radius: Tensor) -> Tensor:
    """[B] radius of the enclosing circle of shapes with the area of a circle of `radius`."""
    tips, inner = _TIPS[shape], _INNER[shape]
    polygon = radius * torch.sqrt(math.pi / (tips * inner * torch.sin(math.pi / tips)))
    return torch.where(shape == 0, radius, polygon)


def signed_distance(scenes: Scenes, size: int) -> Tensor:
    """[B, size, size] distance of each pixel's centre to the outline, negative inside, in units of the side."""
    device = scenes.centre.device
    shape = scenes.shape.cpu()
    tips, inner, turn = (table[shape].to(device)[:, None, None] for table in (_TIPS, _INNER, _TURN))
    outer = _circumradius(shape, scenes.radius.cpu()).to(device)[:, None, None]

    axis = (torch.arange(size, device=device) + 0.5) / size
    x = axis[None, None, :] - scenes.centre[:, 0, None, None]
    y = axis[None, :, None] - scenes.centre[:, 1, None, None]
    length = torch.sqrt(x * x + y * y)

    # A ring of equal corners repeats: fold every point into the half sector between a corner and the next inner
    # corner, where the outline is one segment.
    half = math.pi / tips
    angle = torch.atan2(x, -y) - scenes.rotation[:, None, None] - turn
    folded = (torch.remainder(angle + half, 2 * half) - half).abs()
    px, py = length * torch.cos(folded), length * torch.sin(folded)
    edge_x, edge_y = outer * (inner * torch.cos(half) - 1), outer * inner * torch.sin(half)
    rx, ry = px - outer, py
    along = ((rx * edge_x + ry * edge_y) / (edge_x * edge_x + edge_y * edge_y)).clamp(0, 1)
    distance = torch.hypot(rx - along * edge_x, ry - along * edge_y)
    polygon = torch.where(edge_x * ry - edge_y * rx > 0, -distance, distance)
    return torch.where((scenes.shape == 0)[:, None, None], length - outer, polygon)


def draw(scenes: Scenes, size: int) -> Tensor:
    """Anti-aliased pictures, [B, 3, size, size] float32 in [0, 1], on the scenes' device."""
    palette = torch.tensor(list(COLOURS.values()), device=scenes.centre.device)
    colours = torch.stack([palette[scenes.colour], palette[scenes.background]], dim=1)
    front, back = (colours + scenes.jitter).clamp(0, 1)[:, :, :, None, None].unbind(1)
    coverage = (0.5 - signed_distance(scenes, size) * size).clamp(0, 1)[:, None]
    return back + (front - back) * coverage


def sample_scenes(
    n: int,
    generator: torch.Generator | None = None,
    triples: Sequence[Triple] = TRAINED,
    *,
    jitter: float = 0.0,
    device: torch.device | str = "cpu",
) -> Scenes:
    """`n` scenes of `triples` drawn with replacement, at random places and sizes, wholly inside the picture.

    `jitter` is the standard deviation of the change of each colour channel (0.02 is hardly visible). The random numbers
    are always drawn on the CPU: a seed gives the same scenes on every device.
    """
    table = torch.tensor([(SHAPES.index(s), COLOUR_NAMES.index(c), COLOUR_NAMES.index(b)) for s, c, b in triples])
    shape, colour, background = table[torch.randint(len(table), (n,), generator=generator)].unbind(1)
    radius = MIN_RADIUS + (MAX_RADIUS - MIN_RADIUS) * torch.rand(n, generator=generator)
    rotation = (2 * torch.rand(n, generator=generator) - 1) * MAX_ROTATION
    room = _circumradius(shape, radius)[:, None] + MARGIN
    centre = room + (1 - 2 * room) * torch.rand(n, 2, generator=generator)
    noise = torch.randn(n, 2, 3, generator=generator) * jitter
    tensors = (shape, colour, background, centre, radius, rotation, noise)
    return Scenes(*(tensor.to(device) for tensor in tensors))
