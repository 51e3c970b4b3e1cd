"""The commands `kandiflux queue`, `cancel`, `interrupt` and `free`."""

from __future__ import annotations

from typing import Annotated

import typer

from kandiflux.cli.common import JsonOption, QuietOption, reporting
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.terminal import print_json, print_message, print_result, print_table
from kandiflux.errors import UsageError

__all__ = ["cancel", "free", "interrupt", "queue"]


@reaching
def queue(reach: Reach, as_json: JsonOption = False) -> None:
    """List the running and waiting jobs of a server.

    `mine` marks what this user submitted with kandiflux from this machine.

    \b
    Examples:
      kandiflux queue
      kandiflux queue --server gpu --json
    """
    from kandiflux.jobs.queue import queued_jobs

    with reporting(as_json), reach.client() as client:
        jobs = queued_jobs(client.api)
        if as_json:
            print_json({"url": client.url, "jobs": [job.as_dict() for job in jobs]})
            return
        rows = [
            (str(job.position or "runs"), job.prompt_id, "mine" if job.mine else "", job.title, job.text)
            for job in jobs
        ]
        if rows:
            print_table(("position", "id", "", "workflow", "prompt"), rows)
        else:
            print_message(f"No jobs are running or waiting on {client.url}.")


@reaching
def cancel(
    reach: Reach,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID…]", help="Job ids, as `kandiflux queue` lists them; may be shortened."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every job on the server, of any user.")] = False,
    mine: Annotated[
        bool, typer.Option("--mine", help="Every job that this user submitted with kandiflux from this machine.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cancel jobs: remove them from the queue, or interrupt the running one. Prints their ids.

    \b
    Examples:
      kandiflux cancel 3f2b8c1e
      kandiflux cancel --mine --server gpu
    """
    from kandiflux.jobs.queue import Cancelled, match_jobs, queued_jobs
    from kandiflux.jobs.queue import cancel as cancel_jobs

    with reporting(as_json):
        if sum((bool(ids), everything, mine)) != 1:
            raise UsageError("What to cancel is not clear.", expected="one or more ids, or --mine, or --all")
        with reach.client() as client:
            jobs = queued_jobs(client.api)
            chosen = match_jobs(jobs, ids) if ids else [job for job in jobs if everything or job.mine]
            done = cancel_jobs(client.api, chosen) if chosen else Cancelled()
            if as_json:
                print_json(vars(done))
                return
            for prompt_id in (*done.deleted, *done.interrupted):
                print_result(prompt_id)
            if not quiet and not (done.deleted or done.interrupted):
                print_message("There was nothing to cancel.")


@reaching
def interrupt(
    reach: Reach,
    job: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Interrupt only if this job is running; the id may be shortened."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Interrupt the running job; waiting jobs go on. Prints its id.

    \b
    Examples:
      kandiflux interrupt
      kandiflux interrupt 3f2b8c1e --server gpu
    """
    from kandiflux.jobs.queue import interrupt as stop

    with reporting(as_json), reach.client() as client:
        stopped = stop(client.api, job)
        if as_json:
            print_json({"interrupted": stopped})
        elif stopped is not None:
            print_result(stopped)
        elif not quiet:
            print_message(f"No job is running on {client.url}.")


@reaching
def free(
    reach: Reach,
    keep_results: Annotated[
        bool, typer.Option("--keep-results", help="Unload models only; keep the cached results of nodes.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Unload the server's models and clear its cache of results.

    A running job finishes first. ComfyUI always unloads the models when it clears the cache: they cannot be kept alone.

    \b
    Examples:
      kandiflux free
      kandiflux free --keep-results --server gpu
    """
    with reporting(as_json), reach.client() as client:
        # Queried first: fails if the server is not a ComfyUI.
        busy = bool(client.api.queue().running)
        client.api.free(free_memory=not keep_results)
        if as_json:
            print_json({"url": client.url, "results_forgotten": not keep_results, "after_the_running_job": busy})
        elif not quiet:
            print_message(f"{client.url} frees its memory{' after the running job' if busy else ''}.")
