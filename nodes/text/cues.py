"""Words that tell of writing in a picture."""

from __future__ import annotations

import re

_CUES = {
    "en": r"text|words?|letters?|lettering|read(?:s|ing)?|sa(?:ys?|ying)|spell(?:s|ing|ed)?|writ(?:e|es|ten|ing)|signs?"
    r"|signboard|signage|titled?|label(?:s|led|ed)?|logo|inscri(?:bed|ption)|captions?|captioned|slogan|headline|banner"
    r"|poster|billboard|print(?:s|ed)?|engraved|embroidered|painted|typography|font|names?|named|tag|badge|sticker"
    r"|plaque|neon|shows?|displays?|displaying|number|plate|graffiti|handwriting|speech|bubble|menu|cover|stamped|carved|phrase|quote|message|tattoo",
    "ru": r"надпис\w*|текст\w*|слов\w*|букв\w*|написан\w*|вывеск\w*|табличк\w*|заголов\w*|логотип\w*|подпис\w*"
    r"|плакат\w*|лозунг\w*|гравиров\w*|выгравирован\w*|вышит\w*|обложк\w*|названи\w*|номер\w*|граффити|читается"
    r"|гласит|шрифт\w*",
    "zh": "写|字|文|标语|招牌|牌|标题|标志|商标|刻|印|书名|封面|海报|横幅|名",
    "de": r"text|wort\w*|worte\w*|buchstab\w*|schrift\w*|\w*schriftzug|aufschrift|inschrift|beschrift\w*|steht|stehen"
    r"|liest|\w*schild\w*|titel|überschrift|etikett|logo|slogan|plakat|banner|gedruckt|graviert|geschrieben|name\w*|nummer"
    r"|graffiti|umschlag|cover|zeigt|lautet|tafel|sprechblase",
}  # fmt: skip


def speaks_of_text(text: str) -> bool:
    """Whether `text` speaks of something written, in any of the languages."""
    return any(
        re.search(cues if language == "zh" else rf"(?<!\w)(?:{cues})(?!\w)", text, re.I)
        for language, cues in _CUES.items()
    )
