"""A linter of prompts: what a model will not take as it is meant, and what to write instead.

Each rule is a generator of findings in rules.py (syntax) and rules_words.py (words); this is what runs them, mends
what can be mended safely, and reports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from . import rules, rules_words, weights
from .detect import detect
from .findings import HINT, WARNING, Finding, Text
from .language import Language
from .layers import SUBJECT
from .quality import is_quality_tag
from .speak import find_language
from .targets import FLUX, Target, find_target
from .tokens import Count, Tokenize, count

RULES = (
    rules.empty,
    rules.lora_syntax,
    rules.embedding,
    rules.a1111_words,
    rules.weight_syntax,
    rules.brackets,
    rules.unbalanced_parentheses,
    rules.quotes,
    rules.quoted_words,
    rules.doubled_words,
    rules.spaces_and_punctuation,
    rules_words.negations,
    rules_words.quality_tags,
    rules_words.keyword_soup,
    rules_words.white_background,
    rules_words.lookalike_letters,
    rules_words.mixed_languages,
    rules_words.unread_language,
)
_SENTENCE_END = re.compile(r"[.!?]\s+|[。！？]\s*|\n+")
_MARKS = ".!?。！？,，"
_TIMES = 8
"""Mending one thing may show another; no prompt takes this many turns."""


def lint(
    text: str, target: str = "flux-dev", language: str = "auto", tokenizers: Mapping[str, Tokenize] | None = None
) -> list[Finding]:
    """What is wrong with the prompt `text` for `target` (targets.py), in the order it stands there.

    `language` is "auto", "en", "ru", "zh" or "de"; `tokenizers` (tokens.py) count tokens exactly, which are estimated
    without them. Raises ValueError for an unknown target or language.
    """
    subject = _read(text, target, language)
    found = [finding for rule in RULES for finding in rule(subject)]
    found += rules.too_long(subject, count_tokens(text, target, tokenizers))
    return sorted(found, key=lambda finding: (finding.start, finding.end, finding.code))


def fix(text: str, target: str = "flux-dev", language: str = "auto") -> str:
    """`text` with what can be mended without knowing what was meant: spaces, doubled words and punctuation, letters of
    the wrong alphabet, tags that do nothing; for FLUX and Kandinsky weights become words. Raises as lint does."""
    reads_weights = find_target(target).reads_weights
    for _ in range(_TIMES):
        mended = text = text if reads_weights else say_weights(text, language)
        last = len(text)
        for finding in reversed(lint(text, target, language)):
            if finding.replacement is not None and finding.end <= last:
                mended = mended[: finding.start] + finding.replacement + mended[finding.end :]
                last = finding.start
        if mended == text:
            break
        text = mended
    return text


def say_weights(text: str, language: str = "auto") -> str:
    """`text` with what `(words:1.3)` stresses said in words, as compose says it, behind the sentence it stands in;
    weights below 1 just go."""
    found = weights.find_weights(numbered := weights.numbered(text))
    if not any(weight.explicit for weight in found):
        return text
    text = numbered
    spoken = find_language(detect([text]) if language == "auto" else language)
    ends = [end.end() for end in _SENTENCE_END.finditer(text)]
    ends = [end for end in ends if not any(weight.start < end < weight.end for weight in found)]
    return "".join(
        _stressed(text[start:end], spoken) for start, end in zip([0, *ends], [*ends, len(text)], strict=True)
    )


def _stressed(sentence: str, spoken: Language) -> str:
    plain, parts = weights.without_explicit(sentence)
    stressed = (words.strip() for words, value in parts if value > 1 and not is_quality_tag(words))
    names = list(dict.fromkeys(spoken.name(SUBJECT, words) for words in stressed))
    if not parts or not names:
        return plain if parts else sentence
    body = plain.rstrip(_MARKS + "\n ")
    end = plain[len(body) :]
    first, *rest = spoken.stressed([body], names)
    if not rest:  # a clause of the sentence
        return first + end
    return spoken.space.join([spoken.ended(first), *(spoken.sentence(each) for each in rest)]) + end.lstrip(_MARKS)


def count_tokens(text: str, target: str = "flux-dev", tokenizers: Mapping[str, Tokenize] | None = None) -> list[Count]:
    """How much of each of the target's encoders `text` takes; weights and escapes are no tokens where ComfyUI reads
    them. Raises ValueError for an unknown target."""
    to = find_target(target)
    read = weights.plain(text) if to.drops_parentheses else text
    return [count(read, encoder, tokenizers or {}) for encoder in to.encoders]


def report(findings: Sequence[Finding], counts: Sequence[Count], target: str) -> str:
    """Findings and token counts as lines of text for people."""
    to = find_target(target)
    lines = [str(finding) for finding in findings]
    lines.append(f"{to.title}: {_summary(findings)}; {'; '.join(_said(each, to) for each in counts)}.")
    return "\n".join(lines)


def _summary(findings: Sequence[Finding]) -> str:
    counted = [(sum(finding.severity == each for finding in findings), each) for each in (WARNING, HINT)]
    return ", ".join(f"{n} {name}{'s' if n > 1 else ''}" for n, name in counted if n) or "nothing to mend"


def _said(found: Count, target: Target) -> str:
    if found.over and found.encoder.beyond == "unread" and target.family == FLUX:
        return f"{found}, of which it reads the first {found.encoder.limit} (give it a short text of its own)"
    return str(found)


def _read(text: str, target: str, language: str) -> Text:
    to = find_target(target)
    code = detect([text]) if language == "auto" else find_language(language).code
    return Text(text, to, code)
