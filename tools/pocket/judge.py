"""Says what a picture shows, by plain measurements: which shape, in which colour, on which background.

Nothing here is learned, and nothing is guessed: what can't be told is `NONE`. Needs numpy and Pillow only.

The colour of the border is the background. What differs from it must be one blob of one colour. Its shape is its
radial profile, the distance from the middle to the outline in each direction, compared with those of the ideal shapes
in every rotation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .subjects import COLOURS, SHAPES, STAR_INNER, Triple

NONE = "none"

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# RGB distances in [0, 1]. The two nearest colours of the palette are 0.41 apart, so within half of that a colour can be
# only one of them; a little more is allowed, for a picture a little pale or dark.
COLOUR_REACH = 0.25
FOREGROUND_DIFFERENCE = 0.2
# Of the picture. The drawn shapes cover 9 to 25 %.
MIN_AREA, MAX_AREA = 0.03, 0.5
# Parts of the foreground, or of the border.
MIN_LARGEST_BLOB = 0.93
MAX_OTHER_COLOURS = 0.12
MAX_HOLES = 0.05
MIN_PLAIN_BORDER = 0.85
# Profiles are in units of their mean. The square is 0.09 from the circle, a hexagon 0.04, a pentagon 0.06; a blurred
# star strays farthest from its ideal, and has nothing near it.
MAX_SHAPE_ERROR = {"circle": 0.035, "square": 0.055, "triangle": 0.065, "star": 0.075}
MIN_SHAPE_MARGIN = 1.4
DIRECTIONS = 180


@dataclass(frozen=True)
class Verdict:
    """What was seen; each of shape, colour and background is a name or `NONE`.

    Errors are distances to the nearest palette colour (RGB in [0, 1]) and to the nearest ideal profile (parts of its
    mean radius); shape_margin is how many times farther the second nearest shape is. area is the foreground's part of
    the picture. unclear says why a value is `NONE`.
    """

    shape: str
    colour: str
    background: str
    shape_error: float = math.inf
    shape_margin: float = 1.0
    colour_error: float = math.inf
    background_error: float = math.inf
    area: float = 0.0
    unclear: tuple[str, ...] = ()

    def right(self, wanted: Triple) -> bool:
        return (self.shape, self.colour, self.background) == tuple(wanted)


def judge(image: NDArray[Any]) -> Verdict:
    """Judge one picture, [H, W, 3], uint8 or floats in [0, 1].

    Meant for sides of 64 to 256. Raises ValueError for another layout or for values that are not finite.
    """
    pixels = _despeckled(image)
    border = _border(pixels)
    ground = np.median(border, axis=0)
    background, background_error = _nearest_colour(ground)
    plain = float(np.mean(np.linalg.norm(border - ground, axis=1) < FOREGROUND_DIFFERENCE))
    if plain < MIN_PLAIN_BORDER:
        return Verdict(NONE, NONE, NONE, background_error=background_error, unclear=("the border is not one colour",))
    unclear = [] if background != NONE else ["the background is none of the colours"]

    def verdict(shape: str = NONE, colour: str = NONE, **measured: float) -> Verdict:
        return Verdict(shape, colour, background, background_error=background_error, unclear=tuple(unclear), **measured)

    different = np.linalg.norm(pixels - ground, axis=2) > FOREGROUND_DIFFERENCE
    if different.mean() < MIN_AREA:
        unclear.append("nothing on the background, or too little")
        return verdict(area=float(different.mean()))

    # Blurred edges pull the first guess towards the background; the pixels well inside do not.
    guess = np.median(pixels[different], axis=0)
    inside = _eroded(_coverage(pixels, ground, guess) > 0.5)
    front = np.median(pixels[inside], axis=0) if inside.any() else guess
    coverage = _coverage(pixels, ground, front)
    mask = coverage > 0.5
    area = float(mask.mean())
    colour, colour_error = _nearest_colour(front)
    if colour == NONE:
        unclear.append("the foreground is none of the colours")
    elif colour == background:
        colour = NONE
        unclear.append("the foreground and the background are the same colour")

    off = _off_line(pixels, ground, front) & different
    if off.sum() > MAX_OTHER_COLOURS * mask.sum():
        unclear.append("more than two colours")
        return verdict(area=area, colour_error=colour_error)
    blob = _largest_blob(mask)
    problem = _blob_problem(mask, blob)
    if problem:
        unclear.append(problem)
        return verdict(colour=colour, area=area, colour_error=colour_error)

    shape, error, margin = _nearest_shape(_profile(np.where(_dilated(blob), coverage, 0.0)))
    if shape == NONE:
        unclear.append("the outline is none of the shapes")
    return verdict(shape, colour, shape_error=error, shape_margin=margin, area=area, colour_error=colour_error)


# --- Colours ---------------------------------------------------------------------------------------------------------


def _despeckled(image: NDArray[Any]) -> Floats:
    """[H, W, 3] in [0, 1] with single odd pixels gone."""
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a picture [H, W, 3], got shape {list(image.shape)}")
    if image.dtype != np.uint8:
        if not np.isfinite(image).all():
            raise ValueError("expected finite pixels, got NaN or infinity")
        image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    smooth = Image.fromarray(image).filter(ImageFilter.MedianFilter(3))
    return np.asarray(smooth, dtype=np.float64) / 255


def _border(pixels: Floats) -> Floats:
    """[N, 3] pixels of the frame, a sixty-fourth of the side wide."""
    wide = max(1, min(pixels.shape[:2]) // 64)
    sides = (pixels[:wide], pixels[-wide:], pixels[:, :wide], pixels[:, -wide:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def _nearest_colour(colour: Floats) -> tuple[str, float]:
    distances = {name: float(np.linalg.norm(colour - np.array(rgb))) for name, rgb in COLOURS.items()}
    name = min(distances, key=lambda name: distances[name])
    return (name if distances[name] <= COLOUR_REACH else NONE), distances[name]


def _coverage(pixels: Floats, ground: Floats, front: Floats) -> Floats:
    """[H, W] how far each pixel is on the way from the background's colour (0) to the foreground's (1)."""
    way = front - ground
    return np.clip((pixels - ground) @ way / max(float(way @ way), 1e-9), 0, 1)


def _off_line(pixels: Floats, ground: Floats, front: Floats) -> Mask:
    """[H, W] pixels that are no mixture of the two colours."""
    mixture = ground + _coverage(pixels, ground, front)[..., None] * (front - ground)
    return np.linalg.norm(pixels - mixture, axis=2) > FOREGROUND_DIFFERENCE


# --- Blobs -----------------------------------------------------------------------------------------------------------


def _dilated(mask: Mask) -> Mask:
    """`mask` and the four neighbours of its pixels."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _eroded(mask: Mask) -> Mask:
    return ~_dilated(~mask)


def _flooded(seed: Mask, mask: Mask) -> Mask:
    """What of `mask` hangs together with `seed`."""
    reached = seed & mask
    while True:
        grown = _dilated(reached) & mask
        if (grown == reached).all():
            return reached
        reached = grown


def _largest_blob(mask: Mask) -> Mask:
    """The largest connected part, or one of the first few of a mask in shreds."""
    rest, largest = mask.copy(), np.zeros_like(mask)
    for _ in range(8):
        if rest.sum() <= largest.sum():
            break
        seed = np.zeros_like(mask)
        seed.flat[int(rest.argmax())] = True
        blob = _flooded(seed, rest)
        rest &= ~blob
        if blob.sum() > largest.sum():
            largest = blob
    return largest


def _blob_problem(mask: Mask, blob: Mask) -> str | None:
    """Why `blob` can't be the one shape of the picture, or None."""
    frame = np.ones_like(mask)
    frame[1:-1, 1:-1] = False
    if blob.sum() < MIN_LARGEST_BLOB * mask.sum():
        return "several blobs"
    if not MIN_AREA <= blob.mean() <= MAX_AREA:
        return "the blob is too small or too large"
    if (~blob & ~_flooded(frame, ~blob)).sum() > MAX_HOLES * blob.sum():
        return "the blob has a hole"
    return None


# --- Shapes ----------------------------------------------------------------------------------------------------------


def _profile(coverage: Floats) -> Floats:
    """[DIRECTIONS] radius in each direction from the centroid, divided by their mean.

    A radius is the sum of the coverage along the ray, which a blurred edge leaves as it is.
    """
    height, width = coverage.shape
    ys, xs = np.mgrid[:height, :width]
    total = coverage.sum()
    cy, cx = float((ys * coverage).sum() / total), float((xs * coverage).sum() / total)
    angle = np.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
    step = 0.25
    along = np.arange(step / 2, math.hypot(height, width), step)
    y, x = cy - np.cos(angle)[:, None] * along, cx + np.sin(angle)[:, None] * along
    within = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = np.minimum(y.astype(int), height - 2), np.minimum(x.astype(int), width - 2)
    fy, fx = y - top, x - left
    upper = coverage[top, left] * (1 - fx) + coverage[top, left + 1] * fx
    lower = coverage[top + 1, left] * (1 - fx) + coverage[top + 1, left + 1] * fx
    radius = (np.where(within, upper * (1 - fy) + lower * fy, 0.0)).sum(axis=1) * step
    return radius / radius.mean()


def _ideal_profile(tips: int, inner: float) -> Floats:
    """[DIRECTIONS] of a ring of `tips` corners with others at `inner` of their radius half-way between them."""
    half = math.pi / tips
    angle = np.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
    folded = np.abs((angle + half) % (2 * half) - half)
    # The line from (1, 0) to the inner corner, in polar coordinates.
    x, y = inner * math.cos(half), inner * math.sin(half)
    radius = y / (y * np.cos(folded) + (1 - x) * np.sin(folded))
    return radius / radius.mean()


@cache
def _ideal_spectra() -> tuple[tuple[str, NDArray[np.complex128]], ...]:
    """Spectra of the ideal profiles less 1, with some of softened corners: a small picture has no sharp ones."""
    polygons = {
        "square": ((4, math.cos(math.pi / 4)),),
        "triangle": ((3, math.cos(math.pi / 3)),),
        "star": ((5, STAR_INNER), (5, STAR_INNER + 0.06), (5, STAR_INNER - 0.06)),
    }
    frequency = np.abs(np.fft.fftfreq(DIRECTIONS, 1 / DIRECTIONS))
    spectra = [("circle", np.zeros(DIRECTIONS, dtype=np.complex128))]
    for shape, rings in polygons.items():
        for tips, inner in rings:
            for softness in (0.0, 0.05, 0.09):
                damping = np.exp(-0.5 * (softness * frequency) ** 2)
                spectra.append((shape, np.fft.fft(_ideal_profile(tips, inner) - 1) * damping))
    return tuple(spectra)


def _nearest_shape(profile: Floats) -> tuple[str, float, float]:
    """(shape or NONE, RMS distance to its ideal profile in the best rotation, the second shape's distance over it)."""
    spectrum = np.fft.fft(profile - 1)
    errors = dict.fromkeys(SHAPES, math.inf)
    for shape, ideal in _ideal_spectra():
        # |p - t|² = |p|² + |t|² - 2 p·t, and p·t in every rotation is one correlation.
        product = np.fft.ifft(spectrum * ideal.conj()).real.max()
        power = float((np.abs(spectrum) ** 2).sum() + (np.abs(ideal) ** 2).sum()) / DIRECTIONS
        errors[shape] = min(errors[shape], math.sqrt(max(power - 2 * product, 0.0) / DIRECTIONS))
    (error, shape), (second, _), *_ = sorted((error, shape) for shape, error in errors.items())
    margin = second / max(error, 1e-6)
    return (shape if error <= MAX_SHAPE_ERROR[shape] and margin >= MIN_SHAPE_MARGIN else NONE), error, margin
