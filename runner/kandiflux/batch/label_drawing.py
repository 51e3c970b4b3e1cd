"""Draws text on pictures: chooses a font that has the characters, and breaks text into lines."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["FRAME", "GROUND", "INK", "MUTED", "fitted", "font_for", "text_lines"]

GROUND, FRAME, INK, MUTED = (250, 250, 248), (222, 222, 218), (28, 28, 30), (110, 110, 112)

# Pillow's default font has Latin characters only. Pillow finds these fonts by name if they are installed.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
)
_NO_CHARACTER = "\uffff"
_MAX_TEXT = 2000
"""Longer texts do not fit on any sheet, and take long to measure."""
_LATIN = 0x17F


def font_for(text: str, size: int) -> FreeTypeFont | ImageFont:
    """Returns Pillow's default font; for other than Latin characters, the first system font that has all of them."""
    from PIL import ImageFont

    characters = frozenset(char for char in text[:_MAX_TEXT] if ord(char) > _LATIN and char not in "…·")
    for name in _SYSTEM_FONTS if characters else ():
        font = _named(name, size)
        if font is not None and _has(font, characters):
            return font
    return ImageFont.load_default(size)


def text_lines(
    draw: ImageDraw.ImageDraw, text: str, font: FreeTypeFont | ImageFont, width: int, max_lines: int
) -> list[str]:
    """Breaks the text into lines of at most `width` pixels, between words if possible."""
    lines: list[str] = []
    rest = _drawable(text)
    while rest and len(lines) < max_lines:
        if len(lines) == max_lines - 1 and draw.textlength(rest, font) > width:
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
    """Returns the text, shortened with … if it is wider than `width` pixels."""
    text = _drawable(text)
    if draw.textlength(text, font) <= width:
        return text
    end = _fitting(draw, text + "…", font, width)
    while end > 0 and draw.textlength(text[:end] + "…", font) > width:
        end -= 1
    return text[:end].rstrip() + "…"


def _drawable(text: str) -> str:
    return " ".join(text[:_MAX_TEXT].split())


def _fitting(draw: ImageDraw.ImageDraw, text: str, font: FreeTypeFont | ImageFont, width: int) -> int:
    """Returns the number of characters that fit, at least 1."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if draw.textlength(text[:middle], font) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def _has(font: FreeTypeFont, characters: Iterable[str]) -> bool:
    missing = _shape(font, _NO_CHARACTER)
    return all(char.isspace() or _shape(font, char) != missing for char in characters)


def _shape(font: FreeTypeFont, char: str) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((4, 4), char, 255, font)
    return image.tobytes()


@lru_cache(maxsize=32)
def _named(name: str, size: int) -> FreeTypeFont | None:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
