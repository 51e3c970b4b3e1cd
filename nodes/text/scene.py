"""Layers sorted into what a prompt speaks of: who does what, how it looks, what stands where."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from . import weights
from .layers import (
    ACTION,
    CAMERA,
    LIGHTING,
    MOOD,
    NEGATIVE,
    NONE,
    PLACES,
    STYLE,
    SUBJECT,
    TEXT,
    Layer,
    LayerError,
    referred,
)
from .targets import SD15, Target

ORDER = (*PLACES, TEXT, LIGHTING, CAMERA, MOOD)
"""The kinds that have a sentence of their own, in the order a picture is told in."""


@dataclass
class Actor:
    """A subject and what it does; either may be missing."""

    subject: Layer | None
    actions: list[Layer] = field(default_factory=list)

    @property
    def layers(self) -> list[Layer]:
        return [*([self.subject] if self.subject else []), *self.actions]

    @property
    def emphasis(self) -> float:
        return self.subject.emphasis if self.subject else 1.0


@dataclass
class Scene:
    """Layers that are said, in their groups, and where each that has a relation refers to."""

    actors: list[Actor]
    styles: list[Layer]
    others: list[Layer]
    negatives: list[Layer]
    relations: dict[int, Layer]
    """id of a layer → the layer it is, say, left of."""
    stressed: list[str]
    """What weights within texts stress: words."""

    def other(self, layer: Layer) -> Layer | None:
        return self.relations.get(id(layer))


def arrange(given: list[Layer], target: Target, notes: list[str]) -> Scene:
    left_out = {id(layer) for layer in given if layer.emphasis == 0 or not tidy(layer.text)}
    notes += [
        f"{layer.label!r} is left out: its emphasis is 0."
        for layer in given
        if layer.emphasis == 0 and tidy(layer.text)
    ]
    scene = Scene([], [], [], [], {}, [])
    said = {id(layer): _readable(layer, target, scene, notes) for layer in given if id(layer) not in left_out}
    for layer in given:
        belongs = layer.kind == ACTION and layer.relation_to.strip() and layer.relation == NONE
        other = referred(layer, given) if layer.relation != NONE or belongs else None
        if id(layer) in left_out:
            continue
        own = said[id(layer)]
        if other is not None and id(other) in left_out:
            notes.append(f"{layer.label!r} is said without its relation: {other.label!r} is left out.")
            other = None
        if belongs and other is not None:
            if other.kind != SUBJECT:
                raise LayerError(
                    f"The action {layer.label!r} belongs to a subject, and {other.label!r} is {other.kind}."
                )
            _actor(scene, said[id(other)]).actions.append(own)
            continue
        if other is not None:
            scene.relations[id(own)] = said[id(other)]
        _place(scene, own)
    if not target.reads_weights and not any(scene.other(layer) for actor in scene.actors for layer in actor.layers):
        scene.actors.sort(key=lambda actor: -max(actor.emphasis, 1.0))
    return scene


def _place(scene: Scene, layer: Layer) -> None:
    if layer.kind == SUBJECT:
        # A subject that an action has named already is there.
        _actor(scene, layer)
    elif layer.kind == ACTION:
        if not scene.actors:
            scene.actors.append(Actor(None))
        scene.actors[-1].actions.append(layer)
    elif layer.kind == STYLE:
        scene.styles.append(layer)
    elif layer.kind == NEGATIVE:
        scene.negatives.append(layer)
    else:
        scene.others.append(layer)


def _actor(scene: Scene, subject: Layer) -> Actor:
    found = next((actor for actor in scene.actors if actor.subject is subject), None)
    if found is None:
        nobody = next((actor for actor in scene.actors if actor.subject is None), None)
        if nobody is not None:  # an action that came before its subject
            nobody.subject = subject
            return nobody
        scene.actors.append(found := Actor(subject))
    return found


def _readable(layer: Layer, target: Target, scene: Scene, notes: list[str]) -> Layer:
    """The layer with its text in one tidy line, its weights as the target reads them."""
    if layer.kind == TEXT:
        text = " ".join(layer.text.split())
        quoted = re.fullmatch(r'["“„«](.*)["”“»]', text)
        text = quoted[1] if quoted and not re.search('["“”„«»]', quoted[1]) else text
        return replace(layer, text=weights.escape(text) if target.family == SD15 else weights.unescape(text))
    if target.reads_weights:
        return replace(layer, text=tidy(weights.escape_text(layer.text)))
    text, parts = weights.without_explicit(weights.numbered(layer.text))
    if parts and layer.kind != NEGATIVE:
        scene.stressed += [words for words, value in parts if value > 1]
        notes.append(
            f"{layer.label!r}: {target.title} reads no weights in brackets; emphasis is said in words instead."
        )
    return replace(layer, text=tidy(text))


def tidy(text: str) -> str:
    """One line, no spaces too many, no comma or full stop at the end: those are put where they belong."""
    text = " ".join(text.split())
    text = re.sub(r"\s+([,.;:!?])(?=\s|$)", r"\1", text)
    text = re.sub(r"([,;，；])(?:\s*[,;，；])+", r"\1", text).strip(" ,;:，；：、")
    return text if re.search(r"(?:\.\.\.|…)$", text) else text.rstrip(" .。")


def in_order(layers: Iterable[Layer]) -> list[Layer]:
    """What is stressed first, what is subtle last, and otherwise in the order a picture is told in."""
    return sorted(layers, key=lambda layer: (rank(layer), ORDER.index(layer.kind)))


def rank(layer: Layer) -> int:
    return 0 if layer.emphasis > 1 else 1 if layer.emphasis == 1 else 2
