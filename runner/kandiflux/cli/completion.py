"""What a shell offers when Tab is pressed: names of workflows, servers and parameters.

Nothing here asks a server, and a file that cannot be read offers nothing: a shell has no place for errors.
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
    """Shipped workflows by name, and files that may hold one."""
    from kandiflux.util.paths import workflows_folder

    shipped = [(path.stem, "shipped") for path in sorted(workflows_folder().glob("*.json"))]
    offers = [(name, about) for name, about in shipped if name.startswith(incomplete)]
    folder, begun = _parts(incomplete)
    try:
        entries = sorted(expanded(folder).iterdir() if folder else Path().iterdir())
    except OSError:
        return offers
    for entry in entries:
        if not entry.name.startswith(begun) or (entry.name.startswith(".") and not begun.startswith(".")):
            continue
        if entry.is_dir():
            offers.append((f"{folder}{entry.name}/", ""))
        elif entry.suffix.lower() in _SUFFIXES:
            offers.append((f"{folder}{entry.name}", ""))
    return _safe(offers)


def complete_server(incomplete: str) -> Offers:
    """The names in kandiflux.toml, and `lite`."""
    from kandiflux.config import LITE, Config, load_config

    try:
        servers = load_config().servers
    except UsageError:
        servers = Config().servers
    offers = [*((name, about.url.rpartition("@")[2]) for name, about in servers.items()), (LITE, "a lite host")]
    return _safe([(name, about) for name, about in offers if name.startswith(incomplete)])


def complete_setting(ctx: typer.Context, incomplete: str) -> Offers:
    """`NAME=` for what the workflow on the line lets one set."""
    settings = _settings(_named_workflow(ctx))
    return _safe([(f"{name}=", about) for name, about in settings if name.startswith(incomplete)])


def complete_preset(ctx: typer.Context, incomplete: str) -> Offers:
    """The presets of the workflow on the line."""
    about = _about(_workflow_file(_named_workflow(ctx)))
    return _safe([(name, "") for name in as_object(about.get("presets")) if name.startswith(incomplete)])


def _safe(offers: Offers) -> Offers:
    """The shell shows and inserts them as they are: words with unsafe characters are left out."""
    return [(word, one_line(about)) for word, about in offers if not UNSAFE.search(word) and "\n" not in word]


def _named_workflow(ctx: typer.Context) -> object:
    """The line ends in an option that still lacks its value, and so its arguments are not sorted out yet."""
    return ctx.params.get("workflow") or next(iter(ctx.args), None)


def _settings(workflow: object) -> Iterator[tuple[str, str]]:
    file = _workflow_file(workflow)
    parameters = _about(file).get("parameters")
    if is_object(parameters):
        for name, told in parameters.items():
            yield name, str(as_object(told).get("description", ""))
        return
    # Where the workflow names none: id.input of everything with a plain value, as an API file has it.
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


def _about(file: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_object(as_object(file.get("extra")).get("kandiflux"))


def _parts(incomplete: str) -> tuple[str, str]:
    """The folder as it was typed, with its slash, and the beginning of a name in it."""
    folder, slash, begun = incomplete.rpartition("/")
    return folder + slash, begun
