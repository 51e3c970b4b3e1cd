"""What English says of styles, light, cameras and moods, and how it names things a second time."""

from __future__ import annotations

import pytest

from nodes.text.english import ENGLISH, is_finite
from nodes.text.layers import CAMERA, LIGHTING, MOOD, STYLE, SUBJECT, TEXT


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (STYLE, "oil painting", "an oil painting"),
        (STYLE, "Oil painting on canvas, muted", "an oil painting on canvas"),
        (STYLE, "in the style of Klimt", "in the style of Klimt"),
        (STYLE, "style of Klimt", "in the style of Klimt"),
        (STYLE, "the style of Klimt", "in the style of Klimt"),
        (STYLE, "impressionist", "in an impressionist style"),
        (STYLE, "Art Nouveau style", "in an Art Nouveau style"),
        (STYLE, "loose manner", "in a loose manner"),
        (STYLE, "retro aesthetic", "with a retro aesthetic"),
        (STYLE, "a fever dream", "as a fever dream"),
        (STYLE, "masterpiece", "masterpiece"),
        (STYLE, "with grain", "with grain"),
        (LIGHTING, "lit by candles", "the scene is lit by candles"),
        (LIGHTING, "soft lighting, candles", "the scene has soft lighting, candles"),
        (LIGHTING, "candles", "the scene is lit by candles"),
        (LIGHTING, "dim", "the lighting is dim"),
        (LIGHTING, "dim, moody", "the lighting is dim and moody"),
        (LIGHTING, "soft and dim, very cold", "the lighting is soft and dim, very cold"),
        (LIGHTING, "pale, and cold", "the lighting is pale, and cold"),
        (CAMERA, "shot on 35mm film", "shot on 35mm film"),
        (CAMERA, "from above", "from above"),
        (CAMERA, "wide shot, 35mm", "framed as a wide shot, 35mm"),
        (CAMERA, "low angle", "seen from a low angle"),
        (CAMERA, "Kodak film", "shot on Kodak film"),
        (CAMERA, "85mm lens", "shot with an 85mm lens"),
        (CAMERA, "shallow depth", "camera: shallow depth"),
        (MOOD, "a sense of calm", "the picture conveys a sense of calm"),
        (MOOD, "calm mood", "the picture has a calm mood"),
        (MOOD, "calm, dreamy, old", "the mood is calm, dreamy and old"),
        (TEXT, "OPEN", 'the text "OPEN" is visible in the picture'),
    ],
)
def test_each_kind_is_told_in_its_own_words(kind: str, text: str, told: str) -> None:
    assert ENGLISH.tell(kind, text) == told


@pytest.mark.parametrize(
    ("actors", "styles", "sentence", "opening"),
    [
        ("A fox", [], True, "A fox"),
        ("A fox", ["oil painting"], True, "A fox, as an oil painting"),
        ("A fox", ["oil painting"], False, "an oil painting of a fox"),
        ("A fox", ["impressionist"], False, "A fox, in an impressionist style"),
        ("A fox", ["oil painting, muted"], True, "A fox, as an oil painting, in a muted style"),
        (
            "A fox",
            ["oil painting", "pencil sketch", "impressionist"],
            False,
            "an oil painting of a fox, in an impressionist style, as a pencil sketch",
        ),
        ("", ["oil painting", "pencil sketch"], False, "an oil painting, as a pencil sketch"),
        ("", ["impressionist"], True, "in an impressionist style"),
    ],
)
def test_the_first_sentence_says_what_kind_of_picture_it_is(
    actors: str, styles: list[str], sentence: bool, opening: str
) -> None:
    assert ENGLISH.opening(actors, styles, sentence=sentence) == [opening]
    assert ENGLISH.opening("", [], sentence=sentence) == []


@pytest.mark.parametrize(
    ("text", "known", "new"),
    [
        ("a fox and a wolf with hats", "the fox and the wolf", "a fox and a wolf"),
        ("Two foxes in snow", "the two foxes", "two foxes"),
        ("some snow", "the snow", "some snow"),
        ("foxes, old", "foxes", "foxes"),
        ("the, x", "the, x", "the, x"),
        ("a ten year old girl in red", "the ten year old girl", "a ten year old girl"),
    ],
)
def test_a_thing_is_named_in_a_few_words(text: str, known: str, new: str) -> None:
    assert ENGLISH.name(SUBJECT, text) == known
    assert ENGLISH.name(SUBJECT, text, known=False) == ENGLISH.brief(text) == new


@pytest.mark.parametrize("action", ["reads a book", "is old", "runs", "was", "has come"])
def test_actions_that_make_a_sentence(action: str) -> None:
    assert is_finite(action)


@pytest.mark.parametrize("action", ["reading a book", "glass", "focus", "as", "red runs", ""])
def test_actions_that_make_none(action: str) -> None:
    assert not is_finite(action)


def test_emphasis_and_hints_of_a_style() -> None:
    assert ENGLISH.stressed([], ["a", "b"]) == ["the emphasis is on a and b"]
    assert ENGLISH.stressed(["x", "y"], ["a"]) == ["x, with emphasis on a", "y"]
    assert ENGLISH.subtly(STYLE, "Oil painting") == "with a hint of oil painting"
    assert ENGLISH.subtly(MOOD, "calm") == "calm, kept subtle"


@pytest.mark.parametrize(
    ("opening", "grounds", "sentence"),
    [
        (["a fox"], ["snow", "ice"], "A fox, with snow and ice, night."),
        (["a fox, old"], ["snow"], "A fox, old, snow, night."),
        (["a fox"], ["snow, wet"], "A fox, snow, wet, night."),
        ([], ["snow"], "Snow, night."),
    ],
)
def test_what_stands_around_is_joined_where_no_comma_is_in_the_way(
    opening: list[str], grounds: list[str], sentence: str
) -> None:
    assert ENGLISH.one_sentence(opening, grounds, ["night"]) == sentence
