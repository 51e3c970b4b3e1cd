"""English: articles, and sentences that suit what is in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .language import Language
from .layers import BACKGROUND, CAMERA, FOREGROUND, LIGHTING, MIDDLE, MOOD, STYLE, SUBJECT, TEXT
from .quality import is_quality_tag

_DETERMINED = re.compile(
    r"(?:an?|the|this|that|these|those|some|several|many|both|all|two|three|four|five|six|seven|eight|nine|ten|\d+"
    r"|his|her|its|their|my|our|your)\b(?!-)",
    re.I,
)
_VOWEL = re.compile(
    r"(?i:(?!uni|use|usu|euro|ewe|one\b|once\b|ufo|utop)[aeiou]|hour|honest|8|11\b|18\b)|[FHLMNRSX](?=[A-Z])"
)
_MEDIA = (
    r"(?:photo(?:graph)?|picture|image|snapshot|shot|still|painting|watercolou?r|gouache|drawing|sketch|illustration"
    r"|engraving|etching|woodcut|linocut|print|portrait|poster|render(?:ing)?|comic|cartoon|collage|mosaic|mural|fresco"
    r"|icon|logo|sculpture|screenshot|postcard|cover|artwork|diagram|blueprint|close-?up)"
)
_LIGHTS = re.compile(
    r"\b(?:\w*light|lights|lamps?|lanterns?|candles?|sun|moon|glow|rays?|beams?|neon|fire|flames?|flash|softbox|torch"
    r"(?:es)?|bulbs?|strobes?)\b",
    re.I,
)
_LENS = re.compile(
    r"\blens\b|\d ?mm\b|\bf/\d|\bcamera\b|\b(?:canon|nikon|sony|leica|hasselblad|fujifilm|gopro|polaroid)\b", re.I
)
_FRAMING = re.compile(r"(?:shot|close-?up|portrait|panorama)$", re.I)
_VIEW = re.compile(r"(?:view|angle|perspective|height|level)$", re.I)
_FINITE = re.compile(r"(?:is|are|was|were|has|have|can|will)$|(?!.*(?:ss|ous|us|is|as)$)[a-z]{2,}s$", re.I)


@dataclass(frozen=True)
class English(Language):
    def name(self, kind: str, text: str, *, known: bool = True) -> str:
        if kind == TEXT:
            return self.drawn_text(text)
        head = self.brief(text)
        if not known:
            return head
        head = re.sub(r"\b(and|or) an? ", r"\1 the ", head)
        head, found = re.subn(r"^(?:an?|some) ", "the ", head)
        return (
            head
            if found or not re.match(r"(?:two|three|four|five|six|seven|eight|nine|ten|\d+) ", head)
            else f"the {head}"
        )

    def brief(self, text: str) -> str:
        cuts = (text[: found.start()] for found in self.cut.finditer(text))
        head = next((head for head in cuts if head and not _DETERMINED.fullmatch(head)), text)
        return self.inner(head.strip(" ,"))

    def related(self, relation: str, thing: str, other: str) -> str:
        """Where it is, only: "to the left of the fox"."""
        return self.relations[relation].format(y=other)

    def tell(self, kind: str, text: str) -> str:
        if kind == TEXT:
            return super().tell(kind, text)
        text = self.inner(text)
        if kind == STYLE:
            medium, look = _medium(text)
            return medium or look
        if kind == LIGHTING:
            return _lighting(text)
        if kind == CAMERA:
            return _camera(text)
        if kind == MOOD:
            return _mood(text, self)
        return super().tell(kind, text)

    def subtly(self, kind: str, text: str) -> str:
        return f"with a hint of {self.inner(text)}" if kind == STYLE else super().subtly(kind, text)

    def opening(self, actors: str, styles: Sequence[str], *, sentence: bool) -> list[str]:
        media, looks = [], []
        for style in styles:
            medium, look = _medium(self.inner(style))
            media += [medium] if medium else []
            looks += [look] if look else []
        said = actors
        if media and actors and not sentence:
            said = f"{media[0]} of {self.inner(actors)}"
        elif media and actors:
            said = f"{actors}, as {media[0]}"
        elif media:
            said = media[0]
        looks += [f"as {medium}" for medium in media[1:]]
        return [self.comma.join([part for part in (said, *looks) if part])] if said or looks else []

    def stressed(self, opening: list[str], things: Sequence[str]) -> list[str]:
        if not opening:
            return [f"the emphasis is on {self.join(things)}"]
        return [f"{opening[0]}, with emphasis on {self.join(things)}", *opening[1:]]

    def one_sentence(self, opening: list[str], grounds: list[str], others: list[str]) -> str:
        lead = self.comma.join(opening)
        if lead and grounds and not any("," in text for text in (*grounds, *opening)):
            lead, grounds = f"{lead}, with {self.join(grounds)}", []
        return super().one_sentence([lead] if lead else [], grounds, others)


def article(text: str, *, plural: bool = True) -> str:
    """`text` with "a" or "an" before it, unless it has an article or a number already, or, if it may be one, looks
    like a plural."""
    if _DETERMINED.match(text):
        return text
    head = re.split(r",| (?:with|in|on|of|at|from)\b", text, maxsplit=1)[0]
    if plural and re.search(r"[^s]s$", head) and not head.endswith(("lens", "canvas", "bus")):
        return text
    return f"{'an' if _VOWEL.match(text) else 'a'} {text}"


def _medium(style: str) -> tuple[str, str]:
    """A style as (what kind of picture it is, with an article; what it looks like, as a phrase behind a comma)."""
    head, _, rest = style.partition(",")
    if re.search(r"^(?:in|like|as|inspired|reminiscent|with)\b", head, re.I):
        return "", style
    if re.search(rf"\b{_MEDIA}(?:$| (?:on|in|by|from|with)\b)", head.strip(), re.I):
        return article(head.strip()), _look(rest.strip()) if rest.strip() else ""
    return "", _look(style)


def _look(style: str) -> str:
    if re.match(r"(?:in|like|as|inspired|reminiscent|with|by)\b", style, re.I) or is_quality_tag(style):
        return style
    if re.match(r"(?:the )?style of\b", style, re.I):
        return "in " + (style if style.lower().startswith("the") else f"the {style}")
    if re.search(r"\b(?:style|manner|aesthetic|look)$", style, re.I):
        return f"in {article(style)}" if style.lower().endswith(("style", "manner")) else f"with {article(style)}"
    if re.match(r"(?:an?|the) ", style, re.I):
        return f"as {style}"
    return f"in {article(style, plural=False)} style"


def _lighting(text: str) -> str:
    if re.match(r"(?:lit|backlit|illuminated|bathed|under)\b", text, re.I):
        return f"the scene is {text}"
    if re.search(r"lighting$", text.partition(",")[0], re.I):
        return f"the scene has {text}"
    if _LIGHTS.search(text):
        return f"the scene is lit by {text}"
    return f"the lighting is {_adjectives(text)}"


def _camera(text: str) -> str:
    if re.match(
        r"(?:shot|taken|captured|photographed|filmed|seen|viewed|framed|from|in|on|with|through)\b", text, re.I
    ):
        return text
    head = text.partition(",")[0]
    if _FRAMING.search(head):
        return f"framed as {article(text)}"
    if _VIEW.search(head):
        return f"seen from {article(text)}"
    if re.search(r"\bfilm\b", head, re.I):
        return f"shot on {text}"
    if _LENS.search(head):
        return f"shot with {article(text)}"
    return f"camera: {text}"


def _mood(text: str, language: Language) -> str:
    if re.match(r"(?:an?|the) ", text, re.I):
        return f"the picture conveys {text}"
    if re.search(r"\b(?:mood|atmosphere|feeling)$", text, re.I):
        return f"the picture has {article(text)}"
    return f"the mood is {_adjectives(text)}"


def _adjectives(text: str) -> str:
    """ "calm, nostalgic" → "calm and nostalgic"."""
    words = [word.strip() for word in text.split(",")]
    if len(words) < 2 or any(len(word.split()) > 2 or word.startswith("and ") for word in words):
        return text
    return f"{', '.join(words[:-1])} and {words[-1]}"


def is_finite(action: str) -> bool:
    """Whether an action makes its subject a sentence: "reads a book", not "reading a book"."""
    return bool(_FINITE.match(action.split(" ", 1)[0])) if action else False


ENGLISH = English(
    code="en",
    sentences={
        FOREGROUND: "in the foreground, {}",
        MIDDLE: "in the middle ground, {}",
        BACKGROUND: "in the background, {}",
        TEXT: "the text {} is visible in the picture",
    },
    phrases={
        FOREGROUND: "{} in the foreground",
        MIDDLE: "{} in the middle ground",
        BACKGROUND: "{} in the background",
        TEXT: "the text {}",
    },
    labels={
        SUBJECT: "Subject",
        STYLE: "Style",
        FOREGROUND: "Foreground",
        MIDDLE: "Middle ground",
        BACKGROUND: "Background",
        LIGHTING: "Lighting",
        CAMERA: "Camera",
        MOOD: "Mood",
        TEXT: "Text",
    },
    relations={
        "left of": "to the left of {y}",
        "right of": "to the right of {y}",
        "above": "above {y}",
        "below": "below {y}",
        "in front of": "in front of {y}",
        "behind": "behind {y}",
        "inside": "inside {y}",
        "on": "on {y}",
        "under": "under {y}",
        "next to": "next to {y}",
        "around": "around {y}",
        "facing": "facing {y}",
    },
    emphasis="with emphasis on {}",
    subtle="kept subtle",
    conjunction=" and ",
    medium=re.compile("$^"),
    cut=re.compile(
        r",| (?=(?:with|without|in|on|at|that|which|who|whose|wearing|holding|carrying|standing|sitting|lying|under"
        r"|over|near|beside|behind|between|beneath|from|through|against|around|along|covered|surrounded|made|full|is|are)\b"
        r"|[a-z]{2,}ing (?:an?|the|his|her|its|their)\b)",
        re.I,
    ),
    participle=re.compile("$^"),
    relates_inline=True,
    style_inline=True,
    lower=re.compile(
        r"(?:An?|The|This|That|These|Those|Some|Several|Many|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|His|Her|Its"
        r"|Their|My|Our|In|On|At|By|With|From|Under|Over|Lit|Shot|Seen|Taken|Soft|Warm|Cold|Cool|Hard|Harsh|Dim|Dark"
        r"|Bright|Pale|Golden|Dramatic|Natural|Old|Young|Small|Large|Big|Huge|Tiny|Tall|Long|Short|Red|Blue|Green|White"
        r"|Black|Grey|Gray|Yellow|Wet|Dry|Misty|Foggy|Snowy|Rainy|Calm|Quiet|Wooden|Wide|Low|High|Close|Shallow"
        r"|Oil|Watercolou?r|Pencil|Ink|Digital|Vintage|Cinematic|Photorealistic|Photo|Painting|Portrait)\b"
    ),
)  # fmt: skip
