"""Code shared by the commands: options, error messages and exit codes."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kandiflux.cli.completion import complete_workflow
from kandiflux.cli.signals import exit_code, interrupting
from kandiflux.cli.terminal import print_event, print_message
from kandiflux.errors import KandifluxError, UsageError
from kandiflux.util.json_values import is_object, parse_json
from kandiflux.util.safe_text import one_line, shortened

__all__ = [
    "CaOption",
    "JsonOption",
    "ObjectInfoOption",
    "QuietOption",
    "WorkflowArgument",
    "print_error",
    "reporting",
    "reporting_errors",
    "saved_object_info",
]

_GOT_LIMIT = 300
_OPTIONS = {
    "server": "--server",
    "folder": "--out",
    "restart": "--restart",
    "check": "--no-check",
    "credentials": "--user, --token-env or --header",
    "verify": "--ca-bundle",
    "timeout": "--timeout",
    "comfyui": "--comfyui",
    "python": "--python",
    "projection": "--projection",
    "overwrite": "--out, --force",
    "tokens": "--token-env",
    "only": "--only",
}
"""The command-line options by the parameter name in the library's errors."""

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
    Path | None, typer.Option("--object-info", help="A saved response of /object_info, used instead of a server.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.")]


@contextmanager
def reporting(as_json: bool) -> Generator[None, None, None]:
    """Turns errors, Ctrl-C, SIGTERM and SIGHUP into messages and exit codes."""
    try:
        with interrupting(), reporting_errors(as_json):
            yield
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(exit_code(interrupt)) from interrupt


@contextmanager
def reporting_errors(as_json: bool) -> Generator[None, None, None]:
    """Turns errors into messages and exit codes."""
    try:
        yield
    except KandifluxError as error:
        if as_json:
            print_event({"event": "error", **error.as_dict()})
        print_error(error)
        raise typer.Exit(error.exit_code) from error


def print_error(error: KandifluxError) -> None:
    """Prints an error on standard error. Long texts, such as a server's, are shortened to head and tail."""
    text = f"Error: {shortened(error.message)}"
    if error.expected is not None:
        text += f"\n  expected: {shortened(error.expected)}"
    if error.got is not None:
        text += f"\n  got:      {one_line(error.got, _GOT_LIMIT)}"
    if error.hint is not None:
        text += f"\n  hint:     {shortened(error.hint)}{_option(error)}"
    print_message(text, style="red")


def _option(error: KandifluxError) -> str:
    option = _OPTIONS.get(error.parameter or "")
    return f" ({option})" if option else ""


def saved_object_info(file: Path) -> Mapping[str, Any]:
    """Reads a saved response of /object_info. Raises UsageError if it is not valid."""
    try:
        loaded = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as object_info: {error}.") from error
    if not is_object(loaded) or not all(is_object(info) and "input" in info for info in loaded.values()):
        raise UsageError(
            f"{file} is not a valid object_info.", expected="node classes with their inputs, as in GET /object_info"
        )
    return loaded
