"""Thumbnails and sheets of a batch: huge and damaged pictures cost little and never end it."""

from __future__ import annotations

import binascii
import io
import random
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from kandiflux.batch.contact_sheet import write_contact_sheets
from kandiflux.batch.label_drawing import font_for, text_lines
from kandiflux.batch.ledger import Entry, Ledger, Saved
from kandiflux.batch.thumbnails import MAX_PIXELS, fitted_size, open_picture, thumbnail
from PIL import Image, ImageDraw

from tests.support.places import ROOT


def png(wide: int, tall: int) -> bytes:
    """A whole black PNG of one bit a pixel, made without holding it in memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", binascii.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + (wide + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(tall)) + packer.flush()
    head = struct.pack(">IIBBBBB", wide, tall, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def header_only(wide: int, tall: int) -> bytes:
    return png(8, 8).replace(
        struct.pack(">IIBBBBB", 8, 8, 1, 0, 0, 0, 0), struct.pack(">IIBBBBB", wide, tall, 8, 6, 0, 0, 0)
    )


MEASURE = """
import resource, sys, time
from pathlib import Path
from kandiflux.batch.thumbnails import open_picture
open_picture(Path(sys.argv[1]), 256)
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
for path in sys.argv[2:]:
    picture = open_picture(Path(path), 256)
    assert picture is not None and max(picture.size) == 256, path
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.monotonic() - start)
"""


def test_a_huge_picture_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "huge.png").write_bytes(png(13_300, 13_300))
    (tmp_path / "small.png").write_bytes(png(8, 8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    grey = Image.new("L", (9000, 9000), 90)
    grey.save(tmp_path / "huge.jpg")
    grey.save(tmp_path / "progressive.jpg", progressive=True)
    assert (tmp_path / "huge.png").stat().st_size < 1 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in ("small.png", "huge.png", "huge.jpg",
                                                                            "progressive.jpg"))],
        capture_output=True, text=True, check=True, cwd=ROOT / "runner",
    )  # fmt: skip
    megabytes, seconds = map(float, done.stdout.split())
    assert megabytes < 60
    assert seconds < 3
    shown = open_picture(tmp_path / "huge.jpg", 256)
    assert shown is not None
    assert shown.getpixel((128, 128)) == (90, 90, 90)
    instead = open_picture(tmp_path / "huge.png", 256)
    assert instead is not None
    assert len(instead.getcolors(1 << 16) or ()) > 2, "a label, not black pixels"


@pytest.mark.parametrize(
    "size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 2**31 - 1), (30_000, 3000)]
)
def test_a_header_of_any_size_has_a_label_or_nothing(size: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(header_only(*size))
    start = time.monotonic()
    picture, expected = open_picture(file, 256), fitted_size(file, 256)
    assert time.monotonic() - start < 2
    assert picture is None or picture.size == expected


def test_pictures_below_the_limit_are_shown_as_they_are(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x112] = 6
    wide = Image.new("RGB", (600, 300), "red")
    wide.save(tmp_path / "a.png")
    wide.save(tmp_path / "b.jpg", exif=turned)
    Image.new("RGBA", (300, 300), (0, 0, 0, 0)).save(tmp_path / "c.webp", lossless=True)
    Image.new("I;16", (300, 600), 32768).save(tmp_path / "d.png")
    for name, size in (("a.png", (256, 128)), ("b.jpg", (128, 256)), ("c.webp", (256, 256)), ("d.png", (128, 256))):
        picture = open_picture(tmp_path / name, 256)
        assert picture is not None
        assert (picture.mode, picture.size, fitted_size(tmp_path / name, 256)) == ("RGB", size, size)
    assert MAX_PIXELS == 8192 * 8192


def test_random_damage_gives_a_picture_or_none(tmp_path: Path) -> None:
    chance = random.Random(5)
    kinds: list[bytes] = []
    picture = Image.effect_noise((64, 48), 50).convert("RGB")
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        content = io.BytesIO()
        picture.save(content, kind)
        kinds.append(content.getvalue())
    file = tmp_path / "a"
    for number in range(600):
        data = bytearray(kinds[number % len(kinds)])
        for _ in range(chance.choice([1, 2, 8])):
            at = chance.randrange(min(len(data), chance.choice([64, 4000])))
            data[at : at + 4] = chance.choice([bytes([chance.randrange(256)]), b"\xff" * 4, bytes(4), b""])
        file.write_bytes(bytes(data))
        found, size = open_picture(file, 64), fitted_size(file, 64)
        assert found is None or max(found.size) <= 64
        assert size is None or max(size) <= 64


class _Ledger:
    """What thumbnails and sheets need of one."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries
        self.small: dict[str, bytes] = {}

    def entries(self) -> Iterator[Entry]:
        return iter(self._entries)

    def thumbnail(self, file: Saved) -> bytes | None:
        return self.small.get(file.path)

    def keep_thumbnail(self, file: Saved, content: bytes) -> None:
        self.small[file.path] = content


def test_a_sheet_with_pictures_of_every_sort(tmp_path: Path) -> None:
    contents = {
        "huge.png": png(13_300, 13_300),
        "header.png": header_only(100_000, 100_000),
        "cut.png": png(200, 200)[:60],
        "page.png": b"<html>",
        "empty.png": b"",
        "right.png": png(300, 200),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    long: dict[str, Any] = {"prompt": "word " * 200_000, "odd": "\ud800\u202e\x00\n" * 50}
    entries = [
        Entry(number, (0,), long, name, "done", None, None, 1.0, (), [Saved(name, "image", "", 1)])
        for number, name in enumerate([*contents, "gone.png"])
    ]
    ledger = cast(Ledger, _Ledger(entries))
    start = time.monotonic()
    (sheet,) = write_contact_sheets(ledger, tmp_path, "A title", ["prompt", "odd"])
    assert time.monotonic() - start < 10
    with Image.open(sheet) as drawn:
        assert drawn.size[0] > 256
    assert thumbnail(ledger, tmp_path, entries[0].files[0]) is not None
    assert thumbnail(ledger, tmp_path, entries[2].files[0]) is None


def test_a_text_of_any_length_is_measured_in_good_time() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    text = "a" * 5_000_000
    start = time.monotonic()
    assert len(text_lines(draw, text, font_for(text, 18), 200, 3)) == 3
    assert time.monotonic() - start < 2
