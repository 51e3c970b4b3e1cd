"""Run any ComfyUI workflow from Python or the command line, and never lose a job.

    from kandiflux import Client, Workflow

Names are imported when they are first used, so that `kandiflux --help` need not load an HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kandiflux.attempts import run_to_the_end as run_to_the_end
    from kandiflux.client import Client as Client
    from kandiflux.config import Connection as Connection
    from kandiflux.config import connection as connection
    from kandiflux.conversion.convert import convert as convert
    from kandiflux.errors import KandifluxError as KandifluxError
    from kandiflux.events import Event as Event
    from kandiflux.job import Job as Job
    from kandiflux.launch import comfyui as comfyui
    from kandiflux.local import open_client as open_client
    from kandiflux.outputs import Output as Output
    from kandiflux.outputs import Saver as Saver
    from kandiflux.prompt import Prompt as Prompt
    from kandiflux.result import Result as Result
    from kandiflux.workflow import Workflow as Workflow

__version__ = "0.1.0"

_HOME = {
    "Client": "kandiflux.client",
    "Connection": "kandiflux.config",
    "Event": "kandiflux.events",
    "Job": "kandiflux.job",
    "KandifluxError": "kandiflux.errors",
    "Output": "kandiflux.outputs",
    "Prompt": "kandiflux.prompt",
    "Result": "kandiflux.result",
    "Saver": "kandiflux.outputs",
    "Workflow": "kandiflux.workflow",
    "comfyui": "kandiflux.launch",
    "connection": "kandiflux.config",
    "convert": "kandiflux.conversion.convert",
    "open_client": "kandiflux.local",
    "run_to_the_end": "kandiflux.attempts",
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
    "run_to_the_end",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
