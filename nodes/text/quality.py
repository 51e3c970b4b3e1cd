"""Tags that praise a picture: what captions for SD1.5's kind had, and FLUX's have not."""

from __future__ import annotations

import re

_TAG = re.compile(
    r"masterpieces?|(?:best|high(?:est)?|top|ultra|amazing|great|super|insane) quality"
    r"|(?:(?:ultra|hyper|super|highly|extremely|insanely)[ -]?)?(?:detailed|realistic)(?: 8k| 4k)?"
    r"|(?:ultra[ -]?)?(?:[48]|16)k(?: uhd| resolution| wallpaper| hd)?|u?hd|hdr|raw photo|absurdres|highres"
    r"|(?:trending on )?(?:artstation|cgsociety|deviantart)|award[ -]winning|high[ -]res(?:olution)?|score_\d(?:_up)?"
    r"|(?:very )?intricate(?: details?)?|extreme(?:ly)? details?|unreal engine(?: \d)?|octane render|sharp focus"
    r"|perfect (?:face|anatomy|lighting)|professional|шедевр|(?:лучшее|высокое|высочайшее) качество|высокая детализация"
    r"|杰作|最佳质量|最高质量|高质量|超高清|高清|极致细节|超精细|meisterwerk|(?:beste|höchste|hohe) qualität"
    r"|(?:hoch|ultra)detailliert",
    re.I,
)
_PLAIN = re.compile(
    r"masterpiece|quality|8k|16k|artstation|cgsociety|absurdres|score_|highres|шедевр|качество|杰作|质量|meisterwerk"
    r"|qualität",
    re.I,
)


def is_quality_tag(phrase: str) -> bool:
    """Whether `phrase`, what stands between two commas, says nothing but that the picture is good."""
    return bool(_TAG.fullmatch(re.sub(r":[\d.]+|[()\[\]]", "", phrase).strip()))


def is_plain_tag(phrase: str) -> bool:
    """Whether it is one that nobody would write into a sentence: "masterpiece", not "sharp focus"."""
    return bool(_PLAIN.search(phrase))
