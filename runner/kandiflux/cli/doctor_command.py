"""The commands `kandiflux doctor` and `kandiflux servers`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kandiflux.cli.common import JsonOption, reporting
from kandiflux.cli.completion import complete_workflow
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.terminal import print_json, print_message, print_parts, print_result, print_table
from kandiflux.util.safe_text import one_line

if TYPE_CHECKING:
    from kandiflux.cli.diagnosis import Line

__all__ = ["doctor", "servers"]

_SOMETHING_FAILS = 2
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_FOUND_LIMIT = 1_000


@reaching
def doctor(
    reach: Reach,
    workflow: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORKFLOW]",
            help="Also check that the server has the nodes and files that it needs.",
            autocompletion=complete_workflow,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a server: versions, device, memory, latency, nodes; each problem with a hint.

    Exit code 0: no check failed. 2: something the workflow needs is missing. 3: the server is not reachable.

    \b
    Examples:
      kandiflux doctor
      kandiflux doctor flux_dev --server gpu
      kandiflux doctor --server http://gpu:8188 --json
    """
    from kandiflux.cli.diagnosis import examine
    from kandiflux.workflow.workflow import Workflow

    with reporting(as_json):
        loaded = Workflow.load(workflow) if workflow is not None else None
        lines: list[Line] = []
        with reach.client() as client:
            for line in examine(client, loaded):
                lines.append(line)
                if not as_json:
                    _print(line)
        failed = any(line.state == "fail" for line in lines)
        if as_json:
            print_json({"ok": not failed, "lines": [line.as_dict() for line in lines]})
        if failed:
            raise typer.Exit(_SOMETHING_FAILS)


def servers(as_json: JsonOption = False) -> None:
    """List the servers that kandiflux.toml names, and those that `kandiflux up` started.

    \b
    Example:
      kandiflux servers
    """
    from kandiflux.config import load_config, without_userinfo
    from kandiflux.processes.comfyui import running

    with reporting(as_json):
        config = load_config()
        named = [
            {"name": name, "url": without_userinfo(about.url)[0], "default": name == config.default_server}
            for name, about in config.servers.items()
        ]
        started = [{"url": one.url, "folder": one.folder, "pid": one.pid, "log": one.log} for one in running()]
        if as_json:
            file = str(config.path) if config.path else None
            print_json({"file": file, "servers": named, "started": started})
            return
        rows = [(str(one["name"]), str(one["url"]), "default" if one["default"] else "") for one in named]
        rows += [("", str(one["url"]), f"started in {one['folder']}, pid {one['pid']}") for one in started]
        if rows:
            print_table(("name", "url", ""), rows)
        else:
            print_message("No servers are configured; docs/runner.md describes kandiflux.toml.")


def _print(line: Line) -> None:
    if not sys.stdout.isatty():
        print_result("\t".join(filter(None, (line.state, line.what, " ".join(line.found.split()), line.todo))))
        return
    what, found, todo = (one_line(text, _FOUND_LIMIT) for text in (line.what, line.found, line.todo))
    print_parts((f"{line.state:>4}  ", _COLOURS[line.state]), (f"{what:<16} {found}", ""), stream=sys.stdout)
    if todo:
        print_result(f"{'':22} {todo}")
