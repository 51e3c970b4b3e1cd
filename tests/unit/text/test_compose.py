"""Composing prompts from layers. The table in tests/data/prompt_compose.json is what people get to see: read it."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from nodes.text.compose import compose
from nodes.text.detect import LANGUAGES
from nodes.text.english import article
from nodes.text.layers import ACTION, KINDS, NEGATIVE, NONE, PLACED, RELATIONS, STYLE, SUBJECT, TEXT, Layer, LayerError
from nodes.text.lint import lint
from nodes.text.speak import find_language
from nodes.text.targets import TARGETS
from nodes.text.tokens import comfyui_tokenizers
from tests.support.hosts import comfyui_folder
from tests.support.places import DATA

CASES: list[dict[str, Any]] = json.loads((DATA / "prompt_compose.json").read_text("utf-8"))

WORDS = {
    "en": {
        SUBJECT: "a red fox with white paws",
        ACTION: "leaping over a log",
        STYLE: "oil painting",
        "foreground": "dry grass",
        "middle ground": "a fallen birch",
        "background": "a misty forest",
        "lighting": "soft golden light",
        "camera": "85mm lens",
        "mood": "calm, dreamy",
        TEXT: "FOX",
    },
    "ru": {
        SUBJECT: "рыжая лиса с белыми лапами",
        ACTION: "прыгает через бревно",
        STYLE: "картина маслом",
        "foreground": "сухая трава",
        "middle ground": "упавшая берёза",
        "background": "туманный лес",
        "lighting": "мягкий золотой свет",
        "camera": "объектив 85 мм",
        "mood": "спокойное, мечтательное",
        TEXT: "ЛИСА",
    },
    "de": {
        SUBJECT: "ein roter Fuchs mit weißen Pfoten",
        ACTION: "springt über einen Baumstamm",
        STYLE: "Ölgemälde",
        "foreground": "trockenes Gras",
        "middle ground": "eine umgestürzte Birke",
        "background": "ein nebliger Wald",
        "lighting": "weiches goldenes Licht",
        "camera": "85-mm-Objektiv",
        "mood": "ruhig, verträumt",
        TEXT: "FUCHS",
    },
    "zh": {
        SUBJECT: "一只白爪的红狐狸",
        ACTION: "正在跳过一根木头",
        STYLE: "油画",
        "foreground": "枯草",
        "middle ground": "一棵倒下的白桦",
        "background": "雾中的森林",
        "lighting": "柔和的金色光线",
        "camera": "85毫米镜头",
        "mood": "宁静、梦幻",
        TEXT: "狐狸",
    },
}


def layer(kind: str, text: str, **more: Any) -> Layer:
    return Layer(kind, text, **more)


# The table


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_composed_as_in_the_table(case: dict[str, Any]) -> None:
    options = {key: case[key] for key in ("form", "language") if key in case}
    made = compose(case["layers"], case["target"], **options)
    assert made.prompt == case["prompt"]
    assert made.negative == case.get("negative", "")
    assert list(made.notes) == case.get("notes", [])
    assert made.t5xxl == made.prompt
    assert made.clip_l == case.get("clip_l", made.prompt)


def test_the_table_has_every_target_language_kind_and_relation() -> None:
    made = [compose(case["layers"], case["target"], case.get("language", "auto")) for case in CASES]
    families = {TARGETS[each.target].family for each in made}
    assert {(TARGETS[each.target].family, each.language) for each in made} >= set(
        itertools.product(families, LANGUAGES)
    )
    assert {each["kind"] for case in CASES for each in case["layers"]} == set(KINDS)
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60


# Whatever the layers: grammar


def every_layer(language: str, emphasis: float = 1.0) -> list[Layer]:
    return [layer(kind, text, emphasis=emphasis) for kind, text in WORDS[language].items()]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("emphasis", [0.5, 1.0, 1.5])
def test_every_kind_is_said_in_good_punctuation(target: str, language: str, emphasis: float) -> None:
    for form in ("hierarchical", "numbered"):
        made = compose(every_layer(language, emphasis), target, form=form)
        assert made.language == language
        for text in WORDS[language].values():
            assert text.split(",")[0].lower() in made.prompt.lower()
        assert_well_punctuated(made.prompt, sentences=target != "sd15")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("relation", [relation for relation in RELATIONS if relation != NONE])
@pytest.mark.parametrize("kind", PLACED)
def test_every_relation_names_both_things(kind: str, relation: str, language: str) -> None:
    words = WORDS[language]
    there = layer("middle ground", words["middle ground"], name="there")
    own = "background" if kind == there.kind else kind  # two of a kind need no test of their own
    layers = [layer(own, words[own], relation=relation, relation_to="there"), there]
    if kind == ACTION:
        layers = [layer(SUBJECT, words[SUBJECT]), *layers]
    for target in ("flux-dev", "sd15", "kandinsky-2.1"):
        made = compose(layers, target)
        assert_well_punctuated(made.prompt, sentences=target != "sd15")
        spoken = find_language(language)
        assert made.prompt.lower().count(spoken.name("middle ground", words["middle ground"]).lower().split()[-1]) > 1


def assert_well_punctuated(prompt: str, *, sentences: bool) -> None:
    assert not re.search(r" [,.;:]|  |[,，]\s*[,，.。]|\.\.|。。|\.。|^[,.]|[,，]$|\{|\}", prompt), prompt
    assert prompt.count('"') % 2 == 0
    if sentences:
        assert re.search(r"[.。!?]$", prompt), prompt
        assert not re.search(r"[.!?] [a-zа-яё]", re.sub(r"(?m)^\d+\. ", "", prompt)), prompt
        assert prompt[0] == prompt[0].upper()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_linter_has_nothing_against_what_is_composed(case: dict[str, Any]) -> None:
    options = {key: case[key] for key in ("form", "language") if key in case}
    made = compose(case["layers"], case["target"], **options)
    found = {finding.code for finding in lint(made.prompt, made.target, made.language) if finding.severity == "warning"}
    assert found <= {"tokens", "unknown-letters"}, found  # of which the notes tell, too
    assert not found or made.notes or TEXT in {each["kind"] for each in case["layers"]}


# What is promised of each target


def test_flux_never_gets_weights() -> None:
    for language in LANGUAGES:
        made = compose(every_layer(language, 1.5), "flux-dev")
        assert not re.search(r":\d", made.prompt + made.clip_l)
    assert "with emphasis on the red fox" in compose(every_layer("en", 1.5), "flux-dev").prompt


def test_the_most_important_comes_first() -> None:
    made = compose(
        [layer("foreground", "dry grass"), layer("mood", "calm"), layer(SUBJECT, "a fox")], "flux-dev"
    ).prompt
    assert made.index("fox") < made.index("grass") < made.index("calm")
    stressed = [layer(SUBJECT, "a fox"), layer("foreground", "dry grass"), layer("mood", "calm", emphasis=1.2)]
    made = compose(stressed, "flux-dev").prompt
    assert made.index("fox") < made.index("calm") < made.index("grass")


def test_clip_l_keeps_within_what_it_reads() -> None:
    if not comfyui_folder().is_dir():
        pytest.skip("no ComfyUI, which has the tokenizers")
    tokenizers = comfyui_tokenizers(comfyui_folder())
    many = [layer(SUBJECT, "a red fox"), *(layer("foreground", f"a stack of {n} old wooden crates") for n in range(30))]
    for layers in (many, every_layer("ru"), every_layer("zh"), every_layer("de")):
        made = compose(layers, "flux-dev", tokenizers=tokenizers)
        assert len(tokenizers["clip"](made.clip_l)) <= 75
        assert made.clip_l.startswith(layers[0].text[:1].upper())


def test_a_prompt_that_is_too_long_is_said_to_be() -> None:
    many = [layer("foreground", f"a tall stack of {n} old wooden crates with iron bands") for n in range(40)]
    assert any("Too long: T5 about" in note and "of 256" in note for note in compose(many, "flux-schnell").notes)
    assert any("CLIP-bigG" in note for note in compose(many, "kandinsky-2.2").notes)
    assert compose(many, "sd15").notes == ()  # ComfyUI encodes it in pieces


def test_nothing_to_say_is_an_empty_prompt_and_a_note() -> None:
    made = compose([layer(NEGATIVE, "text")], "sd15")
    assert (made.prompt, made.negative) == ("", "text")
    assert any("empty" in note for note in made.notes)
    assert compose([], "flux-dev").prompt == ""


def test_layers_may_be_mappings_with_short_names() -> None:
    made = compose([{"kind": "Text", "text": "OPEN"}, {"kind": "middle_ground", "text": "a door"}], "flux")
    assert made.prompt == 'In the middle ground, a door. The text "OPEN" is visible in the picture.'


@pytest.mark.parametrize(
    ("text", "with_article"),
    [
        ("oil painting", "an oil painting"),
        ("hourglass", "an hourglass"),
        ("unicorn", "a unicorn"),
        ("85mm lens", "an 85mm lens"),
        ("50mm lens", "a 50mm lens"),
        ("European street", "a European street"),
        ("LED panel", "an LED panel"),
        ("the sun", "the sun"),
        ("two photos", "two photos"),
        ("close-ups of hands", "close-ups of hands"),
    ],
)
def test_articles(text: str, with_article: str) -> None:
    assert article(text) == with_article


# What the language is told by


def test_text_to_be_drawn_does_not_tell_the_language() -> None:
    drawn = layer(TEXT, "Магазин свежих овощей и фруктов")
    assert compose([layer(SUBJECT, "a sign"), drawn]).language == "en"
    assert (
        compose([layer(SUBJECT, "вывеска"), layer(TEXT, "Fresh fruit and vegetables, open all day")]).language == "ru"
    )
    assert compose([drawn]).language == "ru"  # if there is nothing else
    assert compose([drawn], language="de").language == "de"


# What cannot be understood

WRONG = [
    ([{"kind": "subjekt", "text": "x"}], "Expected a kind of layer among subject, action, .* got 'subjekt'"),
    ([{"kind": "subject"}], "without text"),
    ([{"kind": "subject", "text": 3}], "Expected text for the layer 'subject', got int"),
    ([{"kind": "subject", "text": "x", "weight": 2}], "Expected a layer with the keys .* got 'weight'"),
    ([{"kind": "subject", "text": "x", "emphasis": 3}], "emphasis from 0 to 2 for the layer 'subject', got 3"),
    ([{"kind": "subject", "text": "x", "emphasis": "strong"}], "emphasis from 0 to 2"),
    ([{"kind": "subject", "text": "x", "relation": "beside", "relation_to": "y"}], "a relation among none, left of"),
    ([{"kind": "subject", "text": "x", "relation": "left of"}], "'subject' is 'left of' … what"),
    ([{"kind": "mood", "text": "x", "relation": "on", "relation_to": "y"}], "mood has no place in the picture"),
    ([{"kind": "subject", "text": "x", "relation": "on", "relation_to": "y"}], "refers to 'y', and there is no other"),
    (
        [{"kind": "subject", "text": "x", "relation": "on", "relation_to": "mood"}, {"kind": "mood", "text": "z"}],
        "mood has no place",
    ),
    (
        [
            {"kind": "subject", "text": "x"},
            {"kind": "subject", "text": "y"},
            {"kind": "foreground", "text": "z", "relation": "on", "relation_to": "subject"},
        ],
        "2 layers are called so. Give each a name",
    ),
    ([{"kind": "action", "text": "runs", "relation_to": "light"}, {"kind": "lighting", "text": "sun"}], "belongs to a"),
    (["a fox"], "Expected a layer with the keys .* got str"),
]


@pytest.mark.parametrize(("layers", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_layer_that_cannot_be_understood_is_an_error_that_names_it(layers: list[Any], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        compose(layers, "flux-dev")


def test_unknown_targets_languages_and_forms() -> None:
    with pytest.raises(ValueError, match=r"Expected a target among flux-dev, .* got 'sdxl'"):
        compose([], "sdxl")
    with pytest.raises(ValueError, match="Expected a language among auto, en, ru, zh, de, got 'fr'"):
        compose([], language="fr")
    with pytest.raises(ValueError, match="Expected a form among hierarchical, numbered, got 'list'"):
        compose([], form="list")


def test_a_relation_to_a_layer_that_is_left_out_goes_with_it() -> None:
    made = compose(
        [layer(SUBJECT, "a cat", relation="on", relation_to="foreground"), layer("foreground", "a chair", emphasis=0)],
        "flux-dev",
    )
    assert made.prompt == "A cat."
    assert "'subject' is said without its relation: 'foreground' is left out." in made.notes
