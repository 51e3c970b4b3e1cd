"""The command `kandiflux convert`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated

import typer

from kandiflux.cli.common import ObjectInfoOption, WorkflowArgument, reporting
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.terminal import print_json, print_message
from kandiflux.errors import ConversionError

__all__ = ["convert"]

_TITLES_SHOWN = 5


@reaching
def convert(
    file: WorkflowArgument,
    reach: Reach,
    object_info: ObjectInfoOption = None,
    draw: Annotated[
        bool,
        typer.Option(
            "--draw-prompts/--keep-prompts",
            help="Choose one option of each `{a|b}` in dynamic prompts, and the seeds of rgthree's Seed, as the editor "
            "and `run` do when they submit; by default, they are kept.",
        ),
    ] = False,
    draw_seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed for --draw-prompts: the same number makes the same choices.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Print nothing, and exit with 2, if a node is unknown.")
    ] = False,
) -> None:
    """Convert an editor workflow to the API format, as the editor does.

    The inputs of nodes are read from a server, or from a saved response of
    GET /object_info. Nodes of unknown classes are reported on standard error;
    they are printed too, with their links, and with those values whose input
    names are in the file. Unknown nodes without links are left out. Values
    that do not fit the widgets of their class are reported, and if nothing
    would run. A file in the API format is printed unchanged.

    Exit codes: 0 printed (with --strict: and every node is known), 2 no workflow,
    or one that cannot be converted, 3 server not reachable.

    \b
    Examples:
      kandiflux convert flux.json --server http://gpu:8188 > flux_api.json
      kandiflux convert flux.json --object-info object_info.json --strict
      kandiflux convert ComfyUI_00001_.png --draw-seed 7
    """
    from kandiflux.workflow.editor_format.convert import convert as to_api
    from kandiflux.workflow.workflow import Workflow

    with reporting(False):
        loaded = Workflow.load(file)
        if loaded.editor is None:
            print_message("This file is already in the API format.")
            print_json(loaded.api, indent=2)
            return
        generator = random.Random(draw_seed) if draw or draw_seed is not None else None
        conversion = to_api(loaded.editor, reach.object_info(object_info), draw=generator)
        if strict and conversion.unknown:
            raise ConversionError(
                f"{loaded.origin} has nodes of unknown classes: {_listed(conversion.unknown)}.",
                hint="Use the server (or its object_info) that has these nodes; without --strict the rest is printed.",
            )
        for class_type, titles in conversion.unknown.items():
            print_message(f"unknown node class {_named(class_type, titles)}: values may be missing")
        for note in conversion.notes:
            print_message(f"note: {note}")
        print_json(conversion.prompt, indent=2)


def _listed(unknown: Mapping[str, list[str]]) -> str:
    return ", ".join(_named(class_type, titles) for class_type, titles in unknown.items())


def _named(class_type: str, titles: list[str]) -> str:
    shown = ", ".join(dict.fromkeys(titles[:_TITLES_SHOWN]))
    more = len(titles) - _TITLES_SHOWN
    return f"{class_type} ({shown}{f', and {more} more' if more > 0 else ''})"
