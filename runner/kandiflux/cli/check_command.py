"""The command `kandiflux check`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kandiflux.cli.common import (
    JsonOption,
    ObjectInfoOption,
    QuietOption,
    WorkflowArgument,
    reporting,
    saved_object_info,
)
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.terminal import print_json, print_message, print_result, print_table
from kandiflux.util.json_values import as_object

if TYPE_CHECKING:
    from kandiflux.models.model_files import ModelFile
    from kandiflux.workflow.validation.check import Report
    from kandiflux.workflow.validation.findings import Finding
    from kandiflux.workflow.validation.node_packs import MissingPack

__all__ = ["ComfyUIOption", "ExtraPathsOption", "check", "in_bytes"]

_SOMETHING_MISSING = 2
_MOST_IDS = 3

ComfyUIOption = Annotated[
    Path | None, typer.Option("--comfyui", metavar="PATH", help="ComfyUI's folder: also look for model files there.")
]
ExtraPathsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--extra-model-paths", metavar="FILE", help="Another file in the format of ComfyUI's extra_model_paths.yaml."
    ),
]


@reaching
def check(
    workflow: WorkflowArgument,
    reach: Reach,
    object_info: ObjectInfoOption = None,
    comfyui: ComfyUIOption = None,
    extra_model_paths: ExtraPathsOption = None,
    sizes: Annotated[bool, typer.Option("--sizes", help="Look up unknown sizes of missing files on the web.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check that a server can run a workflow: node classes, model files, connections, values.

    Missing node classes are grouped by the packs to install. What does not prevent the run is a note.

    Exit code 0: it would run. 2: something is missing or invalid. 3: the server is not reachable.

    \b
    Examples:
      kandiflux check flux_dev.json --server http://gpu:8188
      kandiflux check flux_dev.json --object-info object_info.json --comfyui ~/ComfyUI
      kandiflux check kandinsky22_text_to_image --json
    """
    from kandiflux.models.model_folders import ModelFolders
    from kandiflux.models.pull import size_of
    from kandiflux.workflow.validation.check import check as find
    from kandiflux.workflow.workflow import Workflow

    with reporting(as_json):
        loaded = Workflow.load(workflow)
        folders = ModelFolders(comfyui, extra_model_paths or ()) if comfyui is not None else None
        if object_info is not None:
            location = str(object_info)
            report = find(loaded, saved_object_info(object_info), folders=folders, live=False)
        else:
            with reach.client() as client:
                location = client.url
                version = as_object(client.api.system_stats().get("system")).get("comfyui_version")
                report = find(
                    loaded,
                    client.object_info(),
                    comfyui_version=str(version) if version else None,
                    embeddings=client.api.embeddings(),
                    has_file=client.api.has_input,
                    node_map=client.api.node_map,
                    folders=folders,
                )
        if sizes:
            report = report.with_sizes(size_of)
        _report(report, workflow, location, as_json=as_json, quiet=quiet)
        if report.findings:
            raise typer.Exit(_SOMETHING_MISSING)


def _report(report: Report, workflow: str, location: str, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        found = [finding.as_dict() for finding in report.findings]
        answer = {"workflow": workflow, "checked_against": location, "ok": not found, "findings": found}
        answer["packs"] = [missing.as_dict() for missing in report.packs]
        answer["notes"] = [note.as_dict() for note in report.notes]
        print_json(answer)
        return
    tables: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        (("pack", "nodes", "classes (node ids)", "to do"), [_pack_row(missing) for missing in report.packs]),
        (
            ("what", "node", "input", "problem", "to do"),
            [_row(finding) for finding in report.findings if finding.kind != "missing_node"],
        ),
        (("file", "folder", "size", "hash", "from"), [_file_row(model) for model in report.models]),
    ]
    shown = [(head, rows) for head, rows in tables if rows]
    for number, (head, rows) in enumerate(shown):
        if number:
            print_result("")
        print_table(head, rows)
    if not quiet:
        for note in report.notes:
            print_message(f"note: {note}")
        print_message(_summary(report, workflow, location))


def _row(finding: Finding) -> tuple[str, ...]:
    node = f"{finding.title} ({finding.node_id}, {finding.class_type})" if finding.node_id else ""
    return finding.kind.replace("_", " "), node, finding.input_name or "", finding.said, finding.hint or ""


def _file_row(model: ModelFile) -> tuple[str, ...]:
    folder = f"models/{model.directory}" if model.directory else ""
    size = in_bytes(model.size) if model.size is not None else ""
    return model.name, folder, size, f"{model.hash_type} {model.hash}" if model.hash else "", model.url or ""


def _pack_row(missing: MissingPack) -> tuple[str, ...]:
    classes: list[str] = []
    for name, ids in missing.classes.items():
        count = f" ×{len(ids)}" if len(ids) > 1 else ""
        classes.append(f"{name}{count} ({', '.join(ids[:_MOST_IDS])}{', …' if len(ids) > _MOST_IDS else ''})")
    return missing.pack.name if missing.pack else "", str(missing.count), ", ".join(classes), missing.hint


def _summary(report: Report, workflow: str, location: str) -> str:
    if not report.findings:
        return f"{workflow}: nothing is missing on {location}."
    text = f"{workflow}: {'; '.join(_parts(report))}."
    fetched = [model for model in report.models if model.url]
    if fetched:
        sizes = [model.size for model in fetched if model.size is not None]
        more = "" if len(sizes) == len(fetched) else " and more"
        size = f": {in_bytes(sum(sizes))}{more}" if sizes else ""
        remote = "://" in location and "://127.0.0.1" not in location and "://localhost" not in location
        pull = f"`kandiflux models pull {shlex.quote(workflow)} --comfyui PATH`"
        text += f"\n{pull}{', on its machine,' if remote else ''} downloads {len(fetched)} of the files{size}."
    return text


def _parts(report: Report) -> list[str]:
    """Returns the parts of the summary: packs to install, and how much else is missing or wrong."""
    from kandiflux.workflow.validation.node_packs import install_text

    unknown = sum(missing.count for missing in report.packs if missing.pack is None)
    kinds = [finding.kind for finding in report.findings if finding.kind != "missing_node"]
    models = kinds.count("missing_model")
    parts = [install_text(report.packs)]
    parts += [f"{_number(unknown, 'node')} of no known pack"] if unknown else []
    parts += [f"{_number(models, 'model file')} missing"] if models else []
    known = [part for part in parts if part]
    others = _number(len(kinds) - models, "other problem" if known else "problem")
    return known + ([others] if len(kinds) > models else [])


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")


def in_bytes(size: int) -> str:
    """Returns a size as text, such as `23.8 GB`. Units are powers of 1000, as on download pages."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
