"""Run any ComfyUI workflow from Python or the command line, and never lose a job.

    from kandiflux import Client, Workflow

Names are imported when they are first used, so that `kandiflux --help` need not load an HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kandiflux.client import Client as Client
    from kandiflux.convert import convert as convert
    from kandiflux.errors import KandifluxError as KandifluxError
    from kandiflux.events import Event as Event
    from kandiflux.job import Job as Job
    from kandiflux.local import open_client as open_client
    from kandiflux.outputs import Output as Output
    from kandiflux.outputs import Saver as Saver
    from kandiflux.prompt import Prompt as Prompt
    from kandiflux.result import Result as Result
    from kandiflux.workflow import Workflow as Workflow

__version__ = "0.1.0"

_HOME = {
    "Client": "kandiflux.client",
    "Event": "kandiflux.events",
    "Job": "kandiflux.job",
    "KandifluxError": "kandiflux.errors",
    "Output": "kandiflux.outputs",
    "Prompt": "kandiflux.prompt",
    "Result": "kandiflux.result",
    "Saver": "kandiflux.outputs",
    "Workflow": "kandiflux.workflow",
    "convert": "kandiflux.convert",
    "open_client": "kandiflux.local",
}

__all__ = [
    "Client",
    "Event",
    "Job",
    "KandifluxError",
    "Output",
    "Prompt",
    "Result",
    "Saver",
    "Workflow",
    "__version__",
    "convert",
    "open_client",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
