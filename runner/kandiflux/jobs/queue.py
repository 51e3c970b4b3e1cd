"""Lists and cancels the jobs on a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from kandiflux.errors import UsageError
from kandiflux.jobs.owner import OWNER, this_owner
from kandiflux.util.json_values import as_list, as_object, is_list

if TYPE_CHECKING:
    from kandiflux.api.rest import ComfyApi, QueueEntry

__all__ = ["Cancelled", "QueuedJob", "cancel", "cancel_on_server", "interrupt", "match_jobs", "queued_jobs"]

_PROMPT_INPUTS = ("prompt", "positive", "text", "clip_l", "t5xxl", "text_g")
_LONGEST_TEXT = 200
_SHORTEST_ID = 4


@dataclass(frozen=True)
class QueuedJob:
    """position: 0 for running jobs, then 1, 2, … in the order of execution. mine: submitted by this user's kandiflux.

    title: the workflow's title, or empty. text: the beginning of its text prompt; empty if none is found.
    """

    prompt_id: str
    state: Literal["running", "pending"]
    position: int
    title: str
    text: str
    mine: bool

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Cancelled:
    """Ids of jobs that were deleted while they waited, were interrupted while they ran, or had ended already."""

    deleted: tuple[str, ...] = ()
    interrupted: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def queued_jobs(server: ComfyApi) -> list[QueuedJob]:
    """Returns the running jobs, then the waiting ones in the order of execution."""
    queue = server.queue()
    return [
        *(_job(entry, "running", 0) for entry in queue.running),
        *(_job(entry, "pending", number) for number, entry in enumerate(queue.pending, 1)),
    ]


def match_jobs(jobs: Sequence[QueuedJob], wanted: Iterable[str]) -> list[QueuedJob]:
    """Returns the jobs with these ids. An id may be shortened; UsageError if it is ambiguous or unknown."""
    found: list[QueuedJob] = []
    for text in wanted:
        fitting = [job for job in jobs if job.prompt_id == text]
        if not fitting and len(text) >= _SHORTEST_ID:
            fitting = [job for job in jobs if job.prompt_id.startswith(text)]
        if len(fitting) != 1:
            raise UsageError(
                f"{'Several jobs' if fitting else 'No job'} in the queue {'match' if fitting else 'matches'} {text!r}.",
                expected=", ".join(job.prompt_id for job in jobs) or "(the queue is empty)",
                hint=None if fitting else "It may have ended, or may be on another server.",
            )
        found += [job for job in fitting if job not in found]
    return found


def cancel(server: ComfyApi, jobs: Iterable[QueuedJob]) -> Cancelled:
    """Removes the jobs from the queue, and interrupts running ones.

    ComfyUI before 0.33 has no atomic request for that, and a job may begin in between. So the queue is read again, and
    only jobs that run at that time are interrupted, each by its id.
    """
    jobs = list(jobs)
    were_running = {job.prompt_id for job in jobs if job.state == "running"}
    ended: dict[str, list[str]] = {"deleted": [], "interrupted": [], "gone": []}
    left = [job.prompt_id for job in jobs]
    while left:
        cancelled = server.cancel_job(left[0])
        if cancelled is None:
            break
        prompt_id = left.pop(0)
        # A waiting job may have begun since; it is stopped in either case.
        ended["gone" if not cancelled else "interrupted" if prompt_id in were_running else "deleted"].append(prompt_id)
    for prompt_id in left:
        server.delete_pending(prompt_id)
    running = {entry.prompt_id for entry in server.queue().running} if left else set[str]()
    for prompt_id in left:
        if prompt_id in running:
            server.interrupt(prompt_id)
        known = "interrupted" if prompt_id in running else "gone" if prompt_id in were_running else "deleted"
        ended[known].append(prompt_id)
    return Cancelled(**{name: tuple(ids) for name, ids in ended.items()})


def cancel_on_server(server: ComfyApi, prompt_id: str) -> None:
    """Removes a job from the queue, or interrupts it if it is running."""
    if server.cancel_job(prompt_id) is not None:
        return
    server.delete_pending(prompt_id)
    # /interrupt may stop another job that has begun meanwhile, so check first.
    if any(entry.prompt_id == prompt_id for entry in server.queue().running):
        server.interrupt(prompt_id)


def interrupt(server: ComfyApi, wanted: str | None = None) -> str | None:
    """Stops the running job and returns its id; None if no job runs.

    wanted: its id; UsageError if another job runs, because old servers ignore the id and stop any running job.
    """
    running = [job for job in queued_jobs(server) if job.state == "running"]
    if wanted is not None:
        running = match_jobs(running, [wanted])
    if not running:
        return None
    cancel_on_server(server, running[0].prompt_id)
    return running[0].prompt_id


def _job(entry: QueueEntry, state: Literal["running", "pending"], position: int) -> QueuedJob:
    nodes = as_object(entry.item[2] if len(entry.item) > 2 else None)
    extra = as_object(entry.item[3] if len(entry.item) > 3 else None)
    workflow = as_object(as_object(extra.get("extra_pnginfo")).get("workflow"))
    about = as_object(as_object(workflow.get("extra")).get("kandiflux"))
    text = " ".join(next(_texts(nodes, as_object(about.get("parameters"))), "").split())
    return QueuedJob(
        entry.prompt_id,
        state,
        position,
        title=str(about.get("title") or ""),
        text=text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…",
        mine=extra.get(OWNER) == this_owner(),
    )


def _texts(nodes: Mapping[str, Any], parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yields candidates for the text prompt: the workflow's `prompt` parameter, then inputs with a typical name."""
    target = as_object(parameters.get("prompt"))
    yield from _text_of(nodes, str(target.get("node")), str(target.get("input")))
    for pair in _pairs(target.get("nodes")):
        yield from _text_of(nodes, str(pair[0]), str(pair[1]))
    for name in _PROMPT_INPUTS:
        for node_id in nodes:
            yield from _text_of(nodes, node_id, name)


def _text_of(nodes: Mapping[str, Any], node_id: str, name: str) -> Iterator[str]:
    value = as_object(as_object(nodes.get(node_id)).get("inputs")).get(name)
    if isinstance(value, str) and value.strip():
        yield value


def _pairs(value: object) -> list[list[Any]]:
    return [pair for pair in as_list(value) if is_list(pair) and len(pair) == 2]
