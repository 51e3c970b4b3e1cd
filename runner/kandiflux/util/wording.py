"""Phrases for messages: lists of names, and the names nearest to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["names_text", "near_names"]


def names_text(names: Sequence[str]) -> str:
    """Joins the first 20 names, and says how many there are."""
    return (", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")) or "(no choices)"


def near_names(word: str, among: Iterable[str], count: int = 3, *, likeness: float = 0.5) -> str:
    """Returns the names most similar to `word`, joined by `or`; empty if there are none.

    likeness: the required similarity, from 0 to 1 (equal). At 0.5 or less, names that contain `word` also match.
    """
    by_folded = {name.casefold(): name for name in among}
    word = word.casefold()
    close = difflib.get_close_matches(word, by_folded, n=count, cutoff=likeness)
    if word and likeness <= 0.5:
        close += [name for name in by_folded if word in name and name not in close]
    return " or ".join(repr(by_folded[name]) for name in close[:count])
