"""Where rules about syntax begin and end to apply, and what each puts in the place of what it finds."""

from __future__ import annotations

import pytest

from nodes.text.detect import language_of
from nodes.text.lint import lint
from nodes.text.targets import TARGETS


@pytest.mark.parametrize(
    ("target", "text", "code", "expected"),
    [
        ("flux-dev", "x <lora:a:0.3> y", "lora-syntax", [(" <lora:a:0.3>", "")]),
        ("flux-dev", 'a sign "<lora:a:1>"', "lora-syntax", [("<lora:a:1>", "")]),
        ("flux-dev", 'a sign "embedding:x"', "embedding", [("embedding:x", "")]),
        ("flux-dev", 'a sign "[so] AND no 8k"', "brackets", []),
        ("flux-dev", " ", "empty", [("", None)]),
        ("flux-dev", "a, embedding:x b", "embedding", [(" embedding:x", "")]),
        ("flux-dev", "a, embedding:x", "embedding", [(", embedding:x", "")]),
        ("flux-dev", "a embedding:x b", "embedding", [(" embedding:x", "")]),
        ("sd15", "embedding:x", "embedding", []),
        ("sd15", "a embedding:x", "embedding", []),
        ("sd15", "(embedding:x:1.2)", "embedding", []),
        ("sd15", "a,embedding:x", "embedding", [("embedding:x", " embedding:x")]),
        ("sd15", "a fox AND a cat BREAK x", "break", [("AND", None), ("BREAK", None)]),
        ("sd15", "NASA AND cat, BRAND AND-x", "break", []),
        ("sd15", "A FOX AND A CAT", "break", []),
        ("sd15", "(cat:0) (fox:1.6) (dog:1.61)", "extreme-weight", [("(dog:1.61)", None)]),
        ("sd15", "a (fox:-1)", "extreme-weight", [("(fox:-1)", None)]),
        ("kandinsky-2.2", "a (fox)", "weights", []),
        ("kandinsky-2.2", "a ((fox))", "weights", [("((fox))", "fox")]),
        ("kandinsky-2.2", "a (fox)", "parentheses", []),
        ("flux-dev", "a (fox)", "parentheses", [("(fox)", r"\(fox\)")]),
        ("flux-dev", "a [fox] b", "brackets", [("[fox]", "fox")]),
        ("sd15", "a [fox] b", "brackets", [("[fox]", "(fox:0.9)")]),
        ("sd15", "[fox|cat] [fox::0.5]", "brackets", [("[fox|cat]", None), ("[fox::0.5]", None)]),
        ("flux-dev", 'a 5" „x', "unbalanced-quotes", [("„", None)]),
        ("flux-dev", "5” “ a", "unbalanced-quotes", [("“", None)]),
        ("flux-dev", "vulpes vulpes", "doubled-word", []),
        ("flux-dev", "The the fox", "doubled-word", [("The the", "The")]),
        ("flux-dev", "Fox Fox", "doubled-word", []),
        ("flux-dev", "very very old", "doubled-word", []),
        ("flux-dev", "a fox . b , c", "punctuation", [(" ", ""), (" ", "")]),
        ("flux-dev", "a ... c, etc., d", "punctuation", []),
        ("flux-dev", "a.. b", "punctuation", [("..", ".")]),
        ("flux-dev", ", a", "punctuation", [(", ", "")]),
        ("kandinsky-2.1", "红。。红", "punctuation", [("。。", "。")]),
        ("kandinsky-2.1", "红，、红", "punctuation", [("，、", "，")]),
        ("flux-dev", 'a  "x"  b', "punctuation", [("  ", " "), ("  ", " ")]),
        ("flux-dev", 'a "x  y,, " b', "punctuation", []),
        ("flux-dev", "A sign, NO fox, no. 5, no longer, nothing but sea", "negation", []),
        ("flux-dev", "A street, no", "negation", [("no", None)]),
        ("flux-dev", "a fox, No hat", "negation", [("No hat", None)]),
        ("sd15", "KEIN Hund im Schnee", "negation", [("KEIN Hund", None)]),
        ("flux-dev", "masterpiece", "quality-tag", [("masterpiece", "")]),
        ("flux-dev", "a masterpiece by Klimt, 4k", "quality-tag", [(", 4k", "")]),
        ("kandinsky-5", "a fox, sharp focus, highly detailed", "quality-tag", []),
        ("sd15", "masterpiece", "quality-tag", []),
        ("flux-dev", "girl, long hair, blue eyes, white dress, garden", "keyword-soup", []),
        ("flux-dev", "girl, long hair, blue eyes, white dress, garden, sun", "keyword-soup", [("", None)]),
        (
            "flux-dev",
            "a girl in red, hair of fine gold, deep blue eyes, a long dress, the garden, a warm sun",
            "keyword-soup",
            [],
        ),
        ("flux-dev", "girl, hair. Blue eyes, white dress, garden, sun, tree, sky", "keyword-soup", []),
        ("sd15", "girl, long hair, blue eyes, white dress, garden, sun", "keyword-soup", []),
        ("flux-dev", "A fоx, wаtеr.", "mixed-alphabet", [("fоx", "fox"), ("wаtеr", "water")]),
        ("kandinsky-2.1", "лиca", "mixed-alphabet", [("лиca", "лиса")]),
        ("flux-dev", "A лисаz. Лиса fox.", "mixed-alphabet", [("лисаz", None)]),
        ("flux-schnell", "a white background", "white-background", []),
        ("kandinsky-5", "咖啡", "unknown-letters", []),
    ],
)
def test_what_is_found_and_what_is_put_there(
    target: str, text: str, code: str, expected: list[tuple[str, str | None]]
) -> None:
    found = [each for each in lint(text, target) if each.code == code]
    assert [(each.excerpt, each.replacement) for each in found] == expected


@pytest.mark.parametrize(("target", "severity"), [("flux-dev", "warning"), ("kandinsky-2.2", "hint")])
@pytest.mark.parametrize(("text", "what"), [("a ) b", "closes nothing"), ("a ( b", "is never closed")])
def test_a_parenthesis_alone_matters_where_comfyui_reads_weights(
    target: str, severity: str, text: str, what: str
) -> None:
    (found,) = lint(text, target)
    assert (found.code, found.severity) == ("unbalanced-parentheses", severity)
    assert found.excerpt == text[2]
    assert found.message.startswith(f"The parenthesis {what}")


@pytest.mark.parametrize(("word", "node"), [("AND", "Combine"), ("BREAK", "Concat")])
def test_the_node_that_joins_prompts_is_named(word: str, node: str) -> None:
    (found,) = lint(f"a cat {word} a dog", "sd15")
    assert f"Conditioning ({node})" in found.suggestion


@pytest.mark.parametrize(
    ("target", "negative"), [("sd15", True), ("kandinsky-5", True), ("flux-dev", False), ("flux2-dev", False)]
)
def test_the_negative_prompt_is_suggested_where_there_is_one(target: str, negative: bool) -> None:
    (found,) = lint("a street, no people", target)
    assert ("negative prompt" in found.suggestion) is negative


@pytest.mark.parametrize("language", ["en", "ru", "de", "zh"])
def test_targets_that_learnt_english_alone(language: str) -> None:
    told = {target for target in TARGETS if any(each.code == "language" for each in lint("1", target, language))}
    assert told == (set() if language == "en" else {"flux-dev", "flux-schnell", "sd15"})


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("a red fox", "en"),
        ("рыжая лиса, Canon EOS", "ru"),
        ("一只 fox", "zh"),
        ("Ein Fuchs", "de"),
        ('a sign "ОТКРЫТО ВСЕГДА"', "en"),
        ("", "en"),
    ],
)
def test_the_language_is_told_by_letters(text: str, language: str) -> None:
    assert language_of([text]) == language
    assert language_of([text], "ru") == "ru"
