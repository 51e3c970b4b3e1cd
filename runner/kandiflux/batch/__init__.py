"""Runs many jobs of one workflow: on one or several servers, into one folder, resumable after any interruption.

    from pathlib import Path
    from kandiflux.batch import Batch, JobList, parse_grid

    jobs = JobList({"prompt": "a red circle on a blue background"}, axes=parse_grid(["steps=5,10 guidance=1,4"]))
    summary = Batch("kandinsky22_pocket_text_to_image", jobs, Path("grid"), servers=["http://gpu:8188"]).run()

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kandiflux.batch.context import BatchOptions as BatchOptions
    from kandiflux.batch.grid import Axis as Axis
    from kandiflux.batch.grid import parse_grid as parse_grid
    from kandiflux.batch.grid import read_lines as read_lines
    from kandiflux.batch.job_list import JobList as JobList
    from kandiflux.batch.job_list import Row as Row
    from kandiflux.batch.job_list import read_jobs as read_jobs
    from kandiflux.batch.run import Batch as Batch
    from kandiflux.batch.status import BatchEvent as BatchEvent
    from kandiflux.batch.status import Summary as Summary
    from kandiflux.batch.status import WorkerStatus as WorkerStatus

_HOME = {
    "Axis": "grid",
    "Batch": "run",
    "BatchEvent": "status",
    "JobList": "job_list",
    "WorkerStatus": "status",
    "Row": "job_list",
    "Summary": "status",
    "BatchOptions": "context",
    "parse_grid": "grid",
    "read_jobs": "job_list",
    "read_lines": "grid",
}

__all__ = [
    "Axis",
    "Batch",
    "BatchEvent",
    "BatchOptions",
    "JobList",
    "Row",
    "Summary",
    "WorkerStatus",
    "parse_grid",
    "read_jobs",
    "read_lines",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
