"""All pictures of a batch on contact sheets, and a grid's pictures in labelled rows and columns."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw

from kandiflux.batch.grid import Axis
from kandiflux.batch.job_list import JobList
from kandiflux.batch.label_drawing import FRAME, GROUND, INK, MUTED, fitted, font_for, text_lines
from kandiflux.batch.ledger import Entry, Ledger, Saved
from kandiflux.batch.thumbnails import fitted_size, open_picture, thumbnail
from kandiflux.util.files import written_whole

__all__ = ["write_contact_sheets", "write_xy_grids"]

_COLUMNS, _ROWS = 8, 12
_GAP = 14
_SMALL, _LABEL, _TITLE = 13, 18, 22
_LINE = _LABEL + 4
_NARROWEST, _NARROWEST_GRID, _WIDEST_LABEL = 120, 480, 260
_LARGEST_CELL, _SMALLEST_CELL = 512, 24
_LONGEST_SIDE = 12_000
_MOST_PIXELS = 30_000_000

_log = logging.getLogger(__name__)


def write_contact_sheets(ledger: Ledger, folder: Path, title: str, varying: Collection[str]) -> list[Path]:
    """`batch-sheet.png` (`-2`, … where there are many): every picture with its name and what varies, failed jobs with
    their reason.
    """
    pages: list[Path] = []
    cells: list[tuple[Entry, Saved | None]] = []
    for entry in ledger.entries():
        pictures = [file for file in entry.files if file.kind == "image"]
        if pictures:
            cells += [(entry, file) for file in pictures]
        elif entry.state == "failed":
            cells.append((entry, None))
        while len(cells) >= _COLUMNS * _ROWS:
            pages.append(_contact_sheet(ledger, folder, title, varying, cells[: _COLUMNS * _ROWS], len(pages) + 1))
            cells = cells[_COLUMNS * _ROWS :]
    if cells:
        pages.append(_contact_sheet(ledger, folder, title, varying, cells, len(pages) + 1))
    return pages


def _contact_sheet(
    ledger: Ledger,
    folder: Path,
    title: str,
    varying: Collection[str],
    cells: Sequence[tuple[Entry, Saved | None]],
    number: int,
) -> Path:
    pictures = [_thumbnail(ledger, folder, file) for _, file in cells]
    wide, tall = _cell((picture.size for picture in pictures if picture), _NARROWEST, 4 * _SMALL)
    columns = min(_COLUMNS, max(1, math.ceil(math.sqrt(len(cells)))))
    step = tall + 3 * _SMALL + 2 * _GAP
    head = 2 * _GAP + _TITLE + 6
    sheet = Image.new("RGB", (_GAP + columns * (wide + _GAP), head + math.ceil(len(cells) / columns) * step), GROUND)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_GAP, _GAP), title if number == 1 else f"{title} · {number}", _TITLE, sheet.width - 2 * _GAP)
    for at, ((entry, file), picture) in enumerate(zip(cells, pictures, strict=True)):
        x, y = _GAP + at % columns * (wide + _GAP), head + at // columns * step
        _place(sheet, draw, picture, (x, y, wide, tall), _reason(entry))
        name = file.path.rpartition(".")[0] if file else entry.name
        _text(draw, (x, y + tall + 6), name, _SMALL, wide)
        about = brief({name: value for name, value in entry.values.items() if name in varying})
        _text(draw, (x, y + tall + 10 + _SMALL), about, _SMALL, wide, MUTED)
    return _write(sheet, folder / ("batch-sheet.png" if number == 1 else f"batch-sheet-{number}.png"))


def _cell(sizes: Iterable[tuple[int, int]], narrowest: int, lowest: int) -> tuple[int, int]:
    """Width and height that hold every picture, and a label."""
    wide, tall = narrowest, lowest
    for size in sizes:
        wide, tall = max(wide, size[0]), max(tall, size[1])
    return wide, tall


@dataclass(frozen=True)
class _Square:
    """What a grid shows of a job: its first picture, or why there is none."""

    path: Path | None
    reason: str


@dataclass(frozen=True)
class _Page:
    """One XY grid: what is the same in all its pictures, and what is at each (column, row)."""

    title: str
    squares: Mapping[tuple[int, int], _Square]


_NOT_LISTED = _Square(None, "not in the list")


def write_xy_grids(ledger: Ledger, folder: Path, jobs: JobList, title: str) -> list[Path]:
    """`batch-grid.png`: columns are the first axis, rows the second; further axes, rows of a jobs file and
    repetitions each have a grid of their own (`batch-grid-2.png`, …). Nothing where there is no axis.
    """
    across, down = (*jobs.axes, None, None)[:2]
    if across is None or (columns := len(across.values)) * (rows := len(down.values) if down else 1) < 2:
        return []
    if _side(columns, rows) < _SMALLEST_CELL:
        _log.info("a grid of %d by %d is too large for a picture", columns, rows)
        return []
    written: list[Path] = []
    for page in _pages(ledger, folder, jobs, title):
        number = len(written) + 1
        sheet = _xy_grid(page, across, down)
        written.append(_write(sheet, folder / ("batch-grid.png" if number == 1 else f"batch-grid-{number}.png")))
    return written


def _pages(ledger: Ledger, folder: Path, jobs: JobList, title: str) -> Iterator[_Page]:
    """Grids in their order. Their jobs follow each other in the list, so one grid's are in memory at a time."""
    laid_out = (entry for entry in ledger.entries() if len(entry.place) == len(jobs.axes) + 2)
    for (row, *rest), group in groupby(laid_out, key=lambda entry: (entry.place[0], *entry.place[3:-1])):
        about = [brief({axis.name: axis.values[at]}) for axis, at in zip(jobs.axes[2:], rest, strict=True)]
        if jobs.rows:
            about.insert(0, brief(jobs.rows[row].values))
        repetitions: dict[int, dict[tuple[int, int], _Square]] = {}
        for entry in group:
            place = [*entry.place[1:-1], 0]
            x, y = place[0], place[1]
            repetitions.setdefault(entry.place[-1], {})[x, y] = _square(folder, entry)
        for number, squares in sorted(repetitions.items()):
            which = [f"{number + 1} of {jobs.repeat}"] if jobs.repeat > 1 else []
            yield _Page(" · ".join([title, *about, *which]), squares)


def _xy_grid(page: _Page, across: Axis, down: Axis | None) -> Image.Image:
    columns, rows = len(across.values), len(down.values) if down else 1
    side = _side(columns, rows)
    paths = (square.path for square in page.squares.values() if square.path is not None)
    sizes = (size for path in paths if (size := fitted_size(path, side)) is not None)
    wide, tall = _cell(sizes, min(_NARROWEST, side), min(4 * _LABEL, side))
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    beside = _row_labels(probe, down, max(1, tall // _LINE))
    above = [_lines(probe, brief({across.name: value}), _LABEL, wide, 3) for value in across.values]
    left = 2 * _GAP + max((_width(probe, line) for lines in beside for line in lines), default=-_GAP)
    width = max(_NARROWEST_GRID, left + columns * (wide + _GAP))
    title = _lines(probe, page.title, _TITLE, width - 2 * _GAP, 4)
    head = _GAP + len(title) * (_TITLE + 6) + _GAP
    top = head + max(map(len, above)) * _LINE + _GAP // 2

    sheet = Image.new("RGB", (width, top + rows * (tall + _GAP)), GROUND)
    draw = ImageDraw.Draw(sheet)
    _write_lines(draw, (_GAP, _GAP), title, "la", _TITLE)
    for x, lines in enumerate(above):
        # On the pictures, however few lines the label has.
        lowest = top - _GAP // 2 - len(lines) * _LINE
        _write_lines(draw, (left + x * (wide + _GAP) + wide // 2, lowest), lines, "ma")
    for y in range(rows):
        upper = top + y * (tall + _GAP)
        if beside:
            _write_lines(draw, (left - _GAP, upper + (tall - len(beside[y]) * _LINE) // 2), beside[y], "ra")
        for x in range(columns):
            box = (left + x * (wide + _GAP), upper, wide, tall)
            square = page.squares.get((x, y), _NOT_LISTED)
            picture = open_picture(square.path, side) if square.path is not None else None
            _place(sheet, draw, picture, box, square.reason)
    return sheet


def _row_labels(draw: ImageDraw.ImageDraw, down: Axis | None, most: int) -> list[list[str]]:
    values = down.values if down else ()
    return [_lines(draw, brief({down.name if down else "": value}), _LABEL, _WIDEST_LABEL, most) for value in values]


def _lines(draw: ImageDraw.ImageDraw, text: str, size: int, width: int, most: int) -> list[str]:
    return text_lines(draw, text, font_for(text, size), width, most)


def _width(draw: ImageDraw.ImageDraw, line: str) -> int:
    return math.ceil(draw.textlength(line, font_for(line, _LABEL)))


def _write_lines(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], anchor: str, size: int = _LABEL
) -> None:
    step = _LINE if size == _LABEL else size + 6
    for number, line in enumerate(lines):
        draw.text((place[0], place[1] + number * step), line, INK, font_for(line, size), anchor=anchor)


def _side(columns: int, rows: int) -> int:
    """Of a cell, in pixels: as large as the whole may become, at least 0."""
    fitting = min(_LONGEST_SIDE // max(columns, rows), math.isqrt(_MOST_PIXELS // (columns * rows)))
    return max(0, min(_LARGEST_CELL, fitting - _GAP))


def _square(folder: Path, entry: Entry) -> _Square:
    first = next((folder / file.path for file in entry.files if file.kind == "image"), None)
    return _Square(first, _reason(entry))


def _thumbnail(ledger: Ledger, folder: Path, file: Saved | None) -> Image.Image | None:
    if file is None:
        return None
    small = thumbnail(ledger, folder, file)
    return Image.open(io.BytesIO(small)) if small else None


def _place(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Image.Image | None,
    box: tuple[int, int, int, int],
    instead: str,
) -> None:
    """The picture in the middle of (x, y, width, height), or a frame that says why there is none."""
    x, y, wide, tall = box
    if picture is not None:
        sheet.paste(picture, (x + (wide - picture.width) // 2, y + (tall - picture.height) // 2))
        return
    draw.rectangle((x, y, x + wide - 1, y + tall - 1), outline=FRAME, width=2)
    size = _LABEL if wide > 2 * _NARROWEST else _SMALL
    font, step = font_for(instead, size), size + 4
    for number, line in enumerate(text_lines(draw, instead, font, wide - 20, max(1, (tall - 20) // step))):
        draw.text((x + 10, y + 10 + number * step), line, MUTED, font)


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    width: int,
    ink: tuple[int, int, int] = INK,
) -> None:
    font = font_for(text, size)
    draw.text(place, fitted(draw, " ".join(text.split()), font, width), ink, font)


def brief(values: Mapping[str, object]) -> str:
    """`steps = 20, guidance = 2.5`"""
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}" for name, value in values.items()
    )


def _reason(entry: Entry) -> str:
    if entry.state == "failed":
        return f"failed: {(entry.error or {}).get('message', '')}"
    return "no picture" if entry.state == "done" else "not done yet"


def _write(sheet: Image.Image, path: Path) -> Path:
    with written_whole(path) as partial:
        sheet.save(partial, "PNG")
    return path
