"""Rules about syntax: weights, tags, brackets, quotes, spaces, length. A rule yields what it finds in a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from . import weights
from .cues import speaks_of_text
from .findings import HINT, WARNING, Finding, Text
from .quality import is_quality_tag
from .speak import find_language
from .targets import FLUX, SD15
from .tokens import Count

Found = Iterator[Finding]

_LORA = re.compile(r" ?<(lora|lyco|hypernet):([^:>]*)(?::([^>]*))?>", re.I)
_EMBEDDING = re.compile(r"[ ,]*\(?\bembedding:([\w./\\-]+)(?::[\d.]+)?\)?", re.I)
_CUE_REACH = (80, 45)
"""How far before and behind the quotes a word may stand that tells of text in the picture."""
_LIST_GAP = 20
"""How far from one thing in quotes the next of a list may stand."""

_BETWEEN_CAPITALS = re.compile(r"\b[A-Z]{2,} $")
"""What stands before AND where it is a word: NASA AND ESA."""
_MAY_DOUBLE = re.compile(
    "very|so|really|much|many|long|far|ha|bye|bora|pad|walla|cha|hush|knock|tut|yo|no|now|big|old|tick"
    "|еле|чуть|очень|много|давно|далеко|тихо|едва|так|вот|sehr|die|der|das|den|sie",
    re.I,
)


_SMALL_WORD = re.compile(
    "an?|the|of|in|on|at|to|and|or|with|is|are|by|for|from|his|her|its|в|на|с|и|под|у|по|из|ein|eine|mit|und|im|auf|ist",
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
        if found[0] == "AND" and _BETWEEN_CAPITALS.search(given.unquoted[: found.start()]):
            continue
        node = "Conditioning (Concat)" if found[0] == "BREAK" else "Conditioning (Combine)"
        yield given.finding(
            "break", WARNING, found.start(), found.end(),
            f"{found[0]} is A1111's syntax: ComfyUI reads it as a word.",
            f"Write what follows in a prompt of its own and join the two with {node}"
            f"{', or write it small' if found[0] == 'AND' else ''}.",
        )  # fmt: skip


# Weights and brackets


def weight_syntax(given: Text) -> Found:
    for weight in weights.find_weights(given.text):
        found = given.text[weight.start : weight.end]
        comma = re.search(r":\s*\d+,\d+\s*$", weight.inner)
        if comma and given.target.reads_weights:
            right = found.replace(comma[0], comma[0].replace(",", "."))
            yield given.finding(
                "malformed-weight", WARNING, weight.start, weight.end,
                f"The weight in {found} has a comma: ComfyUI takes it for text.", f"Write {right}.", right,
            )  # fmt: skip
        elif given.target.reads_weights:
            if weight.explicit and not 0 <= weight.value <= 1.6:
                yield given.finding(
                    "extreme-weight", WARNING, weight.start, weight.end,
                    f"A weight of {weight.value:g} distorts the picture.", "Stay between 0.5 and 1.5.",
                )  # fmt: skip
        elif comma:
            value = float(comma[0].strip(": ").replace(",", "."))
            yield from _weight_in_words(given, weight, weight.inner[: comma.start()], value)
        elif weight.explicit or weight.nested:
            plain, parts = weights.without_explicit(weights.numbered(found))
            yield from _weight_in_words(given, weight, plain, parts[-1][1] if parts else weights.TIMES)
        elif given.target.family == FLUX:
            yield given.finding(
                "parentheses", HINT, weight.start, weight.end,
                f"ComfyUI takes {found} for a weight of 1.1 and drops the parentheses.",
                r"Write it between commas, or \( and \) if they are to be read.", weights.escape(found),
            )  # fmt: skip


def _weight_in_words(given: Text, weight: weights.Weight, plain: str, value: float) -> Found:
    if given.target.family == FLUX and is_quality_tag(plain):
        return  # a rule of its own
    found = given.text[weight.start : weight.end]
    spoken = find_language(given.language)
    name = spoken.name("subject", f"{weights.article_of(given.text, weight)} {plain}".strip())
    if value > 1:
        suggestion = f'Write "{spoken.emphasis.format(name)}" in the sentence.'
    else:
        suggestion = f'Write "{plain.strip()}" and say that it is subtle, or leave it out.'
    why = (
        "FLUX was not trained with weights: ComfyUI would stretch what T5 says of these words."
        if given.target.family == FLUX
        else f"{given.target.title} reads no weights: the brackets and the number are read as text."
    )
    yield given.finding("weights", WARNING, weight.start, weight.end, f"{found}: {why}", suggestion)


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
        what = "is never closed" if given.text[at] == "(" else "closes nothing"
        if given.target.drops_parentheses:
            message = f"The parenthesis {what}: ComfyUI reads the weights behind it wrongly."
            suggestion = rf"Add its partner, or write \{given.text[at]} if it is to be read."
        else:
            message, suggestion = f"The parenthesis {what}.", "Add its partner or take it out."
        severity = WARNING if given.target.drops_parentheses else HINT
        yield given.finding("unbalanced-parentheses", severity, at, at + 1, message, suggestion)


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
    last = -_LIST_GAP  # where what was last in quotes, and rightly, ends
    for found in given.quoted:
        around = given.text[max(0, found.start() - before) : found.start()] + " … "
        around += given.text[found.end() : found.end() + behind]
        if found.start() - last < _LIST_GAP or speaks_of_text(around):
            last = found.end()
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
        slip = bool(_SMALL_WORD.fullmatch(found[1]))  # of other words, some are meant: vulpes vulpes
        yield given.finding(
            "doubled-word", WARNING if slip else HINT, found.start(), found.end(),
            f"“{found[0]}” says the same word twice.", "Say it once.", found[1] if slip else None,
        )  # fmt: skip


_SLIPS = (
    (re.compile(r"(?<=\S)[ \t]{2,}(?=\S)"), "More than one space.", lambda found: " "),
    (re.compile(r"(?<=\w) +(?=[,;](?!\d)|[!?.](?:\s|$)|[，。；！？])"), "A space before a comma or full stop.",
     lambda found: ""),
    (re.compile(r"[,;，；、](?:\s*[,;，；、])+"), "Doubled punctuation.", lambda found: found[0][0]),
    (re.compile(r"(?<!\.)\.\.(?!\.)|\.{4,}|。。+|\.,|,\."), "Doubled punctuation.",
     lambda found: "..." if len(found[0]) > 3 else "." if "." in found[0] else "。"),
    (re.compile(r"^\s*[,;，；、。]+\s*"), "The prompt begins with a punctuation mark.", lambda found: ""),
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
        suggestion = f"Write {right!r} for {found[0]!r}." if right else "Take it out."
        yield given.finding("punctuation", HINT, start, end, message, suggestion, right)


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
