"""Parses grids such as `steps=20,30 guidance=2.5,3`: the parameters that vary, and their values.

seed=1..4            a range with both ends; 1..9:2 has a step of 2, 1..2:0.25 a step of 0.25
prompt="a cat, asleep","a dog"      values quoted as in a shell
prompt=@prompts.txt  the lines of a file; write @@ for a value that begins with @
"My node".text=a,b   any name that can be set
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from kandiflux.errors import UsageError
from kandiflux.util.paths import expanded

__all__ = ["Axis", "parse_grid", "read_lines"]

_NAME = re.compile(r"""((?:"[^"]*"|'[^']*'|[^\s=,"'])+)=""")
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(\d+(?:\.\d+)?))?")
_MAX_VALUES = 1_000_000


@dataclass(frozen=True)
class Axis:
    """One parameter and its values in order."""

    name: str
    values: tuple[str, ...]


def parse_grid(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Returns the axes of all texts in order. UsageError, with the position, if a text is not valid."""
    axes: list[Axis] = []
    for text in texts:
        axes += _axes(text)
    seen: set[str] = set()
    for axis in axes:
        if axis.name in seen:
            raise UsageError(f"The grid names {axis.name} twice.", hint="Put all its values into one list.")
        seen.add(axis.name)
    return tuple(axes)


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file without empty ones and comments (#). UsageError if there are none."""
    try:
        text = expanded(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    # Not splitlines, which also splits at U+2028 and other characters.
    lines = [line.strip() for line in text.split("\n")]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(
            f"{path} contains no values.", expected="one value per line; lines that begin with # are ignored"
        )
    return found


def _axes(text: str) -> Iterator[Axis]:
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        name = _NAME.match(text, at)
        if name is None:
            raise _unreadable(text, at)
        values, at = _values(text, name.end())
        yield Axis(name[1], tuple(value for word, quoted in values for value in _expand(name[1], word, quoted)))


def _values(text: str, at: int) -> tuple[list[tuple[str, bool]], int]:
    """Returns the values from `at` to the next space, each with whether it was quoted, and the position after them."""
    start = at
    values: list[tuple[str, bool]] = []
    word, quoted = "", False
    while at < len(text) and not text[at].isspace():
        letter = text[at]
        if letter in "\"'":
            part, at = _quoted(text, at)
            word, quoted = word + part, True
            continue
        if letter == ",":
            values.append((word, quoted))
            word, quoted = "", False
        elif letter == "\\" and at + 1 < len(text):
            at += 1
            word, quoted = word + text[at], True
        else:
            word += letter
        at += 1
    values.append((word, quoted))
    if any(not word and not quoted for word, quoted in values):
        raise UsageError("The grid has an empty value.", got=text[start:at] or text, hint='Write "" for an empty text.')
    return values, at


def _quoted(text: str, at: int) -> tuple[str, int]:
    mark, start, word = text[at], at, ""
    at += 1
    while at < len(text) and text[at] != mark:
        if mark == '"' and text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            at += 1
        word += text[at]
        at += 1
    if at == len(text):
        raise UsageError("The grid has a quotation mark that is never closed.", got=text[start : start + 60])
    return word, at + 1


def _expand(name: str, word: str, quoted: bool) -> Sequence[str]:
    if quoted:
        return [word]
    if word.startswith("@@"):
        return [word[1:]]
    if word.startswith("@"):
        return read_lines(Path(word[1:]))
    bounds = _RANGE.fullmatch(word)
    return [word] if bounds is None else _range(name, word, *bounds.groups())


def _range(name: str, word: str, first: str, last: str, step: str | None) -> Sequence[str]:
    # Decimal, because three float steps of 0.1 are not 0.3.
    start, end, by = Decimal(first), Decimal(last), Decimal(step or 1)
    if by == 0:
        raise UsageError(f"The grid: the range of {name} has a step of 0.", got=word)
    count = int(abs(end - start) / by) + 1
    if count > _MAX_VALUES:
        raise UsageError(
            f"The grid: the range of {name} has {count} values.", expected=f"at most {_MAX_VALUES}", got=word
        )
    signed = by if end >= start else -by
    return [format(start + signed * number, "f") for number in range(count)]


def _unreadable(text: str, at: int) -> UsageError:
    return UsageError(
        "The grid is not valid.",
        expected='name=value,value name=value,… as in steps=20,30 guidance=2.5,3 prompt="a cat, asleep","a dog"',
        got=text[at : at + 60],
    )
