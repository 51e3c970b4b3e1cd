"""The command `kandiflux`. Results go to stdout, everything else to stderr.

Only typer is imported here; each command imports what it needs, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kandiflux import __version__
from kandiflux.cli.batch_command import batch
from kandiflux.cli.check_command import check
from kandiflux.cli.common import (
    JsonOption,
    ObjectInfoOption,
    QuietOption,
    WorkflowArgument,
    reporting,
)
from kandiflux.cli.convert_command import convert
from kandiflux.cli.doctor_command import doctor, servers
from kandiflux.cli.host_command import host
from kandiflux.cli.models_command import pull
from kandiflux.cli.prompt_command import prompt_app
from kandiflux.cli.queue_command import cancel, free, interrupt, queue
from kandiflux.cli.run_command import rerun, run
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.terminal import prepare, print_json, print_message, print_path, print_result, print_table
from kandiflux.cli.up_command import down, up
from kandiflux.util.safe_text import one_line

__all__ = ["app", "main"]

app = typer.Typer(
    name="kandiflux",
    help="Run ComfyUI workflows: on a ComfyUI, or on the lite host that comes with this package.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("host")(host)
models = typer.Typer(help="Model weights on this machine.", no_args_is_help=True)
app.add_typer(models, name="models")
app.add_typer(prompt_app, name="prompt")
app.command("run")(run)
app.command("rerun")(rerun)
app.command("check")(check)
app.command("queue")(queue)
app.command("cancel")(cancel)
app.command("interrupt")(interrupt)
app.command("free")(free)
app.command("doctor")(doctor)
app.command("servers")(servers)
app.command("up")(up)
app.command("down")(down)
app.command("convert")(convert)
app.command("batch")(batch)
models.command("pull")(pull)


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


@app.command()
@reaching
def params(
    workflow: WorkflowArgument,
    reach: Reach,
    object_info: ObjectInfoOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what can be set in a workflow: name, type, present value, range or choices.

    \b
    Examples:
      kandiflux params kandinsky22_pocket_text_to_image
      kandiflux params flux.json --server http://gpu:8188 --json
    """
    from kandiflux.workflow.workflow import Workflow

    with reporting(as_json):
        loaded = Workflow.load(workflow)
        found = loaded.describe(reach.object_info(object_info))
        if as_json:
            listed = [{key: value for key, value in vars(info).items() if value is not None} for info in found]
            presets = {name: dict(values) for name, values in loaded.presets.items()}
            print_json({"parameters": listed, "presets": presets})
            return
        rows = [(info.name, info.type, str(info.value), _bounds(vars(info)), info.description) for info in found]
        print_table(("name", "type", "value", "range", ""), rows)
        for name, values in loaded.presets.items():
            print_result(f"--preset {name}: " + ", ".join(f"{key}={value}" for key, value in values.items()))


@app.command()
def workflows(as_json: JsonOption = False) -> None:
    """List the workflows that come with kandiflux.

    \b
    Example:
      kandiflux workflows
    """
    from kandiflux.workflow.workflow import Workflow, shipped_workflows

    with reporting(as_json):
        shipped = [Workflow.load(path) for path in shipped_workflows().values()]
        if as_json:
            listed = [{"name": found.name, "title": found.title, "description": found.description} for found in shipped]
            print_json(listed)
        else:
            print_table(("name", "title", ""), [(found.name, found.title, found.description) for found in shipped])


@models.command("convert")
def convert_models(
    source: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", help="An original .pt file, or the folder they are in.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the model folders, such as ComfyUI/models/kandinsky.")
    ] = Path(),
    projection: Annotated[
        Path | None, typer.Option(help="The UNet's projection*.pt, where it is not beside it or in flan_ul2_encoder.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over what is there.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Convert original Kandinsky 3.0 or 3.1 weights to safetensors that the Kandinsky 3 Loader reads.

    Makes a folder for each UNet (kandinsky-3, kandinsky-3-flash, kandinsky-3-inpainting) with unet, movq and
    scheduler, and prints each file it wrote. The pickles are read with torch's weights_only: nothing in them is run.

    \b
    Examples:
      kandiflux models convert weights --out ComfyUI/models/kandinsky
      kandiflux models convert weights/kandinsky3_inpainting.pt
      kandiflux models convert kandinsky3_flash.pt --projection projection_flash.pt --force
      kandiflux models convert movq.pt --out models/kandinsky
    """
    from kandiflux.models.kandinsky3_checkpoint import convert as write
    from kandiflux.models.kandinsky3_checkpoint import plan

    with reporting(as_json):
        if not quiet and not as_json:
            print_message(f"Reading {source} with torch.load(weights_only=True, mmap=True): nothing in it is run.")
        todo = plan(source, out, projection)
        for found in todo:
            if found.movq is None and not quiet and not as_json:
                print_message(f"No movq.pt found: {found.folder} needs a movq folder to be whole.")
        written: list[str] = []
        with _bytes_written(quiet=quiet or as_json) as on_bytes:
            for path in write(todo, force=force, on_bytes=on_bytes):
                written.append(str(path))
                if not as_json:
                    print_path(path)
        if as_json:
            print_json({"written": written})


@contextmanager
def _bytes_written(*, quiet: bool) -> Generator[Callable[[str, int, int], None], None, None]:
    """Shows how far each file has been written, where there is a terminal to show it on."""
    if quiet or not sys.stderr.isatty():
        yield lambda _file, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def on_bytes(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(one_line(file), total=total)
            progress.update(tasks[file], completed=done)

        yield on_bytes


def _bounds(info: Mapping[str, Any]) -> str:
    if info["choices"] is not None:
        names = [str(choice) for choice in info["choices"]]
        return ", ".join(names[:6]) + (f", … ({len(names)})" if len(names) > 6 else "")
    low, high = info["min"], info["max"]
    if low is None and high is None:
        return ""
    return f"{'' if low is None else low} … {'' if high is None else high}"
