"""What a rule of the linter is given, and what it finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from .detect import QUOTED
from .targets import Target

WARNING, HINT = "warning", "hint"


@dataclass(frozen=True)
class Finding:
    """Something at text[start:end]. `suggestion` is what to do; `replacement`, if any, can be put in place of the span
    without asking. A warning is something that does not do what it is meant to; a hint is worth a look."""

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
        values = asdict(self)
        values["text"] = values.pop("excerpt")
        return values


@dataclass(frozen=True)
class Text:
    """A prompt, its target and its language."""

    text: str
    target: Target
    language: str

    @cached_property
    def unquoted(self) -> str:
        """The text with NUL characters for everything in quotes: what is to be drawn is not checked."""
        return QUOTED.sub(lambda found: "\0" * len(found[0]), self.text)

    def finding(
        self, code: str, severity: str, start: int, end: int, message: str, suggestion: str, put: str | None = None
    ) -> Finding:
        return Finding(code, severity, start, end, self.text[start:end], message, suggestion, put)
