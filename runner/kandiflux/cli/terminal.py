"""The only module that prints for the commands: results on standard output, everything else on standard error.

It escapes text (see `safe_text`), and never raises for a character that the stream's encoding does not have. It uses
colours on a terminal or if FORCE_COLOR is set, unless NO_COLOR is set.
"""

from __future__ import annotations

import codecs
import io
import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from kandiflux.util.json_values import is_array, is_object
from kandiflux.util.safe_text import UNSAFE, escaped, one_line, shortened

__all__ = [
    "log_to_stderr",
    "prepare",
    "print_event",
    "print_json",
    "print_message",
    "print_parts",
    "print_path",
    "print_result",
    "print_table",
]

_MESSAGE_LIMIT, _MESSAGE_LINES = 20_000, 400
_CELL_LIMIT = 1_000
_FILE_NAMES = "kandiflux-file-names"


def prepare() -> None:
    """Sets up standard output, standard error and the log. Call it once, when a command starts."""
    codecs.register_error(_FILE_NAMES, _as_in_file_names)
    for stream, errors in ((sys.stdout, _FILE_NAMES), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    log_to_stderr(logging.WARNING, "%(levelname)s: %(message)s")


def log_to_stderr(level: int, layout: str) -> None:
    """Writes the log to standard error, escaped. Replaces existing log handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter(layout))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def print_result(text: str) -> None:
    """Prints one result on standard output."""
    _write(sys.stdout, escaped(text))


def print_path(path: str | Path) -> None:
    """Prints the path of a result on standard output: escaped on a terminal, unchanged for programs."""
    _write(sys.stdout, escaped(str(path)) if sys.stdout.isatty() else str(path))


def print_event(about: Mapping[str, Any]) -> None:
    """Prints a line of JSON Lines. schema_version changes if a key is removed or its meaning changes."""
    print_json({"schema_version": 1, **about})


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Prints a value as JSON, never shortened. Unsafe characters, and those that cannot be encoded, are escaped."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str, indent=indent)
    except ValueError:
        value = _finite(value)
        text = json.dumps(value, ensure_ascii=False, default=str, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, default=str, indent=indent)
    _write(sys.stdout, UNSAFE.sub(_as_json_escape, text))


def print_message(text: str, *, style: str = "") -> None:
    """Prints a message for the user on standard error. style: a style of rich, such as "red"."""
    print_parts((shortened(text, _MESSAGE_LIMIT, _MESSAGE_LINES), style), stream=sys.stderr)


def print_parts(*parts: tuple[str, str], stream: TextIO) -> None:
    """Prints a line of texts, each with its style."""
    if any(style for _, style in parts) and (stream.isatty() or os.environ.get("FORCE_COLOR")):
        from rich.console import Console
        from rich.text import Text

        Console(file=stream).print(Text.assemble(*((escaped(text), style) for text, style in parts)), soft_wrap=True)
    else:
        _write(stream, "".join(escaped(text) for text, _ in parts))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a table on standard output: drawn on a terminal, lines separated by tabs for programs."""
    if not sys.stdout.isatty():
        # Output for programs is not wrapped, and has no borders.
        for row in (head, *rows):
            print_result("\t".join(" ".join(cell.split()) for cell in row).rstrip())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(one_line(cell, _CELL_LIMIT), overflow="fold") for cell in row))
    Console().print(table)


def _write(stream: TextIO, text: str) -> None:
    # One call per line, because several threads may print.
    stream.write(f"{text}\n")
    stream.flush()


def _finite(value: Any) -> Any:
    """Replaces NaN and infinities with None, because JSON has no such numbers."""
    if is_object(value):
        return {key: _finite(item) for key, item in value.items()}
    if is_array(value):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _as_in_file_names(error: UnicodeError) -> tuple[str | bytes, int]:
    """Codec error handler: writes undecodable bytes of file names unchanged, and escapes other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    error.end = error.start + 1
    return codecs.backslashreplace_errors(error)


class _SafeFormatter(logging.Formatter):
    """Escapes log records, and shortens long ones to head and tail."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(shortened(super().format(record), _MESSAGE_LIMIT, _MESSAGE_LINES))
