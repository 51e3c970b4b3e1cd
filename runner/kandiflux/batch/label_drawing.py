"""Text on pictures: a font that has the letters, lines that fit."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["FRAME", "GROUND", "INK", "MUTED", "fitted", "font_for", "text_lines"]

GROUND, FRAME, INK, MUTED = (250, 250, 248), (222, 222, 218), (28, 28, 30), (110, 110, 112)

# Pillow's own font has Latin letters only; Pillow finds these by name where the system has them.
_WIDER = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
)
_NO_LETTER = "\uffff"
_LONGEST_TEXT = 2000
"""More letters do not fit on any sheet."""
_LATIN = 0x17F


def font_for(text: str, size: int) -> FreeTypeFont | ImageFont:
    """Pillow's own font; for letters that are not Latin the first of the system's that has them all."""
    from PIL import ImageFont

    letters = frozenset(letter for letter in text[:_LONGEST_TEXT] if ord(letter) > _LATIN and letter not in "…·")
    for name in _WIDER if letters else ():
        font = _named(name, size)
        if font is not None and _has(font, letters):
            return font
    return ImageFont.load_default(size)


def text_lines(
    draw: ImageDraw.ImageDraw, text: str, font: FreeTypeFont | ImageFont, width: int, most: int
) -> list[str]:
    """The text broken into at most `most` lines of `width` pixels, between words if possible."""
    lines: list[str] = []
    rest = _drawable(text)
    while rest and len(lines) < most:
        if len(lines) == most - 1 and draw.textlength(rest, font) > width:
            lines.append(fitted(draw, rest, font, width))
            break
        end = _fitting(draw, rest, font, width)
        space = rest.rfind(" ", 0, end + 1)
        if end < len(rest) and space > 0:
            end = space
        lines.append(rest[:end].strip())
        rest = rest[end:].strip()
    return lines


def fitted(draw: ImageDraw.ImageDraw, text: str, font: FreeTypeFont | ImageFont, width: int) -> str:
    """The text, shortened with … if it is wider than `width` pixels."""
    text = _drawable(text)
    if draw.textlength(text, font) <= width:
        return text
    end = _fitting(draw, text + "…", font, width)
    while end > 0 and draw.textlength(text[:end] + "…", font) > width:
        end -= 1
    return text[:end].rstrip() + "…"


def _drawable(text: str) -> str:
    """The text on one line, of a length that can be measured in good time."""
    return " ".join(text[:_LONGEST_TEXT].split())


def _fitting(draw: ImageDraw.ImageDraw, text: str, font: FreeTypeFont | ImageFont, width: int) -> int:
    """How many letters fit, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if draw.textlength(text[:middle], font) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def _has(font: FreeTypeFont, letters: Iterable[str]) -> bool:
    missing = _shape(font, _NO_LETTER)
    return all(letter.isspace() or _shape(font, letter) != missing for letter in letters)


def _shape(font: FreeTypeFont, letter: str) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((4, 4), letter, 255, font)
    return image.tobytes()


@lru_cache(maxsize=32)
def _named(name: str, size: int) -> FreeTypeFont | None:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
