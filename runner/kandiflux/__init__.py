"""Run any ComfyUI workflow from Python or the command line, and never lose a job.

    from kandiflux import Client, Workflow

Names are imported when they are first used, so that `kandiflux --help` need not load an HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kandiflux.api.events import Event as Event
    from kandiflux.config import Connection as Connection
    from kandiflux.config import connection as connection
    from kandiflux.errors import KandifluxError as KandifluxError
    from kandiflux.jobs.client import Client as Client
    from kandiflux.jobs.connect import open_client as open_client
    from kandiflux.jobs.job import Job as Job
    from kandiflux.jobs.outputs import Output as Output
    from kandiflux.jobs.outputs import Saver as Saver
    from kandiflux.jobs.result import Result as Result
    from kandiflux.jobs.retry import run_with_retries as run_with_retries
    from kandiflux.processes.comfyui import comfyui as comfyui
    from kandiflux.workflow.editor_format.convert import convert as convert
    from kandiflux.workflow.prompt import Prompt as Prompt
    from kandiflux.workflow.workflow import Workflow as Workflow

__version__ = "0.1.0"

_HOME = {
    "Client": "kandiflux.jobs.client",
    "Connection": "kandiflux.config",
    "Event": "kandiflux.api.events",
    "Job": "kandiflux.jobs.job",
    "KandifluxError": "kandiflux.errors",
    "Output": "kandiflux.jobs.outputs",
    "Prompt": "kandiflux.workflow.prompt",
    "Result": "kandiflux.jobs.result",
    "Saver": "kandiflux.jobs.outputs",
    "Workflow": "kandiflux.workflow.workflow",
    "comfyui": "kandiflux.processes.comfyui",
    "connection": "kandiflux.config",
    "convert": "kandiflux.workflow.editor_format.convert",
    "open_client": "kandiflux.jobs.connect",
    "run_with_retries": "kandiflux.jobs.retry",
}

__all__ = [
    "Client",
    "Connection",
    "Event",
    "Job",
    "KandifluxError",
    "Output",
    "Prompt",
    "Result",
    "Saver",
    "Workflow",
    "__version__",
    "comfyui",
    "connection",
    "convert",
    "open_client",
    "run_with_retries",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
