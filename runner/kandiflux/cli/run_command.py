"""The commands `kandiflux run` and `kandiflux rerun`."""

from __future__ import annotations

import enum
import logging
import shlex
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kandiflux.cli.common import JsonOption, QuietOption, WorkflowArgument, reporting, reporting_errors
from kandiflux.cli.completion import complete_preset, complete_setting
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.signals import SignalReceived, TimeUp, time_limit
from kandiflux.cli.terminal import print_message
from kandiflux.config import LITE
from kandiflux.errors import JobTimeout, KandifluxError, OutputError, ServerError, ServerUnreachable, UsageError
from kandiflux.util.files import require_writable
from kandiflux.util.json_values import as_object

if TYPE_CHECKING:
    from kandiflux.jobs.client import Client
    from kandiflux.jobs.job import Job
    from kandiflux.jobs.outputs import Saver
    from kandiflux.jobs.result import Result
    from kandiflux.workflow.prompt import Prompt
    from kandiflux.workflow.workflow import Workflow

__all__ = ["OnLost", "rerun", "run"]

_CANCEL_SECONDS = 15.0
_LATE_SECONDS = 0.5
"""Extra time for requests after the deadline, because the timer cannot interrupt all calls."""

_FIRST_SIGNAL = 128
"""Higher exit codes mean that a signal ended the command."""


class OnLost(str, enum.Enum):
    """What to do if the server has lost a job."""

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
TimeoutOption = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds for the whole command, downloads included; then the job is cancelled."),
]
CheckOption = Annotated[bool, typer.Option("--check/--no-check", help="Check the workflow before it is submitted.")]
SidecarOption = Annotated[
    bool, typer.Option("--sidecar", help="Write FILE.json beside each file: prompt, workflow and parameters.")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-oom", help="If the server runs out of memory, free it and try once more.")
]
FrontOption = Annotated[bool, typer.Option("--front", help="Run before all waiting jobs on the server.")]
OnLostOption = Annotated[
    OnLost, typer.Option(help="If the server has lost the job: fail, or resubmit it (it may run twice).")
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
        typer.Option(help="A preset of the workflow; values that are set override it.", autocompletion=complete_preset),
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
    """Run a workflow and save its files; prints one path per line.

    \b
    Examples:
      kandiflux run kandinsky22_pocket_text_to_image --set prompt="a red circle on a blue background"
      kandiflux run picture.json --preset fast --seed random --out pictures
      kandiflux run flux.json --server http://gpu:8188 --set '"Positive".text=a fox' --set 3.steps=20
      kandiflux run edit.json --set image=photo.png --set prompt=@prompt.txt
      kandiflux run video.json --server gpu --retry-oom --on-lost resubmit --sidecar
    """
    from kandiflux.cli.assignments import parse_assignments
    from kandiflux.workflow.workflow import Workflow

    with reporting(json_lines):
        order = _Order(
            parse_assignments(settings or ()), preset, seed, out, timeout=timeout, front=front, check=check,
            sidecar=sidecar, retry_oom=retry_oom, on_lost=on_lost, json_lines=json_lines, quiet=quiet,
        )  # fmt: skip
        with ExitStack() as stack, order.in_time():
            loaded = Workflow.load(workflow)
            client = order.reach(reach, stack)
            order.carry_out(client, loaded)


@reaching
def rerun(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURE…", help="Files saved by ComfyUI with their metadata, or with a FILE.json beside them."
        ),
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
    """Run the workflow in a picture again, unchanged except for what is set.

    Works for pictures, videos, sounds and latents that ComfyUI saved with
    their metadata, and for any file with a FILE.json from
    `kandiflux run --sidecar`. If one picture fails, the others are still run.

    \b
    Examples:
      kandiflux rerun ComfyUI_00001_.png
      kandiflux rerun ComfyUI_00001_.png --set seed=7 --set steps=30
      kandiflux rerun output/*.png --server gpu --seed random --out again
    """
    from kandiflux.cli.assignments import parse_assignments
    from kandiflux.workflow.workflow import Workflow

    with reporting(json_lines):
        order = _Order(
            parse_assignments(settings or ()), None, seed, out, timeout=timeout, front=front, check=check,
            sidecar=sidecar, retry_oom=retry_oom, on_lost=on_lost, json_lines=json_lines, quiet=quiet,
        )  # fmt: skip
        missing = [picture for picture in pictures if not picture.is_file()]
        if missing:
            raise UsageError(f"There is no file {missing[0]}.")
        code = 0
        with ExitStack() as stack, order.in_time():
            client = order.reach(reach, stack)
            for picture in pictures:
                try:
                    with reporting_errors(json_lines):
                        order.carry_out(client, Workflow.load(picture))
                except typer.Exit as ended:
                    code = ended.exit_code
                    if code >= _FIRST_SIGNAL or len(pictures) == 1:
                        raise
                    print_message(f"{picture}: could not be run again.")
        if code:
            raise typer.Exit(code)


@dataclass
class _Order:
    """The options of a run, and its current job."""

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
    own_host: bool = False
    """The server is a lite host that stops with the command."""

    job: Job | None = None
    """The last submitted job."""

    start_time: float = field(default_factory=time.monotonic)

    @contextmanager
    def in_time(self) -> Generator[None, None, None]:
        """Raises JobTimeout in the block once --timeout has elapsed since the start of the command."""
        try:
            with time_limit(None if self.timeout is None else self.timeout - (time.monotonic() - self.start_time)):
                yield
        except TimeUp as error:
            raise self._too_late() from error
        except (JobTimeout, OutputError, ServerUnreachable) as error:
            # Calls that the timer could not interrupt raise their own errors slightly later.
            if self.timeout is None or time.monotonic() - self.start_time < self.timeout:
                raise
            raise self._too_late() from error

    def reach(self, reach: Reach, stack: ExitStack) -> Client:
        """Returns a client of the selected server. Closing `stack` closes it."""
        require_writable(self.out)
        found = reach.resolved()
        self.own_host = found.server == LITE
        client = stack.enter_context(found.client())
        left = self._seconds_left()
        client.api.deadline = None if left is None else time.monotonic() + left
        return client

    def carry_out(self, client: Client, workflow: Workflow) -> None:
        from kandiflux.jobs.outputs import Saver
        from kandiflux.jobs.retry import run_with_retries

        self.job = None
        prompt = self._prepare(client, workflow)
        follow = partial(self._follow, client, Saver(self.out))
        try:
            run_with_retries(
                client, prompt, follow, front=self.front, retry_oom=self.retry_oom, on_lost=self.on_lost.value
            )
        except (JobTimeout, KeyboardInterrupt) as ended:
            jobs = client.jobs
            if jobs and isinstance(ended, SignalReceived):
                print_message("Cancelling the job on the server; a second signal (Ctrl-C) exits at once.")
            # Waiting for the job to end must not time out.
            client.api.deadline = None
            for job in jobs:
                _cancel(job, client.url)
            raise

    def _seconds_left(self) -> float | None:
        return None if self.timeout is None else self.start_time + self.timeout + _LATE_SECONDS - time.monotonic()

    def _too_late(self) -> JobTimeout:
        limit = f"{self.timeout:g} s (--timeout)"
        hint = "Allow more time with --timeout. `kandiflux queue` lists what the server has."
        if self.job is None:
            return JobTimeout(f"The server did not accept a job within {limit}.", prompt_id="", hint=hint)
        prompt_id = self.job.prompt_id
        return JobTimeout(
            f"The job {prompt_id} and its files were not finished within {limit}; it is cancelled if still running.",
            prompt_id=prompt_id,
            hint=hint,
        )

    def _prepare(self, client: Client, workflow: Workflow) -> Prompt:
        quiet = self.quiet or self.json_lines
        if workflow.needs:
            system = as_object(client.api.system_stats().get("system"))
            version = str(system.get("comfyui_version", ""))
            needed = workflow.too_new_for(version)
            if version and needed and not quiet:
                print_message(f"warning: {workflow.name} needs ComfyUI {needed}, {client.url} is {version}")
        object_info = client.object_info()
        values: dict[str, Any] = dict(self.values)
        if self.seed is not None:
            names = workflow.seed_parameters(object_info)
            if not names:
                raise UsageError(f"{workflow.name} has no seed to set.", hint="Leave --seed out.")
            values = {**dict.fromkeys(names, self.seed), **values}
        prompt = workflow.prompt(object_info, values, preset=self.preset, upload=client.upload, check=self.check)
        for note in () if quiet else prompt.notes:
            print_message(f"note: {note}")
        for name in values:
            if values[name] == "random" and prompt.values[name] != "random" and not quiet:
                print_message(f"{name}: {prompt.values[name]}")
        return prompt

    def _follow(self, client: Client, saver: Saver, job: Job) -> Result:
        from kandiflux.cli.job_display import JsonLines, Plain, follow, live_display

        self.job = job
        show = partial(
            follow, job, client.api, saver, timeout=self._seconds_left(), sidecar=self.sidecar,
            own_host=self.own_host,
        )  # fmt: skip
        if self.json_lines:
            return show(JsonLines())
        if self.quiet or not sys.stderr.isatty():
            if not self.quiet:
                print_message(f"queued as {job.prompt_id} on {client.url}")
            return show(Plain(quiet=self.quiet))
        with live_display(job.prompt) as display:
            return show(display)


def _cancel(job: Job, url: str) -> None:
    """Cancels a job and waits until the server confirms it."""
    try:
        job.cancel()
        job.result(_CANCEL_SECONDS)
    except (JobTimeout, ServerUnreachable, ServerError) as error:
        print_message(f"The job may still be on the server: {error.message}")
        command = ("kandiflux", "cancel", "--server", url, "--", job.prompt_id)
        print_message(f"To cancel it once the server responds: {shlex.join(command)}")
    except KandifluxError as error:
        logging.getLogger(__name__).debug("after cancelling: %s", error)
