"""Checks, before a workflow is run, what it lacks on a server or on this machine.

report = check(Workflow.load("flux.json"), client.object_info())
for finding in report.findings:
    print(finding)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from kandiflux.models.model_files import ModelFile, declared_models
from kandiflux.models.model_folders import ModelFolders
from kandiflux.util.json_values import as_object
from kandiflux.workflow.editor_format.convert import NOTHING_RUNS
from kandiflux.workflow.needed_models import EMBEDDINGS, embeddings_in
from kandiflux.workflow.validation.findings import Finding
from kandiflux.workflow.validation.node_packs import MissingPack, group_by_pack
from kandiflux.workflow.validation.places import Places
from kandiflux.workflow.validation.problems import find_problems
from kandiflux.workflow.workflow import Workflow

__all__ = ["Report", "check"]


@dataclass(frozen=True)
class Report:
    """The findings of `check`; empty if the workflow can run. `notes`: what does not prevent that."""

    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()

    @property
    def models(self) -> tuple[ModelFile, ...]:
        """The missing files, each once."""
        found = {(model.directory, model.name): model for finding in self.findings for model in finding.models}
        return tuple(found.values())

    @property
    def packs(self) -> tuple[MissingPack, ...]:
        """The missing node classes, grouped by the packs that have them."""
        return group_by_pack(self.findings)

    def with_sizes(self, size_of: Callable[[ModelFile], int | None]) -> Report:
        """Returns a copy in which missing file sizes come from `size_of`."""
        sizes = {model: size_of(model) for model in self.models if model.size is None and model.url}
        found = tuple(
            replace(finding, models=tuple(replace(m, size=sizes.get(m, m.size)) for m in finding.models))
            for finding in self.findings
        )
        return replace(self, findings=found)


def check(
    workflow: Workflow,
    object_info: Mapping[str, Any],
    *,
    comfyui_version: str | None = None,
    embeddings: Collection[str] | None = None,
    folders: ModelFolders | None = None,
    live: bool = True,
    has_file: Callable[[str], bool | None] | None = None,
    node_map: Callable[[], Mapping[str, Any] | None] | None = None,
) -> Report:
    """Returns everything that prevents the workflow, with the values in its file, from running correctly.

    comfyui_version: the server's version.
    embeddings: the names that the server has (GET /embeddings). Without them and without folders, `embedding:` names in
        prompts are not checked.
    folders: the model folders of the ComfyUI on this machine.
    live: object_info was just requested from the server. If False (it was saved), files in `folders` count as present.
    has_file: asks the server for a file of its input, output or temp folder (`ComfyApi.has_input`).
    node_map: asks the server's ComfyUI-Manager for the packs of node classes (`ComfyApi.node_map`).
    """
    conversion = workflow.converted(object_info)
    nodes = conversion.prompt
    found = list(_too_old(workflow, comfyui_version))
    found += find_problems(nodes, object_info, workflow.editor, has_file, node_map)
    found += _embeddings(nodes, workflow, object_info, embeddings, folders)
    if folders is not None:
        found = [finding for one in found if (finding := _on_disk(one, folders, live)) is not None]
    # If nothing runs, the conversion knows why.
    why = next((note for note in conversion.notes if note.startswith(NOTHING_RUNS)), None)
    found = [replace(one, message=why.rstrip(".")) if why and one.kind == "no_output" else one for one in found]
    found += [Finding("conversion", note.rstrip(".")) for note in conversion.notes if note != why]
    return Report(
        tuple(finding for finding in found if not finding.is_note),
        tuple(finding for finding in found if finding.is_note),
    )


def _too_old(workflow: Workflow, version: str | None) -> Iterator[Finding]:
    needed = workflow.too_new_for(version) if version else None
    if needed:
        yield Finding(
            "too_old",
            "The server's ComfyUI is too old for this workflow",
            expected=f"{needed} or newer",
            got=version,
            hint="Update ComfyUI.",
        )


def _embeddings(
    nodes: Mapping[str, Mapping[str, Any]],
    workflow: Workflow,
    object_info: Mapping[str, Any],
    present: Collection[str] | None,
    folders: ModelFolders | None,
) -> Iterator[Finding]:
    """Finds missing textual inversions. ComfyUI runs without them and only logs a warning."""
    if present is None and folders is None:
        return
    places = Places(workflow.editor, object_info)
    available = {name.replace("\\", "/") for name in present or ()}
    for node_id, node in nodes.items():
        for input_name, value in node["inputs"].items():
            for name in embeddings_in(value):
                if name in available or (folders is not None and folders.find_stem(EMBEDDINGS, name) is not None):
                    continue
                place = places.find(node_id)
                model = _declared_embedding(name, workflow, place.node if place else {})
                yield Finding(
                    "missing_model",
                    f"uses the embedding {name!r}, which is missing",
                    node_id,
                    place.title if place else node["_meta"]["title"],
                    str(node["class_type"]),
                    input_name,
                    hint="Get it with `kandiflux models pull`."
                    if model.url
                    else f"Put it into models/{EMBEDDINGS}, or remove it from the text.",
                    models=(model,),
                )


def _declared_embedding(name: str, workflow: Workflow, node: Mapping[str, Any]) -> ModelFile:
    of_node = declared_models(as_object(node.get("properties")).get("models"))
    declared = [*of_node, *declared_models((workflow.editor or {}).get("models"))]
    found = (model for model in declared if PurePosixPath(model.name).stem == PurePosixPath(name).name)
    return next(found, ModelFile(f"{name}.safetensors", EMBEDDINGS))


def _on_disk(finding: Finding, folders: ModelFolders, live: bool) -> Finding | None:
    """Removes the model files that are on this machine from a finding; None if that resolves it."""
    paths = {model: path for model in finding.models if (path := folders.find(model)) is not None}
    absent = tuple(model for model in finding.models if model not in paths)
    if not paths:
        return finding
    if absent:
        return replace(finding, models=absent)
    if not live:
        return None
    found = ", ".join(map(str, paths.values()))
    hint = f"The file is on this machine: {found}. If the server is the ComfyUI of that folder, restart it."
    return replace(finding, models=(), hint=hint)
