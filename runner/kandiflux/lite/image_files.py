"""Opens images that clients sent."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image

__all__ = ["MOST_PIXELS", "open_picture"]

MOST_PIXELS = 89_478_485
"""Pillow warns above this number. A file of half a megabyte can decode to more than a gigabyte."""

_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")


def open_picture(source: Path | IO[bytes], most_pixels: int | None = None) -> Image.Image:
    """Opens an image in a common raster format, whatever the file's name. ValueError if it exceeds `most_pixels`.

    Pillow supports many more formats. For one of them, EPS, it runs Ghostscript on the file.
    """
    Image.init()
    picture = Image.open(source, formats=[name for name in _FORMATS if name in Image.OPEN])
    if most_pixels is not None and picture.width * picture.height > most_pixels:
        picture.close()
        raise ValueError(f"{picture.width} x {picture.height} pixels are too many; the maximum is {most_pixels}")
    return picture
