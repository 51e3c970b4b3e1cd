"""The languages a prompt can be composed in."""

from __future__ import annotations

from .detect import LANGUAGES
from .english import ENGLISH
from .language import CHINESE, GERMAN, RUSSIAN, Language

_SPOKEN = {language.code: language for language in (ENGLISH, RUSSIAN, CHINESE, GERMAN)}


def find_language(code: str) -> Language:
    """The language called `code`. Raises ValueError for an unknown one."""
    if code not in _SPOKEN:
        raise ValueError(f"Expected a language among auto, {', '.join(LANGUAGES)}, got {code!r}.")
    return _SPOKEN[code]
