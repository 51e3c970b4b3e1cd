"""Prompt layers: what a picture holds, each with its kind, its emphasis and its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

SUBJECT, ACTION, STYLE = "subject", "action", "style"
FOREGROUND, MIDDLE, BACKGROUND = "foreground", "middle ground", "background"
LIGHTING, CAMERA, MOOD, TEXT, NEGATIVE = "lighting", "camera", "mood", "text in the picture", "negative"
KINDS = (SUBJECT, ACTION, STYLE, FOREGROUND, MIDDLE, BACKGROUND, LIGHTING, CAMERA, MOOD, TEXT, NEGATIVE)
PLACES = (FOREGROUND, MIDDLE, BACKGROUND)
PLACED = (SUBJECT, ACTION, *PLACES, LIGHTING, TEXT)
"""The kinds that can stand in a relation to another layer."""

NONE = "none"
RELATIONS = (NONE, "left of", "right of", "above", "below", "in front of", "behind", "inside", "on", "under", "next to",
             "around", "facing")  # fmt: skip
KIND_ALIASES = {"text": TEXT, "middle": MIDDLE, "middleground": MIDDLE, "midground": MIDDLE, "light": LIGHTING}
MOST_EMPHASIS = 2.0


class LayerError(ValueError):
    """A layer that cannot be understood, or that refers to one that is not there."""


@dataclass(frozen=True)
class Layer:
    """One layer. `emphasis` 1 is normal, 0 leaves the layer out, 2 is the most.

    `relation` puts it somewhere with regard to the layer whose name or kind is `relation_to`. An action belongs to the
    subject before it, or to the one that `relation_to` names where `relation` is none. Raises LayerError.
    """

    kind: str
    text: str
    emphasis: float = 1.0
    relation: str = NONE
    relation_to: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LayerError(f"Expected a kind of layer among {', '.join(KINDS)}, got {self.kind!r}.")
        if not isinstance(self.text, str):
            raise LayerError(f"Expected text for the layer {self.label!r}, got {type(self.text).__name__}.")
        number = isinstance(self.emphasis, (int, float)) and not isinstance(self.emphasis, bool)
        if not number or not math.isfinite(self.emphasis) or not 0 <= self.emphasis <= MOST_EMPHASIS:
            raise LayerError(
                f"Expected an emphasis from 0 to {MOST_EMPHASIS:g} for the layer {self.label!r}, got {self.emphasis!r}."
            )
        if self.relation not in RELATIONS:
            raise LayerError(
                f"Expected a relation among {', '.join(RELATIONS)} for the layer {self.label!r}, got {self.relation!r}."
            )
        if self.relation == NONE:
            return
        if self.kind not in PLACED:
            raise LayerError(
                f"The layer {self.label!r} is {self.relation!r} another, but {self.kind} has no place in the picture. "
                f"Set its relation to none; these kinds can have one: {', '.join(PLACED)}."
            )
        if not self.relation_to.strip():
            raise LayerError(
                f"The layer {self.label!r} is {self.relation!r} … what? Put the name or the kind of another layer into "
                "relation_to, or set its relation to none."
            )

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.name.strip() or self.kind

    @classmethod
    def read(cls, values: Layer | Mapping[str, Any]) -> Layer:
        """A layer from a mapping, as JSON has it. Raises LayerError for an unknown or a missing key."""
        if isinstance(values, Layer):
            return values
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise LayerError(f"Expected a layer with the keys {', '.join(known)}, got {type(values).__name__}.")
        if unknown := [str(key) for key in values if key not in known]:
            raise LayerError(f"Expected a layer with the keys {', '.join(known)}, got {unknown[0]!r}, too.")
        if missing := [key for key in ("kind", "text") if key not in values]:
            raise LayerError(
                f"Expected a layer with kind and text, got one without {missing[0]}: {dict(values)!r:.80}."
            )
        for key in ("kind", "relation", "relation_to", "name"):
            if not isinstance(values.get(key, ""), str):
                raise LayerError(f"Expected text for {key} of a layer, got {values[key]!r:.40}.")
        kind = " ".join(str(values["kind"]).replace("_", " ").lower().split())
        relation = " ".join(str(values.get("relation", NONE)).replace("_", " ").lower().split()) or NONE
        return cls(**{**values, "kind": KIND_ALIASES.get(kind, kind), "relation": relation})


def read_layers(values: Iterable[Layer | Mapping[str, Any]]) -> list[Layer]:
    return [Layer.read(value) for value in values]


def referred(layer: Layer, layers: Sequence[Layer]) -> Layer:
    """The layer that `layer.relation_to` means, by name or else by kind. Raises LayerError unless it is one."""
    wanted = layer.relation_to.strip().lower()
    others = [other for other in layers if other is not layer]
    found = [other for other in others if other.name.strip().lower() == wanted]
    found = found or [other for other in others if other.kind == KIND_ALIASES.get(wanted, wanted)]
    if not found:
        there = ", ".join(dict.fromkeys(other.label for other in others)) or "no other layer"
        raise LayerError(
            f"The layer {layer.label!r} refers to {layer.relation_to!r}, and there is no other layer of that name or "
            f"kind. There are: {there}."
        )
    if len(found) > 1:
        raise LayerError(
            f"The layer {layer.label!r} refers to {layer.relation_to!r}, and {len(found)} layers are called so. Give "
            "each a name of its own."
        )
    if layer.relation != NONE and found[0].kind not in (SUBJECT, *PLACES, LIGHTING, TEXT):
        raise LayerError(
            f"The layer {layer.label!r} is {layer.relation!r} {found[0].label!r}, but {found[0].kind} has no place in "
            "the picture. Refer to a subject, a ground, a light or a text."
        )
    return found[0]
