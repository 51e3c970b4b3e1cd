"""What a rule of the linter is given, and what it finds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .detect import QUOTED
from .targets import Target

WARNING, HINT = "warning", "hint"


@dataclass(frozen=True)
class Finding:
    """Something at text[start:end]. `suggestion` is what to do; `replacement`, if any, what the span can be replaced
    by without asking. A warning is something that will not do what it is meant to; a hint is worth a look."""

    code: str
    severity: str
    start: int
    end: int
    excerpt: str
    message: str
    suggestion: str
    replacement: str | None = None

    def __str__(self) -> str:
        where = f" at {self.start + 1}" if self.excerpt else ""
        return f"{self.severity} {self.code}{where}: {self.message} {self.suggestion}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "start": self.start,
            "end": self.end,
            "text": self.excerpt,
            "message": self.message,
            "suggestion": self.suggestion,
            "replacement": self.replacement,
        }


@dataclass(frozen=True)
class Text:
    """A prompt, what it is for, and the language it is in."""

    text: str
    target: Target
    language: str
    _quotes: list[re.Match[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_quotes", [found for found in QUOTED.finditer(self.text) if not _inch(found)])

    @property
    def quoted(self) -> list[re.Match[str]]:
        """What stands in quotes, with them."""
        return self._quotes

    @cached_property
    def unquoted(self) -> str:
        """The text with a space for every letter within quotes: what is to be drawn is no prompt."""
        made = self.text
        for found in self._quotes:
            made = made[: found.start()] + " " * len(found[0]) + made[found.end() :]
        return made

    def finding(
        self, code: str, severity: str, start: int, end: int, message: str, suggestion: str, put: str | None = None
    ) -> Finding:
        return Finding(code, severity, start, end, self.text[start:end], message, suggestion, put)


def _inch(found: re.Match[str]) -> bool:
    """Whether the first quote is an inch: 5" or 19" monitors."""
    return found[0][0] == '"' and bool(re.search(r"\d$", found.string[: found.start()]))
