"""The command `kandiflux check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kandiflux.cli_common import (
    CaOption,
    HeaderOption,
    JsonOption,
    ObjectInfoOption,
    QuietOption,
    ServerOption,
    WorkflowArgument,
    open_server,
    print_table,
    reporting,
    saved_object_info,
)

if TYPE_CHECKING:
    from kandiflux.check import Report
    from kandiflux.findings import Finding
    from kandiflux.model_files import ModelFile

__all__ = ["ComfyUIOption", "ExtraPathsOption", "check", "in_bytes"]

_SOMETHING_MISSING = 2

ComfyUIOption = Annotated[
    Path | None, typer.Option("--comfyui", metavar="PATH", help="ComfyUI's folder: look for model files there, too.")
]
ExtraPathsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--extra-model-paths", metavar="FILE", help="A file like ComfyUI's extra_model_paths.yaml, besides it."
    ),
]


def check(
    workflow: WorkflowArgument,
    server: ServerOption = None,
    object_info: ObjectInfoOption = None,
    comfyui: ComfyUIOption = None,
    extra_model_paths: ExtraPathsOption = None,
    header: HeaderOption = None,
    ca_bundle: CaOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List what a workflow lacks on a server: node classes, model files, connections, valid values.

    Exit code 0: it would run. 2: something is missing or invalid. 3: the server is not reachable.

    \b
    Examples:
      kandiflux check flux_dev.json --server http://gpu:8188
      kandiflux check flux_dev.json --object-info object_info.json --comfyui ~/ComfyUI
      kandiflux check kandinsky22_text_to_image --json
    """
    from kandiflux.check import check as find
    from kandiflux.model_folders import ModelFolders
    from kandiflux.workflow import Workflow

    with reporting(as_json):
        loaded = Workflow.load(workflow)
        folders = ModelFolders(comfyui, extra_model_paths or ()) if comfyui is not None else None
        if object_info is not None:
            place = str(object_info)
            report = find(loaded, saved_object_info(object_info), folders=folders, live=False)
        else:
            with open_server(server, header, ca_bundle) as client:
                place = client.url
                version = client.server.system_stats().get("system", {}).get("comfyui_version")
                report = find(
                    loaded,
                    client.object_info(),
                    comfyui_version=str(version) if version else None,
                    embeddings=client.server.embeddings(),
                    folders=folders,
                )
        _tell(report, workflow, place, as_json=as_json, quiet=quiet)
        if report.findings:
            raise typer.Exit(_SOMETHING_MISSING)


def _tell(report: Report, workflow: str, place: str, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        found = [finding.as_dict() for finding in report.findings]
        answer = {"workflow": workflow, "checked_against": place, "ok": not found, "findings": found}
        typer.echo(json.dumps(answer, ensure_ascii=False, default=str))
        return
    if report.findings:
        print_table(("what", "node", "input", "problem", "to do"), [_row(finding) for finding in report.findings])
    if quiet:
        return
    if not report.findings:
        typer.echo(f"{workflow}: nothing is missing on {place}.", err=True)
        return
    typer.echo(f"{workflow}: {len(report.findings)} missing or invalid.", err=True)
    fetchable = [model for model in report.models if model.url]
    if fetchable:
        size = in_bytes(sum(model.size or 0 for model in fetchable))
        more = " at least" if any(model.size is None for model in fetchable) else ""
        typer.echo(
            f"`kandiflux models pull {workflow} --comfyui PATH` downloads {len(fetchable)} of the files,{more} {size}.",
            err=True,
        )


def _row(finding: Finding) -> tuple[str, ...]:
    node = f"{finding.title} ({finding.node_id}, {finding.class_type})" if finding.node_id else ""
    todo = " ".join(filter(None, (finding.hint, *(_source(model) for model in finding.models))))
    return finding.kind.replace("_", " "), node, finding.input_name or "", finding.said, todo


def _source(model: ModelFile) -> str:
    """Where a file goes and where it comes from, on one line."""
    known: list[Any] = [f"models/{model.directory or '…'}/{model.name}"]
    known += [f"from {model.url}"] if model.url else []
    about = [in_bytes(model.size)] if model.size else []
    about += [f"{model.hash_type} {model.hash}"] if model.hash else []
    return " ".join(known) + (f" ({', '.join(about)})" if about else "")


def in_bytes(size: int) -> str:
    """`23.8 GB`, in powers of a thousand, as download pages count."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
