"""Merges a checked list with the ledger of earlier runs.

A job is identified by its parameters, its seed policy, and the number of equal jobs before it in the list. So a list
may grow, shrink or change its order, and done jobs stay done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from kandiflux.batch.file_names import NameTemplate, Unique
from kandiflux.batch.job_list import Listed
from kandiflux.batch.ledger import Ledger
from kandiflux.batch.preflight import Checked
from kandiflux.errors import UsageError
from kandiflux.workflow.workflow import Workflow

__all__ = ["BatchPlan", "PlannedJob", "Resumed", "plan_jobs", "require_same_workflow", "workflow_digest"]


@dataclass(frozen=True)
class PlannedJob:
    """A job of the list with its final values and name. index: from 1. state: the one in the ledger, or "new"."""

    index: int
    key: str
    place: tuple[int, ...]
    values: Mapping[str, Any]
    name: str
    state: str = "new"


@dataclass(frozen=True)
class Resumed:
    """Numbers of jobs after a list was merged with the ledger.

    total, done, new: jobs of the list. unlisted: jobs of earlier lists that are not in this one. files_gone: done jobs
    that run again because their files are missing or changed.
    """

    total: int
    done: int
    new: int
    unlisted: int
    files_gone: int


class BatchPlan:
    """The jobs of a checked list, made one at a time. name: template of file names. limit: maximum number of jobs."""

    def __init__(
        self, workflow: Workflow, checked: Checked, folder: Path, *, name: str | None = None, limit: int | None = None
    ) -> None:
        self._workflow = workflow
        self._checked = checked
        self._folder = folder
        self._limit = limit
        seeds, jobs = checked.seeds, checked.jobs
        parameters = {*checked.defaults, *jobs.base, *seeds.names, *(axis.name for axis in jobs.axes)}
        parameters = parameters.union(*(row.values for row in jobs.rows))
        if seeds.names:
            parameters.add("seed")
        known = {"index", "repeat", "workflow", *parameters}
        if name is None:
            name = "{index:04}" + "".join(
                f"_{{{part}}}" for part in ("seed", "prompt:40") if part.partition(":")[0] in parameters
            )
        self._template = NameTemplate(name, known, sorted(known))

    def __len__(self) -> int:
        count = len(self._checked.jobs)
        return count if self._limit is None else min(count, self._limit)

    def preview(self, ledger: Ledger | None = None) -> Iterator[PlannedJob]:
        """Yields every job as a run would plan it."""
        namer = _Namer(self._folder, ())
        for index, key, job in self.keyed():
            known = ledger.known(key) if ledger is not None else None
            if known is None:
                yield self.job(index, key, job, namer)
            else:
                values, name, state = known
                yield PlannedJob(index, key, (job.row, *job.place, job.repetition), values, name, state)

    def keyed(self) -> Iterator[tuple[int, str, Listed]]:
        """Yields the index, the key and the job, for each job of the list."""
        count: Counter[str] = Counter()
        for index, job in enumerate(islice(self._checked.jobs, self._limit), 1):
            requested = json.dumps(self._checked.seeds.requested(job), sort_keys=True, ensure_ascii=False)
            digest = hashlib.sha256(requested.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            count[digest] += 1
            yield index, f"{digest}#{count[digest]}", job

    def job(self, index: int, key: str, job: Listed, namer: _Namer) -> PlannedJob:
        """Plans one job: chooses its seeds and its name."""
        values = self._checked.seeds.resolve(job, index - 1)
        fields = {**self._checked.defaults, **values}
        seeds = [fields[name] for name in self._checked.seeds.names if name in fields]
        if seeds:
            fields.setdefault("seed", seeds[0])
        fields |= {"index": index, "repeat": job.repetition + 1, "workflow": self._workflow.name}
        name = namer.take(self._template.fill(fields))
        return PlannedJob(index, key, (job.row, *job.place, job.repetition), values, name)


def plan_jobs(plan: BatchPlan, ledger: Ledger, workflow: Workflow, folder: Path) -> Resumed:
    """Writes the list into the ledger. UsageError if the ledger belongs to another workflow."""
    require_same_workflow(ledger, workflow, folder)
    new = 0
    with ledger.listing({"workflow": workflow_digest(workflow), "name": workflow.name}) as listing:
        namer = _Namer(folder, listing.names())
        for index, key, job in plan.keyed():
            place = (job.row, *job.place, job.repetition)
            if not listing.relist(key, index, place):
                planned = plan.job(index, key, job, namer)
                listing.add(key, index, place, planned.values, planned.name)
                new += 1
    files_gone = ledger.resume(folder)
    counts = ledger.counts()
    return Resumed(counts.total, counts.done, new, ledger.unlisted(), files_gone)


def require_same_workflow(ledger: Ledger, workflow: Workflow, folder: Path) -> None:
    """Raises UsageError if the ledger belongs to another workflow."""
    known = ledger.about("workflow")
    if known is not None and known != workflow_digest(workflow):
        raise UsageError(
            f"{folder} holds a batch of another workflow ({ledger.about('name')}, or this one before it was changed).",
            hint="Choose another folder, or start over; the files of the old batch stay.",
            parameter="restart",
        )


def workflow_digest(workflow: Workflow) -> str:
    """Returns a hash of the workflow that does not depend on the file's location or formatting."""
    data = workflow.api if workflow.api is not None else workflow.editor
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


class _Namer:
    """Chooses names that no job has, and that would not overwrite an existing file."""

    def __init__(self, folder: Path, taken: Iterable[str]) -> None:
        self._folder = folder
        self._unique = Unique(taken)
        self._seen: set[PurePosixPath] = set()

    def take(self, name: str) -> str:
        parent = PurePosixPath(name).parent
        if parent not in self._seen:
            self._seen.add(parent)
            with contextlib.suppress(OSError):  # the folder may not exist yet
                for file in (self._folder / parent).iterdir():
                    self._unique.block(str(parent / file.stem))
        return self._unique.take(name)
