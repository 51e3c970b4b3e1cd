"""What the editor does to texts when it queues: dynamic prompts, and dates and widget values in file names."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import datetime

__all__ = ["SAVING_CLASSES", "as_queued", "has_choices", "replace_placeholders"]

SAVING_CLASSES = frozenset(
    {
        "CLIPSave", "LoraSave", "ModelSave", "Save3DAdvanced", "SaveAnimatedPNG", "SaveAnimatedWEBP", "SaveAudio",
        "SaveAudioAdvanced", "SaveAudioMP3", "SaveAudioOpus", "SaveGLB", "SaveGaussianSplat", "SaveImage",
        "SaveImageAdvanced", "SaveLatent", "SavePointCloud", "SaveSVGNode", "SaveVideo", "SaveWEBM", "VAESave",
        "VHS_VideoCombine",
    }
)  # fmt: skip
"""Classes whose `filename_prefix` may hold placeholders."""

_COMMENT = re.compile(r"/\*[\s\S]*?\*/|//.*")
_NOT_IN_A_FILE_NAME = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')
_MAX_DEPTH = 100


def has_choices(text: str) -> bool:
    """Returns whether the text contains a random choice: an unescaped `|` within unescaped braces."""
    depth = 0
    pieces = re.finditer(r"\\.|[{}|]", _COMMENT.sub("", text), re.DOTALL)
    for piece in pieces:
        if piece[0] == "{":
            depth += 1
        elif piece[0] == "}":
            depth = max(0, depth - 1)
        elif piece[0] == "|" and depth:
            return True
    return False


def as_queued(text: str, draw: random.Random) -> str:
    """Expands a dynamic prompt: removes comments, draws one choice of `{a|b}`, and unescapes braces."""
    return _expanded(text, draw, 0)


def _expanded(text: str, draw: random.Random, depth: int) -> str:
    text = _COMMENT.sub("", text)
    made: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "\\":
            made.append(text[at : at + 2])
            at += 2
        elif text[at] == "{":
            choices, at = _choices(text, at + 1)
            chosen = draw.choice(choices)
            made.append(_expanded(chosen, draw, depth + 1) if depth < _MAX_DEPTH else chosen)
        else:
            made.append(text[at])
            at += 1
    return re.sub(r"\\([{}|])", r"\1", "".join(made))


def _choices(text: str, at: int) -> tuple[list[str], int]:
    """Returns the choices of the block that begins at `at`, after its brace, and the position after the block."""
    choices: list[str] = []
    choice, depth = "", 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\\":
            choice += text[at - 1 : at + 1]
            at += 1
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                break
            depth -= 1
        elif character == "|" and depth == 0:
            choices.append(choice)
            choice = ""
            continue
        choice += character
    return [*choices, choice], at


def replace_placeholders(text: str, now: datetime, widget: Callable[[str, str], str | None]) -> str:
    """Replaces `%date:yyyy-MM-dd%` and `%Node.widget%`. Other placeholders are left for the server.

    widget: returns the value of a widget as text, or None, for the node's name or title and the widget's name.
    """

    def fill(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if len(parts) == 2:
            value = widget(parts[0], parts[1])
            return match[0] if value is None else _NOT_IN_A_FILE_NAME.sub("_", value)
        if parts[0].startswith("date:"):
            return _date(parts[0].removeprefix("date:"), now)
        return match[0]

    return re.sub(r"%([^%]+)%", fill, text)


def _date(pattern: str, now: datetime) -> str:
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def fill(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] == "y":
            return str(now.year) if letters == "yyyy" else str(now.year)[2:] if letters == "yy" else letters
        return str(parts[letters[0]]).zfill(len(letters))

    return re.sub(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|y{2,4}", fill, pattern)
