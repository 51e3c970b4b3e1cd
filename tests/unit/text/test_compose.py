"""Composing prompts from layers. The table in tests/data/prompt_compose.json is what people get to see: read it."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from nodes.text.compose import FORMS, compose
from nodes.text.layers import (
    BACKGROUND,
    CAMERA,
    FOREGROUND,
    KINDS,
    NEGATIVE,
    NONE,
    RELATIONS,
    SUBJECT,
    TEXT,
    Layer,
    LayerError,
)
from nodes.text.lint import lint
from nodes.text.targets import TARGETS
from nodes.text.tokens import load_tokenizers
from tests.support.hosts import comfyui_folder
from tests.support.places import DATA

CASES: list[dict[str, Any]] = json.loads((DATA / "prompt_compose.json").read_text("utf-8"))
GUIDE = ["scene", "subjects", "style", "color_palette", "lighting", "mood", "background", "composition", "camera"]
"""The keys of FLUX.2's base schema, in its order (docs.bfl.ai/guides/usecases_t2i_json_prompting)."""


def layer(kind: str, text: str, **more: Any) -> Layer:
    return Layer(kind, text, **more)


def composed(case: dict[str, Any]) -> Any:
    return compose(case["layers"], case["target"], **{key: case[key] for key in ("form", "language") if key in case})


# The table


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_composed_as_in_the_table(case: dict[str, Any]) -> None:
    made = composed(case)
    assert made.prompt == made.t5xxl == case["prompt"]
    assert made.negative == case.get("negative", "")
    assert list(made.notes) == case.get("notes", [])
    assert made.clip_l == case.get("clip_l", made.prompt)


def test_the_table_has_every_family_and_kind() -> None:
    assert {TARGETS[composed(case).target].family for case in CASES} == {each.family for each in TARGETS.values()}
    assert {Layer.read(each).kind for case in CASES for each in case["layers"]} == set(KINDS)
    assert len({case["name"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_linter_has_no_warnings_about_what_is_composed(case: dict[str, Any]) -> None:
    made = composed(case)
    assert not [str(found) for found in lint(made.prompt, made.target) if found.severity == "warning"]


# Whatever the layers: the words are the user's


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("capital", [True, False])
def test_every_text_is_in_the_prompt_as_it_was_written(target: str, form: str, capital: bool) -> None:
    words = {kind: f"{'B' if capital else 'b'}right thing {number}" for number, kind in enumerate(KINDS)}
    words[CAMERA] = "Low angle" if capital else "low angle"
    made = compose([layer(kind, text) for kind, text in words.items() if kind != NEGATIVE], target, form=form)
    for kind, text in words.items():
        if kind == TEXT and target.startswith("kandinsky-5"):
            text = text.upper()
        if kind != NEGATIVE:
            assert text in made.prompt or text[:1].upper() + text[1:] in made.prompt, (kind, made.prompt)


@pytest.mark.parametrize("relation", [relation for relation in RELATIONS if relation != NONE])
@pytest.mark.parametrize("target", ["flux-dev", "sd15", "kandinsky-2.2", "kandinsky-5"])
def test_every_relation_is_said(relation: str, target: str) -> None:
    made = compose([layer(SUBJECT, "a cat", relation=relation, relation_to="the old door")], target)
    assert made.prompt.lower().rstrip(".") == f"a cat {RELATIONS[relation]} the old door"


@pytest.mark.parametrize(
    ("text", "ended"), [("a fox", "A fox."), ("Is it a fox?", "Is it a fox?"), ("a fox...", "A fox..."), ("42", "42.")]
)
def test_a_sentence_gets_a_capital_and_one_full_stop(text: str, ended: str) -> None:
    assert compose([layer(SUBJECT, text)]).prompt == ended


def test_emphasis_orders_layers_unless_the_model_reads_weights() -> None:
    layers = [layer(SUBJECT, "a fox", emphasis=0.5), layer("mood", "calm", emphasis=1.5), layer(BACKGROUND, "ice")]
    assert compose(layers, "flux").prompt == "Mood: calm. Background: ice. A fox."
    assert compose(layers, "sd15").prompt == "(a fox:0.5), ice in the background, (calm:1.5)"


# FLUX.2's JSON


@pytest.mark.parametrize("case", [case for case in CASES if case.get("form") == "json" and "flux2" in case["target"]])
def test_json_has_the_guide_s_keys_in_its_order(case: dict[str, Any]) -> None:
    made = json.loads(composed(case).prompt)
    assert list(made) == [key for key in GUIDE if key in made]
    assert all(made.values())
    for subject in made["subjects"]:
        assert list(subject) == [key for key in ("description", "position", "action") if key in subject]


def test_layers_of_one_kind_share_a_key() -> None:
    layers = [
        layer("style", "ink"),
        layer("style", "muted"),
        layer("color palette", "red, , blue"),
        layer(CAMERA, "50mm lens"),
        layer(CAMERA, "eye level, bokeh"),
    ]
    made = json.loads(compose(layers, "flux2", form="json").prompt)
    assert made == {
        "style": "ink, muted",
        "color_palette": ["red", "blue"],
        "camera": {"angle": "eye level", "lens": "50mm lens", "depth_of_field": "bokeh"},
    }


def test_quotes_and_parentheses_are_safe_in_json() -> None:
    layers = [layer(SUBJECT, 'a sign that says "(OPEN)" \\ here')]
    made = compose(layers, "flux2", form="json")
    assert json.loads(made.prompt)["subjects"][0]["description"] == 'a sign that says "(OPEN)" \\ here'
    assert compose([], "flux2", form="json").prompt == ""


# What is promised of each target


def test_clip_l_keeps_within_what_it_reads() -> None:
    if not (comfyui_folder() / "comfy").is_dir():
        pytest.skip("no ComfyUI, which has the tokenizers")
    tokenizers = load_tokenizers(comfyui_folder() / "comfy")
    many = [layer(SUBJECT, "a red fox"), *(layer(FOREGROUND, f"a stack of {n} old wooden crates") for n in range(30))]
    for target in ("flux-dev", "kandinsky-5"):
        made = compose(many, target, tokenizers=tokenizers)
        assert 60 < len(tokenizers["clip"](made.clip_l)) <= 75
        assert made.clip_l.startswith("A red fox, a stack of 0")


def test_a_prompt_that_is_too_long_is_noted() -> None:
    many = [layer(FOREGROUND, f"a tall stack of {n} old wooden crates with iron bands") for n in range(40)]
    for target, said in (("flux-schnell", "of 256"), ("kandinsky-2.2", "CLIP-bigG"), ("kandinsky-5-video", "Qwen2.5")):
        assert any("Too long:" in note and said in note for note in compose(many, target).notes)
    assert compose(many, "sd15").notes == ()  # ComfyUI encodes it in chunks


def test_nothing_to_say_is_an_empty_prompt_and_a_note() -> None:
    made = compose([layer(NEGATIVE, "text")], "sd15")
    assert (made.prompt, made.negative) == ("", "text")
    assert any("empty" in note for note in made.notes)


# Layers that are not valid

WRONG = [
    ([{"kind": "subjekt", "text": "x"}], "Expected a kind of layer among subject, action, .* got 'subjekt'"),
    ([{"kind": "subject"}], "without text"),
    ([{"kind": "subject", "text": 3}], "Expected text for the layer 'subject', got int"),
    ([{"kind": "subject", "text": "x", "name": 3}], "Expected text for name of a layer, got 3"),
    ([{"kind": "subject", "text": "x", "weight": 2}], "Expected a layer with the keys .* got 'weight'"),
    ([{"kind": "subject", "text": "x", "emphasis": 3}], "emphasis from 0 to 2 for the layer 'subject', got 3"),
    ([{"kind": "subject", "text": "x", "emphasis": "strong"}], "emphasis from 0 to 2"),
    ([{"kind": "subject", "text": "x", "relation": "beside", "relation_to": "y"}], "a relation among none, left of"),
    ([{"kind": "subject", "text": "x", "relation": "left of"}], "'subject' is 'left of' nothing: put the name"),
    (
        [
            {"kind": "subject", "text": "x"},
            {"kind": "subject", "text": "y"},
            {"kind": "foreground", "text": "z", "relation": "on", "relation_to": "subject"},
        ],
        "2 layers are called. Give each a name",
    ),
    ([{"kind": "action", "text": "runs", "relation_to": "light"}, {"kind": "lighting", "text": "sun"}], "belongs to "),
    ([{"kind": "action", "text": "runs", "relation_to": "fox"}], "belongs to 'fox', and no subject is called that"),
    (["a fox"], "Expected a layer with the keys .* got str"),
]


@pytest.mark.parametrize(("layers", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_layer_that_is_not_valid_is_an_error_that_names_it(layers: list[Any], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        compose(layers, "flux-dev")


def test_unknown_targets_languages_and_forms() -> None:
    with pytest.raises(ValueError, match=r"Expected a target among flux-dev, .* got 'sdxl'"):
        compose([], "sdxl")
    with pytest.raises(ValueError, match="Expected a language among auto, en, ru, zh, de, got 'fr'"):
        compose([], language="fr")
    with pytest.raises(ValueError, match="Expected a form among hierarchical, numbered, json, got 'list'"):
        compose([], form="list")


def test_relations_and_kinds_of_saved_workflows_stay() -> None:
    first = "subject, action, style, foreground, middle ground, background, lighting, camera, mood, text in the picture"
    assert ", ".join(KINDS[:11]) == f"{first}, negative"
    old = "none left_of right_of above below in_front_of behind inside on under next_to around facing"
    assert {relation.replace("_", " ") for relation in old.split()} <= RELATIONS.keys()
    assert FORMS[:2] == ("hierarchical", "numbered")
    assert all(re.fullmatch("[a-z ]+", name) for name in itertools.chain(KINDS, RELATIONS))
