"""What a text is written in: its script, and what in it is quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable

LANGUAGES = ("en", "ru", "zh", "de")
CYRILLIC = "\u0400-\u052f"
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
QUOTED = re.compile(
    r'(?<!\d)"[^"\n]*"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|「[^」\n]*」|『[^』\n]*』'
    r"|(?<!\w)'[^'\n]*'(?!\w)|‘[^’\n]*’(?!\w)"
)
"""Quoted text: to be drawn, so no rule about words applies. After a digit, " is an inch; within a word, ' is an
apostrophe."""
_GERMAN = re.compile(r"\b(?:[Ee]ine?[rmns]?|der|das|dem|und|mit|im|auf|ist)\b")


def language_of(texts: Iterable[str], language: str = "auto") -> str:
    """`language`, or for "auto" that of `texts`: "ru" and "zh" by the script of most letters, "de" by a few words, else
    "en".

    Raises ValueError for an unknown language.
    """
    if language in LANGUAGES:
        return language
    if language != "auto":
        raise ValueError(f"Expected a language among auto, {', '.join(LANGUAGES)}, got {language!r}.")
    text = QUOTED.sub(" ", " ".join(texts))
    han = len(re.findall(f"[{HAN}]", text)) * 2  # one character is about half a word
    cyrillic = len(re.findall(f"[{CYRILLIC}]", text)) * 1.5  # brands and units are Latin in any language
    latin = len(re.findall("[A-Za-z]", text))
    if han and han >= max(cyrillic, latin):
        return "zh"
    if cyrillic and cyrillic >= latin:
        return "ru"
    return "de" if _GERMAN.search(text) else "en"
