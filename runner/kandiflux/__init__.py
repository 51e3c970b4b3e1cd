"""Run any ComfyUI workflow from Python or the command line, and never lose a job.

    from kandiflux import Client, Workflow

Names are imported when they are first used, so that `kandiflux --help` need not load an HTTP library.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kandiflux.api.events import Event as Event
    from kandiflux.api.events import JobFinished as JobFinished
    from kandiflux.api.events import JobQueued as JobQueued
    from kandiflux.api.events import NodeExecuted as NodeExecuted
    from kandiflux.api.events import NodeProgress as NodeProgress
    from kandiflux.api.events import NodeStarted as NodeStarted
    from kandiflux.api.events import Preview as Preview
    from kandiflux.api.events import ProgressState as ProgressState
    from kandiflux.batch.job_list import JobList as JobList
    from kandiflux.batch.run import Batch as Batch
    from kandiflux.config import Connection as Connection
    from kandiflux.config import connection as connection
    from kandiflux.errors import KandifluxError as KandifluxError
    from kandiflux.jobs.async_client import AsyncClient as AsyncClient
    from kandiflux.jobs.async_client import AsyncJob as AsyncJob
    from kandiflux.jobs.client import Client as Client
    from kandiflux.jobs.connect import open_client as open_client
    from kandiflux.jobs.job import Job as Job
    from kandiflux.jobs.job import as_completed as as_completed
    from kandiflux.jobs.outputs import Output as Output
    from kandiflux.jobs.outputs import Saver as Saver
    from kandiflux.jobs.result import Result as Result
    from kandiflux.jobs.retry import run_with_retries as run_with_retries
    from kandiflux.processes.comfyui import comfyui as comfyui
    from kandiflux.workflow.editor_format.convert import convert as convert
    from kandiflux.workflow.prompt import Prompt as Prompt
    from kandiflux.workflow.workflow import Workflow as Workflow
    from kandiflux.workflow.workflow import shipped_workflows as shipped_workflows

__version__ = "0.1.0"

_HOME = {
    "AsyncClient": "kandiflux.jobs.async_client",
    "AsyncJob": "kandiflux.jobs.async_client",
    "Batch": "kandiflux.batch.run",
    "Client": "kandiflux.jobs.client",
    "Connection": "kandiflux.config",
    "Event": "kandiflux.api.events",
    "Job": "kandiflux.jobs.job",
    "JobFinished": "kandiflux.api.events",
    "JobList": "kandiflux.batch.job_list",
    "JobQueued": "kandiflux.api.events",
    "KandifluxError": "kandiflux.errors",
    "NodeExecuted": "kandiflux.api.events",
    "NodeProgress": "kandiflux.api.events",
    "NodeStarted": "kandiflux.api.events",
    "Output": "kandiflux.jobs.outputs",
    "Preview": "kandiflux.api.events",
    "ProgressState": "kandiflux.api.events",
    "Prompt": "kandiflux.workflow.prompt",
    "Result": "kandiflux.jobs.result",
    "Saver": "kandiflux.jobs.outputs",
    "Workflow": "kandiflux.workflow.workflow",
    "as_completed": "kandiflux.jobs.job",
    "comfyui": "kandiflux.processes.comfyui",
    "connection": "kandiflux.config",
    "convert": "kandiflux.workflow.editor_format.convert",
    "open_client": "kandiflux.jobs.connect",
    "run_with_retries": "kandiflux.jobs.retry",
    "shipped_workflows": "kandiflux.workflow.workflow",
}
_RENAMED = {"run_to_the_end": "run_with_retries"}
"""Old names, which work for one more version."""

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "Client",
    "Connection",
    "Event",
    "Job",
    "JobFinished",
    "JobList",
    "JobQueued",
    "KandifluxError",
    "NodeExecuted",
    "NodeProgress",
    "NodeStarted",
    "Output",
    "Preview",
    "ProgressState",
    "Prompt",
    "Result",
    "Saver",
    "Workflow",
    "__version__",
    "as_completed",
    "comfyui",
    "connection",
    "convert",
    "open_client",
    "run_with_retries",
    "shipped_workflows",
]


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"kandiflux.{name} is now {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
