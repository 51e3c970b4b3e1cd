"""Rules about syntax: weights, tags, brackets, quotes, spaces, length. A rule yields what it finds in a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from . import weights
from .findings import HINT, WARNING, Finding, Text
from .language import Language
from .quality import is_quality_tag
from .speak import find_language
from .targets import FLUX, SD15
from .tokens import Count

Found = Iterator[Finding]

_LORA = re.compile(r" ?<(lora|lyco|hypernet):([^:>]*)(?::([^>]*))?>", re.I)
_EMBEDDING = re.compile(r"[ ,]*\(?\bembedding:([\w./\\-]+)(?::[\d.]+)?\)?", re.I)
_TEXT_CUES = {
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
_CUE_REACH = (70, 45)
"""How far before and behind the quotes a word may stand that tells of text in the picture."""

_MAY_DOUBLE = re.compile(
    "very|so|really|much|many|long|far|ha|bye|bora|pad|walla|cha|hush|knock|tut|yo|no|now|big|old|tick"
    "|еле|чуть|очень|много|давно|далеко|тихо|едва|так|вот|sehr|die|der|das|den|sie",
    re.I,
)


def empty(given: Text) -> Found:
    if not given.text.strip():
        yield given.finding("empty", HINT, 0, 0, "The prompt is empty.", "Say what is to be seen.")


def lora_syntax(given: Text) -> Found:
    """`<lora:name:0.8>` is A1111's."""
    for found in _LORA.finditer(given.text):
        loader = "LoraLoaderModelOnly" if given.target.family == FLUX else "LoraLoader"
        strength = f" with strength {found[3]}" if found[3] else ""
        yield given.finding(
            "lora-syntax", WARNING, found.start(), found.end(),
            f"{found[0].strip()} loads nothing in ComfyUI: its letters are read as words.",
            f"Load {found[2]!r} with the node {loader}{strength}, and take this out.", "",
        )  # fmt: skip


def embedding(given: Text) -> Found:
    """Textual inversion is SD's."""
    for found in _EMBEDDING.finditer(given.text):
        start = given.text.index("embedding:", found.start()) if "embedding:" in found[0] else found.start()
        if given.target.family != SD15:
            whole = found[0]
            put = ", " if re.match(r"[ ,]*,", whole) and re.match(r"\s*\w", given.text[found.end() :]) else ""
            yield given.finding(
                "embedding", WARNING, found.start(), found.end(),
                f"embedding:{found[1]} is an embedding for Stable Diffusion: {given.target.title} cannot use it.",
                "Take it out, and describe what it stands for.", put,
            )  # fmt: skip
        elif start and given.text[start - 1] not in " \n(":
            yield given.finding(
                "embedding", WARNING, start, found.end(),
                f"ComfyUI finds embedding:{found[1]} only after a space.",
                "Put a space before it.", " " + given.text[start : found.end()],
            )  # fmt: skip


def a1111_words(given: Text) -> Found:
    """BREAK and AND of A1111."""
    if not re.search("[a-zа-яёäöüß]", given.unquoted):  # all in capitals: AND is a word
        return
    for found in re.finditer(r"(?<![\w-])(?:BREAK|AND)(?![\w-])", given.unquoted):
        node = "Conditioning (Concat)" if found[0] == "BREAK" else "Conditioning (Combine)"
        yield given.finding(
            "break", WARNING, found.start(), found.end(),
            f"{found[0]} is A1111's syntax: ComfyUI reads it as a word.",
            f"Write what follows in a prompt of its own and join the two with {node}"
            f"{', or write it small' if found[0] == 'AND' else ''}.",
        )  # fmt: skip


# Weights and brackets


def nested(weight: weights.Weight) -> bool:
    """Whether it is `((so))`, which is a weight and no remark in brackets."""
    inner = weight.inner.strip()
    return not weight.explicit and any(
        each.start == 0 and each.end == len(inner) for each in weights.find_weights(inner)
    )


def explicit(text: str) -> str:
    """`text` with each `((so))` written as `(so:1.21)`."""
    for weight in reversed(weights.find_weights(text)):
        if weight.explicit:
            continue
        inner, value = weight.inner.strip(), weights.TIMES
        while (within := weights.find_weights(inner)) and (within[0].start, within[0].end) == (0, len(inner)):
            if within[0].explicit:
                inner, value = within[0].inner, within[0].value
                break
            inner, value = within[0].inner.strip(), value * weights.TIMES
        if value != weights.TIMES:
            text = text[: weight.start] + f"({inner}:{value:.2f})" + text[weight.end :]
    return text


def weight_syntax(given: Text) -> Found:
    for weight in weights.find_weights(given.text):
        found = given.text[weight.start : weight.end]
        if bad := re.search(r":\s*\d+,\d+\s*$", weight.inner):
            put = found.replace(bad[0], bad[0].replace(",", ".")) if given.target.reads_weights else None
            yield given.finding(
                "malformed-weight", WARNING, weight.start, weight.end,
                f"The weight in {found} has a comma: ComfyUI takes it for text.",
                f"Write {found.replace(bad[0], bad[0].replace(',', '.'))}.", put,
            )  # fmt: skip
        elif given.target.reads_weights:
            if weight.explicit and not 0 <= weight.value <= 1.6:
                yield given.finding(
                    "extreme-weight", WARNING, weight.start, weight.end,
                    f"A weight of {weight.value:g} distorts the picture.", "Stay between 0.5 and 1.5.",
                )  # fmt: skip
        elif weight.explicit or nested(weight):
            yield from _weight_in_words(given, weight)
        elif given.target.family == FLUX:
            yield given.finding(
                "parentheses", HINT, weight.start, weight.end,
                f"ComfyUI takes {found} for a weight of 1.1 and drops the parentheses.",
                r"Write it between commas, or \( and \) if they are to be read.", weights.escape(found),
            )  # fmt: skip


def _weight_in_words(given: Text, weight: weights.Weight) -> Found:
    found = given.text[weight.start : weight.end]
    plain, parts = weights.without_explicit(explicit(found))
    if given.target.family == FLUX and is_quality_tag(plain):
        return  # a rule of its own
    value = parts[-1][1] if parts else weights.TIMES
    spoken = find_language(given.language)
    name = spoken.name("subject", plain.strip())
    if value > 1:
        suggestion = f'Write "{_stress(spoken, name)}" in the sentence.'
    else:
        suggestion = f'Write "{plain.strip()}" and say that it is subtle, or leave it out.'
    why = (
        "FLUX was not trained with weights: ComfyUI would stretch what T5 says of these words."
        if given.target.family == FLUX
        else f"{given.target.title} reads no weights: the brackets and the number are read as text."
    )
    yield given.finding("weights", WARNING, weight.start, weight.end, f"{found}: {why}", suggestion)


def _stress(spoken: Language, name: str) -> str:
    return spoken.emphasis.format(name)


def brackets(given: Text) -> Found:
    """`[so]` and `[from:to:when]` of A1111."""
    for found in re.finditer(r"\[([^\[\]\n]*)\]", given.unquoted):
        if re.search(r":[^:]*:?\s*[\d.]+\s*$|\|", found[1]):
            yield given.finding(
                "brackets", WARNING, found.start(), found.end(),
                f"{found[0]} is A1111's syntax for changing prompts: ComfyUI reads it as text.",
                "Use two prompts, each with Conditioning (Set Timestep Range).",
            )  # fmt: skip
            continue
        instead = f"({found[1]}:0.9)" if given.target.reads_weights else "it plainly, or leave it out"
        yield given.finding(
            "brackets", WARNING, found.start(), found.end(),
            f"{found[0]} makes nothing weaker in ComfyUI: the brackets are read as text.",
            f"Write {instead}.", instead if given.target.reads_weights else found[1],
        )  # fmt: skip


def unbalanced_parentheses(given: Text) -> Found:
    for at in weights.stray_parentheses(given.text):
        if at and re.match(r"[:;=8xX][-']?[()]", given.text[max(0, at - 1) : at + 1]):
            continue  # a smile
        what = "is never closed" if given.text[at] == "(" else "closes nothing"
        yield given.finding(
            "unbalanced-parentheses", WARNING, at, at + 1,
            f"The parenthesis {what}{': weights go wrong from here on' if given.target.drops_parentheses else ''}.",
            "Add its partner or take it out.",
        )  # fmt: skip


# Quotes


def quotes(given: Text) -> Found:
    """Quotes that have no partner; inches and apostrophes are none."""
    rest = given.unquoted
    for found in re.finditer(r'["“”„«»「」『』]', rest):
        if found[0] in '"”' and re.search(r"\d$", rest[: found.start()]):
            continue
        if found[0] == "„" and "“" in rest[found.end() :]:
            continue
        yield given.finding(
            "unbalanced-quotes", WARNING, found.start(), found.end(),
            f"The quote {found[0]} has no partner.", "Close it, or take it out.",
        )  # fmt: skip


def quoted_words(given: Text) -> Found:
    """FLUX draws what stands in quotes."""
    if given.target.family != FLUX:
        return
    before, behind = _CUE_REACH
    for found in given.quoted:
        around = given.text[max(0, found.start() - before) : found.start()] + " … "
        around += given.text[found.end() : found.end() + behind]
        if any(
            re.search(cues if language == "zh" else rf"(?<!\w)(?:{cues})(?!\w)", around, re.I)
            for language, cues in _TEXT_CUES.items()
        ):
            continue
        words = found[0][1:-1]
        yield given.finding(
            "quotes", HINT, found.start(), found.end(),
            f"FLUX tends to write {found[0]} into the picture.",
            f"Leave the quotes out; if it is to be written, say so: the text {found[0]}.", words,
        )  # fmt: skip


# Slips


def doubled_words(given: Text) -> Found:
    if given.language == "zh":
        return
    for found in re.finditer(r"(?<![\w-])([^\W\d_]{2,})(?:[ \t]+(\1))+(?![\w-])", given.unquoted, re.I):
        if _MAY_DOUBLE.fullmatch(found[1]) or (found[1][0].isupper() and found[2][0].isupper()):
            continue
        yield given.finding(
            "doubled-word", WARNING, found.start(), found.end(),
            f"“{found[0]}” says the same word twice.", "Say it once.", found[1],
        )  # fmt: skip


_SLIPS = (
    (re.compile(r"(?<=\S)[ \t]{2,}(?=\S)"), "More than one space.", lambda found: " "),
    (re.compile(r"(?<=\w) +(?=[,;](?!\d)|[!?.](?:\s|$)|[，。；！？])"), "A space before a comma or full stop.",
     lambda found: ""),
    (re.compile(r"[,;，；、](?:\s*[,;，；、])+"), "Doubled punctuation.", lambda found: found[0][0]),
    (re.compile(r"(?<!\.)\.\.(?!\.)|\.{4,}|。。+|\.,|,\."), "Doubled punctuation.",
     lambda found: "..." if len(found[0]) > 3 else "." if "." in found[0] else "。"),
    (re.compile(r"^\s*[,;，；、。]+\s*"), "The prompt begins with a punctuation mark.", lambda found: ""),
    (re.compile(r"(?<=[^\W\d_]),(?=[^\W\d_])"), "No space after a comma.", lambda found: ", "),
)  # fmt: skip


def spaces_and_punctuation(given: Text) -> Found:
    taken = 0
    slips = [(found, message, put) for pattern, message, put in _SLIPS for found in pattern.finditer(given.unquoted)]
    for found, message, put in sorted(slips, key=lambda slip: (slip[0].start(), -slip[0].end())):
        if found.start() < taken:
            continue
        taken = found.end()
        start, end = found.span()
        if not given.text[start:end].strip() and given.text[start:end] != found[0]:
            continue
        if given.text[start:end] != found[0]:  # it spans quotes
            continue
        right = put(found)
        yield given.finding(
            "punctuation", HINT, start, end, message, f"Write {right!r} for {found[0]!r}.", right
        )  # fmt: skip


# Length


def too_long(given: Text, counts: Sequence[Count]) -> Found:
    read = weights.plain(given.text) if given.target.drops_parentheses else given.text
    for found in counts:
        if not found.over or found.encoder.beyond == "unread":
            continue
        encoder = found.encoder
        estimated = "" if found.exact else " (an estimate)"
        last = " ".join(read[: found.read].split()[-3:])
        if encoder.beyond == "chunked":
            yield given.finding(
                "tokens", HINT, 0, 0,
                f"{found.tokens - 2} tokens{estimated} are more than the 75 that SD1.5 reads at once: ComfyUI encodes "
                "them in pieces of 75 that know nothing of each other.",
                f"Keep what belongs together in one piece; the first ends after “…{last}”.",
            )  # fmt: skip
        elif encoder.beyond == "lost":
            yield given.finding(
                "tokens", WARNING, 0, 0,
                f"{encoder.title} reads {encoder.limit} tokens, and these are {found.tokens}{estimated}: what stands "
                f"after “…{last}” is cut off.",
                "Say the most important first and leave out the rest.",
            )  # fmt: skip
        else:
            yield given.finding(
                "tokens", WARNING, 0, 0,
                f"{given.target.title} was trained on up to {encoder.limit} T5 tokens, and these are "
                f"{found.tokens}{estimated}: what stands after “…{last}” is followed badly or not at all.",
                "Say the most important first and shorten the rest.",
            )  # fmt: skip
