"""ComfyUI's weights in a prompt: `(words)` is 1.1, `(words:1.3)` is 1.3, a bracket after a backslash is a bracket."""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
DEEPEST = 100
TIMES = 1.1
"""The factor of parentheses without a number."""


@dataclass(frozen=True)
class Weight:
    """`(inner:value)` at text[start:end]; `explicit` where it says the number itself. `inner` may hold further ones."""

    start: int
    end: int
    inner: str
    value: float
    explicit: bool

    @property
    def nested(self) -> bool:
        """Whether it is `((so))`, which is a weight and no remark in brackets."""
        inner = self.inner.strip()
        return not self.explicit and any(each.start == 0 and each.end == len(inner) for each in find_weights(inner))


def find_weights(text: str) -> list[Weight]:
    """The outermost weights of `text`, in order; unbalanced parentheses are none. Raises ValueError for more within
    each other than ComfyUI's parser, or anybody, could read."""
    found: list[Weight] = []
    opened: list[int] = []
    for i, letter in enumerate(text):
        if letter not in "()" or _escaped(text, i):
            continue
        if letter == "(":
            opened.append(i)
            if len(opened) > DEEPEST:
                raise ValueError(f"Expected at most {DEEPEST} parentheses within each other, got more: {text[:40]}…")
        elif opened:
            start = opened.pop()
            while found and found[-1].start > start:  # it stands within this one
                found.pop()
            found.append(_read(text, start, i + 1))
    return found


def stray_parentheses(text: str) -> list[int]:
    """Where parentheses stand that have no partner."""
    opened: list[int] = []
    closed: list[int] = []
    for i, letter in enumerate(text):
        if letter == "(" and not _escaped(text, i):
            opened.append(i)
        elif letter == ")" and not _escaped(text, i):
            if opened:
                opened.pop()
            else:
                closed.append(i)
    return sorted(opened + closed)


def plain(text: str) -> str:
    """`text` as the tokenizer gets it: without weights, and without the backslashes of brackets that are text."""
    for weight in reversed(find_weights(text)):
        text = text[: weight.start] + _drop(weight.inner) + text[weight.end :]
    return unescape(text)


def escape(text: str) -> str:
    """`text` with each parenthesis as text, those that are already so left alone."""
    return re.sub(r"(?<!\\)([()])", r"\\\1", text)


def escape_text(text: str) -> str:
    """`text` with its explicit weights kept, and every other parenthesis as text."""
    made, at = "", 0
    for weight in find_weights(text):
        made += escape(text[at : weight.start])
        if weight.explicit:
            made += weighted(escape_text(weight.inner), weight.value)
        else:
            made += rf"\({escape_text(weight.inner)}\)"
        at = weight.end
    return made + escape(text[at:])


def unescape(text: str) -> str:
    return re.sub(r"\\([()])", r"\1", text)


def weighted(text: str, value: float) -> str:
    """`(text:value)`, or `text` where the value is 1."""
    rounded = f"{round(value, 2):g}"
    return text if rounded == "1" else f"({text}:{rounded})"


def without_weights(text: str) -> str:
    """`text` without weights: `(so:1.2)`, `(so:1,2)` and `((so))` become `so`; `(so)` stays, as a remark."""
    text = re.sub(r"(:\s*\d+),(\d+\s*\))", r"\1.\2", text)
    made, at = "", 0
    for weight in find_weights(text):
        made += unescape(text[at : weight.start])
        inner = plain(weight.inner) if weight.nested else without_weights(weight.inner)
        made += inner if weight.explicit or weight.nested else f"({inner})"
        at = weight.end
    return made + unescape(text[at:])


def _read(text: str, start: int, end: int) -> Weight:
    inner = text[start + 1 : end - 1]
    words, colon, number = inner.rpartition(":")
    if colon and words and NUMBER.fullmatch(number.strip()):
        return Weight(start, end, words, float(number), True)
    return Weight(start, end, inner, TIMES, False)


def _drop(text: str) -> str:
    for weight in reversed(find_weights(text)):
        text = text[: weight.start] + _drop(weight.inner) + text[weight.end :]
    return text


def _escaped(text: str, i: int) -> bool:
    return i > 0 and text[i - 1] == "\\"
