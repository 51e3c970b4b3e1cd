"""All pictures of a batch on contact sheets, and a grid's pictures in labelled rows and columns."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw

from kandiflux.batch.drawing import GROUND, INK, LINE, MUTED, fitted, font_for, text_lines
from kandiflux.batch.grid import Axis
from kandiflux.batch.jobs import JobList
from kandiflux.batch.ledger import Entry, Ledger, Saved
from kandiflux.batch.pictures import THUMBNAIL, open_picture

__all__ = ["write_contact_sheets", "write_xy_grids"]

_COLUMNS, _ROWS = 8, 12
_GAP = 14
_SMALL, _LABEL, _TITLE = 13, 18, 22
_LARGEST_CELL, _SMALLEST_CELL = 512, 24
_LONGEST_SIDE = 12_000
_MOST_CELLS = 10_000


def write_contact_sheets(ledger: Ledger, folder: Path, title: str) -> list[Path]:
    """`batch-sheet.png` (`-2`, … where there are many): every picture with its name, failed jobs with their reason."""
    pages: list[Path] = []
    cells: list[tuple[Entry, Saved | None]] = []
    for entry in ledger.entries():
        pictures = [file for file in entry.files if file.kind == "image"]
        if pictures:
            cells += [(entry, file) for file in pictures]
        elif entry.state == "failed":
            cells.append((entry, None))
        while len(cells) >= _COLUMNS * _ROWS:
            pages.append(_contact_sheet(ledger, folder, title, cells[: _COLUMNS * _ROWS], len(pages) + 1))
            cells = cells[_COLUMNS * _ROWS :]
    if cells:
        pages.append(_contact_sheet(ledger, folder, title, cells, len(pages) + 1))
    return pages


def _contact_sheet(
    ledger: Ledger, folder: Path, title: str, cells: Sequence[tuple[Entry, Saved | None]], number: int
) -> Path:
    columns = min(_COLUMNS, max(1, math.ceil(math.sqrt(len(cells)))))
    rows = math.ceil(len(cells) / columns)
    tall = THUMBNAIL + 2 * _SMALL + _GAP
    head = 2 * _GAP + _TITLE
    sheet = Image.new("RGB", (_GAP + columns * (THUMBNAIL + _GAP), head + rows * (tall + _GAP)), GROUND)
    draw = ImageDraw.Draw(sheet)
    text = title if number == 1 else f"{title} · {number}"
    _text(draw, (_GAP, _GAP), text, _TITLE, sheet.width - 2 * _GAP)
    for at, (entry, file) in enumerate(cells):
        x = _GAP + at % columns * (THUMBNAIL + _GAP)
        y = head + at // columns * (tall + _GAP)
        picture = _thumbnail(ledger, folder, file)
        _place(sheet, draw, picture, (x, y, THUMBNAIL, THUMBNAIL), _reason(entry))
        name = file.path.rpartition(".")[0] if file else entry.name
        _text(draw, (x, y + THUMBNAIL + 6), name, _SMALL, THUMBNAIL)
        _text(draw, (x, y + THUMBNAIL + 8 + _SMALL), _brief(entry.values), _SMALL, THUMBNAIL, MUTED)
    return _write(sheet, folder / ("batch-sheet.png" if number == 1 else f"batch-sheet-{number}.png"))


@dataclass(frozen=True)
class _Page:
    """One XY grid: what is the same in all its pictures, and the job at each (column, row)."""

    title: str
    jobs: Mapping[tuple[int, int], Entry]


def write_xy_grids(ledger: Ledger, folder: Path, jobs: JobList, title: str) -> list[Path]:
    """`batch-grid.png`: columns are the first axis, rows the second; further axes, rows of a jobs file and
    repetitions each have a grid of their own (`batch-grid-2.png`, …). Nothing where there is no axis.
    """
    across, down = (*jobs.axes, None, None)[:2]
    if across is None or not 2 <= len(across.values) * (len(down.values) if down else 1) <= _MOST_CELLS:
        return []
    written: list[Path] = []
    for page in _pages(ledger, jobs, title):
        number = len(written) + 1
        sheet = _xy_grid(page, folder, across, down)
        written.append(_write(sheet, folder / ("batch-grid.png" if number == 1 else f"batch-grid-{number}.png")))
    return written


def _pages(ledger: Ledger, jobs: JobList, title: str) -> Iterator[_Page]:
    """Grids in their order. Their jobs follow each other in the list, so one grid's are in memory at a time."""
    laid_out = (entry for entry in ledger.entries() if len(entry.place) == len(jobs.axes) + 2)
    for (row, *rest), group in groupby(laid_out, key=lambda entry: (entry.place[0], *entry.place[3:-1])):
        about = [f"{axis.name} = {axis.values[at]}" for axis, at in zip(jobs.axes[2:], rest, strict=True)]
        if jobs.rows:
            about.insert(0, _brief(jobs.rows[row].values))
        repetitions: dict[int, dict[tuple[int, int], Entry]] = {}
        for entry in group:
            place = [*entry.place[1:-1], 0]
            x, y = place[0], place[1]
            repetitions.setdefault(entry.place[-1], {})[x, y] = entry
        for number, cells in sorted(repetitions.items()):
            which = [f"{number + 1} of {jobs.repeat}"] if jobs.repeat > 1 else []
            yield _Page(" · ".join([title, *about, *which]), cells)


def _xy_grid(page: _Page, folder: Path, across: Axis, down: Axis | None) -> Image.Image:
    rows: Sequence[str] = down.values if down else ("",)
    side = max(_SMALLEST_CELL, min(_LARGEST_CELL, _LONGEST_SIDE // max(len(across.values), len(rows)) - _GAP))
    pictures = {at: _picture(folder, entry, side) for at, entry in page.jobs.items()}
    wide = max((picture.width for picture in pictures.values() if picture), default=min(side, THUMBNAIL))
    tall = max((picture.height for picture in pictures.values() if picture), default=min(side, THUMBNAIL))
    # Labels need room even over small pictures.
    wide = max(wide, min(120, side))
    tall = max(tall, min(4 * _LABEL, side))
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = 2 * _GAP
    if down is not None:
        labels = [f"{down.name} = {value}" for value in rows]
        left += int(min(260, max(probe.textlength(label, font_for(label, _LABEL)) for label in labels))) + 1
    heads = [_label(probe, f"{across.name} = {value}", wide, 3) for value in across.values]
    top = _GAP + _TITLE + _GAP + max(map(len, heads)) * (_LABEL + 4) + _GAP // 2
    sheet = Image.new(
        "RGB", (left + len(across.values) * (wide + _GAP), top + len(rows) * (tall + _GAP)), GROUND
    )  # fmt: skip
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_GAP, _GAP), page.title, _TITLE, sheet.width - 2 * _GAP)
    for x, lines in enumerate(heads):
        middle = left + x * (wide + _GAP) + wide // 2
        above = top - _GAP // 2 - len(lines) * (_LABEL + 4)
        for number, line in enumerate(lines):
            draw.text((middle, above + number * (_LABEL + 4)), line, INK, font_for(line, _LABEL), anchor="ma")
    for y, value in enumerate(rows):
        upper = top + y * (tall + _GAP)
        if down is not None:
            lines = _label(draw, f"{down.name} = {value}", left - 2 * _GAP, max(1, tall // (_LABEL + 4)))
            first = upper + (tall - len(lines) * (_LABEL + 4)) // 2
            for number, line in enumerate(lines):
                draw.text((left - _GAP, first + number * (_LABEL + 4)), line, INK, font_for(line, _LABEL), anchor="ra")
        for x in range(len(across.values)):
            entry = page.jobs.get((x, y))
            _place(sheet, draw, pictures.get((x, y)), (left + x * (wide + _GAP), upper, wide, tall), _reason(entry))
    return sheet


def _picture(folder: Path, entry: Entry, side: int) -> Image.Image | None:
    first = next((file for file in entry.files if file.kind == "image"), None)
    return None if first is None else open_picture(folder / first.path, side)


def _thumbnail(ledger: Ledger, folder: Path, file: Saved | None) -> Image.Image | None:
    if file is None:
        return None
    kept = ledger.thumbnail(file)
    return Image.open(io.BytesIO(kept)) if kept else open_picture(folder / file.path, THUMBNAIL)


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
    draw.rectangle((x, y, x + wide - 1, y + tall - 1), outline=LINE, width=2)
    font = font_for(instead, _SMALL)
    for number, line in enumerate(text_lines(draw, instead, font, wide - 20, max(1, (tall - 20) // (_SMALL + 4)))):
        draw.text((x + 10, y + 10 + number * (_SMALL + 4)), line, MUTED, font)


def _label(draw: ImageDraw.ImageDraw, text: str, width: int, most: int) -> list[str]:
    return text_lines(draw, text, font_for(text, _LABEL), width, most)


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


def _brief(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _reason(entry: Entry | None) -> str:
    if entry is None:
        return "not in the list"
    if entry.state == "failed":
        return f"failed: {(entry.error or {}).get('message', '')}"
    return "no picture" if entry.state == "done" else "not done yet"


def _write(sheet: Image.Image, path: Path) -> Path:
    partial = path.with_name(f".{path.name}.part")
    sheet.save(partial, "PNG")
    partial.replace(path)
    return path
