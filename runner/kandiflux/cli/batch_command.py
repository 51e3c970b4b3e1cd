"""The command `kandiflux batch`."""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kandiflux.cli.common import JsonOption, QuietOption, WorkflowArgument, reporting
from kandiflux.cli.completion import complete_preset, complete_server, complete_setting
from kandiflux.cli.run_command import OnLost
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.signals import SignalReceived, exit_code, handling, leave
from kandiflux.cli.terminal import print_json, print_message, print_table

if TYPE_CHECKING:
    from kandiflux.batch import Batch, JobList
    from kandiflux.batch.run import Connect
    from kandiflux.cli.batch_display import Show

__all__ = ["batch"]

_FAILED = 1
_SHOWN = 100


@reaching
def batch(
    workflow: WorkflowArgument,
    jobs: Annotated[
        Path | None,
        typer.Option(
            "--jobs", "-j", metavar="FILE", help="One job per row: CSV with a header, JSON Lines, a JSON or YAML list."
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            "-g",
            metavar="AXES",
            help='All combinations: "steps=20,30 guidance=2.5,3". Ranges (seed=1..4, cfg=1..3:0.5), quoted values, '
            "lines of a file (prompt=@prompts.txt). May be repeated.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Values of the parameter prompt, one per line; # for comments."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Set a parameter for every job; a job's own value overrides it. May be repeated.",
            autocompletion=complete_setting,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A preset of the workflow; values that are set override it.", autocompletion=complete_preset),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="fixed (the workflow's seed), random or increment (a new one for each job), or a number for all. "
            "Random seeds are reused in the next run. Default: fixed; increment with --repeat.",
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Number of times to run each job.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Run only the first N jobs.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results, ledger and report.")] = Path("batch"),
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help='Names of the files, as "{index:04}_{seed}_{prompt:40}"; / makes folders. Any parameter, '
            "index, repeat and workflow can be used.",
        ),
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="URL of a ComfyUI, a name from kandiflux.toml, or `lite`; repeat it to distribute the jobs. "
            "Default: as for `run`.",
            autocompletion=complete_server,
        ),
    ] = None,
    backlog: Annotated[
        int, typer.Option(min=1, help="Number of jobs on each server at a time: one runs, the others wait.")
    ] = 2,
    retry: Annotated[int, typer.Option(min=0, help="Retry a failed job up to N times, after all others.")] = 0,
    on_lost: Annotated[
        OnLost, typer.Option(help="If a server has lost a job: resubmit it (at most three times), or fail it.")
    ] = OnLost.resubmit,
    patience: Annotated[
        float,
        typer.Option(min=0, help="Seconds a server may refuse connections before its jobs are moved to another."),
    ] = 120.0,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop submitting after the first failed job.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over, ignoring the folder's ledger. Existing files are kept.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write contact sheet, grid and HTML report at the end.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list the jobs; submit nothing.")] = False,
    json_lines: JsonOption = False,
    quiet: QuietOption = False,
    *,
    reach: Reach,
) -> None:
    """Run a workflow many times, with different values; prints each saved path.

    If it was interrupted, run the same command again: it skips finished jobs, and first looks for the others on the
    servers. Ctrl-C, SIGTERM and SIGHUP stop it after the running jobs; a second Ctrl-C cancels these too.

    \b
    Examples:
      kandiflux batch flux.json --grid "steps=20,30 guidance=2.5,3" --seed 7
      kandiflux batch flux.json --prompts prompts.txt --repeat 4 --server http://a:8188 --server http://b:8188
      kandiflux batch edit.json --jobs jobs.csv --name "{index:03}_{image}" --retry 1 --out edits
      kandiflux batch flux.json --jobs jobs.yaml --dry-run
    """
    from kandiflux.batch import Batch, BatchOptions
    from kandiflux.processes.discovery import named_server

    with reporting(json_lines):
        servers = list(server or ())
        if not servers and (default := named_server(None)) is not None:
            servers = [default]
        made = Batch(
            workflow,
            _job_list(jobs, grid, prompts, settings, repeat),
            out,
            servers=servers,
            preset=preset,
            seed=seed,
            name=name,
            options=BatchOptions(backlog, retry, on_lost is OnLost.resubmit, fail_fast, patience),
            limit=limit,
            restart=restart,
            pages=report,
            connect=_connect(reach),
        )
        if dry_run:
            _list(made, as_json=json_lines)
            return
        with _shown(made, json_lines=json_lines, quiet=quiet) as show, _interruptible(made, show) as signals:
            outcome = made.run(show.event)
        if outcome.stopped and not outcome.complete:
            raise typer.Exit(exit_code(SignalReceived(next(iter(signals), signal.SIGINT))))
        if not outcome.complete:
            raise typer.Exit(_FAILED)


def _job_list(
    jobs: Path | None, grid: list[str] | None, prompts: Path | None, settings: list[str] | None, repeat: int
) -> JobList:
    from kandiflux.batch import Axis, JobList, parse_grid, read_jobs, read_lines
    from kandiflux.cli.assignments import parse_assignments
    from kandiflux.errors import UsageError

    axes = parse_grid(grid or ())
    if prompts is not None:
        if any(axis.name == "prompt" for axis in axes):
            raise UsageError("--prompts and --grid both vary prompt.", expected="one of them")
        axes = (*axes, Axis("prompt", tuple(read_lines(prompts))))
    if jobs is None and not axes and repeat == 1:
        raise UsageError("There is nothing to vary.", expected="--jobs, --grid, --prompts or --repeat")
    return JobList(dict(parse_assignments(settings or ())), read_jobs(jobs) if jobs else (), axes, repeat)


def _connect(reach: Reach) -> Connect:
    from kandiflux.batch.run import client_of

    return lambda server, patience: client_of(reach.connection(server), patience)


def _list(made: Batch, *, as_json: bool) -> None:
    planned = made.preview()
    if as_json:
        for job in planned:
            entry = {"index": job.index, "name": job.name, "state": job.state, "values": job.values}
            print_json(entry)
        return
    columns = list(dict.fromkeys(name for job in planned for name in job.values))
    rows = [
        (str(job.index), job.state, job.name, *(str(job.values.get(column, "")) for column in columns))
        for job in planned
    ]
    hidden = len(rows) - _SHOWN if sys.stdout.isatty() else 0
    print_table(("job", "state", "name", *columns), rows[:_SHOWN] if hidden > 0 else rows)
    print_message(f"{len(rows)} jobs" + (f", of which {hidden} are not shown" if hidden > 0 else ""))


@contextlib.contextmanager
def _shown(made: Batch, *, json_lines: bool, quiet: bool) -> Generator[Show, None, None]:
    from kandiflux.cli.batch_display import BatchJsonLines, BatchLines, live

    if json_lines:
        yield BatchJsonLines()
    elif quiet or not sys.stderr.isatty():
        yield BatchLines(quiet=quiet)
    else:
        with live(made.status) as show:
            yield show


@contextlib.contextmanager
def _interruptible(made: Batch, show: Show) -> Generator[list[int], None, None]:
    """Handles signals: the first finishes the running jobs, Ctrl-C as the second cancels them, any other exits at once.

    The ledger is consistent at all times. Yields the list of received signals.
    """
    signals: list[int] = []
    # Run in a thread: a signal handler must not wait for the locks of these calls, or for the reader of the output.
    actions: queue.SimpleQueue[tuple[Callable[[], None], str]] = queue.SimpleQueue()

    def called(number: int) -> None:
        signals.append(number)
        if not made.submitting:
            # No job was submitted yet.
            raise SignalReceived(number)
        if len(signals) == 1:
            actions.put((made.stop, "Finishing the running jobs; no more are submitted. Ctrl-C again cancels them."))
        elif len(signals) == 2 and number == signal.SIGINT:
            actions.put((made.cancel, "Cancelling the running jobs; Ctrl-C again exits at once."))
        else:
            leave(number)

    def work() -> None:
        while True:
            action, message = actions.get()
            action()
            show.say(message)

    threading.Thread(target=work, name="kandiflux-signals", daemon=True).start()
    with handling(called):
        yield signals
