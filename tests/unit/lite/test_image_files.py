"""Opening the pictures of clients: raster formats only, and not too large ones."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from kandiflux.lite.image_files import MOST_PIXELS, open_picture
from PIL import Image, UnidentifiedImageError


def encoded(kind: str, size: tuple[int, int] = (16, 16)) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"])
def test_raster_formats_are_opened_whatever_the_files_name(kind: str, tmp_path: Path) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(kind).getvalue())
    with open_picture(path) as picture:
        assert (picture.format, picture.size) == (kind, (16, 16))


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PCX", "SGI", "DDS"])
def test_others_are_not(kind: str) -> None:
    with pytest.raises(UnidentifiedImageError):
        open_picture(encoded(kind))


def test_the_most_pixels(tmp_path: Path) -> None:
    with open_picture(encoded("PNG", (3, 5)), most_pixels=15) as picture:
        assert picture.size == (3, 5)
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG", (3, 5)).getvalue())
    with pytest.raises(ValueError, match=r"^3 x 5 pixels are too many; the maximum is 14$"):
        open_picture(path, most_pixels=14)
    assert Image.MAX_IMAGE_PIXELS == MOST_PIXELS, "from this number on Pillow warns"
