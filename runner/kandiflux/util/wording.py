"""Phrases of messages: lists of names, and the names that are nearest to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["names_text", "near_names"]


def names_text(names: Sequence[str]) -> str:
    """The first names of a list, and how many there are."""
    return (", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")) or "(no choices)"


def near_names(word: str, among: Iterable[str], count: int = 1, *, likeness: float = 0.5) -> str:
    """The names most like `word`, joined by `or`; empty where none is. likeness: how much, 1 for the same."""
    by_folded = {name.casefold(): name for name in among}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=count, cutoff=likeness)
    return " or ".join(repr(by_folded[name]) for name in close)
