"""The commands `kandiflux run` and `kandiflux rerun`."""

from __future__ import annotations

import enum
import logging
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kandiflux.cli.common import INTERRUPTED, JsonOption, QuietOption, WorkflowArgument, reporting
from kandiflux.cli.complete import complete_preset, complete_setting
from kandiflux.cli.reach import Reach, reaching
from kandiflux.errors import JobTimeout, KandifluxError, ServerError, ServerUnreachable, UsageError

if TYPE_CHECKING:
    from kandiflux.client import Client
    from kandiflux.job import Job
    from kandiflux.outputs import Saver
    from kandiflux.prompt import Prompt
    from kandiflux.result import Result
    from kandiflux.workflow import Workflow

__all__ = ["OnLost", "rerun", "run"]

_CANCEL_SECONDS = 15.0


class OnLost(str, enum.Enum):
    """What becomes of a job that is lost."""

    fail = "fail"
    resubmit = "resubmit"


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="NAME=VALUE", help="Set a parameter; may be repeated. See `params`.",
        autocompletion=complete_setting,
    ),
]  # fmt: skip
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
SeedOption = Annotated[str | None, typer.Option(metavar="N", help="The seed: a number, or random.")]
TimeoutOption = Annotated[float | None, typer.Option(min=0, help="Seconds after which the job is cancelled.")]
CheckOption = Annotated[
    bool, typer.Option("--check/--no-check", help="Look for what the server would refuse before it is sent.")
]
SidecarOption = Annotated[
    bool, typer.Option("--sidecar", help="Write FILE.json beside each file: prompt, workflow and parameters.")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-oom", help="Where memory runs out, have the server free it and try once more.")
]
FrontOption = Annotated[bool, typer.Option("--front", help="Run before everything that waits on the server.")]
OnLostOption = Annotated[
    OnLost, typer.Option(help="A job that the server has forgotten: fail, or resubmit it (which may run it twice).")
]


@reaching
def run(
    workflow: WorkflowArgument,
    reach: Reach,
    settings: SetOption = None,
    out: OutOption = Path("output"),
    seed: SeedOption = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A preset of the workflow's, under what is set.", autocompletion=complete_preset),
    ] = None,
    timeout: TimeoutOption = None,
    front: FrontOption = False,
    check: CheckOption = True,
    sidecar: SidecarOption = False,
    retry_oom: RetryOption = False,
    on_lost: OnLostOption = OnLost.fail,
    json_lines: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a workflow and save what it makes; prints one path a line.

    \b
    Examples:
      kandiflux run kandinsky22_pocket_text_to_image --set prompt="a red circle on a blue background"
      kandiflux run picture.json --preset fast --seed random --out pictures
      kandiflux run flux.json --server http://gpu:8188 --set '"Positive".text=a fox' --set 3.steps=20
      kandiflux run edit.json --set image=photo.png --set prompt=@prompt.txt
      kandiflux run video.json --server gpu --retry-oom --on-lost resubmit --sidecar
    """
    from kandiflux.assignments import parse_assignments
    from kandiflux.workflow import Workflow

    with reporting(json_lines):
        order = _Order(
            parse_assignments(settings or ()), preset, seed, out, timeout=timeout, front=front, check=check,
            sidecar=sidecar, retry_oom=retry_oom, on_lost=on_lost, json_lines=json_lines, quiet=quiet,
        )  # fmt: skip
        loaded = Workflow.load(workflow)
        with reach.client() as client:
            order.carry_out(client, loaded)


@reaching
def rerun(
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="PICTURE…", help="Files that carry what made them: ComfyUI's, or with a FILE.json."),
    ],
    reach: Reach,
    settings: SetOption = None,
    out: OutOption = Path("output"),
    seed: SeedOption = None,
    timeout: TimeoutOption = None,
    front: FrontOption = False,
    check: CheckOption = True,
    sidecar: SidecarOption = False,
    retry_oom: RetryOption = False,
    on_lost: OnLostOption = OnLost.fail,
    json_lines: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run again what made a picture, with the same seed and everything else the same, but for what is set.

    Works for PNGs, WebPs and latents that ComfyUI saved with their metadata, and for any file with a FILE.json from
    `kandiflux run --sidecar`. A picture that cannot be run does not keep the others from it.

    \b
    Examples:
      kandiflux rerun ComfyUI_00001_.png
      kandiflux rerun ComfyUI_00001_.png --set seed=7 --set steps=30
      kandiflux rerun output/*.png --server gpu --seed random --out again
    """
    from kandiflux.assignments import parse_assignments
    from kandiflux.workflow import Workflow

    with reporting(json_lines):
        order = _Order(
            parse_assignments(settings or ()), None, seed, out, timeout=timeout, front=front, check=check,
            sidecar=sidecar, retry_oom=retry_oom, on_lost=on_lost, json_lines=json_lines, quiet=quiet,
        )  # fmt: skip
        missing = [picture for picture in pictures if not picture.is_file()]
        if missing:
            raise UsageError(f"There is no file {missing[0]}.")
        code = 0
        with reach.client() as client:
            for picture in pictures:
                try:
                    with reporting(json_lines):
                        order.carry_out(client, Workflow.load(picture))
                except typer.Exit as ended:
                    code = ended.exit_code
                    if code == INTERRUPTED or len(pictures) == 1:
                        raise
                    typer.echo(f"{picture}: not made again.", err=True)
        if code:
            raise typer.Exit(code)


@dataclass(frozen=True)
class _Order:
    """What is to be done with a workflow."""

    values: dict[str, str]
    preset: str | None
    seed: str | None
    out: Path
    timeout: float | None
    front: bool
    check: bool
    sidecar: bool
    retry_oom: bool
    on_lost: OnLost
    json_lines: bool
    quiet: bool

    def carry_out(self, client: Client, workflow: Workflow) -> None:
        from kandiflux.attempts import run_to_the_end
        from kandiflux.outputs import Saver

        prompt = self._prepare(client, workflow)
        follow = partial(self._follow, client, Saver(self.out))
        run_to_the_end(client, prompt, follow, front=self.front, retry_oom=self.retry_oom, on_lost=self.on_lost.value)

    def _prepare(self, client: Client, workflow: Workflow) -> Prompt:
        quiet = self.quiet or self.json_lines
        if workflow.needs:
            version = str(client.server.system_stats().get("system", {}).get("comfyui_version", ""))
            needed = workflow.too_new_for(version)
            if version and needed and not quiet:
                typer.echo(f"warning: {workflow.name} needs ComfyUI {needed}, {client.url} is {version}", err=True)
        object_info = client.object_info()
        values: dict[str, Any] = dict(self.values)
        if self.seed is not None:
            names = workflow.seed_parameters(object_info)
            if not names:
                raise UsageError(f"{workflow.name} has no seed to set.", hint="Leave --seed out.")
            values = {**dict.fromkeys(names, self.seed), **values}
        prompt = workflow.prompt(object_info, values, preset=self.preset, upload=client.upload, check=self.check)
        for name in values:
            if values[name] == "random" and prompt.values[name] != "random" and not quiet:
                typer.echo(f"{name}: {prompt.values[name]}", err=True)
        return prompt

    def _follow(self, client: Client, saver: Saver, job: Job) -> Result:
        from kandiflux.cli.follow import JsonLines, Plain, follow, live_display

        show = partial(follow, job, client.server, saver, timeout=self.timeout, sidecar=self.sidecar)
        try:
            if self.json_lines:
                return show(JsonLines())
            if self.quiet or not sys.stderr.isatty():
                return show(Plain(quiet=self.quiet))
            with live_display(job.prompt) as display:
                return show(display)
        except JobTimeout:
            _cancel(job)
            raise
        except KeyboardInterrupt:
            typer.echo("Cancelling the job on the server; Ctrl-C again leaves at once.", err=True)
            _cancel(job)
            raise


def _cancel(job: Job) -> None:
    """Cancels it and waits for the server to say so; a Ctrl-C meanwhile ends the process there and then."""
    try:
        job.cancel()
        job.result(_CANCEL_SECONDS)
    except (JobTimeout, ServerUnreachable, ServerError) as error:
        typer.echo(f"It may still be on the server: {error.message}", err=True)
        typer.echo(f"Once the server answers: kandiflux cancel {job.prompt_id}", err=True)
    except KandifluxError as error:
        logging.getLogger(__name__).debug("after cancelling: %s", error)
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(INTERRUPTED)
