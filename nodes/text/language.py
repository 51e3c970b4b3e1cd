"""How layers are said in a language, where nothing of what the user wrote need be inflected.

Templates stand before or after the user's words, or name the layer and put a colon; a relation names both things in
the form they are written in ("links ein Fuchs, rechts ein Wolf"). English says more, in english.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .cues import speaks_of_text
from .detect import QUOTED
from .layers import (
    BACKGROUND,
    CAMERA,
    FOREGROUND,
    LIGHTING,
    MIDDLE,
    MOOD,
    STYLE,
    SUBJECT,
    TEXT,
)


@dataclass(frozen=True)
class Language:
    """Templates of a language; `{}` is the user's text, `{x}` and `{y}` the two things of a relation."""

    code: str
    sentences: Mapping[str, str]
    """Kind → a sentence without its full stop."""
    phrases: Mapping[str, str]
    """Kind → a phrase in a list of phrases."""
    labels: Mapping[str, str]
    """Kind → what the numbered form calls it."""
    relations: Mapping[str, str]
    emphasis: str
    """Names what matters most, in a phrase."""
    subtle: str
    """Put behind what shall hardly be seen."""
    conjunction: str
    medium: re.Pattern[str]
    """A style that names what kind of picture it is: "oil painting", not "impressionist"."""
    cut: re.Pattern[str]
    """Where the words that merely describe begin, in "an old man with a hat"."""
    participle: re.Pattern[str]
    """An action that takes a comma before it."""
    lower: re.Pattern[str]
    """Words at the beginning of a text that are written small within a sentence."""
    inscription: str = ""
    """Text `{x}` on the thing `{y}`."""
    comma: str = ", "
    stop: str = "."
    colon: str = ": "
    space: str = " "
    nouns_are_capital: bool = False
    relates_inline: bool = False
    """Whether a relation is a phrase within a sentence, and no sentence of its own."""
    style_inline: bool = False
    """Whether the style is told in the first sentence."""

    # Words

    def sentence(self, text: str) -> str:
        """`text` as a sentence: a capital at its beginning, one full stop at its end."""
        return capital(self.ended(text))

    def ended(self, text: str) -> str:
        return text if text.endswith((".", "!", "?", "…", "。", "！", "？")) else text + self.stop

    def inner(self, text: str) -> str:
        """`text` as it is written within a sentence."""
        first = self.lower.match(text)
        return text[: first.end()].lower() + text[first.end() :] if first else text

    def join(self, texts: Sequence[str]) -> str:
        """a, b and c"""
        if len(texts) < 2:
            return "".join(texts)
        return self.comma.join(texts[:-1]) + self.conjunction + texts[-1]

    def brief(self, text: str) -> str:
        """`text` without what merely describes it, for saying it once more."""
        head = self.cut.split(text, maxsplit=1)[0].strip(" ,，、")
        return self.inner(head or text)

    def name(self, kind: str, text: str, *, known: bool = True) -> str:
        """What a layer shows, in a few words; `known` where it has been spoken of before."""
        return self.drawn_text(text) if kind == TEXT else self.brief(text)

    def quoted(self, text: str) -> str:
        """Text to be drawn, in the straight quotes that models know best; a description of it as it is."""
        if describes_text(text):
            return self.inner(text)
        return '"' + text.replace('"', "'") + '"'

    def drawn_text(self, text: str) -> str:
        if describes_text(text):
            return self.inner(text)
        return self.phrases[TEXT].format(self.quoted(text))

    # What is said of a layer

    def act(self, subject: str, actions: Sequence[str]) -> str:
        """Who does what."""
        doing = self.join([self.inner(action) if self.nouns_are_capital else small(action) for action in actions])
        if not subject or not doing:
            return subject or doing
        comma = re.search("[,，、]", subject) or self.participle.search(doing)
        return subject + (self.comma if comma else self.space) + doing

    def related(self, relation: str, thing: str, other: str) -> str:
        """That `thing` is, say, left of `other`, each by its name: a phrase that can be a sentence of its own."""
        return self.relations[relation].format(x=thing, y=other)

    def tell(self, kind: str, text: str) -> str:
        """The sentence of a layer that is neither subject nor action."""
        if kind == TEXT and describes_text(text):
            return text
        return self.sentences[kind].format(self.quoted(text) if kind == TEXT else self.inner(text))

    def phrase(self, kind: str, text: str) -> str:
        return self.drawn_text(text) if kind == TEXT else self.phrases.get(kind, "{}").format(self.inner(text))

    def subtly(self, kind: str, text: str) -> str:
        """`text` of a layer that shall hardly be seen."""
        return text + self.comma + self.subtle

    def opening(self, actors: str, styles: Sequence[str], *, sentence: bool) -> list[str]:
        """The first sentences: what kind of picture, of what, in what style; `sentence` where `actors` is one."""
        media = [style for style in styles if self.medium.search(style)]
        rest = [style for style in styles if style not in media]
        if actors and media:
            actors = f"{media[0]}: {self.inner(actors)}"
        elif media:
            actors = media[0]
        told = [self.tell(STYLE, style) for style in [*media[1:], *rest]]
        return [actors, *told] if actors else told

    def stressed(self, opening: list[str], things: Sequence[str]) -> list[str]:
        """`opening`, and that `things` matter most."""
        return [*opening, self.emphasis.format(self.comma.join(things))]

    def one_sentence(self, opening: list[str], grounds: list[str], others: list[str]) -> str:
        """All in one: the opening, what stands where, the rest."""
        return self.sentence(self.comma.join([*opening, *grounds, *others]))

    def inscribed(self, text: str, thing: str) -> str:
        """That `text` stands on `thing`, a name."""
        return self.inscription.format(x=self.quoted(text), y=thing)


def describes_text(text: str) -> bool:
    """Whether a text in the picture is told of (a sign that says "OPEN") and not given (OPEN)."""
    return bool((found := QUOTED.search(text)) and speaks_of_text(text.replace(found[0], " ")))


def small(text: str) -> str:
    """`text` with a small letter at its beginning, if that is a word and no abbreviation."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


RUSSIAN = Language(
    code="ru",
    sentences={
        STYLE: "стиль: {}",
        FOREGROUND: "на переднем плане: {}",
        MIDDLE: "на среднем плане: {}",
        BACKGROUND: "на заднем плане: {}",
        LIGHTING: "освещение: {}",
        CAMERA: "камера: {}",
        MOOD: "настроение: {}",
        TEXT: "надпись: {}",
    },
    phrases={
        FOREGROUND: "{} на переднем плане",
        MIDDLE: "{} на среднем плане",
        BACKGROUND: "{} на заднем плане",
        TEXT: "надпись {}",
    },
    labels={
        SUBJECT: "Главный объект",
        STYLE: "Стиль",
        FOREGROUND: "Передний план",
        MIDDLE: "Средний план",
        BACKGROUND: "Задний план",
        LIGHTING: "Освещение",
        CAMERA: "Камера",
        MOOD: "Настроение",
        TEXT: "Надпись",
    },
    relations={
        "left of": "слева — {x}, справа — {y}",
        "right of": "справа — {x}, слева — {y}",
        "above": "сверху — {x}, снизу — {y}",
        "below": "снизу — {x}, сверху — {y}",
        "in front of": "впереди — {x}, позади — {y}",
        "behind": "позади — {x}, впереди — {y}",
        "inside": "{y}, внутри — {x}",
        "on": "{y}, сверху — {x}",
        "under": "{y}, внизу — {x}",
        "next to": "рядом друг с другом: {x} и {y}",
        "around": "{y}, вокруг — {x}",
        "facing": "друг напротив друга: {x} и {y}",
    },
    emphasis="главный акцент: {}",
    subtle="едва заметно",
    conjunction=" и ",
    medium=re.compile(
        r"^[^,]*\b(картина|живопись|акварель|гуашь|графика|рисунок|скетч|эскиз|иллюстрация|гравюра|портрет|плакат|постер"
        r"|фото|фотография|фотоснимок|снимок|кадр|рендер|комикс|мозаика|фреска|икона|коллаж|открытка|обложка)\b",
        re.I,
    ),
    cut=re.compile(
        r",| (?=(?:с|со|в|во|на|под|над|у|около|возле|за|перед|из|без|для|при|котор(?:ый|ая|ое|ые))\b)", re.I
    ),
    participle=re.compile(
        r"^\w+(?:(?:щ|ш)(?:ий|ая|ее|ие)(?:ся)?|(?<!л)ась|ясь|вшись|ая|яя|ядя|идя|тоя|тря|ржа)\b", re.I
    ),
    lower=re.compile(
        r"[А-ЯЁ](?=\w+(?:ый|ий|ой|ая|яя|ое|ее|ые|ие)\b)|(?:В|На|Под|Над|За|С|Со|У|Два|Две|Три|Один|Одна)\b"
    ),
    inscription="{y} с надписью {x}",
)

GERMAN = Language(
    code="de",
    sentences={
        STYLE: "Stil: {}",
        FOREGROUND: "im Vordergrund: {}",
        MIDDLE: "im Mittelgrund: {}",
        BACKGROUND: "im Hintergrund: {}",
        LIGHTING: "Licht: {}",
        CAMERA: "Kamera: {}",
        MOOD: "Stimmung: {}",
        TEXT: "im Bild steht der Schriftzug {}",
    },
    phrases={
        FOREGROUND: "{} im Vordergrund",
        MIDDLE: "{} im Mittelgrund",
        BACKGROUND: "{} im Hintergrund",
        TEXT: "der Schriftzug {}",
    },
    labels={
        SUBJECT: "Hauptmotiv",
        STYLE: "Stil",
        FOREGROUND: "Vordergrund",
        MIDDLE: "Mittelgrund",
        BACKGROUND: "Hintergrund",
        LIGHTING: "Licht",
        CAMERA: "Kamera",
        MOOD: "Stimmung",
        TEXT: "Schriftzug",
    },
    relations={
        "left of": "links {x}, rechts {y}",
        "right of": "rechts {x}, links {y}",
        "above": "oben {x}, unten {y}",
        "below": "unten {x}, oben {y}",
        "in front of": "vorn {x}, dahinter {y}",
        "behind": "vorn {y}, dahinter {x}",
        "inside": "{y}, darin {x}",
        "on": "{y}, darauf {x}",
        "under": "{y}, darunter {x}",
        "next to": "nebeneinander: {x} und {y}",
        "around": "{y}, ringsum {x}",
        "facing": "einander zugewandt: {x} und {y}",
    },
    emphasis="besonders betont: {}",
    subtle="dezent gehalten",
    conjunction=" und ",
    medium=re.compile(
        r"^[^,]*(gemälde|malerei|aquarell|gouache|zeichnung|skizze|illustration|radierung|holzschnitt|linolschnitt|stich"
        r"|porträt|plakat|poster|foto|fotografie|aufnahme|filmstill|rendering|comic|mosaik|fresko|collage|postkarte)\b",
        re.I,
    ),
    cut=re.compile(r",| (?=(?:mit|in|im|auf|am|an|unter|über|vor|hinter|neben|aus|bei|beim|ohne|von|vom)\b)", re.I),
    participle=re.compile(r"end$"),
    lower=re.compile(r"(?:(?:D(?:er|ie|as)|Eine?[rs]?|Zwei|Drei|Vier|In|Im|Auf|Mit|Unter|Über|Vor|Hinter)\b"
                     r"|[A-ZÄÖÜ](?=\w+(?:es|er|e) [A-ZÄÖÜ]))"),
    inscription="{y} mit dem Schriftzug {x}",
    nouns_are_capital=True,
)  # fmt: skip


_ONE = re.compile("^一[个位名只条头匹座栋间艘辆架朵棵株片把张件幅本块盏束群尊]")


@dataclass(frozen=True)
class Chinese(Language):
    """Chinese: no spaces, and words for the kind of picture follow its name."""

    def join(self, texts: Sequence[str]) -> str:
        return "、".join(texts[:-1]) + self.conjunction + texts[-1] if len(texts) > 1 else "".join(texts)

    def name(self, kind: str, text: str, *, known: bool = True) -> str:
        head = super().name(kind, text)
        # Without "a" and its measure word: what has been named is known.
        return (_ONE.sub("", head) or head) if known else head

    def opening(self, actors: str, styles: Sequence[str], *, sentence: bool) -> list[str]:
        told = [self.tell(STYLE, style) for style in styles]
        return [actors, *told] if actors else told

    def tell(self, kind: str, text: str) -> str:
        if kind == STYLE:
            return "整体为" + self.phrase(STYLE, text)
        return super().tell(kind, text)

    def phrase(self, kind: str, text: str) -> str:
        if kind == STYLE:
            return text if re.search("(风格?|画风|质感|效果|作品)$", text) else text + "风格"
        return super().phrase(kind, text)

    def stressed(self, opening: list[str], things: Sequence[str]) -> list[str]:
        return [*opening, self.emphasis.format(self.join(things))]


CHINESE = Chinese(
    code="zh",
    sentences={
        FOREGROUND: "前景是{}",
        MIDDLE: "中景是{}",
        BACKGROUND: "背景是{}",
        LIGHTING: "光线：{}",
        CAMERA: "镜头：{}",
        MOOD: "氛围：{}",
        TEXT: "画面中写有{}字样",
    },
    phrases={
        FOREGROUND: "前景是{}",
        MIDDLE: "中景是{}",
        BACKGROUND: "背景是{}",
        MOOD: "{}的氛围",
        TEXT: "{}字样",
    },
    labels={
        SUBJECT: "主体",
        STYLE: "风格",
        FOREGROUND: "前景",
        MIDDLE: "中景",
        BACKGROUND: "背景",
        LIGHTING: "光线",
        CAMERA: "镜头",
        MOOD: "氛围",
        TEXT: "文字",
    },
    relations={
        "left of": "{x}在{y}左边",
        "right of": "{x}在{y}右边",
        "above": "{x}在{y}上方",
        "below": "{x}在{y}下方",
        "in front of": "{x}在{y}前面",
        "behind": "{x}在{y}后面",
        "inside": "{x}在{y}里面",
        "on": "{x}在{y}上面",
        "under": "{x}在{y}下面",
        "next to": "{x}在{y}旁边",
        "around": "{x}环绕着{y}",
        "facing": "{x}面向{y}",
    },
    emphasis="重点突出{}",
    subtle="仅作点缀",
    conjunction="和",
    medium=re.compile("$^"),
    cut=re.compile("[，,、]"),
    participle=re.compile("$^"),
    lower=re.compile("$^"),
    inscription="{y}上写着{x}字样",
    comma="，",
    stop="。",
    colon="：",
    space="",
)
