"""The command line: results go to stdout, everything else to stderr.

Only typer is imported here; each command imports what it needs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from kandiflux import __version__
from kandiflux.cli.batch_command import batch
from kandiflux.cli.check_command import check
from kandiflux.cli.convert_command import convert
from kandiflux.cli.doctor_command import doctor, servers
from kandiflux.cli.host_command import host
from kandiflux.cli.list_commands import params, workflows
from kandiflux.cli.models_command import convert_models, pull
from kandiflux.cli.prompt_command import prompt_app
from kandiflux.cli.queue_command import cancel, free, interrupt, queue
from kandiflux.cli.run_command import rerun, run
from kandiflux.cli.terminal import prepare, print_result
from kandiflux.cli.up_command import down, up

__all__ = ["app", "main"]


def _plain_flags(parameters: list[Any]) -> list[Any]:
    """Removes the type of flags from the help page: they take no value."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class _CommandHelp(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


class _GroupHelp(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


app = typer.Typer(
    name="kandiflux",
    cls=_GroupHelp,
    help="Run ComfyUI workflows: on a ComfyUI, or on the lite host that comes with this package.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models = typer.Typer(cls=_GroupHelp, help="Download and convert model files.", no_args_is_help=True)
for name, command in {"pull": pull, "convert": convert_models}.items():
    models.command(name, cls=_CommandHelp)(command)
_COMMANDS = {
    "Run": {"run": run, "rerun": rerun, "batch": batch},
    "Inspect": {"workflows": workflows, "params": params, "check": check, "convert": convert, "models": models},
    "Prompts": {"prompt": prompt_app},
    "Servers": {
        "servers": servers, "doctor": doctor, "queue": queue, "cancel": cancel, "interrupt": interrupt, "free": free,
        "up": up, "down": down, "host": host,
    },
}  # fmt: skip
for panel, commands in _COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, cls=_GroupHelp, rich_help_panel=panel)
        else:
            app.command(name, cls=_CommandHelp, rich_help_panel=panel)(command)


def main() -> None:
    """The command `kandiflux`."""
    prepare()
    app()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        print_result(__version__)
        raise typer.Exit
