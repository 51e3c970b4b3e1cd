"""Prompt layers → a prompt for a model.

The words are the user's own. What is added cannot make them worse English: punctuation, a label such as “Lighting:”,
the place of a thing (“to the left of the red fox”). Nothing is inflected, translated or rewritten.

Forms: sentences (FLUX, Kandinsky 5), phrases between commas (SD1.5 with weights, Kandinsky 2 and 3), numbered lines,
and the JSON of FLUX.2's prompting guide, docs.bfl.ai/guides/usecases_t2i_json_prompting ("The Base Schema").

Kandinsky 5 captions follow github.com/kandinskylab/kandinsky-5. Images: kandinsky/models/text_embedders.py describes
objects, text, spatial relationships, then the background; kandinsky/t2i_pipeline.py puts text to be drawn in double
quotes and capital letters. Videos: the training captions in kandinsky/t2v_pipeline.py tell of the place, who does what,
the camera, the style and the light, in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import weights
from .detect import HAN, language_of
from .layers import (
    ACTION,
    BACKGROUND,
    CAMERA,
    COLORS,
    COMPOSITION,
    FOREGROUND,
    LIGHTING,
    MIDDLE,
    MOOD,
    NEGATIVE,
    NONE,
    RELATIONS,
    SCENE,
    STYLE,
    SUBJECT,
    TEXT,
    Layer,
    LayerError,
    find_layer,
    read_layers,
)
from .targets import CLIP, FLUX2, KANDINSKY5, Target, find_target
from .tokens import Tokenize, count

FORMS = ("hierarchical", "numbered", "json")
"""hierarchical: sentences or phrases, whichever the model reads best."""

_GROUNDS = (FOREGROUND, MIDDLE, BACKGROUND)
_ORDER = (SUBJECT, SCENE, *_GROUNDS, TEXT, STYLE, COMPOSITION, CAMERA, LIGHTING, COLORS, MOOD)
"""The most important first, as FLUX's prompting guide advises."""
_ORDERS = {
    "kandinsky-5": (SUBJECT, TEXT, SCENE, *_GROUNDS, COMPOSITION, LIGHTING, COLORS, STYLE, MOOD, CAMERA),
    "kandinsky-5-video": (SCENE, BACKGROUND, SUBJECT, FOREGROUND, MIDDLE, TEXT, COMPOSITION, CAMERA, STYLE, LIGHTING,
                          COLORS, MOOD),
}  # fmt: skip
_LABELLED = (STYLE, *_GROUNDS, COMPOSITION, CAMERA, LIGHTING, COLORS, MOOD)
_SENTENCE_END = re.compile(r"[.!?]\s")
_CAMERA_KEYS = {
    "lens": re.compile(r"\blens\b|\d ?mm\b", re.I),
    "depth_of_field": re.compile(r"\bfocus|depth of field|bokeh|\bf/?\d", re.I),
    "angle": re.compile(r"\bangle|\bview|\bshot\b|eye[- ]level|\babove\b|\bbelow\b|overhead|close-?up", re.I),
}
"""Key of FLUX.2's camera object → what is said there."""


@dataclass(frozen=True)
class Composed:
    """A composed prompt. `t5xxl` and `clip_l` are the texts for the two encoders of FLUX.1 and Kandinsky 5 (there,
    `t5xxl` is for Qwen2.5-VL); for other targets both are `prompt`."""

    prompt: str
    negative: str
    t5xxl: str
    clip_l: str
    notes: tuple[str, ...]
    """What was left out, and why: one or two sentences each."""
    target: str
    language: str


@dataclass(frozen=True)
class _Part:
    """A layer with a tidy text, the actions that belong to it, and its place, such as "behind the red fox"."""

    layer: Layer
    place: str = ""
    actions: tuple[Layer, ...] = ()


def compose(
    layers: Iterable[Layer | Mapping[str, Any]],
    target: str = "flux-dev",
    language: str = "auto",
    form: str = "hierarchical",
    tokenizers: Mapping[str, Tokenize] | None = None,
) -> Composed:
    """The prompt for `target` (targets.py) that says `layers`.

    `language` is that of the layers' texts, by default that of their script; in other languages than English no labels
    and places are added. `form` is one of FORMS. `tokenizers` (tokens.py) count tokens exactly. Raises LayerError for
    layers that are not valid, ValueError for an unknown target, language or form.
    """
    to = find_target(target)
    if form not in FORMS:
        raise ValueError(f"Expected a form among {', '.join(FORMS)}, got {form!r}.")
    given = read_layers(layers)
    spoken = language_of((layer.text for layer in given if layer.kind != TEXT), language)
    english = spoken == "en"
    notes: list[str] = []
    given = [_readable(layer, to) for layer in given]
    parts, negatives = _arrange(given, to, english, notes)
    phrases = [_phrase(part, to, english) for part in parts]
    if form == "json" and to.family == FLUX2:
        prompt = json.dumps(_flux2_json(parts, to, english), ensure_ascii=False, indent=2) if parts else ""
    elif form != "numbered" and not to.sentences:
        prompt = ", ".join(phrases)
    else:
        said = [_sentence(part, to, english) for part in parts]
        lines = [f"{number}. {sentence}" for number, sentence in enumerate(said, 1)]
        prompt = "\n".join(lines) if form == "numbered" else _space(spoken).join(said)
    if form == "json" and to.family != FLUX2:
        notes.append(f"The json form is FLUX.2's: {to.title} gets the form it reads best.")
    clip_l = _first_phrases(phrases, to, tokenizers or {})
    if to.parses_parentheses and not to.reads_weights:
        prompt, clip_l = weights.escape(prompt), weights.escape(clip_l)
    negative = ", ".join(_stressed(layer, to) for layer in negatives)
    if negative and not to.negative_prompt:
        notes.append(f"{to.title} has no negative prompt: {negative!r} is left out. Say what is there instead.")
        negative = ""
    if not prompt:
        notes.append("The prompt is empty: no layer says what the picture shows.")
    for encoder in to.encoders:
        found = count(weights.plain(prompt) if to.parses_parentheses else prompt, encoder, tokenizers or {})
        if found.over and encoder.beyond in ("lost", "untrained"):
            notes.append(f"Too long: {found}. Shorten or leave out the least important layers.")
    return Composed(prompt, negative, prompt, clip_l or prompt, tuple(notes), to.name, spoken)


def _readable(layer: Layer, target: Target) -> Layer:
    """`layer` with its text in one line, without a full stop or comma at its end, and with weights only if the target
    reads them."""
    text = layer.text
    if layer.kind == TEXT:
        text = " ".join(text.split())
        quoted = re.fullmatch(r'["“„«]([^"“”„«»]*)["”“»]', text)
        text = quoted[1] if quoted else text
        return replace(layer, text=weights.escape(text) if target.reads_weights else text)
    text = weights.escape_text(text) if target.reads_weights else weights.without_weights(text)
    text = re.sub(r"\s+([,.;:!?])(?=\s|$)", r"\1", " ".join(text.split())).strip(" ,;:，；：、")
    return replace(layer, text=text if text.endswith("...") else text.rstrip(" .。"))


def _arrange(
    given: Sequence[Layer], target: Target, english: bool, notes: list[str]
) -> tuple[list[_Part], list[Layer]]:
    """The parts in the order they are said, and the negative layers. Layers without text or emphasis are left out."""
    said = [layer for layer in given if layer.emphasis and layer.text]
    owners = {id(layer): _owner(layer, said, given) for layer in said if layer.kind == ACTION}
    parts: list[_Part] = []
    for layer in said:
        if layer.kind != NEGATIVE and owners.get(id(layer)) is None:
            actions = tuple(action for action in said if owners.get(id(action)) is layer)
            places = [_place(each, given, said, notes) for each in (layer, *actions) if english]
            parts.append(_Part(layer, " ".join(filter(None, places)), actions))
    if not english and any(layer.relation != NONE for layer in said):
        notes.append("Relations are left out: their words are English, and the layers are not.")
    order = _ORDERS.get(target.name, _ORDER)

    def rank(part: _Part) -> tuple[int, int]:
        emphasis = 1.0 if target.reads_weights else part.layer.emphasis
        return (emphasis < 1) - (emphasis > 1), order.index(SUBJECT if part.layer.kind == ACTION else part.layer.kind)

    return sorted(parts, key=rank), [layer for layer in said if layer.kind == NEGATIVE]


def _owner(action: Layer, said: Sequence[Layer], given: Sequence[Layer]) -> Layer | None:
    """The subject of `action`: the one it names, or else the one before it, or else the first."""
    subjects = [layer for layer in said if layer.kind == SUBJECT]
    if action.relation == NONE and action.relation_to.strip():
        owner = find_layer(action, given)
        if owner is None or owner.kind != SUBJECT:
            raise LayerError(
                f"The action {action.label!r} belongs to {action.relation_to!r}, and no subject is called that."
            )
        return next((subject for subject in subjects if subject is owner), None)
    at = next(i for i, layer in enumerate(said) if layer is action)
    before = [layer for layer in said[:at] if layer.kind == SUBJECT]
    return next(iter([*before[-1:], *subjects]), None)


def _place(layer: Layer, given: Sequence[Layer], said: Sequence[Layer], notes: list[str]) -> str:
    """Where `layer` is, such as "to the left of the fox"; nothing if it refers to a layer that is left out."""
    if layer.relation == NONE:
        return ""
    where, other = layer.relation_to.strip(), find_layer(layer, given)
    if other is not None and not any(other is each for each in said):
        return ""
    if other is not None and not (where := _reference(where, other)):
        notes.append(
            f"The place of {layer.label!r} is left out: give the layer {other.label!r} a name, such as a noun."
        )
        return ""
    return f"{RELATIONS[layer.relation]} {where}"


def _reference(wanted: str, other: Layer) -> str:
    """How a sentence calls `other`: its name unless it is only an identifier, or a text such as "a red fox"."""
    if wanted.lower() == other.name.strip().lower() and not re.search(r"[\d_]", wanted):
        return wanted if re.match(r"[A-ZА-Я]|(?:an?|the) ", wanted) else f"the {wanted}"
    if short := re.fullmatch(r"(?:an?|the)((?: [\w'’-]+){1,3})", weights.plain(other.text), re.I):
        return "the" + short[1]
    return {SUBJECT: "the subject", TEXT: "the text"}.get(other.kind, "")


def _sentence(part: _Part, target: Target, english: bool) -> str:
    text = _full(part, target, english)
    if english and part.layer.kind in _LABELLED and part.layer.kind not in text.lower():
        text = f"{part.layer.kind}: {text}"
    ended = re.search(r'[.!?…。！？]["”»]?$', text)
    return text[:1].upper() + text[1:] + ("" if ended else "。" if re.search(f'[{HAN}]"?$', text) else ".")


def _phrase(part: _Part, target: Target, english: bool) -> str:
    kind, text = part.layer.kind, part.layer.text
    told = english and kind in _GROUNDS and kind not in text.lower() and not _SENTENCE_END.search(text)
    return _full(part, target, english, f"in the {kind}" if told else "")


def _full(part: _Part, target: Target, english: bool, ground: str = "") -> str:
    """The layer's text, what it does, and where it is."""
    text = _stressed(part.layer, target, english)
    for i, action in enumerate(part.actions):
        link = _space(text) if not i else " and " if english else ", "
        text = _follow(text, _stressed(action, target, english), link)
    for place in (ground, part.place):
        text = _follow(text, place, ", " if part.actions or "," in text else " ")
    return text


def _follow(text: str, phrase: str, link: str) -> str:
    """`text` with `phrase` after it: as a sentence of its own if `text` has several or `phrase` begins like one."""
    if not text or not phrase:
        return text or phrase
    if _SENTENCE_END.search(text) or phrase[:1].isupper():
        return f"{text}. {phrase[:1].upper()}{phrase[1:]}"
    return text + link + phrase


def _stressed(layer: Layer, target: Target, english: bool = True) -> str:
    """The layer's text, in quotes if it is to be drawn, with its emphasis as a weight if the target reads weights."""
    text = layer.text
    if layer.kind == TEXT and not re.search('["“”„«»]', text):
        text = f'"{text.upper() if target.family == KANDINSKY5 else text}"'
        text = f"the text {text}" if english else text
    return weights.weighted(text, layer.emphasis) if target.reads_weights else text


def _space(text: str) -> str:
    """What separates words after `text`: Chinese has no spaces."""
    return "" if re.search(f"(?:[{HAN}]|zh)$", text) else " "


def _first_phrases(phrases: Sequence[str], target: Target, tokenizers: Mapping[str, Tokenize]) -> str:
    """As many phrases as fit into the first chunk of a CLIP-L beside a longer encoder, and the first in any case."""
    encoder = next((each for each in target.encoders if each.tokenizer == CLIP and each.beyond == "unread"), None)
    if encoder is None:
        return ""
    kept = list(phrases[:1])
    for phrase in phrases[1:]:
        if not count(", ".join([*kept, phrase]), encoder, tokenizers).over:
            kept.append(phrase)
    text = ", ".join(kept)
    return text[:1].upper() + text[1:]


def _flux2_json(parts: Sequence[_Part], target: Target, english: bool) -> dict[str, Any]:
    """The object of FLUX.2's prompting guide. Foreground, middle ground and drawn text have no key there: they are
    subjects."""
    texts: dict[str, list[str]] = {}
    subjects: list[dict[str, str]] = []
    for part in parts:
        kind = part.layer.kind
        if kind not in (SUBJECT, ACTION, TEXT, FOREGROUND, MIDDLE):
            texts.setdefault(kind, []).append(_full(part, target, english))
            continue
        position = ", ".join(filter(None, (kind if kind in _GROUNDS else "", part.place)))
        action = ", ".join(action.text for action in part.actions)
        subject = {"description": _stressed(part.layer, target, english), "position": position, "action": action}
        subjects.append({key: value for key, value in subject.items() if value})
    told = {kind: ", ".join(each) for kind, each in texts.items()}
    made = {
        "scene": told.get(SCENE),
        "subjects": subjects,
        "style": told.get(STYLE),
        "color_palette": [color.strip() for color in re.split("[,;]", told.get(COLORS, "")) if color.strip()],
        "lighting": told.get(LIGHTING),
        "mood": told.get(MOOD),
        "background": told.get(BACKGROUND),
        "composition": told.get(COMPOSITION),
        "camera": _camera(told.get(CAMERA, "")),
    }
    return {key: value for key, value in made.items() if value}


def _camera(text: str) -> dict[str, str] | str:
    """`text` shared out to the keys of the guide's camera object; as it is if a part of it fits none."""
    made: dict[str, list[str]] = {key: [] for key in ("angle", "lens", "depth_of_field")}
    for piece in text.split(", "):
        key = next((key for key, words in _CAMERA_KEYS.items() if words.search(piece)), None)
        if key is None:
            return text
        made[key].append(piece)
    return {key: ", ".join(pieces) for key, pieces in made.items() if pieces}
