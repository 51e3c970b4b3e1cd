"""Small forms of saved pictures, for sheets and reports."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from kandiflux.batch.ledger import Ledger, Saved

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["THUMBNAIL", "fitted_size", "open_picture", "thumbnail"]

THUMBNAIL = 256
"""Longest side in pixels."""
_QUALITY = 80
_ORIENTATION, _ON_ITS_SIDE = 0x112, (5, 6, 7, 8)


def thumbnail(ledger: Ledger, folder: Path, file: Saved) -> bytes | None:
    """The picture as a small WebP, which the ledger keeps; None for what cannot be read as a picture."""
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
    """Width and height that `open_picture` would give, from the file's header; None where it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            file = Image.open(path)
        with file:
            wide, tall = file.size
            if file.getexif().get(_ORIENTATION) in _ON_ITS_SIDE:
                wide, tall = tall, wide
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    scale = min(1.0, longest / max(wide, tall))
    return max(1, round(wide * scale)), max(1, round(tall * scale))


def open_picture(path: Path, longest: int) -> Image.Image | None:
    """The picture as RGB over a light ground, at most `longest` pixels a side; None where it cannot be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # A large picture is what was asked for; Pillow's own limit still holds at twice the size it warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            file = Image.open(path)
            with file:
                file.draft("RGB", (longest, longest))
                picture = ImageOps.exif_transpose(file)
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            picture = Image.alpha_composite(ground, picture.convert("RGBA"))
        if picture.mode.startswith("I;16"):
            picture = picture.point(lambda value: value / 256, "L")
        return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
