"""Draws contact sheets of all pictures of a batch, and XY grids with labelled rows and columns."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
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
"""Font sizes."""
_LINE = _LABEL + 4
_MIN_WIDTH, _MIN_GRID_WIDTH, _MAX_LABEL_WIDTH = 120, 480, 260
_MAX_CELL, _MIN_CELL = 512, 24
_MAX_SIDE = 12_000
_MAX_PIXELS = 30_000_000

_log = logging.getLogger(__name__)


def write_contact_sheets(ledger: Ledger, folder: Path, title: str, varying: Collection[str]) -> list[Path]:
    """Writes `batch-sheet.png`, `batch-sheet-2.png`, … and returns their paths. They show each picture with its name
    and its values of the `varying` parameters, and each failed job with its error.
    """
    cells = _cells(ledger)
    sheets: list[Path] = []
    while page := list(islice(cells, _COLUMNS * _ROWS)):
        sheets.append(_contact_sheet(ledger, folder, title, varying, page, len(sheets) + 1))
    return sheets


def _cells(ledger: Ledger) -> Iterator[tuple[Entry, Saved | None]]:
    """Yields each picture with its job; None instead of a picture for a failed job."""
    for entry in ledger.entries():
        pictures = [file for file in entry.files if file.kind == "image"]
        yield from ((entry, file) for file in pictures)
        if not pictures and entry.state == "failed":
            yield entry, None


def _contact_sheet(
    ledger: Ledger,
    folder: Path,
    title: str,
    varying: Collection[str],
    cells: Sequence[tuple[Entry, Saved | None]],
    number: int,
) -> Path:
    pictures = [_thumbnail(ledger, folder, file) for _, file in cells]
    wide, tall = _cell_size((picture.size for picture in pictures if picture), _MIN_WIDTH, 4 * _SMALL)
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
        values = brief({name: value for name, value in entry.values.items() if name in varying})
        _text(draw, (x, y + tall + 10 + _SMALL), values, _SMALL, wide, MUTED)
    return _write(sheet, folder, "batch-sheet", number)


def _cell_size(sizes: Iterable[tuple[int, int]], min_width: int, min_height: int) -> tuple[int, int]:
    """Returns the width and height of a cell in which every picture and a label fit."""
    wide, tall = min_width, min_height
    for size in sizes:
        wide, tall = max(wide, size[0]), max(tall, size[1])
    return wide, tall


@dataclass(frozen=True)
class _GridCell:
    """The first picture of a job, or the reason why there is none."""

    path: Path | None
    reason: str


@dataclass(frozen=True)
class _Grid:
    """One XY grid. The title has the values that all its jobs share; cells are by (column, row)."""

    title: str
    cells: Mapping[tuple[int, int], _GridCell]


_NOT_LISTED = _GridCell(None, "not in the list")


def write_xy_grids(ledger: Ledger, folder: Path, jobs: JobList, title: str) -> list[Path]:
    """Writes `batch-grid.png` and returns its path; empty if the list has no axis or the picture would be too large.

    Columns are the first axis, rows the second. There is a further grid (`batch-grid-2.png`, …) for each combination of
    the other axes, each row of a jobs file and each repetition.
    """
    across, down = (*jobs.axes, None, None)[:2]
    if across is None or (columns := len(across.values)) * (rows := len(down.values) if down else 1) < 2:
        return []
    if _max_cell(columns, rows) < _MIN_CELL:
        _log.info("a grid of %d by %d is too large for a picture", columns, rows)
        return []
    return [
        _write(_xy_grid(grid, across, down), folder, "batch-grid", number)
        for number, grid in enumerate(_grids(ledger, folder, jobs, title), 1)
    ]


def _grids(ledger: Ledger, folder: Path, jobs: JobList, title: str) -> Iterator[_Grid]:
    """Yields the grids in order. A grid's jobs are consecutive in the list, so only one grid is in memory."""
    placed = (entry for entry in ledger.entries() if len(entry.place) == len(jobs.axes) + 2)
    for (row, *rest), group in groupby(placed, key=lambda entry: (entry.place[0], *entry.place[3:-1])):
        shared = [brief({axis.name: axis.values[at]}) for axis, at in zip(jobs.axes[2:], rest, strict=True)]
        if jobs.rows:
            shared.insert(0, brief(jobs.rows[row].values))
        repetitions: dict[int, dict[tuple[int, int], _GridCell]] = {}
        for entry in group:
            x, y = [*entry.place[1:-1], 0][:2]
            picture = next((folder / file.path for file in entry.files if file.kind == "image"), None)
            repetitions.setdefault(entry.place[-1], {})[x, y] = _GridCell(picture, _reason(entry))
        for number, cells in sorted(repetitions.items()):
            repetition = [f"{number + 1} of {jobs.repeat}"] if jobs.repeat > 1 else []
            yield _Grid(" · ".join([title, *shared, *repetition]), cells)


def _xy_grid(grid: _Grid, across: Axis, down: Axis | None) -> Image.Image:
    columns, rows = len(across.values), len(down.values) if down else 1
    side = _max_cell(columns, rows)
    paths = (cell.path for cell in grid.cells.values() if cell.path is not None)
    sizes = (size for path in paths if (size := fitted_size(path, side)) is not None)
    wide, tall = _cell_size(sizes, min(_MIN_WIDTH, side), min(4 * _LABEL, side))
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    beside = _row_labels(probe, down, max(1, tall // _LINE))
    above = [_lines(probe, brief({across.name: value}), _LABEL, wide, 3) for value in across.values]
    left = 2 * _GAP + max((_width(probe, line) for lines in beside for line in lines), default=-_GAP)
    width = max(_MIN_GRID_WIDTH, left + columns * (wide + _GAP))
    title = _lines(probe, grid.title, _TITLE, width - 2 * _GAP, 4)
    head = _GAP + len(title) * (_TITLE + 6) + _GAP
    top = head + max(map(len, above)) * _LINE + _GAP // 2

    sheet = Image.new("RGB", (width, top + rows * (tall + _GAP)), GROUND)
    draw = ImageDraw.Draw(sheet)
    _write_lines(draw, (_GAP, _GAP), title, "la", _TITLE)
    for x, lines in enumerate(above):
        # Labels with fewer lines also stand directly above the pictures.
        label_top = top - _GAP // 2 - len(lines) * _LINE
        _write_lines(draw, (left + x * (wide + _GAP) + wide // 2, label_top), lines, "ma")
    for y in range(rows):
        upper = top + y * (tall + _GAP)
        if beside:
            _write_lines(draw, (left - _GAP, upper + (tall - len(beside[y]) * _LINE) // 2), beside[y], "ra")
        for x in range(columns):
            box = (left + x * (wide + _GAP), upper, wide, tall)
            cell = grid.cells.get((x, y), _NOT_LISTED)
            picture = open_picture(cell.path, side) if cell.path is not None else None
            _place(sheet, draw, picture, box, cell.reason)
    return sheet


def _row_labels(draw: ImageDraw.ImageDraw, down: Axis | None, max_lines: int) -> list[list[str]]:
    if down is None:
        return []
    return [_lines(draw, brief({down.name: value}), _LABEL, _MAX_LABEL_WIDTH, max_lines) for value in down.values]


def _lines(draw: ImageDraw.ImageDraw, text: str, size: int, width: int, max_lines: int) -> list[str]:
    return text_lines(draw, text, font_for(text, size), width, max_lines)


def _width(draw: ImageDraw.ImageDraw, line: str) -> int:
    return math.ceil(draw.textlength(line, font_for(line, _LABEL)))


def _write_lines(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], anchor: str, size: int = _LABEL
) -> None:
    step = _LINE if size == _LABEL else size + 6
    for number, line in enumerate(lines):
        draw.text((place[0], place[1] + number * step), line, INK, font_for(line, size), anchor=anchor)


def _max_cell(columns: int, rows: int) -> int:
    """Returns the maximum side of a cell in pixels, so that the grid does not exceed its maximum size."""
    fitting = min(_MAX_SIDE // max(columns, rows), math.isqrt(_MAX_PIXELS // (columns * rows)))
    return max(0, min(_MAX_CELL, fitting - _GAP))


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
    """Draws the picture in the middle of the box (x, y, width, height), or a frame with the text `instead`."""
    x, y, wide, tall = box
    if picture is not None:
        sheet.paste(picture, (x + (wide - picture.width) // 2, y + (tall - picture.height) // 2))
        return
    draw.rectangle((x, y, x + wide - 1, y + tall - 1), outline=FRAME, width=2)
    size = _LABEL if wide > 2 * _MIN_WIDTH else _SMALL
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
    """Returns the values as `steps = 20, guidance = 2.5`."""
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}" for name, value in values.items()
    )


def _reason(entry: Entry) -> str:
    if entry.state == "failed":
        return f"failed: {(entry.error or {}).get('message', '')}"
    return "no picture" if entry.state == "done" else "not done yet"


def _write(sheet: Image.Image, folder: Path, stem: str, number: int) -> Path:
    path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
    with written_whole(path) as partial:
        sheet.save(partial, "PNG")
    return path
