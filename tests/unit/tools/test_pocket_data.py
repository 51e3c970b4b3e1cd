"""What the pocket weights learn from and are judged by: the split, the drawings, captions, tokenizer and judge."""

from __future__ import annotations

import io
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, product
from pathlib import Path

import judge_pocket
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from pocket.captions import (
    LANGUAGES,
    canonical,
    caption,
    every_caption,
    partial_caption,
    rewordings,
    spaced,
    templates,
    training_caption,
)
from pocket.judge import NONE, judge
from pocket.shapes import Scenes, draw, sample_scenes, signed_distance
from pocket.subjects import COLOUR_NAMES, COLOURS, HELD_OUT, SHAPES, TRAINED, TRIPLES, Triple
from pocket.tokenizer import END, MAX_LENGTH, START, write
from transformers import AutoTokenizer, CLIPTokenizer, PreTrainedTokenizerBase

Picture = NDArray[np.uint8]


def pictures(scenes: Scenes, size: int) -> list[Picture]:
    return list((draw(scenes, size) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- The split -------------------------------------------------------------------------------------------------------


def test_a_fifth_of_the_triples_is_held_out() -> None:
    assert len(TRIPLES) == len(set(TRIPLES)) == 224
    assert len(HELD_OUT) == 45
    assert sorted([*HELD_OUT, *TRAINED]) == sorted(TRIPLES)
    assert all(triple.colour != triple.background for triple in TRIPLES)


def test_the_split_never_changes() -> None:
    """Weights trained on another split would be judged on triples they have seen."""
    places = [TRIPLES.index(triple) for triple in HELD_OUT]
    assert (places[:6], sum(places), sum(place**2 for place in places)) == ([0, 7, 10, 19, 26, 27], 5075, 767939)


def test_every_value_is_held_out_about_equally_often() -> None:
    for part, least, most in ((0, 11, 12), (1, 5, 6), (2, 5, 6)):
        counts = Counter(triple[part] for triple in HELD_OUT)
        assert least <= min(counts.values()) <= max(counts.values()) <= most


def test_every_pair_of_values_is_trained() -> None:
    for pair in combinations(range(3), 2):
        assert {tuple(t[i] for i in pair) for t in TRAINED} == {tuple(t[i] for i in pair) for t in TRIPLES}


def test_the_colours_are_well_apart() -> None:
    assert min(math.dist(a, b) for a, b in combinations(COLOURS.values(), 2)) > 0.4


# --- The drawings ----------------------------------------------------------------------------------------------------


def test_a_drawing_is_a_picture_of_its_colours() -> None:
    scenes = sample_scenes(50, generator(0), TRIPLES)
    drawn = draw(scenes, 64)
    assert drawn.shape == (50, 3, 64, 64)
    assert drawn.dtype == torch.float32
    for picture, triple in zip(drawn, scenes.triples, strict=True):
        assert picture[:, 0, 0].tolist() == pytest.approx(COLOURS[triple.background])
        inside = (picture - torch.tensor(COLOURS[triple.colour])[:, None, None]).abs().amax(0) < 1e-6
        assert inside.float().mean() > 0.05


def test_shapes_of_one_radius_have_one_area_and_lie_wholly_inside() -> None:
    scenes = sample_scenes(200, generator(1), TRIPLES)
    distance = signed_distance(scenes, 256)
    area = (0.5 - distance * 256).clamp(0, 1).mean((1, 2))
    torch.testing.assert_close(area, math.pi * scenes.radius**2, rtol=2e-3, atol=0)
    edge = torch.cat([distance[:, 0], distance[:, -1], distance[:, :, 0], distance[:, :, -1]], dim=1)
    assert edge.min() > 0.02


def test_shapes_stand_upright() -> None:
    one = torch.ones(1)
    for name, corners in (("square", (4, math.pi / 4)), ("triangle", (3, 0.0)), ("star", (5, 0.0))):
        index = torch.tensor([SHAPES.index(name)])
        scene = Scenes(index, index, index, 0.5 * torch.ones(1, 2), 0.2 * one, 0 * one, torch.zeros(1, 2, 3))
        ys, xs = np.nonzero(signed_distance(scene, 256)[0].numpy() < 0)
        y, x = ys + 0.5 - 128, xs + 0.5 - 128
        far = np.hypot(x, y) > 0.97 * np.hypot(x, y).max()
        tips, first = corners
        turns = (np.arctan2(x[far], -y[far]) - first) / (2 * math.pi / tips)
        assert np.abs(turns - np.round(turns)).max() < 0.05


def test_a_scene_is_the_same_picture_at_every_size() -> None:
    scenes = sample_scenes(20, generator(2), TRIPLES)
    large = torch.nn.functional.avg_pool2d(draw(scenes, 256), 4)
    assert (large - draw(scenes, 64)).abs().mean() < 2e-3
    # An edge is one pixel wide: four times the side, four times as many mixed pixels.
    ground, front = (
        torch.tensor([COLOURS[COLOUR_NAMES[i]] for i in indices]) for indices in (scenes.background, scenes.colour)
    )
    plain = {
        size: sum(((draw(scenes, size) - rgb[:, :, None, None]).abs().amax(1) < 0.02).sum() for rgb in (ground, front))
        for size in (64, 256)
    }
    edge = {size: 20 * size**2 - int(count) for size, count in plain.items()}
    assert edge[256] / edge[64] == pytest.approx(4, rel=0.1)


def test_a_seed_gives_the_same_scenes_and_jitter_is_small() -> None:
    first, second = (sample_scenes(64, generator(3), jitter=0.02) for _ in range(2))
    assert torch.equal(draw(first, 64), draw(second, 64))
    assert 0.015 < first.jitter.std() < 0.025
    assert set(first.triples) <= set(TRAINED)
    assert torch.equal(draw(first[8:16], 64), draw(first, 64)[8:16])


# --- The captions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "a red circle on a blue background"),
        ("ru", "красный круг на синем фоне"),
        ("zh", "蓝色背景上的红色圆形"),
        ("de", "ein roter Kreis auf blauem Hintergrund"),
    ],
)
def test_canonical_captions(language: str, text: str) -> None:
    assert canonical("circle", "red", "blue", language) == text


@pytest.mark.parametrize(
    ("triple", "language", "texts"),
    [
        (("star", "orange", "white"), "en", ["an orange star on a white background"]),
        (("square", "black", "orange"), "en", ["an orange background with a black square", "a black square on orange"]),
        (("star", "red", "blue"), "ru", ["красная звезда на синем фоне", "синий фон с красной звездой"]),
        (
            ("star", "blue", "green"),
            "ru",
            ["нарисуй синюю звезду на зелёном фоне", "одна синяя звезда на зелёном фоне"],
        ),
        (("triangle", "blue", "black"), "ru", ["изображение синего треугольника на чёрном фоне"]),
        (("star", "white", "blue"), "ru", ["изображение белой звезды на синем фоне", "белая звезда, синий фон"]),
        (("square", "yellow", "white"), "ru", ["квадрат жёлтого цвета на белом фоне", "белый фон с жёлтым квадратом"]),
        (("circle", "red", "blue"), "zh", ["蓝底红圆", "一个红色的圆形，背景是蓝色"]),
        (("square", "white", "black"), "zh", ["黑色背景上的白色正方形", "黑底白方块"]),
        (
            ("triangle", "red", "blue"),
            "de",
            ["ein rotes Dreieck auf blauem Hintergrund", "rotes Dreieck, blauer Hintergrund"],
        ),
        (("circle", "red", "blue"), "de", ["zeichne einen roten Kreis auf blauem Hintergrund"]),
        (("square", "red", "blue"), "de", ["zeichne ein rotes Quadrat auf blauem Hintergrund"]),
        (("star", "green", "white"), "de", ["weißer Hintergrund mit einem grünen Stern"]),
        (
            ("star", "purple", "orange"),
            "de",
            ["ein lila Stern auf orange Hintergrund", "ein orange Hintergrund mit einem lila Stern"],
        ),
        (("circle", "black", "yellow"), "de", ["ein schwarzer Kreis auf einem gelben Hintergrund"]),
    ],
)
def test_grammar(triple: tuple[str, str, str], language: str, texts: list[str]) -> None:
    said = [canonical(*triple, language), *rewordings(*triple, language)]
    assert [text for text in texts if text not in said] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_caption_fits_two_triples(language: str) -> None:
    meaning: dict[str, Triple] = {}
    for triple in TRIPLES:
        for text in [canonical(*triple, language), *rewordings(*triple, language)]:
            assert meaning.setdefault(text, triple) == triple
    assert 7 <= len(templates(language)) <= 11


@pytest.mark.parametrize("language", LANGUAGES)
def test_random_captions_are_varied_and_repeatable(language: str) -> None:
    def some(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [caption("star", "green", "white", language, rng) for _ in range(300)]

    assert some(1) == some(1) != some(2)
    assert len(set(some(1))) > 15
    assert canonical("star", "green", "white", language) in some(1)


@pytest.mark.parametrize(
    ("omit", "words"),
    [
        ("shape", ("circle", "круг", "圆", "Kreis")),
        ("colour", ("red", "красн", "红", "rot")),
        ("background", ("blue", "син", "蓝", "blau")),
    ],
)
def test_a_partial_caption_leaves_one_thing_out(omit: str, words: tuple[str, ...]) -> None:
    rng = random.Random(0)
    for language, word in zip(LANGUAGES, words, strict=True):
        for _ in range(30):
            assert word.lower() not in partial_caption("circle", "red", "blue", language, rng, omit).lower()


def test_chinese_is_trained_with_spaces_and_without() -> None:
    rng = random.Random(0)
    texts = [training_caption("circle", "red", "blue", "zh", rng) for _ in range(100)]
    assert 25 < sum(" 色 " in text for text in texts) < 75
    assert spaced("蓝底红圆，a b") == "蓝 底 红 圆 ，a b"


# --- The tokenizer ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write(path)
    return path


@pytest.fixture(scope="module")
def fast(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def test_the_tokenizer_is_written_as_clip_has_it(folder: Path, fast: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert vocabulary[END] == fast.eos_token_id == len(vocabulary) - 1
    assert vocabulary[START] == fast.bos_token_id == len(vocabulary) - 2
    assert 1000 < len(vocabulary) <= 2048
    assert fast.pad_token_id == 0
    assert fast.model_max_length == MAX_LENGTH == 32
    write(tmp_path)
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_fit_and_come_back(language: str, fast: PreTrainedTokenizerBase) -> None:
    texts = list(dict.fromkeys(every_caption(language)))
    for form in (texts, [spaced(text) for text in texts]):
        assert max(map(len, fast(form).input_ids)) < MAX_LENGTH
    for text, ids in zip(texts, fast(texts).input_ids, strict=True):
        assert str(fast.decode(ids, skip_special_tokens=True)).replace(" ", "") == text.lower().replace(" ", "")


def test_a_word_is_a_token_and_so_is_a_chinese_character(fast: PreTrainedTokenizerBase) -> None:
    for language in ("en", "ru", "de"):
        text = canonical("star", "purple", "white", language)
        assert len(fast(text).input_ids) == len(text.split()) + 2
    seen = fast("蓝色背景上的红色圆形").input_ids
    assert [fast.decode([token]) for token in seen[1:-1]] == list("蓝色背景上的红色圆形")
    assert seen[1] == fast("蓝色背景上的白色星形").input_ids[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_slow_and_fast_tokenizers_agree(language: str, folder: Path, fast: PreTrainedTokenizerBase) -> None:
    slow = CLIPTokenizer.from_pretrained(folder)
    rng = random.Random(0)
    texts = [caption(*rng.choice(TRIPLES), language, rng) for _ in range(200)]
    # The slow one splits Chinese by itself unless ftfy is there: spaced, it reads the same with and without.
    texts = [spaced(text) for text in texts]
    options = {"padding": "max_length", "truncation": True}
    assert slow(texts, **options).input_ids == fast(texts, **options).input_ids
    assert slow(texts, **options).attention_mask == fast(texts, **options).attention_mask


# --- The judge -------------------------------------------------------------------------------------------------------


def soiled(picture: Picture, rng: np.random.Generator) -> Picture:
    """Blurred, noisy, and through JPEG with half the colour resolution."""
    blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(len(picture) / 64))
    noisy = np.clip(np.asarray(blurred) + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (64, 60),
        (128, 10),
        pytest.param(64, 400, marks=pytest.mark.slow),
        pytest.param(128, 120, marks=pytest.mark.slow),
        pytest.param(256, 12, marks=pytest.mark.slow),
    ],
)
def test_the_judge_knows_drawn_scenes_even_soiled(size: int, count: int) -> None:
    scenes = sample_scenes(count, generator(size), TRIPLES, jitter=0.02)
    rng = np.random.default_rng(0)
    clean = [judge(p).right(triple) for p, triple in zip(pictures(scenes, size), scenes.triples, strict=True)]
    dirty = [judge(soiled(p, rng)).right(t) for p, t in zip(pictures(scenes, size), scenes.triples, strict=True)]
    assert np.mean(clean) >= 0.995
    assert np.mean(dirty) >= 0.98


def test_floats_and_bytes_are_judged_alike() -> None:
    scenes = sample_scenes(8, generator(5), TRIPLES)
    for floats, integers in zip(draw(scenes, 64).permute(0, 2, 3, 1).numpy(), pictures(scenes, 64), strict=True):
        assert judge(floats) == judge(integers)


Draw = Callable[[ImageDraw.ImageDraw], object]
RED, YELLOW, BLUE = (tuple(round(255 * c) for c in COLOURS[name]) for name in ("red", "yellow", "blue"))


def picture(draw_it: Draw, side: int = 128) -> Picture:
    """What `draw_it` draws on a 400 × 400 blue ground, at `side`."""
    image = Image.new("RGB", (400, 400), BLUE)
    draw_it(ImageDraw.Draw(image))
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def ring(tips: int, inner: float) -> Draw:
    """A polygon with `tips` corners and as many inner ones."""
    radius = [120.0, 120.0 * inner]
    corners = [
        (200 + radius[i % 2] * math.sin(math.pi * i / tips), 200 - radius[i % 2] * math.cos(math.pi * i / tips))
        for i in range(2 * tips)
    ]
    return lambda d: d.polygon(corners, fill=RED)


def both(*parts: Draw) -> Draw:
    return lambda d: [part(d) for part in parts]


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize(
    "draw_it",
    [
        pytest.param(lambda d: None, id="blank"),
        pytest.param(lambda d: d.ellipse((185, 185, 215, 215), fill=RED), id="tiny"),
        pytest.param(
            both(
                lambda d: d.ellipse((40, 40, 200, 200), fill=RED), lambda d: d.rectangle((230, 230, 350, 350), fill=RED)
            ),
            id="circle and square",
        ),
        pytest.param(
            both(
                lambda d: d.ellipse((40, 40, 200, 200), fill=RED),
                lambda d: d.rectangle((230, 230, 350, 350), fill=YELLOW),
            ),
            id="circle and yellow square",
        ),
        pytest.param(
            both(
                lambda d: d.ellipse((40, 120, 200, 280), fill=RED),
                lambda d: d.rectangle((190, 120, 350, 280), fill=RED),
            ),
            id="circle touching a square",
        ),
        pytest.param(
            both(
                lambda d: d.ellipse((80, 80, 320, 320), fill=RED),
                lambda d: d.pieslice((80, 80, 320, 320), 0, 180, fill=YELLOW),
            ),
            id="two-coloured circle",
        ),
        pytest.param(
            both(
                lambda d: d.ellipse((80, 80, 320, 320), fill=RED),
                lambda d: d.pieslice((80, 80, 320, 320), 0, 100, fill=YELLOW),
            ),
            id="circle with a yellow slice",
        ),
        pytest.param(lambda d: d.ellipse((80, 80, 320, 320), outline=RED, width=50), id="hoop"),
        pytest.param(lambda d: d.ellipse((80, 110, 320, 290), fill=RED), id="oval"),
        pytest.param(lambda d: d.rectangle((80, 110, 320, 290), fill=RED), id="oblong"),
        pytest.param(lambda d: d.rounded_rectangle((100, 100, 300, 300), radius=72, fill=RED), id="squircle"),
        pytest.param(lambda d: d.polygon([(80, 80), (80, 320), (320, 320)], fill=RED), id="right triangle"),
        pytest.param(lambda d: d.ellipse((240, 80, 480, 320), fill=RED), id="circle cut off"),
        pytest.param(lambda d: d.rectangle((0, 120, 400, 240), fill=RED), id="stripe"),
        pytest.param(ring(5, math.cos(math.pi / 5)), id="pentagon"),
        pytest.param(ring(6, math.cos(math.pi / 6)), id="hexagon"),
        pytest.param(ring(4, 0.5), id="four-pointed star"),
        pytest.param(ring(6, 0.58), id="six-pointed star"),
        pytest.param(ring(5, 0.68), id="flower"),
    ],
)
def test_the_judge_does_not_guess_a_shape(draw_it: Draw, side: int) -> None:
    verdict = judge(picture(draw_it, side))
    assert verdict.shape == NONE
    assert verdict.unclear


@pytest.mark.parametrize("colour", [(128, 128, 128), (120, 70, 30), (40, 220, 230), (255, 150, 190)])
def test_the_judge_does_not_guess_a_colour(colour: tuple[int, int, int]) -> None:
    verdict = judge(picture(lambda d: d.ellipse((80, 80, 320, 320), fill=colour)))
    assert (verdict.shape, verdict.colour, verdict.background) == ("circle", NONE, "blue")


def test_a_border_of_two_colours_is_no_background() -> None:
    assert judge(picture(lambda d: d.rectangle((0, 120, 400, 240), fill=RED))).background == NONE


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.random((8, 8, 3)), np.ones((8, 8, 1)))
    for noise in (rng.random((64, 64, 3)), np.clip(0.5 + 0.2 * rng.normal(size=(128, 128, 3)), 0, 1), coarse):
        assert judge(noise).shape == judge(noise).background == NONE


def test_the_judge_refuses_what_is_no_picture() -> None:
    with pytest.raises(ValueError, match=r"expected a picture \[H, W, 3\], got shape \[3, 64, 64\]"):
        judge(np.zeros((3, 64, 64)))
    with pytest.raises(ValueError, match="NaN"):
        judge(np.full((64, 64, 3), np.nan))


# --- The command -----------------------------------------------------------------------------------------------------


def drawing_generator(cases: Sequence[judge_pocket.Case], wrong_language: str = "") -> judge_pocket.Generate:
    """Draws what each prompt means, but in `wrong_language` always the same picture."""
    wanted = {case.seed: case for case in cases}

    def generate(prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.float32]]:
        drawn = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            case = wanted[seed]
            assert case.prompt == prompt
            triple = Triple("circle", "red", "blue") if case.language == wrong_language else case.triple
            drawn.append(draw(sample_scenes(1, generator(seed), [triple]), 64)[0].permute(1, 2, 0).numpy())
        return drawn

    return generate


def test_the_command_asks_for_all_held_out_triples_in_two_wordings() -> None:
    cases = judge_pocket.make_cases(LANGUAGES, 45, 16, seed=7)
    unseen = [case for case in cases if case.held_out]
    assert {(c.triple, c.language, c.canonical) for c in unseen} == set(product(HELD_OUT, LANGUAGES, (True, False)))
    assert {c.triple for c in cases if not c.held_out} <= set(TRAINED)
    assert len({c.seed for c in cases}) == len(cases) == (45 + 16) * 4 * 2
    assert all((c.prompt == canonical(*c.triple, c.language)) == c.canonical for c in cases)
    assert cases == judge_pocket.make_cases(LANGUAGES, 45, 16, seed=7)


@pytest.mark.parametrize(("wrong", "code"), [("", 0), ("zh", 1)])
def test_the_command_fails_when_one_language_is_below_the_bar(
    wrong: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--held-out", "6", "--trained", "2", "--save", str(tmp_path), "--json"]
    cases = judge_pocket.make_cases(LANGUAGES, 6, 2, seed=1000)
    assert judge_pocket.main(few, drawing_generator(cases, wrong)) == code
    printed = json.loads(capsys.readouterr().out)
    assert printed["passed"] is (code == 0)
    assert len(printed["pictures"]) == 64
    unseen = {one["language"]: one["all_three"] for one in printed["scores"] if one["held_out"]}
    assert {language for language, part in unseen.items() if part < 0.9} == ({wrong} if wrong else set())
    red = {file.stem: (np.asarray(Image.open(file))[:3] == (255, 0, 0)).all(-1).any() for file in tmp_path.iterdir()}
    assert red == {language: language == wrong for language in LANGUAGES}


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    cases = judge_pocket.make_cases(["de"], 3, 0, seed=1000)
    assert judge_pocket.main(["--languages", "de", "--held-out", "3", "--trained", "0"], drawing_generator(cases)) == 0
    assert "held out        de        6     100.0%" in capsys.readouterr().out
