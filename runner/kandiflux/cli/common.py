"""What the commands share: options, errors as messages and exit codes, servers, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kandiflux.cli.complete import complete_workflow
from kandiflux.errors import KandifluxError, UsageError
from kandiflux.json_values import is_object

__all__ = [
    "INTERRUPTED",
    "CaOption",
    "JsonOption",
    "ObjectInfoOption",
    "QuietOption",
    "WorkflowArgument",
    "print_table",
    "reporting",
    "saved_object_info",
]

INTERRUPTED = 130

WorkflowArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKFLOW",
        help="A path (JSON, or a picture made by ComfyUI), or a shipped workflow.",
        autocompletion=complete_workflow,
    ),
]
CaOption = Annotated[Path | None, typer.Option("--ca-bundle", help="Certificates to trust for https.")]
ObjectInfoOption = Annotated[
    Path | None, typer.Option("--object-info", help="A saved answer of /object_info, instead of a server.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, for machines.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.")]


@contextmanager
def reporting(as_json: bool) -> Generator[None, None, None]:
    """Turns errors into messages and exit codes."""
    try:
        yield
    except KandifluxError as error:
        if as_json:
            typer.echo(json.dumps({"event": "error", **error.as_dict()}, ensure_ascii=False, default=str))
        typer.secho(f"Error: {error}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(INTERRUPTED) from error


def saved_object_info(file: Path) -> Mapping[str, Any]:
    """A saved answer of /object_info. UsageError where it is none."""
    try:
        loaded = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as object_info: {error}.") from error
    if not is_object(loaded) or not all(is_object(about) and "input" in about for about in loaded.values()):
        raise UsageError(
            f"{file} is no object_info.", expected="node classes with their inputs, as GET /object_info answers"
        )
    return loaded


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """For people a table, for programs lines with tabs."""
    if not sys.stdout.isatty():
        # What another program reads is neither folded nor drawn.
        for row in (head, *rows):
            typer.echo("\t".join(" ".join(cell.split()) for cell in row).rstrip())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console().print(table)
