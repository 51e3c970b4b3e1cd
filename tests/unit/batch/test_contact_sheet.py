"""Contact sheets and grids: what stands where, and what is written beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from kandiflux.batch import JobList, Row, parse_grid
from kandiflux.batch.contact_sheet import brief, write_contact_sheets, write_xy_grids
from kandiflux.batch.label_drawing import FRAME, GROUND, INK, MUTED
from kandiflux.batch.ledger import Entry, Ledger, Saved
from PIL import Image, ImageDraw

RED, BLUE = (250, 10, 10), (10, 10, 250)


@dataclass
class Listed:
    """What sheets need of a ledger."""

    listed: list[Entry]
    small: dict[str, bytes] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        return iter(self.listed)

    def thumbnail(self, file: Saved) -> bytes | None:
        return self.small.get(file.path)

    def keep_thumbnail(self, file: Saved, content: bytes) -> None:
        self.small[file.path] = content


@dataclass
class Written:
    """A text on a picture: where, what, how large, and in which ink."""

    place: tuple[float, float]
    text: str
    size: float
    ink: tuple[int, int, int]
    anchor: str | None


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    found: list[Written] = []
    real = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, xy: Any, said: str, fill: Any, font: Any, **more: Any) -> None:
        found.append(Written(xy, said, font.size, fill, more.get("anchor")))
        real(self, xy, said, fill, font, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


@dataclass
class Folder:
    path: Path
    listed: list[Entry] = field(default_factory=list)

    def add(
        self, *place: int, state: str = "done", error: str = "", files: tuple[tuple[str, Any], ...] = (), **values: Any
    ) -> None:
        """A job; files: kinds, and the colour and size of each picture."""
        number = len(self.listed) + 1
        saved: list[Saved] = []
        for at, (kind, about) in enumerate(files, 1):
            name = f"sub/n{number}.{at}.png"
            (self.path / "sub").mkdir(exist_ok=True)
            if kind == "image":
                Image.new("RGB", about[1], about[0]).save(self.path / name)
            saved.append(Saved(name, kind, "", 1))
        about = {"message": error} if error else None
        self.listed.append(Entry(number, place, values, f"sub/n{number}", state, about, None, 1.0, (), saved))

    @property
    def ledger(self) -> Ledger:
        return cast(Ledger, Listed(self.listed))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def picture(colour: tuple[int, int, int] = RED, size: tuple[int, int] = (40, 30)) -> tuple[str, Any]:
    return "image", (colour, size)


def box_of(path: Path, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Where that colour is, or nearly: left, upper, right and lower, the last two one behind."""
    with Image.open(path) as sheet:
        alike = Image.new("L", sheet.size)
        for band, part in zip(sheet.convert("RGB").split(), colour, strict=True):
            alike = Image.composite(
                alike,
                Image.new("L", sheet.size, 255),
                band.point(lambda value, part=part: 255 * (abs(value - part) < 30)),
            )
        return alike.point(lambda value: 255 - value).getbbox()


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as sheet:
        return sheet.size


# Contact sheets


def test_a_sheet_shows_every_picture_and_every_failure(folder: Folder, written: list[Written]) -> None:
    folder.add(files=(picture(RED), ("audio", None), picture(BLUE)), steps=20, cfg=2.50, model="m")
    folder.add(state="waiting", steps=9)
    folder.add(state="failed", error="no such colour", steps=7)
    folder.add(files=(("audio", None),), steps=8)
    (path,) = write_contact_sheets(folder.ledger, folder.path, "A title", {"steps", "cfg"})
    assert path == folder.path / "batch-sheet.png"
    assert [(one.text, one.size, one.ink) for one in written] == [
        ("A title", 22, INK),
        ("sub/n1.1", 13, INK), ("steps = 20, cfg = 2…", 13, MUTED),
        ("sub/n1.3", 13, INK), ("steps = 20, cfg = 2…", 13, MUTED),
        ("failed: no such…", 13, MUTED),
        ("sub/n3", 13, INK), ("steps = 7", 13, MUTED),
    ]  # fmt: skip


def test_where_pictures_and_their_texts_are(folder: Folder, written: list[Written]) -> None:
    for colour in (RED, BLUE, (0, 200, 0), (0, 200, 200)):
        folder.add(files=(picture(colour, (140, 60)),), steps=1)
    folder.add(state="failed", error="x", steps=1)
    (path,) = write_contact_sheets(folder.ledger, folder.path, "T", {"steps"})
    # Cells of 140 by 60, gaps of 14, three columns; 56 for the title, 39 + 28 below each picture.
    assert size_of(path) == (14 + 3 * 154, 56 + 2 * 127)
    assert box_of(path, RED) == (14, 56, 154, 116)
    assert box_of(path, BLUE) == (168, 56, 308, 116)
    assert box_of(path, (0, 200, 200)) == (14, 183, 154, 243)
    assert [one.place for one in written[:3]] == [(14, 14), (14, 122), (14, 139)]
    assert written[-3].place == (168 + 10, 183 + 10), "the reason"
    with Image.open(path) as sheet:
        pixels = [sheet.getpixel((x, 200)) for x in (167, 168, 169, 170, 306, 307, 308)]
    assert pixels == [GROUND, FRAME, FRAME, GROUND, FRAME, FRAME, GROUND]


def test_a_small_picture_is_in_the_middle_of_its_cell(folder: Folder) -> None:
    folder.add(files=(picture(RED, (20, 10)),))
    folder.add(files=(picture(BLUE, (10, 90)),))
    (path,) = write_contact_sheets(folder.ledger, folder.path, "T", ())
    assert size_of(path) == (14 + 2 * 134, 56 + 90 + 67)
    assert box_of(path, RED) == (14 + 50, 56 + 40, 14 + 70, 56 + 50)
    assert box_of(path, BLUE) == (148 + 55, 56, 148 + 65, 146)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (10, 4, 3), (65, 8, 9), (96, 8, 12)])
def test_a_sheet_is_about_square_and_no_wider_than_eight(count: int, columns: int, rows: int, folder: Folder) -> None:
    for _ in range(count):
        folder.add(state="failed", error="x")
    (path,) = write_contact_sheets(folder.ledger, folder.path, "T", ())
    assert size_of(path) == (14 + columns * 134, 56 + rows * (52 + 67))


def test_many_pictures_have_several_sheets(folder: Folder, written: list[Written]) -> None:
    for _ in range(2 * 96 + 1):
        folder.add(state="failed", error="x")
    paths = write_contact_sheets(folder.ledger, folder.path, "T", ())
    assert [path.name for path in paths] == ["batch-sheet.png", "batch-sheet-2.png", "batch-sheet-3.png"]
    assert [one.text for one in written if one.size == 22] == ["T", "T · 2", "T · 3"]
    assert [one.text for one in written if one.text.startswith("sub")] == [f"sub/n{n}" for n in range(1, 194)]
    assert write_contact_sheets(Folder(folder.path).ledger, folder.path, "T", ()) == []


# Grids


def jobs(text: str, *, rows: tuple[Row, ...] = (), repeat: int = 1) -> JobList:
    return JobList({}, rows, parse_grid([text]), repeat)


def test_a_grid_has_the_first_axis_across_and_the_second_down(folder: Folder, written: list[Written]) -> None:
    colours = iter([RED, BLUE, (0, 200, 0), (0, 200, 200)])
    for place in ((0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 1, 1, 0)):
        folder.add(*place, files=(("audio", None), picture(next(colours), (130, 80)), picture((1, 1, 1))))
    (path,) = write_xy_grids(folder.ledger, folder.path, jobs("x=1,2 y=a,b"), "A title")
    assert path == folder.path / "batch-grid.png"
    assert [(one.text, one.anchor, one.size) for one in written] == [
        ("A title", "la", 22), ("x = 1", "ma", 18), ("x = 2", "ma", 18), ("y = a", "ra", 18), ("y = b", "ra", 18)
    ]  # fmt: skip
    first, second = box_of(path, RED), box_of(path, BLUE)
    third, fourth = box_of(path, (0, 200, 0)), box_of(path, (0, 200, 200))
    assert first
    assert second
    left, top = first[:2]
    assert first == (left, top, left + 130, top + 80)
    assert second == (left + 144, top, left + 274, top + 80)
    assert third == (left, top + 94, left + 130, top + 174)
    assert fourth == (left + 144, top + 94, left + 274, top + 174)
    # The title's line is 28 high, that of the labels 22.
    assert top == 14 + 28 + 14 + 22 + 7
    assert size_of(path) == (max(480, left + 2 * 144), top + 2 * 94)
    assert [one.place for one in written] == [
        (14, 14), (left + 65, top - 29), (left + 144 + 65, top - 29),
        (left - 14, top + 29), (left - 14, top + 94 + 29),
    ]  # fmt: skip


def test_a_grid_says_why_there_is_no_picture(folder: Folder, written: list[Written]) -> None:
    folder.add(0, 0, 0, state="failed", error="x")
    folder.add(0, 1, 0, state="sent")
    folder.add(0, 2, 0, files=(("audio", None),))
    folder.add(0, 3, 0, files=(picture(),))
    (folder.path / "sub" / "n4.1.png").write_bytes(b"no picture")
    folder.add(0, 0, 1, 0, files=(picture(RED),))
    (path,) = write_xy_grids(folder.ledger, folder.path, jobs("x=1,2,3,4,5"), "T")
    said = [one.text for one in written if one.size == 13]
    assert said == ["failed: x", "not done yet", "no picture", "no picture", "not in the list"]
    assert box_of(path, RED) is None, "a job of another list"


def test_labels_have_lines_as_they_need_them(folder: Folder, written: list[Written]) -> None:
    folder.add(0, 0, 0, 0, files=(picture(RED, (20, 20)),))
    (path,) = write_xy_grids(
        folder.ledger, folder.path, jobs('x="one two three four","b" y="a long label of a row of many words",c'), "T"
    )
    assert [one.text for one in written if one.anchor == "ma"] == ["x = one two", "three four", "x = b"]
    first, second, short = (one.place for one in written if one.anchor == "ma")
    assert second == (first[0], first[1] + 22)
    assert short[1] == second[1], "all end just above the pictures"
    rows = [one for one in written if one.anchor == "ra"]
    assert [one.text for one in rows] == ["y = a long label of a row of", "many words", "y = c"]
    assert box_of(path, RED)
    assert size_of(path)[0] == rows[0].place[0] + 14 + 2 * 134


@pytest.mark.parametrize(
    ("text", "columns", "rows", "places"),
    [("x=1,2", 2, 1, 1), ("x=1 y=1,2", 1, 2, 2), ("x=1,2 y=1", 2, 1, 2)],
)
def test_small_grids(text: str, columns: int, rows: int, places: int, folder: Folder) -> None:
    folder.add(0, *[0] * places, 0, files=(picture(RED, (600, 600)),))
    (path,) = write_xy_grids(folder.ledger, folder.path, jobs(text), "T")
    box = box_of(path, RED)
    assert box
    assert (box[2] - box[0], box[3] - box[1]) == (512, 512), "as large as a cell becomes"
    assert size_of(path) == (max(480, box[0] + columns * 526), box[1] + rows * 526)


def test_several_grids(folder: Folder, written: list[Written]) -> None:
    rows = (Row({"model": "a"}, "1"), Row({"model": "b", "f": 0.50}, "2"))
    listed = jobs("x=1,2 y=1 z=8,9", rows=rows, repeat=2)
    for job in listed:
        folder.add(job.row, *job.place, job.repetition, files=(picture(),))
    paths = write_xy_grids(folder.ledger, folder.path, listed, "T")
    assert [path.name for path in paths] == ["batch-grid.png", *(f"batch-grid-{number}.png" for number in range(2, 9))]
    titles = [one.text for one in written if one.size == 22]
    assert titles == [
        f"T · {row} · z = {z} · {number} of 2"
        for row in ("model = a", "model = b, f = 0.5") for z in (8, 9) for number in (1, 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "grids"),
    [("", 0), ("x=1", 0), ("x=1 y=1", 0), ("x=1..315", 1), ("x=1..316", 0), ("x=1..200 y=1..120", 0)],
)
def test_lists_that_make_no_grid(text: str, grids: int, folder: Folder) -> None:
    """One value, or so many that the cells would be smaller than 24 pixels."""
    listed = jobs(text)
    folder.add(0, *[0 for _ in listed.axes], 0, files=(picture(RED, (99, 99)),))
    paths = write_xy_grids(folder.ledger, folder.path, listed, "T")
    assert len(paths) == grids
    for path in paths:
        box = box_of(path, RED)
        assert box
        assert box[2] - box[0] == 24


def test_a_job_that_was_not_listed_in_order_is_at_its_place(folder: Folder) -> None:
    folder.add(0, 1, 0, files=(picture(BLUE),))
    folder.add(0, 0, 0, files=(picture(RED),))
    paths = write_xy_grids(folder.ledger, folder.path, jobs("x=1,2"), "T")
    assert len(paths) == 1
    red, blue = box_of(paths[0], RED), box_of(paths[0], BLUE)
    assert red
    assert blue
    assert red[0] < blue[0]


def test_values_in_a_few_letters() -> None:
    assert (
        brief({"steps": 20, "cfg": 2.50, "name": "a b", "on": True}) == "steps = 20, cfg = 2.5, name = a b, on = True"
    )
