"""Composes and checks prompts for image models.

    from kandiflux.prompt_tools import compose, lint

    composed = compose([{"kind": "subject", "text": "a red fox"}, {"kind": "background", "text": "a birch forest"}])
    print(composed.prompt)
    for finding in lint("(red fox:1.3), no people", "flux-dev"):
        print(finding)

The code is in the node pack (nodes/text), which documents the classes and rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kandiflux.errors import UsageError
from kandiflux.util.pack_code import pack_module

__all__ = [
    "Composed",
    "Finding",
    "Layer",
    "Tokenizers",
    "comfyui_tokenizers",
    "compose",
    "count_tokens",
    "fix",
    "lint",
    "report",
]

_compose = pack_module("text.compose")
_lint = pack_module("text.lint")
_tokens = pack_module("text.tokens")

Composed: Any = _compose.Composed
"""A composed prompt: prompt, negative, t5xxl, clip_l, notes, target, language."""

Finding: Any = pack_module("text.findings").Finding
"""A finding about a prompt: code, severity, start, end, excerpt, message, suggestion, replacement."""

Layer: Any = pack_module("text.layers").Layer
"""A layer: kind, text, emphasis, relation, relation_to, name. A mapping with these keys also works."""

FORMS: tuple[str, ...] = _compose.FORMS
KINDS: tuple[str, ...] = pack_module("text.layers").KINDS
LANGUAGES: tuple[str, ...] = pack_module("text.detect").LANGUAGES
TARGETS: tuple[str, ...] = tuple(pack_module("text.targets").TARGETS)

Tokenizers = Mapping[str, Callable[[str], "list[int]"]]
"""Functions that return the tokens of a text, by encoder, as in t5xxl."""


def compose(
    layers: Iterable[Any],
    target: str = "flux-dev",
    language: str = "auto",
    form: str = "hierarchical",
    tokenizers: Tokenizers | None = None,
) -> Any:
    """Composes a prompt for `target` from `layers`; returns a Composed.

    Raises UsageError if a layer is not valid, or the target, language or form is unknown.
    """
    return _call(lambda: _compose.compose(layers, target, language, form, tokenizers))


def lint(
    text: str, target: str = "flux-dev", language: str = "auto", tokenizers: Tokenizers | None = None
) -> list[Any]:
    """Checks the prompt `text` for `target`; returns a list of Finding. UsageError if target or language is unknown."""
    found: list[Any] = _call(lambda: _lint.lint(text, target, language, tokenizers))
    return found


def fix(text: str, target: str = "flux-dev", language: str = "auto") -> str:
    """Returns `text` with all safe fixes: no word is added. Raises the errors of `lint`."""
    fixed: str = _call(lambda: _lint.fix(text, target, language))
    return fixed


def count_tokens(text: str, target: str = "flux-dev", tokenizers: Tokenizers | None = None) -> list[Any]:
    """Counts the tokens of `text` in each of the target's encoders. UsageError if the target is unknown."""
    counts: list[Any] = _call(lambda: _lint.count_tokens(text, target, tokenizers))
    return counts


def report(findings: list[Any], counts: list[Any], target: str) -> str:
    """Formats findings and token counts as lines of text."""
    lines: str = _call(lambda: _lint.report(findings, counts, target))
    return lines


def comfyui_tokenizers(folder: Path) -> Tokenizers:
    """Returns the tokenizers of the ComfyUI in `folder`; none if the package tokenizers is not installed.

    UsageError if there is no ComfyUI.
    """
    if not (folder / "comfy").is_dir():
        raise UsageError(
            f"There is no ComfyUI in {folder}.", expected="the folder with main.py and comfy", got=str(folder)
        )
    tokenizers: Tokenizers = _call(lambda: _tokens.load_tokenizers(folder / "comfy"))
    return tokenizers


def _call(function: Callable[[], Any]) -> Any:
    """Calls `function`, and raises its ValueError as UsageError."""
    try:
        return function()
    except ValueError as error:
        raise UsageError(str(error)) from error
