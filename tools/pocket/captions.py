"""Captions of the drawn scenes in English, Russian, Chinese and German.

A language is a tuple of templates, the canonical one first, and a function that puts a triple's words into every
grammatical form the templates ask for. Shapes and colours are named by their English words throughout.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product

LANGUAGES: tuple[str, ...] = ("en", "ru", "zh", "de")

Forms = dict[str, str]

# --- English ---------------------------------------------------------------------------------------------------------

_EN = (
    "{a} {colour} {shape} on {ab} {back} background",
    "{back} background with {a} {colour} {shape}",
    "{a} {colour} {shape} on {back}",
    "{colour} {shape}, {back} background",
    "{colour} {shape} on {ab} {back} background",
    "{ab} {back} background with {a} {colour} {shape}",
    "a picture of {a} {colour} {shape} on {ab} {back} background",
    "draw {a} {colour} {shape} on {ab} {back} background",
    "{a} {colour} {shape} against {ab} {back} background",
    "{a} {colour} {shape}, the background is {back}",
    "on {ab} {back} background there is {a} {colour} {shape}",
)
_EN_PARTIAL = {
    "background": ("{a} {colour} {shape}", "{colour} {shape}", "draw {a} {colour} {shape}"),
    "colour": ("a {shape} on {ab} {back} background", "{back} background with a {shape}", "a {shape} on {back}"),
    "shape": ("{a} {colour} shape on {ab} {back} background", "something {colour} on {ab} {back} background"),
}


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _en(shape: str, colour: str, background: str, rng: random.Random | None) -> Forms:
    del rng  # one word for each thing
    return {"shape": shape, "colour": colour, "back": background, "a": _article(colour), "ab": _article(background)}


# --- Russian ---------------------------------------------------------------------------------------------------------

_RU = (
    "{nom} на {back_loc} фоне",
    "{back} фон с {ins}",
    "{nom}, {back} фон",
    "нарисуй {acc} на {back_loc} фоне",
    "на {back_loc} фоне {nom}",
    "{nom}, фон {back}",
    "картинка с {ins} на {back_loc} фоне",
    "изображение {gen} на {back_loc} фоне",
    "{back} фон, на нём {nom}",
    "{one} {nom} на {back_loc} фоне",
    "{shape} {colour_gen} цвета на {back_loc} фоне",
)
_RU_PARTIAL = {
    "background": ("{nom}", "нарисуй {acc}", "{one} {nom}"),
    "colour": ("{shape} на {back_loc} фоне", "{back} фон, на нём {shape}", "{shape}, {back} фон"),
    "shape": ("{colour_fem} фигура на {back_loc} фоне", "что-то {colour_neut} на {back_loc} фоне"),
}
# Nominative, genitive, accusative, instrumental.
_RU_SHAPES = {
    "circle": ("круг", "круга", "круг", "кругом"),
    "square": ("квадрат", "квадрата", "квадрат", "квадратом"),
    "triangle": ("треугольник", "треугольника", "треугольник", "треугольником"),
    "star": ("звезда", "звезды", "звезду", "звездой"),
}
_RU_STEMS = {
    "red": "красн",
    "green": "зелён",
    "blue": "син",
    "yellow": "жёлт",
    "purple": "фиолетов",
    "orange": "оранжев",
    "white": "бел",
    "black": "чёрн",
}
# Nominative, genitive, accusative (of a thing), instrumental, prepositional; masculine and feminine; hard and soft.
_RU_ENDINGS = {
    ("hard", "m"): ("ый", "ого", "ый", "ым", "ом"),
    ("hard", "f"): ("ая", "ой", "ую", "ой", "ой"),
    ("soft", "m"): ("ий", "его", "ий", "им", "ем"),
    ("soft", "f"): ("яя", "ей", "юю", "ей", "ей"),
}


def _ru_adjective(colour: str, gender: str) -> tuple[str, ...]:
    kind = "soft" if colour == "blue" else "hard"
    return tuple(_RU_STEMS[colour] + ending for ending in _RU_ENDINGS[kind, gender])


def _ru(shape: str, colour: str, background: str, rng: random.Random | None) -> Forms:
    del rng
    gender = "f" if shape == "star" else "m"
    adjective, noun, back = _ru_adjective(colour, gender), _RU_SHAPES[shape], _ru_adjective(background, "m")
    nominative, genitive, accusative, instrumental = (f"{adjective[i]} {noun[i]}" for i in range(4))
    return {
        "nom": nominative,
        "gen": genitive,
        "acc": accusative,
        "ins": instrumental,
        "one": "одна" if gender == "f" else "один",
        "shape": noun[0],
        "colour_gen": _ru_adjective(colour, "m")[1],
        "colour_fem": _ru_adjective(colour, "f")[0],
        "colour_neut": _RU_STEMS[colour] + ("ее" if colour == "blue" else "ое"),
        "back": back[0],
        "back_loc": back[4],
    }


# --- Chinese ---------------------------------------------------------------------------------------------------------

_ZH = (
    "{back}色背景上的{colour}色{shape}",
    "一个{colour}色的{shape}，背景是{back}色",
    "{colour}色{shape}，{back}色背景",
    "{back}底{colour}{short}",
    "{back}色背景，{colour}色{shape}",
    "画一个{back}色背景上的{colour}色{shape}",
    "在{back}色背景上有一个{colour}色{shape}",
    "{back}色的背景上有一个{colour}色的{shape}",
    "一张{colour}色{shape}的图片，背景为{back}色",
    "{colour}色的{shape}在{back}色背景上",
    "请画一个{colour}色的{shape}，背景是{back}色",
)
_ZH_PARTIAL = {
    "background": ("{colour}色{shape}", "一个{colour}色的{shape}", "画一个{colour}色{shape}"),
    "colour": ("{back}色背景上的{shape}", "{back}色背景，{shape}", "一个{shape}，背景是{back}色"),
    "shape": ("{back}色背景上的{colour}色图形", "一个{colour}色的图形，背景是{back}色"),
}
# The first word is the canonical one.
_ZH_SHAPES = {
    "circle": ("圆形", "圆"),
    "square": ("正方形", "方块"),
    "triangle": ("三角形",),
    "star": ("星形", "五角星", "星星"),
}
_ZH_SHORT = {"circle": "圆", "square": "方块", "triangle": "三角", "star": "星"}
_ZH_COLOURS = {
    "red": "红",
    "green": "绿",
    "blue": "蓝",
    "yellow": "黄",
    "purple": "紫",
    "orange": "橙",
    "white": "白",
    "black": "黑",
}


def _zh(shape: str, colour: str, background: str, rng: random.Random | None) -> Forms:
    words = _ZH_SHAPES[shape]
    return {
        "shape": rng.choice(words) if rng else words[0],
        "short": _ZH_SHORT[shape],
        "colour": _ZH_COLOURS[colour],
        "back": _ZH_COLOURS[background],
    }


def spaced(text: str) -> str:
    """`text` with a space on either side of every Chinese character.

    transformers' slow CLIP tokenizer does this to a prompt when ftfy is not installed and leaves it when it is; the
    fast one never does. Training on both forms makes a prompt mean the same everywhere.
    """
    return " ".join("".join(f" {c} " if "\u4e00" <= c <= "\u9fff" else c for c in text).split())


# --- German ----------------------------------------------------------------------------------------------------------

_DE = (
    "{ein} auf {back_dat} Hintergrund",
    "{back_nom} Hintergrund mit {einem}",
    "{bare}, {back_nom} Hintergrund",
    "{bare} auf {back_dat} Hintergrund",
    "{ein} vor {back_dat} Hintergrund",
    "zeichne {einen} auf {back_dat} Hintergrund",
    "ein Bild von {einem} auf {back_dat} Hintergrund",
    "{ein} auf einem {back_weak} Hintergrund",
    "{ein}, der Hintergrund ist {back}",
    "ein {back_nom} Hintergrund mit {einem}",
    "auf {back_dat} Hintergrund ist {ein}",
)
_DE_PARTIAL = {
    "background": ("{ein}", "{bare}", "zeichne {einen}"),
    "colour": ("ein {shape} auf {back_dat} Hintergrund", "{shape}, {back_nom} Hintergrund"),
    "shape": ("eine {colour_fem} Form auf {back_dat} Hintergrund", "etwas in {colour_noun} auf {back_dat} Hintergrund"),
}
_DE_SHAPES = {
    "circle": ("Kreis", "m"),
    "square": ("Quadrat", "n"),
    "triangle": ("Dreieck", "n"),
    "star": ("Stern", "m"),
}
_DE_COLOURS = {
    "red": "rot",
    "green": "grün",
    "blue": "blau",
    "yellow": "gelb",
    "purple": "lila",
    "orange": "orange",
    "white": "weiß",
    "black": "schwarz",
}


def _de_adjective(colour: str, ending: str) -> str:
    word = _DE_COLOURS[colour]
    # These two stay as they are: "ein lila Kreis", "auf orange Hintergrund".
    return word if colour in ("purple", "orange") else word + ending


def _de(shape: str, colour: str, background: str, rng: random.Random | None) -> Forms:
    del rng
    noun, gender = _DE_SHAPES[shape]
    nominative = _de_adjective(colour, "er" if gender == "m" else "es")
    accusative = f"einen {_de_adjective(colour, 'en')}" if gender == "m" else f"ein {nominative}"
    return {
        "ein": f"ein {nominative} {noun}",
        "einen": f"{accusative} {noun}",
        "einem": f"einem {_de_adjective(colour, 'en')} {noun}",
        "bare": f"{nominative} {noun}",
        "shape": noun,
        "colour_fem": _de_adjective(colour, "e"),
        "colour_noun": _DE_COLOURS[colour].capitalize(),
        "back": _DE_COLOURS[background],
        "back_nom": _de_adjective(background, "er"),
        "back_dat": _de_adjective(background, "em"),
        "back_weak": _de_adjective(background, "en"),
    }


# --- All of them -----------------------------------------------------------------------------------------------------

_FORMS: dict[str, Callable[[str, str, str, random.Random | None], Forms]] = {"en": _en, "ru": _ru, "zh": _zh, "de": _de}
_TEMPLATES = {"en": _EN, "ru": _RU, "zh": _ZH, "de": _DE}
_PARTIAL = {"en": _EN_PARTIAL, "ru": _RU_PARTIAL, "zh": _ZH_PARTIAL, "de": _DE_PARTIAL}
_STOP = {"en": ".", "ru": ".", "zh": "。", "de": "."}


def templates(language: str) -> tuple[str, ...]:
    """The format strings of full captions, the canonical one first. KeyError for an unknown language."""
    return _TEMPLATES[language]


def canonical(shape: str, colour: str, background: str, language: str) -> str:
    """The plainest caption: "a red circle on a blue background"."""
    return templates(language)[0].format(**_FORMS[language](shape, colour, background, None))


def rewordings(shape: str, colour: str, background: str, language: str, rng: random.Random | None = None) -> list[str]:
    """Every other template filled in, in order, with each shape's canonical word, or with `rng` any of its words."""
    forms = _FORMS[language](shape, colour, background, rng)
    return [template.format(**forms) for template in templates(language)[1:]]


def _finish(text: str, language: str, rng: random.Random) -> str:
    """Sometimes a capital letter, a full stop or "!", ye for yo, a western comma: what people type anyway."""
    if language == "ru" and rng.random() < 0.5:
        text = text.replace("ё", "е")
    if language == "zh" and rng.random() < 0.3:
        text = text.replace("，", ", ")
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.2:
        text += _STOP[language] if rng.random() < 0.7 else "!"
    return text


def caption(shape: str, colour: str, background: str, language: str, rng: random.Random) -> str:
    """A random wording of the whole triple; the canonical one about a quarter of the time."""
    forms = _FORMS[language](shape, colour, background, rng)
    template = templates(language)[0] if rng.random() < 0.2 else rng.choice(templates(language))
    return _finish(template.format(**forms), language, rng)


def partial_caption(
    shape: str, colour: str, background: str, language: str, rng: random.Random, omit: str | None = None
) -> str:
    """A random wording with one of "shape", "colour" and "background" left out (`omit`, else any)."""
    omit = omit or rng.choice(("shape", "colour", "background"))
    forms = _FORMS[language](shape, colour, background, rng)
    return _finish(rng.choice(_PARTIAL[language][omit]).format(**forms), language, rng)


def training_caption(
    shape: str, colour: str, background: str, language: str, rng: random.Random, partial: float = 0.1
) -> str:
    """What the trainer reads: `caption`, at times (`partial`) `partial_caption`; Chinese half the time `spaced`."""
    make = partial_caption if rng.random() < partial else caption
    text = make(shape, colour, background, language, rng)
    return spaced(text) if language == "zh" and rng.random() < 0.5 else text


def every_caption(language: str) -> Iterator[str]:
    """Every template with every pair of words it can hold: what the tokenizer learns its words from."""
    # Enough draws to meet each of a shape's synonyms.
    draws = range(4) if language == "zh" else range(1)
    for shape, colour, background in product(_DE_SHAPES, _DE_COLOURS, _DE_COLOURS):
        if colour == background:
            continue
        for seed in draws:
            forms = _FORMS[language](shape, colour, background, random.Random(seed))
            for template in (*templates(language), *(t for ts in _PARTIAL[language].values() for t in ts)):
                text = template.format(**forms)
                yield text
                if "ё" in text:
                    yield text.replace("ё", "е")
