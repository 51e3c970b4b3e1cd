"""Prompts for image models, from Python: composed from layers, and looked over.

    from kandiflux.prompt_tools import compose, lint

    composed = compose([{"kind": "subject", "text": "a red fox"}, {"kind": "background", "text": "a birch forest"}])
    print(composed.prompt)
    for finding in lint("(red fox:1.3), no people", "flux-dev"):
        print(finding)

The work is the node pack's (nodes/text), where the classes and rules are told of in full.
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
"""Something to be said of a prompt: code, severity, start, end, excerpt, message, suggestion, replacement."""

Layer: Any = pack_module("text.layers").Layer
"""A layer: kind, text, emphasis, relation, relation_to, name. A mapping with these keys serves as well."""

FORMS: tuple[str, ...] = _compose.FORMS
KINDS: tuple[str, ...] = pack_module("text.layers").KINDS
LANGUAGES: tuple[str, ...] = pack_module("text.detect").LANGUAGES
TARGETS: tuple[str, ...] = tuple(pack_module("text.targets").TARGETS)

Tokenizers = Mapping[str, Callable[[str], "list[int]"]]
"""By encoder, as in t5xxl: a text as its tokens."""


def compose(
    layers: Iterable[Any],
    target: str = "flux-dev",
    language: str = "auto",
    form: str = "hierarchical",
    tokenizers: Tokenizers | None = None,
) -> Any:
    """The prompt for `target` that says `layers`: a Composed, with prompt, negative, t5xxl, clip_l and notes. Raises
    UsageError for layers that cannot be understood, and for an unknown target, language or form."""
    return _told(lambda: _compose.compose(layers, target, language, form, tokenizers))


def lint(
    text: str, target: str = "flux-dev", language: str = "auto", tokenizers: Tokenizers | None = None
) -> list[Any]:
    """What is wrong with the prompt `text` for `target`: a list of Finding. Raises UsageError for an unknown target or
    language."""
    found: list[Any] = _told(lambda: _lint.lint(text, target, language, tokenizers))
    return found


def fix(text: str, target: str = "flux-dev", language: str = "auto") -> str:
    """`text` with what can be mended without knowing what was meant. Raises as lint does."""
    mended: str = _told(lambda: _lint.fix(text, target, language))
    return mended


def count_tokens(text: str, target: str = "flux-dev", tokenizers: Tokenizers | None = None) -> list[Any]:
    """The tokens `text` takes in each of the target's encoders. Raises UsageError for an unknown target."""
    counts: list[Any] = _told(lambda: _lint.count_tokens(text, target, tokenizers))
    return counts


def report(findings: list[Any], counts: list[Any], target: str) -> str:
    """Findings and token counts as lines of text."""
    lines: str = _told(lambda: _lint.report(findings, counts, target))
    return lines


def comfyui_tokenizers(folder: Path) -> Tokenizers:
    """The tokenizers of the ComfyUI in `folder`; none where the package tokenizers is missing. Raises UsageError where
    there is no ComfyUI."""
    if not (folder / "comfy").is_dir():
        raise UsageError(
            f"There is no ComfyUI in {folder}.", expected="the folder that holds main.py and comfy", got=str(folder)
        )
    tokenizers: Tokenizers = _told(lambda: _tokens.comfyui_tokenizers(folder))
    return tokenizers


def _told(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ValueError as error:
        raise UsageError(str(error)) from error
