"""What a workflow lacks on a server, or on a machine, before it is run.

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
from kandiflux.workflow.needed_models import EMBEDDINGS, embeddings_in
from kandiflux.workflow.validation.findings import Finding
from kandiflux.workflow.validation.places import Places
from kandiflux.workflow.validation.problems import find_problems
from kandiflux.workflow.workflow import Workflow

__all__ = ["Report", "check"]


@dataclass(frozen=True)
class Report:
    """What `check` found; nothing where `findings` is empty."""

    findings: tuple[Finding, ...]

    @property
    def models(self) -> tuple[ModelFile, ...]:
        """The missing files, each once."""
        found = {(model.directory, model.name): model for finding in self.findings for model in finding.models}
        return tuple(found.values())

    def with_sizes(self, size_of: Callable[[ModelFile], int | None]) -> Report:
        """The same, with `size_of` asked for the sizes of files that are not known."""
        sizes = {model: size_of(model) for model in self.models if model.size is None and model.url}
        return Report(
            tuple(
                replace(finding, models=tuple(replace(m, size=sizes.get(m, m.size)) for m in finding.models))
                for finding in self.findings
            )
        )


def check(
    workflow: Workflow,
    object_info: Mapping[str, Any],
    *,
    comfyui_version: str | None = None,
    embeddings: Collection[str] | None = None,
    folders: ModelFolders | None = None,
    live: bool = True,
) -> Report:
    """Everything that keeps the workflow, as it stands in its file, from running as meant.

    comfyui_version: the server's. embeddings: the names it has (GET /embeddings); without them, and without folders,
    a prompt's `embedding:` is not looked for. folders: the model folders of the ComfyUI on this machine. live:
    object_info was asked for just now; from a saved one, a file that lies in `folders` counts as there.
    """
    nodes = workflow.nodes(object_info)
    found = list(_too_old(workflow, comfyui_version))
    found += find_problems(nodes, object_info, workflow.editor)
    found += _embeddings(nodes, workflow, object_info, embeddings, folders)
    if folders is not None:
        found = [kept for finding in found if (kept := _on_disk(finding, folders, live)) is not None]
    return Report(tuple(found))


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
    """Textual inversions that a prompt names and nobody has: ComfyUI draws without them, with a word in its log."""
    if present is None and folders is None:
        return
    places = Places(workflow.editor, object_info)
    there = {name.replace("\\", "/") for name in present or ()}
    for node_id, node in nodes.items():
        for input_name, value in node["inputs"].items():
            for name in embeddings_in(value):
                if name in there or (folders is not None and folders.find_stem(EMBEDDINGS, name) is not None):
                    continue
                place = places.find(node_id)
                model = _declared_embedding(name, workflow, place.node if place else {})
                yield Finding(
                    "missing_model",
                    f"names the embedding {name!r}, which is not there",
                    node_id,
                    place.title if place else node["_meta"]["title"],
                    str(node["class_type"]),
                    input_name,
                    hint="Get it with `kandiflux models pull`."
                    if model.url
                    else f"Put it into models/{EMBEDDINGS}, or take it out of the text.",
                    models=(model,),
                )


def _declared_embedding(name: str, workflow: Workflow, node: Mapping[str, Any]) -> ModelFile:
    of_node = declared_models(as_object(node.get("properties")).get("models"))
    declared = [*of_node, *declared_models((workflow.editor or {}).get("models"))]
    found = (model for model in declared if PurePosixPath(model.name).stem == PurePosixPath(name).name)
    return next(found, ModelFile(f"{name}.safetensors", EMBEDDINGS))


def _on_disk(finding: Finding, folders: ModelFolders, live: bool) -> Finding | None:
    """The finding in the light of what lies on this machine; None where that settles it."""
    there = {model: path for model in finding.models if (path := folders.find(model)) is not None}
    absent = tuple(model for model in finding.models if model not in there)
    if not there:
        return finding
    if absent:
        return replace(finding, models=absent)
    if not live:
        return None
    lie = ", ".join(map(str, there.values()))
    return replace(finding, models=(), hint=f"It lies in {lie}: is the server this ComfyUI's? Then restart it.")
