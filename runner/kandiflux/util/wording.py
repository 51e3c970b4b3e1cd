"""Phrases for messages: lists of names, and the names nearest to a mistyped one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

__all__ = ["misspelt", "names_text", "near_names"]


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


def misspelt(word: str, among: Iterable[str]) -> str | None:
    """Returns the name that `word` misspells; None if there is none.

    It differs in case and punctuation only, or in one letter: missing, added, wrong, or swapped with the next. A letter
    at the end, or a digit, tells different names apart (LoadImages, LoaderV2), so these are not misspelt.
    """
    plain = _plain(word)
    found = None
    for name in among:
        other = _plain(name)
        if plain == other:
            return name
        begin = next((at for at, (one, two) in enumerate(zip(plain, other, strict=False)) if one != two), 0)
        a, b = plain[begin:], other[begin:]
        pairs = ((a[1:], b), (a, b[1:]), (a[1:], b[1:]), (a[1:2] + a[:1] + a[2:], b))
        if begin and not re.search(r"\d", a[:1] + b[:1]) and any(one == two != "" for one, two in pairs):
            found = found or name
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
