"""Cards for workflows whose models are too large to run here: what goes in, and what comes out, as a drawing.

They show no result of a model, and do not pretend to: a landscape of a few flat shapes stands for every picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

Picture = Image.Image
SIDE = 400
_FINE = 4
"""Drawn so many times larger, then scaled down: PIL draws without anti-aliasing."""

_PAPER, _INK, _FAINT = "#f5f2ec", "#2b2f38", "#c9c4b8"
_FAMILIES = {
    "flux": ("FLUX.1", "#3a5f8a"),
    "sd15": ("SD 1.5", "#7a4a6d"),
    "upscale": ("", "#4d6b4a"),
    "kandinsky21": ("Kandinsky 2.1", "#8a4b3a"),
    "kandinsky22": ("Kandinsky 2.2", "#a0622d"),
    "kandinsky3": ("Kandinsky 3", "#93404f"),
}


@dataclass(frozen=True)
class Look:
    """The landscape's colours, from far to near."""

    sky: str
    sun: str
    far: str
    near: str
    tree: str


DAY = Look("#a9d3ea", "#ffd866", "#7fae8e", "#4f8a5b", "#2f5d3f")
DUSK = Look("#f2b28c", "#fff1d0", "#a86f7d", "#70485f", "#43304a")
NIGHT = Look("#27365e", "#f3efd8", "#3a4f7a", "#22304f", "#141d33")
INKED = Look("#efece4", "#b04a3f", "#c3beb2", "#8b867c", "#3d3a36")
DEPTHS = Look("#101010", "#101010", "#4a4a4a", "#909090", "#e8e8e8")
EDGES = Look("#101010", "#101010", "#101010", "#101010", "#101010")


def scene(look: Look = DAY, variant: int = 0, wide: bool = False, tree: bool = True, lines: bool = False) -> Picture:
    """The landscape, 1000 pixels high. `variant` moves sun, hills and tree; `lines` draws outlines, as edges have."""
    width, height = (1800 if wide else 1000), 1000
    picture = Image.new("RGB", (width, height), look.sky)
    draw = ImageDraw.Draw(picture)
    outline = {"outline": "white", "width": 14} if lines else {}
    across = (0.7, 0.3, 0.5, 0.82)[variant % 4] * 1000 + (width - 1000) / 2
    draw.ellipse((across - 110, 140, across + 110, 360), fill=look.sun, **outline)
    for level, swell, phase, colour in ((560, 90, 0.8, look.far), (720, 70, 2.9, look.near)):
        ridge = [(x, level + swell * math.sin(x / 190 + phase + 1.7 * variant)) for x in range(0, width + 1, 10)]
        draw.polygon(
            [(-20, height + 20), (-20, ridge[0][1]), *ridge, (width + 20, ridge[-1][1]), (width + 20, 1020)], colour
        )
        if lines:
            draw.line(ridge, fill="white", width=14, joint="curve")
    if tree:
        foot = (0.3, 0.68, 0.24, 0.5)[variant % 4] * 1000 + (width - 1000) / 2
        for top, half in ((380, 130), (500, 170)):
            draw.polygon([(foot, top), (foot - half, top + 260), (foot + half, top + 260)], fill=look.tree, **outline)
        draw.rectangle((foot - 28, 758, foot + 28, 850), fill=look.tree, **outline)
    return picture


def words(count: int = 6) -> Picture:
    """A prompt: lines that stand for writing."""
    picture = Image.new("RGB", (1000, 1000), "white")
    draw = ImageDraw.Draw(picture)
    for i in range(count):
        right = (880, 780, 850, 640, 820, 430)[i % 6]
        top = 500 + (i - count / 2) * 135
        draw.rounded_rectangle((120, top + 30, right, top + 85), 28, fill=_FAINT if i else _INK)
    return picture


def token() -> Picture:
    """One learnt word among others."""
    picture = words()
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((110, 365, 890, 500), 60, fill="#b04a3f")
    draw.text((500, 432), "embedding", fill="white", font=_font(100), anchor="mm")
    return picture


def hole() -> Picture:
    """The landscape with a masked part, where the tree is to stand."""
    picture = scene(tree=False)
    checks = _checks(picture.size)
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).ellipse((80, 330, 530, 880), fill=255)
    picture.paste(checks, mask=mask)
    return picture


def canvas() -> Picture:
    """The landscape in the middle of a canvas that is still empty beside it."""
    picture = _checks((1800, 1000))
    picture.paste(scene(wide=True).crop((400, 0, 1400, 1000)), (400, 0))
    return picture


def four(*pictures: Picture) -> Picture:
    sheet = Image.new("RGB", (2040, 2040), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (1040 * (i % 2), 1040 * (i // 2)))
    return sheet


def stacked(above: Picture, below: Picture) -> Picture:
    """Two pictures, the one above the other."""
    sheet = Image.new("RGB", (1000, 2060), _PAPER)
    sheet.paste(above, (0, 0))
    sheet.paste(below, (0, 1060))
    return sheet


def coarse(picture: Picture, pixels: int) -> Picture:
    """The picture in so few pixels that they show."""
    return picture.resize((pixels, pixels), Image.Resampling.BOX).resize(picture.size, Image.Resampling.NEAREST)


def framed(picture: Picture, share: float) -> Picture:
    """The picture smaller, in the middle of its place."""
    place = Image.new("RGB", picture.size, _PAPER)
    small = picture.resize((round(picture.width * share), round(picture.height * share)), Image.Resampling.LANCZOS)
    place.paste(small, ((place.width - small.width) // 2, (place.height - small.height) // 2))
    return place


@dataclass(frozen=True)
class Card:
    """What goes in, what comes out, what happens (a word or two on the arrow), and the workflow's name in words."""

    name: str
    source: Callable[[], Picture]
    result: Callable[[], Picture]
    by: str = ""
    wide: bool = False
    """One above the other, for pictures wider than high."""

    def draw(self, family: str) -> Picture:
        """400 × 400 pixels."""
        title, colour = _FAMILIES[family]
        side = SIDE * _FINE
        card = Image.new("RGB", (side, side), _PAPER)
        pen = ImageDraw.Draw(card)
        pen.rectangle((0, side * 0.82, side, side), fill=colour)
        pen.text((side * 0.06, side * 0.91), title, fill="white", font=_font(side * 0.075), anchor="lm")
        right = pen.textlength(title, font=_font(side * 0.075)) + side * (0.1 if title else 0.06)
        room = side * 0.94 - right
        size = min(side * 0.06, side * 0.06 * room / pen.textlength(self.name, font=_font(side * 0.06)))
        pen.text((right, side * 0.915), self.name, fill="white", font=_font(size), anchor="lm")
        if self.wide:
            _panel(card, self.source(), (0.2, 0.04, 0.8, 0.38))
            _panel(card, self.result(), (0.2, 0.45, 0.8, 0.79))
            _arrow(pen, side, (0.5, 0.385), (0.5, 0.445))
        else:
            _panel(card, self.source(), (0.05, 0.12, 0.42, 0.7))
            _panel(card, self.result(), (0.58, 0.12, 0.95, 0.7))
            _arrow(pen, side, (0.445, 0.41), (0.555, 0.41))
        if self.by:
            _pill(pen, side, self.by, 0.09 if not self.wide else 0.415, 0.5 if not self.wide else 0.86, colour)
        return card.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _panel(card: Picture, picture: Picture, place: tuple[float, float, float, float]) -> None:
    """The picture, as large as `place` (shares of the card) allows, in its middle, with round corners."""
    left, top, right, bottom = (round(share * card.width) for share in place)
    scale = min((right - left) / picture.width, (bottom - top) / picture.height)
    fitted = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    corners = Image.new("L", fitted.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, fitted.width - 1, fitted.height - 1), card.width // 60, fill=255)
    card.paste(fitted, ((left + right - fitted.width) // 2, (top + bottom - fitted.height) // 2), corners)


def _arrow(pen: ImageDraw.ImageDraw, side: int, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x, y), (to_x, to_y) = ((a * side, b * side) for a, b in (start, end))
    half = side * 0.025
    along = (half, 0) if to_x > x else (0, half)
    aside = (along[1], along[0])
    pen.line((x, y, to_x - along[0], to_y - along[1]), fill=_INK, width=round(side * 0.014))
    tips = [(to_x - 1.4 * along[0] + s * aside[0], to_y - 1.4 * along[1] + s * aside[1]) for s in (1, -1)]
    pen.polygon([(to_x, to_y), *tips], fill=_INK)


def _pill(pen: ImageDraw.ImageDraw, side: int, text: str, down: float, across: float, colour: str) -> None:
    font = _font(side * 0.045)
    half = pen.textlength(text, font=font) / 2 + side * 0.03
    x, y = across * side, down * side
    x = min(x, side * 0.97 - half)
    pen.rounded_rectangle((x - half, y - side * 0.04, x + half, y + side * 0.04), side * 0.04, fill=colour)
    pen.text((x, y), text, fill="white", font=font, anchor="mm")


def _checks(size: tuple[int, int]) -> Picture:
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for x in range(0, size[0], 100):
        for y in range(x // 100 % 2 * 100, size[1], 200):
            draw.rectangle((x, y, x + 99, y + 99), fill="#d8d4ca")
    return picture


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(round(size))


def _four_of_one() -> Picture:
    return four(*(scene(look, variant) for variant, look in enumerate((DAY, DUSK, INKED, NIGHT))))


def _variations() -> Picture:
    return four(*(scene(DAY, variant) for variant in range(4)))


_TEXT = Card("text to image", words, scene)
_LORA = replace(_TEXT, name="LoRA", result=lambda: scene(INKED), by="LoRA")
_IMAGE = Card("image to image", scene, lambda: scene(DUSK))
_INPAINT = Card("inpainting", hole, scene)
_OUTPAINT = Card("outpainting", canvas, lambda: scene(wide=True), wide=True)
_CANNY = Card("Canny", lambda: scene(EDGES, lines=True), scene)
_DEPTH = Card("Depth", lambda: scene(DEPTHS), scene)
_GRID = Card("four in a grid", words, _four_of_one)
_VARIATIONS = Card("variations", scene, _variations)
_HIRES = Card("two passes", lambda: coarse(scene(), 24), scene, by="2 passes")
_TWO = Card("Kontext, two pictures", lambda: stacked(scene(DAY), scene(NIGHT, 1)), lambda: scene(NIGHT), by="edit")

_MIX = Card("mix of prompts", lambda: stacked(words(3), words(3)), lambda: scene(DUSK), by="mix")
_MIX_BOTH = replace(_MIX, name="text and picture", source=lambda: stacked(words(3), scene(NIGHT, 1)))
_BETWEEN = Card("interpolation", lambda: stacked(words(3), words(3)), _four_of_one, by="from A to B")

CARDS: dict[str, Card] = {
    "flux_dev": replace(_TEXT, name="dev, text to image"),
    "flux_dev_checkpoint": replace(_TEXT, name="dev, one file", by="one file"),
    "flux_schnell": replace(_TEXT, name="schnell, text to image", by="4 steps"),
    "flux_image_to_image": _IMAGE,
    "flux_lora": _LORA,
    "flux_hires": _HIRES,
    "flux_fill_inpaint": replace(_INPAINT, name="Fill, inpainting"),
    "flux_fill_outpaint": replace(_OUTPAINT, name="Fill, outpainting"),
    "flux_redux": Card("Redux, after a picture", scene, lambda: scene(DAY, 1), by="Redux"),
    "flux_redux_mix": Card("Redux, mix", lambda: stacked(scene(DAY), scene(NIGHT, 1)), lambda: scene(DUSK), by="Redux"),
    "flux_variations": replace(_VARIATIONS, name="Redux, variations"),
    "flux_grid": _GRID,
    "flux_canny": _CANNY,
    "flux_canny_lora": replace(_CANNY, by="LoRA"),
    "flux_depth": _DEPTH,
    "flux_depth_lora": replace(_DEPTH, by="LoRA"),
    "flux_kontext": Card("Kontext, edit", scene, lambda: scene(NIGHT), by="edit"),
    "flux_kontext_two": _TWO,
    "sd15_text_to_image": _TEXT,
    "sd15_image_to_image": _IMAGE,
    "sd15_variations": _VARIATIONS,
    "sd15_grid": _GRID,
    "sd15_inpaint": _INPAINT,
    "sd15_outpaint": _OUTPAINT,
    "sd15_lora": _LORA,
    "sd15_textual_inversion": Card("textual inversion", token, scene),
    "sd15_vae": replace(_TEXT, name="separate VAE", by="VAE"),
    "sd15_controlnet": replace(_CANNY, name="ControlNet", by="ControlNet"),
    "sd15_hires_latent": replace(_HIRES, name="hires fix, latent", by="latent"),
    "sd15_hires_upscaler": replace(_HIRES, name="hires fix, upscaler", by="upscaler"),
    **{
        f"kandinsky{version}_{kind}": card
        for kind, card in {
            "text_to_image": _TEXT,
            "flash": replace(_TEXT, name="flash", by="4 steps"),
            "ksampler": replace(_TEXT, name="KSampler", by="KSampler"),
            "image_to_image": _IMAGE,
            "inpaint": _INPAINT,
            "ksampler_inpaint": replace(_INPAINT, name="KSampler, inpainting", by="KSampler"),
            "outpaint": _OUTPAINT,
            "depth": _DEPTH,
            "mix": _MIX,
            "mix_text_and_picture": _MIX_BOTH,
            "interpolation": _BETWEEN,
            "variations": _VARIATIONS,
        }.items()
        for version in ("21", "22", "3")
    },
    "upscale": Card("Upscale a picture", lambda: framed(scene(), 0.4), scene, by="4 times"),
}
"""By the workflow's name, which begins with its family's."""


def draw_card(name: str) -> Picture:
    """The card of the workflow `name`, 400 × 400 pixels. KeyError for one that has none."""
    return CARDS[name].draw(name.split("_")[0])
