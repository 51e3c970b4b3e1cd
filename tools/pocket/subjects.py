"""What the pictures may show, and which combinations are kept from training. Needs nothing but Python."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

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
