"""Runs a prompt to its end, with retries.

A job is never submitted again while it may still be on the server: what runs again is a job that has ended, as a new
one with an id of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from kandiflux.api.rest import ComfyApi
from kandiflux.errors import JobLost, OutOfMemory, OutputMissing, UsageError
from kandiflux.jobs.job import Job
from kandiflux.workflow.prompt import Prompt

__all__ = ["OnLost", "Submitter", "run_with_retries"]

_log = logging.getLogger(__name__)

OnLost = Literal["fail", "resubmit"]

_FREE_SECONDS = 1.0
_MOST_LOSSES = 3

T = TypeVar("T")


class Submitter(Protocol):
    """A client that takes prompts."""

    api: ComfyApi

    def submit(self, workflow: Prompt, /, *, front: bool = False) -> Job:
        """Hands the prompt to the server."""
        ...


def run_with_retries(
    client: Submitter,
    prompt: Prompt,
    follow: Callable[[Job], T],
    *,
    front: bool = False,
    retry_oom: bool = False,
    on_lost: OnLost = "fail",
) -> T:
    """Submits the prompt and gives what `follow(job)` makes of it, or raises what that raises in the end.

    follow: waits for the job and fetches its files. front: as `Client.submit`. retry_oom: after OutOfMemory has the
    server free its memory, and tries once more. on_lost: `resubmit` runs a job again that is in neither queue nor
    history, three times at most; where somebody only cleared the history, it will have run twice. Where the server
    lists a file of a cached node that is no longer there, or pictures came over a websocket that was lost
    (OutputMissing), what makes them is run again, once.
    """
    if on_lost not in ("fail", "resubmit"):
        raise UsageError(f"on_lost cannot be {on_lost!r}.", expected="fail or resubmit")
    freed = forced = False
    losses = 0
    while True:
        job = client.submit(prompt, front=front)
        try:
            return follow(job)
        except OutOfMemory as error:
            if not retry_oom or freed:
                raise
            freed = True
            _log.warning("%s\nThe server is told to free its memory; trying once more.", error.message)
            client.api.free()
            # The server frees memory between jobs, and would start a waiting job first.
            time.sleep(_FREE_SECONDS)
        except JobLost as error:
            losses += 1
            if on_lost != "resubmit" or losses > _MOST_LOSSES:
                raise
            _log.warning("%s It is submitted again.", error.message)
        except OutputMissing as error:
            if forced:
                raise
            forced = True
            # Nodes that send pictures over the websocket are never cached.
            if job.state == "done":
                cached = _cached_savers(job)
                if not cached:
                    raise
                prompt = prompt.forced_again(cached)
            _log.warning("%s Running what makes it again.", error.message)


def _cached_savers(job: Job) -> list[str]:
    """The nodes of the prompt whose files the server listed without making them."""
    result = job.result()
    cached = {node_id.split(".", 1)[0] for node_id in result.cached_nodes}
    savers = {output.node_id.split(".", 1)[0] for output in result.files}
    return sorted(node_id for node_id in savers & cached if node_id in job.prompt.nodes)
