"""Prompt layers → the prompt that a model reads best.

FLUX gets sentences, the most important first: what kind of picture of whom doing what, what matters most, then what
stands where, the light, the camera, the mood. Emphasis is said in words; there is no negative prompt. SD1.5 gets
phrases between commas, with weights, and a negative prompt. Kandinsky gets one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import weights
from .detect import HAN, detect
from .language import Language
from .layers import TEXT, Layer, read_layers
from .negations import positive_of, without_negation
from .phrases import phrases, short
from .scene import Scene, arrange
from .sentences import flowing, numbered, one_sentence
from .speak import find_language
from .targets import FLUX, SD15, T5, Target, find_target
from .tokens import Tokenize, count

FORMS = ("hierarchical", "numbered")


@dataclass(frozen=True)
class Composed:
    """A composed prompt. `t5xxl` and `clip_l` are FLUX's two texts; for other targets both are `prompt`."""

    prompt: str
    negative: str
    t5xxl: str
    clip_l: str
    notes: tuple[str, ...]
    """What was left out or changed, and why: one sentence or two each."""
    target: str
    language: str


def compose(
    layers: Iterable[Layer | Mapping[str, Any]],
    target: str = "flux-dev",
    language: str = "auto",
    form: str = "hierarchical",
    tokenizers: Mapping[str, Tokenize] | None = None,
) -> Composed:
    """The prompt for `target` (targets.py) that says `layers`, in `language` ("auto", "en", "ru", "zh", "de": that of
    the connecting words; nothing is translated).

    `form` is how FLUX gets it: "hierarchical" (flowing sentences) or "numbered" (a line each). `tokenizers`
    (tokens.py) keep FLUX's clip_l within what CLIP-L reads; without them that is estimated. Raises LayerError for
    layers that cannot be understood, ValueError for an unknown target, language or form.
    """
    to = find_target(target)
    if form not in FORMS:
        raise ValueError(f"Expected a form among {', '.join(FORMS)}, got {form!r}.")
    given = read_layers(layers)
    spoken = find_language(detect(_telling(given)) if language == "auto" else language)
    notes: list[str] = []
    scene = arrange(given, to, notes)
    clip_l = None
    if to.family == SD15:
        prompt = ", ".join(phrases(scene, spoken, weigh=True))
    elif to.family == FLUX:
        said = numbered(scene, spoken) if form == "numbered" else flowing(scene, spoken)
        prompt = weights.escape(said)
        clip_l = weights.escape(short(phrases(scene, spoken, weigh=False), to, spoken, tokenizers or {}))
    else:
        prompt = one_sentence(scene, spoken)
    negative = _negative(scene, to, spoken, notes)
    notes += _remarks(prompt, scene, to, tokenizers or {})
    return Composed(
        prompt, negative, prompt, clip_l if clip_l is not None else prompt, tuple(notes), to.name, spoken.code
    )


def _telling(layers: Sequence[Layer]) -> list[str]:
    """The texts that tell a language: text to be drawn may be in any."""
    return [layer.text for layer in layers if layer.kind != TEXT] or [layer.text for layer in layers]


def _negative(scene: Scene, target: Target, language: Language, notes: list[str]) -> str:
    if not scene.negatives:
        return ""
    wanted = []
    for layer in scene.negatives:
        text = without_negation(layer.text, language.code)
        if text != layer.text and target.negative_prompt:
            notes.append(f"{layer.label!r}: a negative prompt names what is not wanted: {text!r}, not {layer.text!r}.")
        wanted.append(text)
    if target.negative_prompt:
        weighed = [
            weights.weighted(text, layer.emphasis) if target.reads_weights else text
            for text, layer in zip(wanted, scene.negatives, strict=True)
        ]
        return (", " if target.family == SD15 else language.comma).join(weighed)
    instead = [
        f"{positive!r} rather than {part!r}"
        for text in wanted
        for part in re.split(r"[,，、;]\s*", text)
        if (positive := positive_of(part, language.code))
    ]
    notes.append(
        f"{target.title} has no negative prompt: {', '.join(repr(text) for text in wanted)} is left out. Say what is "
        f"to be seen instead{': ' + ', '.join(instead) if instead else ''}."
    )
    return ""


def _remarks(prompt: str, scene: Scene, target: Target, tokenizers: Mapping[str, Tokenize]) -> list[str]:
    notes = []
    if not prompt:
        notes.append("The prompt is empty: no layer says what is to be seen.")
    if target.family == SD15 and any(layer.kind == TEXT for layer in scene.others):
        notes.append("SD1.5 can hardly write: expect the text in the picture to be misspelt. FLUX can.")
    for encoder in target.encoders:
        if encoder.tokenizer == T5 and re.search(f"[{HAN}]", prompt):
            notes.append(
                f"{target.title}'s {encoder.title} knows no Chinese characters: a run of them is one unknown word."
            )
        found = count(weights.plain(prompt), encoder, tokenizers)
        if found.over and encoder.beyond in ("lost", "untrained"):
            notes.append(f"Too long: {found}. Leave out or shorten the least important layers.")
    return notes
