"""Finds the model files that a workflow needs, from the file alone: no server is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from kandiflux.models.known_models import folder_of_class, folder_of_input, known_model
from kandiflux.models.model_files import ModelFile, NeededModel, declared_models, is_model_name, stands_for
from kandiflux.util.json_values import as_list, as_object, is_object
from kandiflux.workflow.validation.places import Place, Places
from kandiflux.workflow.workflow import Workflow

__all__ = ["EMBEDDINGS", "embeddings_in", "needed_models"]

EMBEDDINGS = "embeddings"
_EMBEDDING = re.compile(r"embedding:([^\s,()]+)")
_WEIGHT = re.compile(r":[\d.]+$")


def needed_models(workflow: Workflow) -> list[NeededModel]:
    """Returns every model file of the nodes that run, each once.

    URL, hash and size come from the workflow, else from this program's list of known models.
    """
    found = _of_prompt(workflow.api or {}) if workflow.editor is None else _of_file(workflow.editor)
    kept: dict[tuple[str | None, str], NeededModel] = {}
    for needed in found:
        kept.setdefault((needed.model.directory, needed.model.name), needed)
    return list(kept.values())


def embeddings_in(text: Any) -> list[str]:
    """Returns the names of embeddings in a text, without suffix: `(embedding:EasyNegative.pt:1.2)` → `EasyNegative`."""
    names = [_WEIGHT.sub("", name) for name in _EMBEDDING.findall(text)] if isinstance(text, str) else []
    return list(dict.fromkeys(name.rpartition(".")[0] if is_model_name(name) else name for name in names))


def _of_file(editor: Mapping[str, Any]) -> Iterator[NeededModel]:
    everywhere = declared_models(editor.get("models"))
    used: set[ModelFile] = set()
    for place in Places(editor, {}).running():
        declared = [*declared_models(as_object(place.node.get("properties")).get("models")), *everywhere]
        values = [value for node in (place.node, *place.around) for value in _texts(node.get("widgets_values"))]
        yield from _of_node(place, values, declared, used)
    for model in everywhere:
        if model not in used:
            yield NeededModel(_filled(model), "the workflow")


def _of_node(place: Place, values: list[str], declared: list[ModelFile], used: set[ModelFile]) -> Iterator[NeededModel]:
    called = {name for value in values for name in embeddings_in(value)}
    matched: set[str] = set()
    names = {_plain(model.name) for model in declared}
    for model in declared:
        for value in values:
            # If a value equals the name of one declared file, it does not mean a file in a subfolder.
            if stands_for(value, model.name) and (_plain(value) == _plain(model.name) or _plain(value) not in names):
                matched.add(value)
                used.add(model)
                yield NeededModel(_filled(_as_chosen(model, value)), place.title)
        if model.directory == EMBEDDINGS and PurePosixPath(model.name).stem in called:
            yield NeededModel(_filled(model), place.title)
    for value in _texts(place.node.get("widgets_values")):
        if value not in matched and is_model_name(value):
            folder = folder_of_class(str(place.node.get("type")))
            yield NeededModel(_filled(ModelFile(value, folder)), place.title)


def _of_prompt(nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[NeededModel]:
    for node in nodes.values():
        for name, value in node["inputs"].items():
            if is_model_name(value):
                title = str(as_object(node.get("_meta")).get("title") or node["class_type"])
                yield NeededModel(_filled(ModelFile(value, folder_of_input(node["class_type"], name))), title)


def _as_chosen(model: ModelFile, value: str) -> ModelFile:
    """Returns the model under the name that the loader looks for: with the subfolder, if the value has one."""
    plain = _plain(value)
    return replace(model, name=plain) if plain.rpartition("/")[2] == model.name else model


def _plain(name: str) -> str:
    return name.replace("\\", "/")


def _filled(model: ModelFile) -> ModelFile:
    model = replace(model, name=_plain(model.name))
    return model.filled_from(known_model(model.name, model.directory))


def _texts(values: Any) -> list[str]:
    among = values.values() if is_object(values) else as_list(values)
    return [value for value in among if isinstance(value, str)]
