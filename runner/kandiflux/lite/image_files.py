"""Opening pictures that clients sent."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image

__all__ = ["MOST_PIXELS", "open_picture"]

MOST_PIXELS = 89_478_485
"""Pillow warns from this number on. A file of half a megabyte can decode to more than a gigabyte."""

_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")


def open_picture(source: Path | IO[bytes], most_pixels: int | None = None) -> Image.Image:
    """Image.open for the usual raster formats, whatever the file's name. ValueError beyond `most_pixels`.

    Pillow knows many more formats, among them EPS, for which it runs Ghostscript on the file.
    """
    Image.init()
    picture = Image.open(source, formats=[name for name in _FORMATS if name in Image.OPEN])
    if most_pixels is not None and picture.width * picture.height > most_pixels:
        picture.close()
        raise ValueError(f"{picture.width} x {picture.height} pixels are too many; the most are {most_pixels}")
    return picture
