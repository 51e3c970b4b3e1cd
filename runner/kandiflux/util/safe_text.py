"""Text from outside (servers, files, file names), made safe to show on a terminal or a page.

A terminal obeys escape sequences: they can set its title, write to the clipboard or clear the screen. Characters that
change the direction of writing can make a text look like another one.
"""

from __future__ import annotations

import re

__all__ = ["UNSAFE", "escaped", "one_line", "shortened"]

UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and line feed
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # direction of writing
    r"\u2028\u2029\ufff9-\ufffb"  # line separators, annotations
    r"\ud800-\udfff]"  # halves of characters, which no encoding has
)
"""One character that must not be shown as it is."""

_LIMIT = 4_000
_LINES = 100


def escaped(text: str) -> str:
    r"""`text` with every unsafe character as `\x1b` or `\u202e`. Tabs and line feeds stay."""
    return UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def shortened(text: str, limit: int = _LIMIT, lines: int = _LINES) -> str:
    """Head and tail of a text that is longer than `limit` characters or has more than `lines` lines."""
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
    """`text` escaped, on one line, of `limit` characters at most: head and tail of a longer one."""
    # What is far beyond the limit need not be looked at.
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
