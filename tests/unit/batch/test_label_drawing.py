"""Text on pictures: lines that fit, and fonts that have the letters."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux.batch import label_drawing
from kandiflux.batch.label_drawing import fitted, font_for, text_lines
from PIL import Image, ImageDraw, ImageFont

DRAW = ImageDraw.Draw(Image.new("RGB", (10, 10)))
FONT = ImageFont.load_default(18)
WIDE = round(DRAW.textlength("mmmm", FONT))
"""Pixels of four letters m."""


@pytest.mark.parametrize(
    ("text", "most", "lines"),
    [
        ("", 3, []),
        ("mmmm", 3, ["mmmm"]),
        ("mmmmm", 3, ["mmmm", "m"]),
        ("mm mmm", 3, ["mm", "mmm"]),
        ("mmm mmm m mmmmm", 9, ["mmm", "mmm", "m", "mmmm", "m"]),
        (" m \n\t m ", 3, ["m m"]),
        ("mmmm mmmm", 1, ["mmm…"]),
        ("mmmm mmmm mm", 2, ["mmmm", "mmm…"]),
        ("mmmm mmmm", 2, ["mmmm", "mmmm"]),
        ("mmmm", 0, []),
        ("mmmmmmmm " * 3, 2, ["mmmm", "mmm…"]),
    ],
)
def test_lines_of_a_width(text: str, most: int, lines: list[str]) -> None:
    assert text_lines(DRAW, text, FONT, WIDE, most) == lines


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("mmmm", WIDE, "mmmm"), ("mmmm", WIDE - 1, "mmm…"), ("mm  mm", 1, "…"), ("m mmmm", WIDE, "m m…"), ("", 0, "")],
)
def test_a_text_is_shortened_to_a_width(text: str, width: int, shown: str) -> None:
    found = fitted(DRAW, text, FONT, width)
    assert found == shown
    assert found == "…" or DRAW.textlength(found, FONT) <= width


def test_a_letter_wider_than_the_line_has_a_line_of_its_own() -> None:
    assert text_lines(DRAW, "mmm", FONT, 1, 9) == ["m", "m", "m"]


def test_only_the_beginning_of_a_long_text_is_looked_at() -> None:
    lines = text_lines(DRAW, "i" * 5000, FONT, 1000, 1000)
    assert sum(map(len, lines)) == 2000


def test_latin_letters_have_pillows_own_font(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise AssertionError("no font of the system is needed")

    monkeypatch.setattr(label_drawing, "_named", none)
    for text in ("abc", "žluťoučký ſ" + chr(0x17F), "a · b …", "", "x" * 2000 + "ж"):
        assert getattr(font_for(text, 18), "size", None) == FONT.size  # type: ignore[union-attr]


def test_other_letters_have_the_first_font_that_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the system's fonts, whose glyphs a test knows."""

    class Font:
        def __init__(self, letters: str) -> None:
            self.letters = letters

    fonts = {"DejaVuSans.ttf": Font("жѣ"), "Arial.ttf": Font("ж漢")}
    asked: list[tuple[str, int]] = []

    def named(name: str, size: int) -> Font | None:
        asked.append((name, size))
        return fonts.get(name)

    monkeypatch.setattr(label_drawing, "_named", named)
    monkeypatch.setattr(label_drawing, "_shape", lambda font, letter: letter if letter in font.letters else "box")
    assert font_for("Kж", 18) is fonts["DejaVuSans.ttf"]
    assert font_for("漢\u2003ж", 20) is fonts["Arial.ttf"]
    assert asked[-1] == ("Arial.ttf", 20)
    assert isinstance(font_for("ж字", 18), (ImageFont.FreeTypeFont, ImageFont.ImageFont)), "Pillow's own if none has"


def test_whether_a_font_has_a_letter(tmp_path: Path) -> None:
    assert isinstance(FONT, ImageFont.FreeTypeFont)
    assert label_drawing._has(FONT, "ab c")
    assert not label_drawing._has(FONT, "a漢")
    assert label_drawing._named(str(tmp_path / "none.ttf"), 18) is None
