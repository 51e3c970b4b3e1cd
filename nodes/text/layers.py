"""Prompt layers: what a picture shows, each with its kind, emphasis and place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

SUBJECT, ACTION, STYLE = "subject", "action", "style"
FOREGROUND, MIDDLE, BACKGROUND = "foreground", "middle ground", "background"
LIGHTING, CAMERA, MOOD, TEXT, NEGATIVE = "lighting", "camera", "mood", "text in the picture", "negative"
SCENE, COMPOSITION, COLORS = "scene", "composition", "color palette"
KINDS = (SUBJECT, ACTION, STYLE, FOREGROUND, MIDDLE, BACKGROUND, LIGHTING, CAMERA, MOOD, TEXT, NEGATIVE,
         SCENE, COMPOSITION, COLORS)  # fmt: skip
KIND_ALIASES = {"text": TEXT, "middle": MIDDLE, "middleground": MIDDLE, "midground": MIDDLE, "light": LIGHTING,
                "colors": COLORS, "colours": COLORS, "palette": COLORS}  # fmt: skip

NONE = "none"
RELATIONS = {NONE: "", "left of": "to the left of", "right of": "to the right of"} | {
    name: name
    for name in ("above", "below", "in front of", "behind", "inside", "on", "under", "next to", "around", "facing",
                 "in", "at")
}  # fmt: skip
"""Relation → the words for it."""
MOST_EMPHASIS = 2.0


class LayerError(ValueError):
    """A layer that is not valid, or that refers to a layer that does not exist."""


@dataclass(frozen=True)
class Layer:
    """One layer. `emphasis` 1 is normal, 0 leaves the layer out, 2 is the most.

    `relation` and `relation_to` say where it is: `relation_to` is the name or kind of another layer, or words such as
    "the left third of the frame". An action belongs to the subject before it, or to the one that `relation_to` names
    if `relation` is none. Raises LayerError.
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
        if self.relation != NONE and not self.relation_to.strip():
            raise LayerError(
                f"The layer {self.label!r} is {self.relation!r} nothing: put the name or kind of another layer, or "
                "words such as “the door”, into relation_to, or set relation to none."
            )

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.name.strip() or self.kind

    @classmethod
    def read(cls, values: Layer | Mapping[str, Any]) -> Layer:
        """A layer from a mapping, such as a JSON object. Raises LayerError for an unknown or a missing key."""
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


def find_layer(layer: Layer, layers: Sequence[Layer]) -> Layer | None:
    """The layer whose name, or else kind, is `layer.relation_to`; None if there is none. Raises LayerError if there
    are several."""
    wanted = layer.relation_to.strip().lower()
    others = [other for other in layers if other is not layer]
    found = [other for other in others if other.name.strip().lower() == wanted]
    found = found or [other for other in others if other.kind == KIND_ALIASES.get(wanted, wanted)]
    if len(found) > 1:
        raise LayerError(
            f"The layer {layer.label!r} refers to {layer.relation_to!r}, which {len(found)} layers are called. Give "
            "each a name of its own."
        )
    return found[0] if found else None
