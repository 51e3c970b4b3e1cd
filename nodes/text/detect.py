"""Which language a prompt is in: by script, then, for Latin letters, by the words that every sentence has."""

from __future__ import annotations

import re
from collections.abc import Iterable

LANGUAGES = ("en", "ru", "zh", "de")
CYRILLIC = "\u0400-\u052f"
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
QUOTED = re.compile(r'"[^"\n]*"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|「[^」\n]*」|『[^』\n]*』')
"""What stands in quotes: text to be drawn, in whatever language."""

_GERMAN = frozenset(
    re.findall(
        r"\w+",
        """der die das den dem des ein eine einer einem einen eines und mit im am auf vor hinter unter über aus vom zum
        zur bei nach für ist sind wird nicht kein keine ohne sehr sich als auch oder durch zwischen neben weiß rot blau
        grün gelb schwarz alte alter altes junge junger kleine kleiner großer große steht sitzt liegt licht""",
    )
)
_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        """the a an of and with at by for from is are to into over under behind near front her his their its very while
        as or through between beside white red blue green yellow black old young small large light""",
    )
)


def detect(texts: Iterable[str]) -> str:
    """ "en", "ru", "zh" or "de": that of most of the words in `texts`, quotes aside; English where nothing tells."""
    text = QUOTED.sub(" ", " ".join(texts))
    han = len(re.findall(f"[{HAN}]", text)) * 2  # a character says about what half a word of letters does
    cyrillic = len(re.findall(f"[{CYRILLIC}]", text))
    latin = len(re.findall("[A-Za-zÄÖÜäöüß]", text))
    if han >= max(cyrillic, latin) and han:
        return "zh"
    if cyrillic * 1.5 >= latin and cyrillic:  # brands and measures are Latin in any language
        return "ru"
    words = re.findall("[a-zäöüß]+", text.lower())
    german = sum(word in _GERMAN for word in words) + 2 * len(re.findall("[ÄÖÜäöüß]", text))
    return "de" if german > sum(word in _ENGLISH for word in words) else "en"
