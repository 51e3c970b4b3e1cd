"""A scene in phrases between commas, as SD1.5 and FLUX's CLIP-L read it best."""

from __future__ import annotations

from collections.abc import Mapping

from . import weights
from .language import Language, capital
from .layers import CAMERA, LIGHTING, MOOD, PLACES, TEXT, Layer
from .scene import Scene, rank
from .sentences import phrased, placed, places
from .targets import CLIP, Target
from .tokens import Tokenize, count


def phrases(scene: Scene, language: Language, *, weigh: bool) -> list[str]:
    """Phrases for CLIP: subjects, what is where, style, light, camera, mood, text; with weights if `weigh`."""

    def stress(text: str, layer: Layer) -> str:
        return weights.weighted(text, layer.emphasis) if weigh else text

    made: list[str] = []
    for actor in scene.actors:
        subject = stress(language.inner(actor.subject.text), actor.subject) if actor.subject else ""
        doing = [stress(language.inner(action.text), action) for action in actor.actions]
        where = places(actor, scene, language)
        text = language.act(subject, doing)
        if where and language.relates_inline:
            made.append(
                text + (language.comma if doing and not scene.other(actor.actions[-1]) else " ") + " ".join(where)
            )
        elif where and not doing:
            made.append(placed(actor, text, scene, language))
        else:
            made += [text, *where]
    scenery = [layer for layer in scene.others if layer.kind in PLACES]
    rest = [layer for layer in scene.others if layer.kind not in PLACES]
    for layer in [*_sorted(scenery, weigh), *scene.styles, *_sorted(rest, weigh)]:
        first, *more = phrased(layer, scene, language)
        made += [stress(first, layer), *more]
    return made


def _sorted(layers: list[Layer], weigh: bool) -> list[Layer]:
    """In their order; where no weights say what matters, that goes first."""
    order = (*PLACES, LIGHTING, CAMERA, MOOD, TEXT)
    return sorted(layers, key=lambda layer: (0 if weigh else rank(layer), order.index(layer.kind)))


def short(phrases: list[str], target: Target, language: Language, tokenizers: Mapping[str, Tokenize]) -> str:
    """As many of the phrases as CLIP-L reads: the first, if it alone is too long, whole all the same."""
    encoder = next(encoder for encoder in target.encoders if encoder.tokenizer == CLIP)
    kept = phrases[:1]
    for phrase in phrases[1:]:
        longer = language.comma.join([*kept, phrase])
        if not count(longer, encoder, tokenizers).over:
            kept.append(phrase)
    return capital(language.comma.join(kept))
