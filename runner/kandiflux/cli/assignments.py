"""Parses the options `--set name=value` and `--header name: value`."""

from __future__ import annotations

from collections.abc import Iterable

from kandiflux.errors import UsageError
from kandiflux.util.paths import expanded

__all__ = ["parse_assignments", "parse_headers"]


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """Parses `name=value`. A quoted name may contain any character. `@file` reads a text file; `@@` stands for `@`."""
    values: dict[str, str] = {}
    for text in texts:
        name, value = _split(text)
        values[name] = _value(name, value)
    return values


def parse_headers(texts: Iterable[str]) -> dict[str, str]:
    """Parses a list of `Name: value`."""
    headers: dict[str, str] = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise UsageError("--header cannot be read.", expected="Name: value, separated by a colon")
        headers[name.strip()] = value.strip()
    return headers


def _split(text: str) -> tuple[str, str]:
    start = 0
    if text[:1] in ("'", '"'):
        start = text.find(text[0], 1) + 1
    name, equals, value = text[start:].partition("=")
    name = text[:start] + name.strip()
    if not equals or not name:
        raise UsageError("--set cannot be read.", expected="name=value", got=text)
    return name, value


def _value(name: str, value: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    if not value.startswith("@"):
        return value
    path = expanded(value[1:])
    try:
        return path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The value of {name} cannot be read from {path}: {error}.",
            hint="Write @@ for a value that begins with @.",
        ) from error
