"""Runs a prompt to its end, with retries.

A job is never submitted again while it may still be on the server: a retry follows a job that has ended, and is a new
job with a new id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from kandiflux.api.rest import ComfyApi
from kandiflux.errors import JobLost, JobTimeout, KandifluxError, OutOfMemory, OutputMissing, UsageError
from kandiflux.jobs.job import Job
from kandiflux.workflow.prompt import Prompt

__all__ = ["RETRIED", "OnLost", "Retries", "Submitter", "cancelled_after", "run_with_retries"]

_log = logging.getLogger(__name__)

OnLost = Literal["fail", "resubmit"]

RETRIED = (OutOfMemory, JobLost, OutputMissing)
"""Errors after which a job may be retried."""

_FREE_SECONDS = 1.0
_MOST_LOSSES = 3

T = TypeVar("T")


class Submitter(Protocol):
    """A client that submits prompts."""

    api: ComfyApi

    def submit(self, workflow: Prompt, /, *, front: bool = False) -> Job:
        """Submits the prompt to the server."""
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
    """Submits the prompt and returns `follow(job)`; raises its error if no retry is left.

    follow: waits for the job and downloads its files. front: as `Client.submit`. retry_oom: after OutOfMemory, asks the
    server to free its memory and retries once. on_lost: `resubmit` retries a job that is in neither queue nor history,
    at most three times; if somebody has only cleared the history, the job runs twice. After OutputMissing (a file of a
    cached node no longer exists, or the websocket that pictures came over was lost), the nodes that make the missing
    files are run again, once.
    """
    retries = Retries(client.api, prompt, retry_oom=retry_oom, on_lost=on_lost)
    while True:
        job = client.submit(retries.prompt, front=front)
        try:
            return follow(job)
        except RETRIED as error:
            retries.prepare(job, error)


class Retries:
    """Counts and prepares the retries of one prompt. Arguments as `run_with_retries`."""

    def __init__(self, server: ComfyApi, prompt: Prompt, *, retry_oom: bool, on_lost: OnLost) -> None:
        if on_lost not in ("fail", "resubmit"):
            raise UsageError(f"on_lost cannot be {on_lost!r}.", expected="fail or resubmit")
        self.prompt = prompt
        """The prompt to submit next."""
        self._server = server
        self._frees = int(retry_oom)
        self._losses = _MOST_LOSSES if on_lost == "resubmit" else 0
        self._remakes = 1

    def prepare(self, job: Job, error: KandifluxError) -> None:
        """Prepares a retry after a job that ended with one of RETRIED; raises the error if no retry is left."""
        if isinstance(error, OutOfMemory) and self._frees:
            self._frees -= 1
            _log.warning("%s\nAsking the server to free its memory, then retrying once.", error.message)
            self._server.free()
            # The server frees memory between jobs, so the next job must not be waiting yet.
            time.sleep(_FREE_SECONDS)
        elif isinstance(error, JobLost) and self._losses:
            self._losses -= 1
            _log.warning("%s Submitting it again.", error.message)
        elif isinstance(error, OutputMissing) and self._remakes:
            self._remakes -= 1
            # Nodes that send pictures over the websocket are never cached.
            if job.state == "done":
                cached = _cached_savers(job)
                if not cached:
                    raise error
                self.prompt = self.prompt.forced_again(cached)
            _log.warning("%s Running the nodes that make it again.", error.message)
        else:
            raise error


def cancelled_after(error: JobTimeout) -> JobTimeout:
    """Returns the error for a caller without access to the job, which has been cancelled."""
    return JobTimeout(error.message, prompt_id=error.prompt_id, hint="The job was cancelled. Use a longer timeout.")


def _cached_savers(job: Job) -> list[str]:
    """Returns the ids of the nodes whose files the server listed from its cache."""
    result = job.result()
    cached = {node_id.split(".", 1)[0] for node_id in result.cached_nodes}
    savers = {output.node_id.split(".", 1)[0] for output in result.files}
    return sorted(node_id for node_id in savers & cached if node_id in job.prompt.nodes)
