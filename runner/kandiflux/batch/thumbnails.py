"""Makes thumbnails of saved pictures, for sheets and reports."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kandiflux.batch.label_drawing import FRAME, GROUND, MUTED, font_for, text_lines
from kandiflux.batch.ledger import Ledger, Saved

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "THUMBNAIL", "fitted_size", "open_picture", "thumbnail"]

THUMBNAIL = 256
"""Longest side in pixels."""
MAX_PIXELS = 1 << 26
"""Maximum number of pixels of a picture that is decoded: 8192 × 8192."""
_LABEL, _LINE = 18, 22
_QUALITY = 80
_log = logging.getLogger(__name__)
_ORIENTATION, _ON_ITS_SIDE = 0x112, (5, 6, 7, 8)


def thumbnail(ledger: Ledger, folder: Path, file: Saved) -> bytes | None:
    """Returns the picture as a small WebP, stored in the ledger; None if it cannot be read as a picture."""
    kept = ledger.thumbnail(file)
    if kept is not None or file.kind != "image":
        return kept
    picture = open_picture(folder / file.path, THUMBNAIL)
    if picture is None:
        return None
    small = io.BytesIO()
    picture.save(small, "WEBP", quality=_QUALITY, method=2)
    ledger.keep_thumbnail(file, small.getvalue())
    return small.getvalue()


def fitted_size(path: Path, longest: int) -> tuple[int, int] | None:
    """Returns width and height of `open_picture`'s result, from the file's header; None if it cannot be read."""
    from PIL import Image

    try:
        with _quiet(), (file := Image.open(path)):
            wide, tall = file.size
            if file.getexif().get(_ORIENTATION) in _ON_ITS_SIDE:
                wide, tall = tall, wide
    except Image.DecompressionBombError:
        return longest, longest
    except Exception as error:  # noqa: BLE001 - Pillow's readers raise any type for a damaged file, which is left out
        _log.info("cannot show %s: %s", path, error)
        return None
    return _fitted(wide, tall, longest)


def open_picture(path: Path, longest: int) -> Image.Image | None:
    """Returns the picture as RGB on a white background, at most `longest` pixels a side; None if it cannot be read.

    A picture with more than `MAX_PIXELS` is not decoded: a label replaces it.
    """
    from PIL import Image, ImageOps

    try:
        with _quiet(), (file := Image.open(path)):
            size = file.size
            # A JPEG can be decoded at an eighth of its size, unless it is progressive.
            file.draft("RGB", (longest, longest))
            decoded = size if file.info.get("progressive") else file.size
            if decoded[0] * decoded[1] > MAX_PIXELS:
                return _label(f"{size[0]} × {size[1]}: too large to show", _fitted(*size, longest))
            file.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
            picture = ImageOps.exif_transpose(file)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            picture = Image.alpha_composite(ground, picture.convert("RGBA"))
        if picture.mode.startswith("I;16"):
            picture = picture.point(lambda value: value / 256, "L")
        return picture.convert("RGB")
    except Image.DecompressionBombError:
        return _label("too large to show", (longest, longest))
    except Exception as error:  # noqa: BLE001 - Pillow's readers raise any type for a damaged file, which is left out
        _log.info("cannot show %s: %s", path, error)
        return None


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Suppresses warnings about damaged metadata and large pictures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _fitted(wide: int, tall: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(wide, tall, 1))
    return max(1, round(wide * scale)), max(1, round(tall * scale))


def _label(text: str, size: tuple[int, int]) -> Image.Image:
    """Returns a framed picture that contains the text."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=FRAME, width=2)
    font = font_for(text, _LABEL)
    for number, line in enumerate(text_lines(draw, text, font, max(1, size[0] - 20), max(1, size[1] // _LINE))):
        draw.text((10, 10 + number * _LINE), line, MUTED, font)
    return picture
