"""Where rules about words begin and end to apply: how many tags, phrases and letters it takes."""

from __future__ import annotations

import pytest

from nodes.text.findings import Finding
from nodes.text.lint import lint


def found(text: str, code: str, target: str = "flux-dev", language: str = "auto") -> list[Finding]:
    return [each for each in lint(text, target, language) if each.code == code]


def excerpts(text: str, code: str, target: str = "flux-dev", language: str = "auto") -> list[str]:
    return [each.excerpt for each in found(text, code, target, language)]


@pytest.mark.parametrize(
    ("text", "language", "named"),
    [
        ("A sign, NO fox.", "en", []),  # a name, or an abbreviation
        ("A sign, no fox.", "en", ["no fox"]),
        ("A sign, No fox.", "en", ["No fox"]),
        ("NO PEOPLE", "en", ["NO PEOPLE"]),  # all is in capitals
        ("KEIN Hund im Schnee", "de", ["KEIN Hund"]),
        ("Лес, НИ души.", "ru", ["НИ души"]),
        ("A street, no", "en", ["no"]),
    ],
)
def test_no_in_capitals_is_a_negation_only_among_capitals(text: str, language: str, named: list[str]) -> None:
    assert excerpts(text, "negation", language=language) == named


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("masterpiece", ["masterpiece"]),
        ("masterpiece, a fox", ["masterpiece, "]),
        ("a fox, masterpiece", [", masterpiece"]),
        ("a fox, sharp focus, highly detailed", []),
        (
            "a fox, sharp focus, highly detailed, intricate details",
            [", sharp focus", ", highly detailed", ", intricate details"],
        ),
    ],
)
def test_words_that_may_be_meant_are_tags_only_if_there_are_three(text: str, tags: list[str]) -> None:
    assert excerpts(text, "quality-tag") == tags
    assert all((each.replacement is None) == (text == each.excerpt) for each in found(text, "quality-tag"))
    assert excerpts(text, "quality-tag", "sd15") == []


@pytest.mark.parametrize(
    ("text", "soup"),
    [
        ("girl, long hair, blue eyes, white dress, garden", False),
        ("girl, long hair, blue eyes, white dress, garden, sun", True),
        ("girl in red, hair of gold, blue eyes, a dress, the garden, sun", False),
        ("girl, long hair. blue eyes. white dress, garden, sun, tree", True),
        ("girl. long hair. blue eyes. white dress, garden, sun, tree", False),
        ("girl, very long brown hair, deep blue clear eyes, white summer dress red, garden, sun", False),
        ("女孩，长发，蓝眼睛，白裙子，花园，日落", True),
        ("女孩在花园，长发的，蓝眼睛，白裙子，花园，日落", True),
        ("女孩在花园，长发的，蓝着眼睛，白裙子，花园，日落", False),
    ],
)
def test_six_short_phrases_without_small_words_are_soup(text: str, soup: bool) -> None:
    assert bool(found(text, "keyword-soup")) is soup
    assert not found(text, "keyword-soup", "sd15")


@pytest.mark.parametrize(
    ("text", "right", "odd"),
    [
        ("A fоx.", "fox", "(о is Cyrillic)"),
        ("A wаtеr.", "water", "(а, е are Cyrillic)"),
        ("лиca", "лиса", "(c, a are Latin)"),
        ("A лисаz.", None, "(л, и, с, а are Cyrillic)"),
        ("A fox. Лиса.", "", ""),
    ],
)
def test_letters_of_two_alphabets_in_one_word(text: str, right: str | None, odd: str) -> None:
    mixed = found(text, "mixed-alphabet")
    assert [each.replacement for each in mixed] == ([right] if odd else [])
    assert all(odd in each.message for each in mixed)


@pytest.mark.parametrize(
    ("text", "target", "language", "foreign"),
    [
        ("рыжая wolf в лесу 85 mm sky", "kandinsky-2.1", "ru", ["wolf", "sky"]),
        ("девушка и lonesome red fox в лесу", "kandinsky-2.1", "ru", ["lonesome red fox"]),
        ("девушка и cm в лесу", "kandinsky-2.1", "ru", []),
        ("一只 fox", "kandinsky-2.1", "zh", ["fox"]),
        ("A fox рядом с 一只 tree", "flux-dev", "en", ["рядом с", "一只"]),
        ("A fox 5 км away", "flux-dev", "en", []),
    ],
)
def test_words_of_another_language_but_no_measures(text: str, target: str, language: str, foreign: list[str]) -> None:
    assert excerpts(text, "mixed-languages", target, language) == foreign
    for each in found(text, "mixed-languages", target, language):
        is_chinese = each.excerpt == "一只"
        assert ("is Chinese" if is_chinese else "is Russian" if language == "en" else "is English") in each.message


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", []),
        ("ru", ["FLUX.1 dev, Russian", "SD1.5, Russian"]),
        ("de", ["FLUX.1 dev, German", "SD1.5, German"]),
        ("zh", ["SD1.5, Chinese"]),
    ],
)
def test_which_target_learnt_which_language(language: str, told: list[str]) -> None:
    made = []
    for target in ("flux-dev", "sd15", "kandinsky-2.1", "kandinsky-3"):
        made += [each.message for each in found("1", "language", target, language)]
    assert made == [
        f"{title} learnt English captions; {name} works worse." for title, name in (each.split(", ") for each in told)
    ]


def test_long_runs_of_unknown_letters_are_shown_by_their_beginning() -> None:
    twelve = "咖啡" * 6
    messages = [each.message for each in found(f"A {twelve} sign {twelve}咖", "unknown-letters", language="en")]
    assert f"“{twelve}”" in messages[0]
    assert f"“{twelve}…”" in messages[1]
