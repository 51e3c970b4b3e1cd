"""Rules about words: negations, tags, keyword soup, languages. A rule yields what it finds in a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .detect import CYRILLIC, HAN
from .findings import HINT, WARNING, Finding, Text
from .negations import NEGATIONS, positive_of
from .quality import is_plain_tag, is_quality_tag
from .targets import FLUX, SD15, T5

Found = Iterator[Finding]

_LINKS = (
    "and|or|but|in|on|with|at|of|to|from|for|by|near|и|или|но|в|на|с|у|под|над"
    "|und|oder|aber|im|am|an|auf|mit|vor|bei|zu"
)
"""Small words that what is negated does not go beyond."""
_THING = {
    "zh": re.compile(r"(?:任何)?([^\s，。,、；]{1,4})"),
    "latin": re.compile(
        r"\s+(?:(?:any|visible|a|an|the|a single|jegliche\w*|никаких)\s+)*"
        rf"([^\W\d_][\w-]*(?:\s(?!(?:{_LINKS})\b)[^\W\d_][\w-]*)?)"
    ),
}
_MANY_TAGS = 3
_FUNCTION = {
    "en": r"an?|the|of|in|on|at|with|and|by|for|from|to|into|over|under|behind|through|against|is|are|his|her|its|their"
    r"|as|that|which|while|between|near|beside|above|below|\w+ing|across|around|along|inside|toward|towards",
    "ru": r"в|во|на|с|со|и|под|над|у|за|из|к|по|перед|среди|между|около|вокруг|который|которая|которое|которые"
    r"|\w+(?:ет|ит|ют|ят|ут|ат|ется|ится|ются|ятся)|его|её|их|до|от|через|возле|рядом",
    "de": r"ein|eine[rnms]?|der|die|das|den|dem|des|in|im|auf|an|am|mit|und|vor|hinter|unter|über|aus|vom|von|zum|zur"
    r"|bei|neben|zwischen|ist|sind|steht|stehen|sitzt|liegt|hält|trägt|durch|seine[rnm]?|ihre[rnm]?|sein|ihr",
}  # fmt: skip
_SOUP_FRAGMENTS = 6
_WHITE = {
    "en": re.compile(
        r"(?:(?:pure|plain|solid|clean|simple|bright|empty|seamless)[ ,]+)*white (?:back(?:ground|drop))"
        r"|on (?:pure |plain |solid )?white(?=[.,;]|$)",
        re.I,
    ),
    "ru": re.compile(r"(?:на )?(?:чисто[- ]?)?бел(?:ом|ый|ого) фон(?:е|а)?(?!\w)", re.I),
    "zh": re.compile("(?:纯)?白色?的?背景|(?:纯)?白底"),
    "de": re.compile(r"(?:vor |auf )?(?:rein ?)?weiß(?:em|er|en|e) hintergrund", re.I),
}  # fmt: skip
_CYRILLIC_TWINS = "аеорсухіАВЕКМНОРСТУХІѕЅјЈ"
_LATIN_TWINS = "aeopcyxiABEKMHOPCTYXIsSjJ"
_TO_LATIN = str.maketrans(_CYRILLIC_TWINS, _LATIN_TWINS)
_TO_CYRILLIC = str.maketrans(_LATIN_TWINS[:18], _CYRILLIC_TWINS[:18])
_UNKNOWN_TO_T5 = re.compile(rf"[{HAN}\u3040-\u30ff\uac00-\ud7af\u0600-\u06ff\u0590-\u05ff\u0900-\u097f\u0e00-\u0e7f]+")
_LANGUAGE_NAMES = {"en": "English", "ru": "Russian", "zh": "Chinese", "de": "German"}


def negations(given: Text) -> Found:
    for found in NEGATIONS[given.language].finditer(given.unquoted):
        if found[0].isupper() and len(found[0]) == 2 and given.language == "en" and not given.unquoted.isupper():
            continue  # NO, a name or an abbreviation
        pattern = _THING["zh" if given.language == "zh" else "latin"]
        thing = pattern.match(given.unquoted, found.end())
        end = thing.end(1) if thing else found.end()
        positive = positive_of(thing[1], given.language) if thing else None
        instead = f', such as "{positive}"' if positive else ""
        named = f"“{given.text[found.start() : end]}”"
        if given.target.negative_prompt:
            message = f"{named} names what is not wanted, and {given.target.title} draws what is named."
            suggestion = (
                f"Put it into the negative prompt, without the negation, or say what is there instead{instead}."
            )
        else:
            message = f"{named}: {given.target.title} hardly reads negations, and draws what is named."
            suggestion = f"Say what is there instead{instead}."
        yield given.finding("negation", WARNING, found.start(), end, message, suggestion)


def _fragments(text: str) -> list[tuple[int, int, str]]:
    """What stands between commas and full stops: start, end and text, trimmed."""
    made = []
    for found in re.finditer(r"[^,，、;；.。\n]+", text):
        inner = found[0].strip()
        if inner:
            start = found.start() + found[0].index(inner)
            made.append((start, start + len(inner), inner))
    return made


def quality_tags(given: Text) -> Found:
    """masterpiece, best quality, 8k: captions that T5 was not trained with."""
    if given.target.family != FLUX:
        return
    tags = [each for each in _fragments(given.unquoted) if is_quality_tag(each[2])]
    if not any(is_plain_tag(tag) for _, _, tag in tags) and len(tags) < _MANY_TAGS:
        return
    for start, end, tag in tags:
        before = re.search(r"[,，、;]\s*$", given.text[:start])
        behind = re.match(r"\s*[,，、;]\s*", given.text[end:])
        first, last = start, end
        if before:
            first = before.start()
        elif behind:
            last = end + behind.end()
        put = "" if first != start or last != end else None
        yield given.finding(
            "quality-tag", WARNING, first, last,
            f"“{tag}” does nothing for FLUX: it was trained on sentences.",
            "Take it out, or say what makes the picture good: the light, the lens, the material.", put,
        )  # fmt: skip


def keyword_soup(given: Text) -> Found:
    """Phrases between commas where a sentence should be."""
    if given.target.family != FLUX:
        return
    fragments = [inner for _, _, inner in _fragments(given.unquoted)]
    if len(fragments) < _SOUP_FRAGMENTS or len(re.findall(r"[.。!！?？](?:\s|$)", given.text.strip())) > 2:
        return
    if given.language == "zh":
        glue = sum(bool(re.search("[在着了是把被从向与和的]", inner)) for inner in fragments)
        short = sum(len(inner) <= 6 for inner in fragments)
        soup = glue <= len(fragments) / 3
    else:
        words = [word for inner in fragments for word in inner.split()]
        glue = sum(bool(re.fullmatch(_FUNCTION[given.language], word, re.I)) for word in words)
        short = sum(len(inner.split()) <= 3 for inner in fragments)
        soup = glue <= 0.12 * len(words)
    if soup and short >= 0.7 * len(fragments):
        yield given.finding(
            "keyword-soup", WARNING, 0, 0,
            f"{len(fragments)} phrases between commas, and no sentence: FLUX reads sentences, and loses what belongs "
            "to what.",
            "Say who does what, where, and in what light, in one to four sentences.",
        )  # fmt: skip


def white_background(given: Text) -> Found:
    if given.target.name != "flux-dev":
        return
    for found in _WHITE[given.language].finditer(given.unquoted):
        yield given.finding(
            "white-background", WARNING, found.start(), found.end(),
            f"“{found[0]}” makes FLUX.1 dev's pictures blurry.",
            'Write "a plain light grey studio backdrop, evenly lit", or name a place.',
        )  # fmt: skip


# Languages


def lookalike_letters(given: Text) -> Found:
    """Words with both Latin and Cyrillic letters: a slip of the keyboard, and unknown to every tokenizer."""
    for found in re.finditer(rf"[A-Za-z{CYRILLIC}]+", given.unquoted):
        word = found[0]
        latin = re.findall("[A-Za-z]", word)
        cyrillic = re.findall(f"[{CYRILLIC}]", word)
        if not latin or not cyrillic:
            continue
        right = _one_alphabet(word, latin, cyrillic)
        stray, alphabet = (latin, "Latin") if re.match(f"[{CYRILLIC}]", right or "x") else (cyrillic, "Cyrillic")
        odd = ", ".join(dict.fromkeys(stray))
        yield given.finding(
            "mixed-alphabet", WARNING, found.start(), found.end(),
            f"“{word}” has Latin and Cyrillic letters ({odd} {'is' if ',' not in odd else 'are'} {alphabet}).",
            f'Type it anew: "{right}".' if right else "Type it anew, in one alphabet.", right,
        )  # fmt: skip


def _one_alphabet(word: str, latin: list[str], cyrillic: list[str]) -> str | None:
    """The word in the alphabet of most of its letters, if the others have twins there."""
    ways = [(_TO_LATIN, f"[{CYRILLIC}]"), (_TO_CYRILLIC, "[A-Za-z]")]
    for table, wrong in ways if len(latin) >= len(cyrillic) else reversed(ways):
        if not re.search(wrong, made := word.translate(table)):
            return made
    return None


def mixed_languages(given: Text) -> Found:
    """English words in Russian or Chinese, Russian or Chinese ones in English or German; names and measures aside."""
    if given.language in ("ru", "zh"):
        foreign, other = re.compile(r"(?<![\w:<./\\-])[a-z]{3,}(?:[ -][a-z]+)*(?![\w:>])"), "English"
    else:
        foreign, other = re.compile(rf"(?<!\w)[{CYRILLIC}]{{2,}}(?:[ -][{CYRILLIC}]+)*(?!\w)|[{HAN}]+"), None
    for found in foreign.finditer(given.unquoted):
        if re.search(r"\d\s*$", given.unquoted[: found.start()]):  # 85 mm
            continue
        language = other or ("Chinese" if re.match(f"[{HAN}]", found[0]) else "Russian")
        yield given.finding(
            "mixed-languages", WARNING, found.start(), found.end(),
            f"“{found[0]}” is {language} in a prompt in {_LANGUAGE_NAMES[given.language]}: both are read worse.",
            "Write the whole prompt in one language.",
        )  # fmt: skip


def unread_language(given: Text) -> Found:
    """What the target's encoder never learnt."""
    target = given.target
    for encoder in (encoder for encoder in target.encoders if encoder.tokenizer == T5):
        for found in _UNKNOWN_TO_T5.finditer(given.text):
            yield given.finding(
                "unknown-letters", WARNING, found.start(), found.end(),
                f"{target.title}'s {encoder.title} knows none of these letters: it reads “{found[0][:12]}"
                f"{'…' if len(found[0]) > 12 else ''}” as one unknown word.",
                "Write it in English.",
            )  # fmt: skip
    if (given.language in ("ru", "de") and target.family in (FLUX, SD15)) or (
        given.language == "zh" and target.family == SD15
    ):
        yield given.finding(
            "language", HINT, 0, 0,
            f"{target.title} learnt English captions; {_LANGUAGE_NAMES[given.language]} works worse.",
            "Write it in English; Kandinsky 2.1 reads Russian, Chinese and German.",
        )  # fmt: skip
