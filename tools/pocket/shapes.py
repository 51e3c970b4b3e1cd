"""Drawn training pictures: one shape in one colour on a plain background of another colour.

Lengths are in units of the picture's side and y points down, so a scene is the same picture at every size.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star")

# No two are nearer than 0.4 in RGB: orange keeps its distance from red and yellow, purple from red and blue, and
# black and white stay a little inside the range so that jitter can go both ways.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.06, 0.10),
    "green": (0.10, 0.62, 0.20),
    "blue": (0.10, 0.24, 0.86),
    "yellow": (0.98, 0.92, 0.12),
    "purple": (0.54, 0.14, 0.66),
    "orange": (0.98, 0.51, 0.04),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.04),
}
COLOUR_NAMES: tuple[str, ...] = tuple(COLOURS)

# The inner corners of the star at this part of its outer radius: a little fatter than the pentagram (0.38), so that
# the arms survive a small picture.
STAR_INNER = 0.42
# Of the circle with the same area, so that size says nothing about shape.
MIN_RADIUS, MAX_RADIUS = 0.17, 0.28
MAX_ROTATION = math.radians(15)
MARGIN = 0.03


class Triple(NamedTuple):
    """What a picture shows, in the English names of `SHAPES` and `COLOURS`."""

    shape: str
    colour: str
    background: str


TRIPLES: tuple[Triple, ...] = tuple(
    Triple(shape, colour, background)
    for shape, colour, background in itertools.product(SHAPES, COLOUR_NAMES, COLOUR_NAMES)
    if colour != background
)


def split(triples: Sequence[Triple], held_out: int, seed: int) -> tuple[tuple[Triple, ...], tuple[Triple, ...]]:
    """Part `triples` into (held out, trained), each in the order of `triples`.

    Always takes the triple whose values have been taken least, so each shape, colour and background is held out about
    equally often, and no pair of values so often that training would never see it.
    """
    order = list(triples)
    random.Random(seed).shuffle(order)
    taken: Counter[tuple[tuple[int, str], ...]] = Counter()

    def parts(triple: Triple, size: int) -> list[tuple[tuple[int, str], ...]]:
        return list(itertools.combinations(enumerate(triple), size))

    def cost(triple: Triple) -> tuple[int, int, int, int]:
        ones, twos = ([taken[part] for part in parts(triple, size)] for size in (1, 2))
        # There are half as many shapes as colours: each is due twice as often.
        weighted = [ones[0], 2 * ones[1], 2 * ones[2]]
        return max(weighted), sum(weighted), max(twos), sum(twos)

    chosen: set[Triple] = set()
    for _ in range(held_out):
        best = min((triple for triple in order if triple not in chosen), key=cost)
        chosen.add(best)
        taken.update(parts(best, 1) + parts(best, 2))
    return (
        tuple(triple for triple in triples if triple in chosen),
        tuple(triple for triple in triples if triple not in chosen),
    )


HELD_OUT, TRAINED = split(TRIPLES, held_out=45, seed=22)


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
