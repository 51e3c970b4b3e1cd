"""Reads lists of jobs from files, and combines them with prompts, a grid and repetitions."""

from __future__ import annotations

import csv
import io
import itertools
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kandiflux.batch.grid import Axis
from kandiflux.errors import UsageError
from kandiflux.util.json_values import is_list, is_object, parse_json
from kandiflux.util.paths import expanded

__all__ = ["JobList", "Listed", "Row", "read_jobs"]

_READERS = {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".yaml", ".yml"}
_FORMS = "CSV with a header, JSON Lines (.jsonl), a JSON array or YAML list of objects"


@dataclass(frozen=True)
class Row:
    """Parameters of one job. source: the file and line, for error messages."""

    values: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class Listed:
    """One job of a list. row: its index in `JobList.rows` (0 if there are none). place: its index on each axis.

    repetition: counts from 0.
    """

    values: Mapping[str, Any]
    row: int = 0
    place: tuple[int, ...] = ()
    repetition: int = 0


@dataclass(frozen=True)
class JobList:
    """All combinations of rows, axes and repetitions. Their values override `base`, which is the same for all jobs.

    Rows vary slowest, then the axes from last to first, then repetitions: the reading order of a grid whose columns are
    the first axis and whose rows are the second.
    """

    base: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rows: Sequence[Row] = ()
    axes: tuple[Axis, ...] = ()
    repeat: int = 1

    def __post_init__(self) -> None:
        named = {axis.name for axis in self.axes}
        for row in self.rows:
            twice = named & row.values.keys()
            if twice:
                raise UsageError(
                    f"{row.source} sets {', '.join(sorted(twice))}, which the grid or the prompts also set.",
                    hint="Remove it from one of them.",
                )

    def __len__(self) -> int:
        count = max(1, len(self.rows)) * self.repeat
        for axis in self.axes:
            count *= len(axis.values)
        return count

    def __iter__(self) -> Iterator[Listed]:
        rows = self.rows or (Row({}, ""),)
        places = [range(len(axis.values)) for axis in reversed(self.axes)]
        for number, row in enumerate(rows):
            for reversed_place in itertools.product(*places):
                place = reversed_place[::-1]
                values = {**self.base, **row.values}
                for axis, at in zip(self.axes, place, strict=True):
                    values[axis.name] = axis.values[at]
                for repetition in range(self.repeat):
                    yield Listed(values, number, place, repetition)


def read_jobs(path: Path) -> list[Row]:
    """Returns the jobs of a file. UsageError, with the line or the job's number, if it is not a list of jobs.

    An empty CSV cell or a null does not set the parameter.
    """
    path = expanded(path)
    if path.suffix.lower() not in _READERS:
        raise UsageError(f"{path} has an unknown file type.", expected=_FORMS, got=path.suffix or "no file extension")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        rows = _csv(path, text)
    elif kind in (".jsonl", ".ndjson"):
        rows = _json_lines(path, text)
    else:
        rows = _objects(path, _yaml(path, text) if kind in (".yaml", ".yml") else _json(path, text))
    if not rows:
        raise UsageError(f"{path} contains no jobs.", expected=_FORMS)
    return rows


def _csv(path: Path, text: str) -> list[Row]:
    header = text.partition("\n")[0]
    # Spreadsheets in locales with a decimal comma write semicolons. Quoted names may contain any delimiter.
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    try:
        names = [name.strip() for name in next(reader, list[str]())]
        if "" in names or len(set(names)) < len(names):
            raise UsageError(
                f"{path}: the first line is not a header.",
                expected="a different name in each column",
                got=header.strip(),
            )
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path} line {reader.line_num}"
            if len(cells) > len(names):
                raise UsageError(
                    f"{where} has {len(cells)} cells, the header {len(names)}.",
                    hint=f"Put texts that contain {delimiter!r} into double quotes.",
                )
            rows.append(Row({name: cell for name, cell in zip(names, cells, strict=False) if cell.strip()}, where))
    except csv.Error as error:
        raise UsageError(f"{path} line {reader.line_num} is not valid CSV: {error}.") from error
    return rows


def _json_lines(path: Path, text: str) -> list[Row]:
    rows: list[Row] = []
    # Not splitlines, which also splits at U+2028 and other characters that a JSON string may contain.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path} line {number}"
            try:
                values = parse_json(line)
            except ValueError as error:
                raise UsageError(f"{where} is not valid JSON: {error}.", got=line[:80]) from error
            rows.append(_row(where, values))
    return rows


def _json(path: Path, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(
            f"{path} is not valid JSON: {error}.",
            hint="If it has one object per line (JSON Lines), rename it to .jsonl.",
        ) from error


def _yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply.", expected=_FORMS) from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not valid YAML: {error}.") from error


def _objects(path: Path, data: Any) -> list[Row]:
    if is_object(data):
        data = data.get("jobs", data)
    if not is_list(data):
        raise UsageError(f"{path} is not a list of jobs.", expected=_FORMS, got=type(data).__name__)
    return [_row(f"{path} job {number}", values) for number, values in enumerate(data, 1)]


def _row(where: str, values: Any) -> Row:
    if not is_object(values):
        raise UsageError(
            f"{where} is not an object.", expected='{"prompt": "a cat", "steps": 20}', got=reprlib.repr(values)
        )
    for name, value in values.items():
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise UsageError(
                f"{where}: the value of {name} has an unsupported type.",
                expected="a text, number, true or false",
                got=reprlib.repr(value),
            )
    return Row({str(name): value for name, value in values.items() if value is not None}, where)
