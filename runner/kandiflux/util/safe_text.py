"""Makes text from outside (servers, files, file names) safe to show on a terminal or a page.

Terminals execute escape sequences, which can set the title, write to the clipboard or clear the screen. Characters that
change the writing direction can make text look like other text.
"""

from __future__ import annotations

import re

__all__ = ["UNSAFE", "escaped", "one_line", "shortened"]

UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and line feed
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # writing direction
    r"\u2028\u2029\ufff9-\ufffb"  # line separators, annotations
    r"\ud800-\udfff]"  # lone surrogates, which cannot be encoded
)
"""Matches one character that must not be shown unescaped."""

_LIMIT = 4_000
_LINES = 100


def escaped(text: str) -> str:
    r"""Replaces every unsafe character by its escape, as in `\x1b` or `\u202e`. Tabs and line feeds stay."""
    return UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def shortened(text: str, limit: int = _LIMIT, lines: int = _LINES) -> str:
    """Shortens text of more than `limit` characters or `lines` lines to its head and tail."""
    if text.count("\n") >= lines:
        parts = text.split("\n")
        head, tail = parts[: lines * 2 // 3], parts[len(parts) - lines // 3 :]
        left_out = f"… {len(parts) - len(head) - len(tail)} lines left out …"
        text = "\n".join([*head, left_out, *tail])
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]}\n… {len(text) - head - tail} characters left out …\n{text[len(text) - tail :]}"


def one_line(text: str, limit: int = 200) -> str:
    """Escapes `text`, joins its lines, and shortens it to head and tail of at most `limit` characters."""
    # Only process the parts that can remain.
    if len(text) > 8 * limit:
        text = f"{text[: 4 * limit]} {text[len(text) - 4 * limit :]}"
    text = escaped(" ".join(text.split()))
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 3]} … {text[len(text) - tail :]}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
