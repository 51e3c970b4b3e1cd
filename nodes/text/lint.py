"""A linter of prompts: what a model does not take as it is meant, and what to do about it.

Each rule is a generator of findings in rules.py; this runs them, applies the safe fixes, and reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import rules, weights
from .detect import language_of
from .findings import HINT, WARNING, Finding, Text
from .targets import FLUX2, find_target
from .tokens import Count, Tokenize, count

_MOST_PASSES = 8
"""One fix may uncover another; no prompt takes this many passes."""


def lint(
    text: str, target: str = "flux-dev", language: str = "auto", tokenizers: Mapping[str, Tokenize] | None = None
) -> list[Finding]:
    """What is wrong with the prompt `text` for `target` (targets.py), by position.

    `language` is "auto" (by its script), "en", "ru", "zh" or "de"; `tokenizers` (tokens.py) count tokens exactly,
    otherwise they are estimated. Raises ValueError for an unknown target or language.
    """
    subject = Text(text, find_target(target), language_of([text], language))
    used = () if subject.target.family == FLUX2 and rules.is_json(text) else rules.RULES
    found = [finding for rule in used for finding in rule(subject)]
    found += rules.too_long(subject, count_tokens(text, target, tokenizers))
    return sorted(found, key=lambda finding: (finding.start, finding.end, finding.code))


def fix(text: str, target: str = "flux-dev", language: str = "auto") -> str:
    """`text` with every replacement that lint suggests: spaces, doubled words and punctuation, letters of the wrong
    alphabet, tags without effect, weights that the target does not read. No word is added. Raises as lint does."""
    for _ in range(_MOST_PASSES):
        fixed, last = text, len(text)
        for finding in reversed(lint(text, target, language)):
            if finding.replacement is not None and finding.end <= last:
                fixed = fixed[: finding.start] + finding.replacement + fixed[finding.end :]
                last = finding.start
        if fixed == text:
            break
        text = fixed
    return text


def count_tokens(text: str, target: str = "flux-dev", tokenizers: Mapping[str, Tokenize] | None = None) -> list[Count]:
    """The tokens of `text` for each of the target's encoders; weights and escapes are not counted if ComfyUI parses
    them. Raises ValueError for an unknown target."""
    to = find_target(target)
    read = weights.plain(text) if to.parses_parentheses else text
    return [count(read, encoder, tokenizers or {}) for encoder in to.encoders]


def report(findings: Sequence[Finding], counts: Sequence[Count], target: str) -> str:
    """Findings and token counts as lines of text."""
    to = find_target(target)
    lines = [str(finding) for finding in findings]
    lines.append(f"{to.title}: {_summary(findings)}; {'; '.join(_said(each) for each in counts)}.")
    return "\n".join(lines)


def _summary(findings: Sequence[Finding]) -> str:
    counted = [(sum(finding.severity == each for finding in findings), each) for each in (WARNING, HINT)]
    return ", ".join(f"{n} {name}{'s' if n > 1 else ''}" for n, name in counted if n) or "no findings"


def _said(found: Count) -> str:
    if found.over and found.encoder.beyond == "unread":
        return f"{found}, of which it reads the first {found.encoder.limit} (give it a short text of its own)"
    return str(found)
