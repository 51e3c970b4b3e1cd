"""A scene in sentences: flowing, numbered, or one. FLUX reads the former two best, Kandinsky the last."""

from __future__ import annotations

import re
from dataclasses import replace

from .english import is_finite
from .language import Language
from .layers import PLACES, STYLE, SUBJECT, TEXT, Layer
from .scene import Actor, Scene, in_order


def flowing(scene: Scene, language: Language) -> str:
    opening, more = _opening(scene, language)
    sentences = [*opening, *more]
    for layer in in_order(scene.others):
        sentences += _sentences(layer, scene, language)
    return language.space.join(language.sentence(sentence) for sentence in sentences if sentence)


def numbered(scene: Scene, language: Language) -> str:
    styles, scene = scene.styles, replace(scene, styles=[])
    opening, more = _opening(scene, language)
    lines = []
    if opening or more:
        lines.append((SUBJECT, [*opening, *more]))
    if styles:
        lines.append((STYLE, [language.comma.join(_subtly(style.text, style, language) for style in styles)]))
    for layer in in_order(scene.others):
        text = language.quoted(layer.text) if layer.kind == TEXT else layer.text
        other = scene.other(layer)
        said = [_subtly(text, layer, language)]
        if other is not None and language.relates_inline:
            said[0] += language.comma + language.related(layer.relation, "", _name(other, language))
        elif other is not None:
            said.append(relation(layer, other, language))
        lines.append((layer.kind, said))
    made = []
    for kind, (first, *rest) in lines:
        sentences = [language.ended(language.inner(first)), *(language.sentence(each) for each in rest if each)]
        made.append(f"{len(made) + 1}. {language.labels[kind]}{language.colon}{language.space.join(sentences)}")
    return "\n".join(made)


def _opening(scene: Scene, language: Language, *, phrases: bool = False) -> tuple[list[str], list[str]]:
    """The first sentences, style and stress in them, and those about further subjects and where they are; or
    `phrases` of one sentence."""
    said = [_act(actor, scene, language, place_first=i > 0 and not phrases) for i, actor in enumerate(scene.actors)]
    together = [0] if said else []
    # Several subjects that neither act nor have a place of their own are one phrase: "a fox and a wolf".
    if len(said) > 1 and not any(actor.actions or scene.other(actor.layers[0]) or re.search("[,，、]", text)
                                 for actor, text in zip(scene.actors, said, strict=True)):  # fmt: skip
        together = list(range(len(said)))
    lead = language.join([said[0], *(language.inner(said[i]) for i in together[1:])]) if said else ""
    finite = any(is_finite(action.text) for actor in scene.actors[:1] for action in actor.actions)
    opening = language.opening(lead, [_subtly(style.text, style, language) for style in scene.styles], sentence=finite)
    if stressed := _stressed(scene, language):
        opening = language.stressed(opening, stressed)
    more: list[str] = []
    for i, (actor, text) in enumerate(zip(scene.actors, said, strict=True)):
        more += [text] if i not in together else []
        if actor.actions and not language.relates_inline:
            more += places(actor, scene, language)
    return opening, more


def places(actor: Actor, scene: Scene, language: Language) -> list[str]:
    """Where a subject is, by its own relation and those of what it does."""
    made = []
    for layer in actor.layers:
        if (other := scene.other(layer)) is not None:
            here = replace(actor.subject or layer, relation=layer.relation, relation_to=layer.relation_to)
            made.append(relation(here, other, language))
    return made


def placed(actor: Actor, said: str, scene: Scene, language: Language) -> str:
    """A subject that does nothing as a phrase that says where it is, `said` being what is said of it."""
    subject = actor.subject
    if subject is None or (other := scene.other(subject)) is None:
        return said
    return language.related(subject.relation, said, _name(other, language))


def _act(actor: Actor, scene: Scene, language: Language, *, place_first: bool) -> str:
    """Who does what, and where, if that is one sentence; `place_first`: the place before the rest."""
    subject = _subtly(actor.subject.text, actor.subject, language) if actor.subject else ""
    doing = [_subtly(action.text, action, language) for action in actor.actions]
    if not language.relates_inline:
        return language.act(subject, doing) if doing else placed(actor, language.inner(subject), scene, language)
    for i, action in enumerate(actor.actions):
        other = scene.other(action)
        if other is not None:
            doing[i] += " " + language.related(action.relation, "", _name(other, language))
    text = language.act(subject, doing)
    other = scene.other(actor.subject) if actor.subject else None
    if other is None or actor.subject is None:
        return text
    where = language.related(actor.subject.relation, "", _name(other, language))
    if place_first:
        return f"{where}, {language.inner(text)}"
    return f"{text}, {where}" if doing or "," in text else f"{text} {where}"


def _sentences(layer: Layer, scene: Scene, language: Language) -> list[str]:
    """What is said of a layer that is neither subject nor action."""
    other = scene.other(layer)
    text = layer.text
    if other is not None and language.relates_inline:
        where = language.related(layer.relation, "", _name(other, language))
        if layer.kind in PLACES:
            return [_subtly(language.tell(layer.kind, f"{where}, {language.inner(text)}"), layer, language)]
        if layer.kind == TEXT:
            return [_subtly(f"{language.drawn_text(text)} is visible {where}", layer, language)]
        return [_subtly(language.tell(layer.kind, f"{text} {where}"), layer, language)]
    told = _subtly(language.tell(layer.kind, text), layer, language)
    if other is None:
        return [told]
    where = relation(layer, other, language)
    return [_subtly(where, layer, language)] if layer.kind == TEXT else [told, where]


def relation(layer: Layer, other: Layer, language: Language) -> str:
    if layer.kind == TEXT and layer.relation == "on" and language.inscription:
        return language.inscribed(layer.text, _name(other, language))
    return language.related(layer.relation, _name(layer, language, known=False), _name(other, language))


def _name(layer: Layer, language: Language, *, known: bool = True) -> str:
    return language.name(layer.kind, layer.text, known=known)


def _stressed(scene: Scene, language: Language) -> list[str]:
    """The names of what matters more than the rest, the most important first."""
    layers = [layer for actor in scene.actors for layer in actor.layers] + scene.styles + scene.others
    stressed = sorted((layer for layer in layers if layer.emphasis > 1), key=lambda layer: -layer.emphasis)
    names = [_name(layer, language) for layer in stressed] + [language.name(SUBJECT, words) for words in scene.stressed]
    return list(dict.fromkeys(names))


def _subtly(text: str, layer: Layer, language: Language) -> str:
    return language.subtly(layer.kind, text) if layer.emphasis < 1 else text


def one_sentence(scene: Scene, language: Language) -> str:
    """All in one sentence. A new sentence within a text goes on behind a comma."""
    styles = []
    if not language.style_inline:
        styles = [language.phrase(STYLE, style.text) for style in scene.styles]
        scene = replace(scene, styles=[])
    opening, more = _opening(scene, language, phrases=True)
    opening = [_run_on(each, language) for each in [*opening, *(language.inner(each) for each in more)]]
    grounds: list[str] = []
    others = styles
    for layer in in_order(scene.others):
        said = _subtly_phrased(layer, scene, language)
        (grounds if layer.kind in PLACES else others).extend(said)
    return language.one_sentence(
        opening, [_run_on(each, language) for each in grounds], [_run_on(each, language) for each in others]
    )


def _run_on(text: str, language: Language) -> str:
    """Sentences with commas between them; a full stop within a word or a number stays."""
    return re.sub(r"(?<=\w)(?:[.!?]+\s+|[。！？]+)(\w)", lambda found: language.comma + found[1].lower(), text)


def _subtly_phrased(layer: Layer, scene: Scene, language: Language) -> list[str]:
    said = phrased(layer, scene, language)
    return [_subtly(said[0], layer, language), *said[1:]]


def phrased(layer: Layer, scene: Scene, language: Language) -> list[str]:
    """A layer that is neither subject nor action as phrases: one, and in most languages one for its relation."""
    text, other = language.phrase(layer.kind, layer.text), scene.other(layer)
    if other is None:
        return [text]
    where = relation(layer, other, language)
    if language.relates_inline:
        return [f"{text} {where}"]
    return [where] if layer.kind == TEXT else [text, where]
