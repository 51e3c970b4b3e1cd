"""The linter's rules: a table of patterns, and functions for what a pattern cannot tell. Each yields findings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import weights
from .detect import CYRILLIC, HAN
from .findings import HINT, WARNING, Finding, Text
from .targets import SD15, T5, Target
from .tokens import Count

Found = Iterator[Finding]


@dataclass(frozen=True)
class Rule:
    """A finding wherever `pattern` matches. `message` and `suggestion` are formats of {found}, {title} (the target's)
    and the pattern's named groups; `put` is a template of re.Match.expand for the replacement."""

    code: str
    severity: str
    pattern: re.Pattern[str]
    message: str
    suggestion: str
    put: str | None = None
    applies: Callable[[Target], bool] = lambda target: True
    in_quotes: bool = False

    def __call__(self, given: Text) -> Found:
        if not self.applies(given.target):
            return
        for found in self.pattern.finditer(given.text if self.in_quotes else given.unquoted):
            words = {**found.groupdict(""), "found": found[0].strip(" ,"), "title": given.target.title}
            yield given.finding(
                self.code, self.severity, found.start(), found.end(),
                self.message.format(**words), self.suggestion.format(**words),
                found.expand(self.put) if self.put is not None else None,
            )  # fmt: skip


_NEGATION = re.compile(
    r"(?<![-\w])(?:(?-i:(?!NO\b))no(?! longer| sooner| less| more than| matter| doubt|\.? ?\d)|without(?: any)?"
    r"|not(?! only)|nobody|nothing(?! but)|none(?! other)|never|neither"
    r"|(?:do|does|did|is|are|was|were|has|have|can)n['’]t|без|нет|не(?! только)|ни|никого|ничего|никто"
    r"|ohne|kein(?:e[nmrs]?)?|nicht(?! nur)|niemand|nichts)(?![-\w])(?:\s+[^\W\d_][\w-]*)?"
    r"|(?:没有|没人|不要|不带|不含|禁止)[^\s，。,、；]{0,4}",
    re.I,
)
_QUALITY = (
    r"masterpieces?|(?:best|high|highest|top|ultra|amazing) quality|(?:ultra )?(?:[48]|16)k(?: uhd| resolution| hd)?"
    r"|u?hd|absurdres|highres|(?:trending on )?(?:artstation|cgsociety|deviantart)|score_\d(?:_up)?"
    r"|шедевр|лучшее качество|杰作|最佳质量"
)
_EMBEDDING = r"\(?\bembedding:[\w./\\-]+(?::[\d.]+)?\)?"
_SMALL_WORD = r"an?|the|of|in|on|at|to|and|or|with|is|are|by|for|from|в|на|с|и|под|у|по|из|ein|eine|mit|und|im|auf|ist"
_PATTERNS = (
    Rule("lora-syntax", WARNING, re.compile(r" ?<(?:lora|lyco|hypernet):(?P<name>[^:>]*)(?::[^>]*)?>", re.I),
         "{found} loads nothing in ComfyUI: it is read as words.",
         "Load {name!r} with a Load LoRA node, and take this out.", "", in_quotes=True),
    Rule("embedding", WARNING, re.compile(rf",?\s*{_EMBEDDING}(?=\s*(?:[,.]|$))|\s*{_EMBEDDING}", re.I),
         "{found} is an embedding for Stable Diffusion: {title} cannot use it.",
         "Take it out, and describe what it stands for.", "", lambda target: target.family != SD15, in_quotes=True),
    Rule("embedding", WARNING, re.compile(r"(?<=[^\s(])embedding:[\w./\\-]+", re.I),
         "ComfyUI finds {found} only after a space.", "Put a space before it.", r" \g<0>",
         lambda target: target.family == SD15, in_quotes=True),
    Rule("break", WARNING, re.compile(r"(?<![\w-])BREAK(?![\w-])"),
         "BREAK is A1111's syntax: ComfyUI reads it as a word.",
         "Write what follows in a prompt of its own, and join the two with Conditioning (Concat)."),
    Rule("break", WARNING, re.compile(r"(?<=[a-z\d] )AND(?= [a-z\d])"),
         "AND is A1111's syntax: ComfyUI reads it as a word.",
         "Write “and”, or two prompts joined with Conditioning (Combine)."),
    Rule("brackets", WARNING, re.compile(r"\[[^\[\]\n]*(?:\|[^\[\]\n]*|:[^\[\]:]*:?\s*[\d.]+\s*)\]"),
         "{found} is A1111's syntax for changing prompts: ComfyUI reads it as text.",
         "Use two prompts, each with Conditioning (Set Timestep Range)."),
    Rule("brackets", WARNING, re.compile(r"\[(?P<words>[^\[\]\n:|]*)\]"),
         "{found} weakens nothing in ComfyUI: the brackets are read as text.", "Write ({words}:0.9).",
         r"(\g<words>:0.9)", lambda target: target.reads_weights),
    Rule("brackets", WARNING, re.compile(r"\[(?P<words>[^\[\]\n:|]*)\]"),
         "{found} weakens nothing in ComfyUI: the brackets are read as text.", "Leave the brackets out.",
         r"\g<words>", lambda target: not target.reads_weights),
    Rule("negation", WARNING, _NEGATION,
         "“{found}” names what is not wanted, and {title} draws what is named.",
         "Name it in the negative prompt, or say here what is there instead.",
         applies=lambda target: target.negative_prompt),
    Rule("negation", WARNING, _NEGATION,
         "“{found}” names what is not wanted, and {title}, which has no negative prompt, draws what is named.",
         "Say what is there instead.", applies=lambda target: not target.negative_prompt),
    Rule("quality-tag", WARNING, re.compile(rf"(?:^|[,，;])\s*(?:{_QUALITY})(?=\s*(?:[,，;.]|$))", re.I),
         "“{found}” does nothing for {title}: it was trained with sentences.",
         "Take it out, or say what makes the picture good: the light, the lens, the material.", "",
         lambda target: target.sentences),
    Rule("white-background", WARNING,
         re.compile(r"(?:(?:pure|plain|solid|clean)[ ,]+)*white (?:background|backdrop)", re.I),
         "“{found}” makes FLUX.1 dev's pictures blurry.", "Name a place, or another colour such as light grey.",
         applies=lambda target: target.name == "flux-dev"),
    Rule("unknown-letters", WARNING,
         re.compile(rf"[{HAN}\u3040-\u30ff\uac00-\ud7af\u0600-\u06ff\u0590-\u05ff\u0900-\u097f\u0e00-\u0e7f]+"),
         "“{found}”: {title}'s text encoder has no token for any of these letters.", "Write it in English.",
         applies=lambda target: target.encoders[0].tokenizer == T5, in_quotes=True),
    Rule("unbalanced-quotes", WARNING, re.compile('(?<!\\d)["”]|[“„«»「」『』]'),
         "The quote {found} has no partner.", "Close it, or take it out."),
    Rule("doubled-word", WARNING, re.compile(rf"(?<![\w-])({_SMALL_WORD})(?:[ \t]+\1)+(?![\w-])", re.I),
         "“{found}” has the same word twice.", "Write it once.", r"\1"),
    Rule("punctuation", HINT, re.compile(r"(?<=[^\s])[ \t]{2,}(?=[^\s,;.!?])"),
         "More than one space.", "Leave one.", " "),
    Rule("punctuation", HINT, re.compile(r"(?<=\w)[ \t]+(?=[,;](?!\d)|[!?.](?:\s|$)|[，。；！？])"),
         "A space before a punctuation mark.", "Take it out.", ""),
    Rule("punctuation", HINT, re.compile(r"([,;，；、])(?:\s*[,;，；、])+"),
         "Doubled punctuation.", "Leave the first mark.", r"\1"),
    Rule("punctuation", HINT, re.compile(r"(?<!\.)(\.)\.(?!\.)|(。)。+"),
         "Doubled punctuation.", "Leave the first mark.", r"\1\2"),
    Rule("punctuation", HINT, re.compile(r"^\s*[,;，；、。]+\s*"),
         "The prompt begins with a punctuation mark.", "Take it out.", ""),
)  # fmt: skip


def empty(given: Text) -> Found:
    if not given.text.strip():
        yield given.finding("empty", HINT, 0, 0, "The prompt is empty.", "Say what the picture shows.")


def weight_syntax(given: Text) -> Found:
    """Weights with a number out of range, or that the target does not read; parentheses that ComfyUI would drop."""
    for weight in weights.find_weights(given.text):
        start, end = weight.start, weight.end
        found = given.text[start:end]
        plain = weights.without_weights(found)
        right = re.sub(r"(:\s*\d+),(\d+\s*\))$", r"\1.\2", found)  # the comma of (so:1,2)
        if given.target.reads_weights and right != found:
            yield given.finding(
                "malformed-weight", WARNING, start, end,
                f"The weight in {found} has a comma: ComfyUI takes it for text.", f"Write {right}.", right,
            )  # fmt: skip
        elif given.target.reads_weights:
            if weight.explicit and not 0 <= weight.value <= 1.6:
                yield given.finding(
                    "extreme-weight", WARNING, start, end,
                    f"A weight of {weight.value:g} distorts the picture.", "Stay between 0.5 and 1.5.",
                )  # fmt: skip
        elif weight.explicit or weight.nested or right != found:
            why = (
                "FLUX.1 was not trained with weights: ComfyUI only scales what T5 makes of these words."
                if given.target.parses_parentheses
                else f"{given.target.title} reads no weights: the parentheses and the number are read as text."
            )
            yield given.finding(
                "weights", WARNING, start, end, f"{found}: {why}",
                f"Write “{plain}”; what comes first in the prompt counts most.", plain,
            )  # fmt: skip
        elif given.target.parses_parentheses:
            yield given.finding(
                "parentheses", HINT, start, end,
                f"ComfyUI takes {found} for a weight of 1.1 and drops the parentheses.",
                r"Write \( and \) if they are to be read.", weights.escape(found),
            )  # fmt: skip


def unbalanced_parentheses(given: Text) -> Found:
    for at in weights.stray_parentheses(given.text):
        what = "is never closed" if given.text[at] == "(" else "closes nothing"
        if given.target.parses_parentheses:
            message = f"The parenthesis {what}: ComfyUI reads the weights after it wrongly."
            suggestion = rf"Add its partner, or write \{given.text[at]} if it is to be read."
        else:
            message, suggestion = f"The parenthesis {what}.", "Add its partner, or take it out."
        severity = WARNING if given.target.parses_parentheses else HINT
        yield given.finding("unbalanced-parentheses", severity, at, at + 1, message, suggestion)


def keyword_soup(given: Text) -> Found:
    """At least six phrases of on average at most three words, and no sentence, for a model that reads sentences."""
    phrases = [phrase for phrase in re.split("[,，、;；\n]", given.unquoted) if phrase.strip()]
    sentences = re.search(r"[.!?。！？]\s+\S", given.unquoted)
    short = sum(len(phrase.split()) for phrase in phrases) <= 3 * len(phrases)
    if given.target.sentences and len(phrases) >= 6 and short and not sentences:
        yield given.finding(
            "keyword-soup", HINT, 0, 0,
            f"{len(phrases)} short phrases: {given.target.title} reads sentences, and loses what belongs to what.",
            "Say who does what, where, and in what light, in one to four sentences.",
        )  # fmt: skip


_CYRILLIC_TWINS = "аеорсухіАВЕКМНОРСТУХІѕЅјЈ"
_LATIN_TWINS = "aeopcyxiABEKMHOPCTYXIsSjJ"
_TO_LATIN = str.maketrans(_CYRILLIC_TWINS, _LATIN_TWINS)
_TO_CYRILLIC = str.maketrans(_LATIN_TWINS[:18], _CYRILLIC_TWINS[:18])


def lookalike_letters(given: Text) -> Found:
    """Words with both Latin and Cyrillic letters: a typing mistake, and unknown to every tokenizer."""
    for found in re.finditer(rf"[A-Za-z{CYRILLIC}]+", given.unquoted):
        word = found[0]
        latin, cyrillic = re.findall("[A-Za-z]", word), re.findall(f"[{CYRILLIC}]", word)
        if latin and cyrillic:
            ways = [(_TO_LATIN, f"[{CYRILLIC}]"), (_TO_CYRILLIC, "[A-Za-z]")]
            made = [(word.translate(table), wrong) for table, wrong in ways]
            right = [text for text, wrong in made if not re.search(wrong, text)]
            right = right[0 if len(latin) >= len(cyrillic) else -1] if right else None
            yield given.finding(
                "mixed-alphabet", WARNING, found.start(), found.end(),
                f"“{word}” has both Latin and Cyrillic letters.",
                f"Type it again: “{right}”." if right else "Type it again, in one alphabet.", right,
            )  # fmt: skip


def unread_language(given: Text) -> Found:
    if given.target.english_only and given.language != "en":
        yield given.finding(
            "language", HINT, 0, 0, f"{given.target.title} was trained with English captions: others work worse.",
            "Write it in English; Kandinsky 2.1 reads other languages, too.",
        )  # fmt: skip


_TOO_LONG = {
    "chunked": (HINT, "{tokens} tokens{estimated} are more than the 75 of one chunk: ComfyUI encodes each chunk on its "
                      "own. The first ends after “…{last}”.", "Keep what belongs together in one chunk."),
    "lost": (WARNING, "{title} reads {limit} tokens, and these are {tokens}{estimated}: what follows “…{last}” is cut "
                      "off.", "Say the most important first, and leave out the rest."),
    "untrained": (WARNING, "{title} was trained with up to {limit} tokens, and these are {tokens}{estimated}: what "
                           "follows “…{last}” may be ignored.", "Say the most important first, and shorten the rest."),
}  # fmt: skip
"""Encoder.beyond → severity, message and suggestion."""


def too_long(given: Text, counts: Sequence[Count]) -> Found:
    read = weights.plain(given.text) if given.target.parses_parentheses else given.text
    for found in counts:
        encoder = found.encoder
        if found.over and encoder.beyond in _TOO_LONG:
            severity, message, suggestion = _TOO_LONG[encoder.beyond]
            said = message.format(
                title=encoder.title, limit=encoder.limit, last=" ".join(read[: found.read].split()[-3:]),
                tokens=found.tokens - (encoder.marks if encoder.beyond == "chunked" else 0),
                estimated="" if found.exact else " (an estimate)",
            )  # fmt: skip
            yield given.finding("tokens", severity, 0, 0, said, suggestion)


RULES: tuple[Callable[[Text], Found], ...] = (
    empty,
    *_PATTERNS,
    weight_syntax,
    unbalanced_parentheses,
    keyword_soup,
    lookalike_letters,
    unread_language,
)


def is_json(text: str) -> bool:
    """Whether `text` is a JSON object, as FLUX.2 takes them."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
