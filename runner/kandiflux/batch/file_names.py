"""Makes the file names of jobs from a template such as `{index:04}_{seed}_{prompt:40}`.

{name}      a parameter of the job, {index} or {repeat} (both from 1), or {workflow}
{name:40}   the first 40 characters of a text
{name:.1f}  a number in one of Python's formats, as in {index:04} or {guidance:.1f}
{{ and }}   literal braces; / separates folders
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kandiflux.errors import UsageError
from kandiflux.jobs.outputs import safe_name

__all__ = ["NameTemplate", "Unique"]

_PART = re.compile(r"\{\{|\}\}|\{([^{}:]+)(?::([^{}]*))?\}|[{}]")
_MAX_TEXT = 80


@dataclass(frozen=True)
class _Field:
    name: str
    spec: str


class NameTemplate:
    """A parsed template. UsageError if it is not valid, or uses a name that is not in `known`.

    expected: the names that the error lists.
    """

    def __init__(self, text: str, known: Container[str], expected: Sequence[str] = ()) -> None:
        self.text = text
        self._parts: list[str | _Field] = []
        at = 0
        for match in _PART.finditer(text):
            self._parts.append(text[at : match.start()])
            at = match.end()
            if match[0] in ("{{", "}}"):
                self._parts.append(match[0][0])
            elif match[1] is None:
                raise UsageError(
                    "The name template has an unmatched brace or an empty {}.",
                    got=text,
                    hint="Write {{ for a literal brace.",
                )
            elif match[1] not in known:
                raise UsageError(
                    f"The name template uses {{{match[1]}}}, which no job has.",
                    expected=", ".join(expected) or None,
                    got=text,
                )
            else:
                self._parts.append(_Field(match[1], match[2] or ""))
        self._parts.append(text[at:])
        if not text.strip(" /."):
            raise UsageError("The name template is empty.", expected="a name such as {index:04}_{prompt:40}")

    def fill(self, values: Mapping[str, Any]) -> str:
        """Returns the path of a job's files without extension: safe on every file system, with `/` between folders.

        UsageError if a format does not fit the value.
        """
        text = "".join(part if isinstance(part, str) else self._field(part, values) for part in self._parts)
        folders = [safe_name(part) for part in text.split("/") if part.strip(" .")]
        return "/".join(folders) or "_"

    def _field(self, field: _Field, values: Mapping[str, Any]) -> str:
        value = values.get(field.name)
        if value is None:
            return ""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                text = format(value, field.spec)
            except ValueError as error:
                raise UsageError(
                    f"In the name template, {field.spec!r} is not a valid format for {field.name}, which is a number.",
                    expected="a format as in {index:04} or {guidance:.1f}",
                ) from error
        else:
            text = _shortened(str(value), field)
        # A value must neither create a folder nor lead to another one.
        return re.sub(r'[\s/\\<>:"|?*]+', "_", text).strip("_")


class Unique:
    """Makes names unique, ignoring case, by appending `_2`, `_3`, …"""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}
        self._count: dict[str, int] = {}

    def block(self, name: str) -> None:
        """Reserves this name."""
        self._taken.add(name.casefold())

    def take(self, name: str) -> str:
        """Returns this name, or the first free numbered one, and reserves it."""
        found, key = name, name.casefold()
        number = self._count.get(key, 1)
        while found.casefold() in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._count[key] = number
        self._taken.add(found.casefold())
        return found


def _shortened(text: str, field: _Field) -> str:
    if field.spec and not field.spec.isdecimal():
        raise UsageError(
            f"In the name template, {field.spec!r} is not a valid length for {field.name}, which is a text.",
            expected="a number of characters, as in {prompt:40}",
        )
    return text.strip()[: int(field.spec) if field.spec else _MAX_TEXT].strip()
