"""Shell completion: names of workflows, servers, parameters and presets.

Sends no requests to servers. Files that cannot be read are ignored, because a shell cannot show errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from kandiflux.errors import UsageError
from kandiflux.util.json_values import as_object, is_object, parse_json
from kandiflux.util.paths import expanded, is_file
from kandiflux.util.safe_text import UNSAFE, one_line

__all__ = ["complete_preset", "complete_server", "complete_setting", "complete_workflow"]

_SUFFIXES = (".json", ".png")
_LARGEST = 4 << 20

Offers = list[tuple[str, str]]
"""(word, help)"""


def complete_workflow(incomplete: str) -> Offers:
    """Completes names of shipped workflows, and paths of files that may contain a workflow."""
    from kandiflux.util.paths import workflows_folder

    shipped = [(path.stem, "shipped") for path in sorted(workflows_folder().glob("*.json"))]
    offers = [(name, about) for name, about in shipped if name.startswith(incomplete)]
    folder, prefix = _parts(incomplete)
    try:
        entries = sorted(expanded(folder).iterdir() if folder else Path().iterdir())
    except OSError:
        return offers
    for entry in entries:
        if not entry.name.startswith(prefix) or (entry.name.startswith(".") and not prefix.startswith(".")):
            continue
        if entry.is_dir():
            offers.append((f"{folder}{entry.name}/", ""))
        elif entry.suffix.lower() in _SUFFIXES:
            offers.append((f"{folder}{entry.name}", ""))
    return _safe(offers)


def complete_server(incomplete: str) -> Offers:
    """Completes server names from kandiflux.toml, and `lite`."""
    from kandiflux.config import LITE, Config, load_config

    try:
        servers = load_config().servers
    except UsageError:
        servers = Config().servers
    offers = [*((name, about.url.rpartition("@")[2]) for name, about in servers.items()), (LITE, "a lite host")]
    return _safe([(name, about) for name, about in offers if name.startswith(incomplete)])


def complete_setting(ctx: typer.Context, incomplete: str) -> Offers:
    """Completes `NAME=` for the parameters of the workflow on the command line."""
    settings = _settings(_named_workflow(ctx))
    return _safe([(f"{name}=", about) for name, about in settings if name.startswith(incomplete)])


def complete_preset(ctx: typer.Context, incomplete: str) -> Offers:
    """Completes the presets of the workflow on the command line."""
    extra = _extra(_workflow_file(_named_workflow(ctx)))
    return _safe([(name, "") for name in as_object(extra.get("presets")) if name.startswith(incomplete)])


def _safe(offers: Offers) -> Offers:
    """Removes words with unsafe characters, because the shell shows and inserts words unescaped."""
    return [(word, one_line(about)) for word, about in offers if not UNSAFE.search(word) and "\n" not in word]


def _named_workflow(ctx: typer.Context) -> object:
    """Returns the workflow argument. Arguments may not be parsed yet: the last option still has no value."""
    return ctx.params.get("workflow") or next(iter(ctx.args), None)


def _settings(workflow: object) -> Iterator[tuple[str, str]]:
    file = _workflow_file(workflow)
    parameters = _extra(file).get("parameters")
    if is_object(parameters):
        for name, declared in parameters.items():
            yield name, str(as_object(declared).get("description", ""))
        return
    # If the workflow declares none: id.input of all constant inputs of a file in the API format.
    for node_id, node in file.items():
        for name, value in as_object(as_object(node).get("inputs")).items():
            if not isinstance(value, (list, dict)):
                yield f"{node_id}.{name}", str(as_object(node).get("class_type", ""))


def _workflow_file(workflow: object) -> Mapping[str, Any]:
    from kandiflux.util.paths import workflows_folder

    if not isinstance(workflow, str):
        return {}
    path = expanded(workflow)
    if not is_file(path):
        path = workflows_folder() / f"{workflow.removesuffix('.json')}.json"
    try:
        if path.suffix.lower() != ".json" or path.stat().st_size > _LARGEST:
            return {}
        return as_object(parse_json(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _extra(file: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_object(as_object(file.get("extra")).get("kandiflux"))


def _parts(incomplete: str) -> tuple[str, str]:
    """Splits a path into the folder as typed, with its slash, and the start of a file name."""
    folder, slash, prefix = incomplete.rpartition("/")
    return folder + slash, prefix
