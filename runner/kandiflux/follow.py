"""Following one job on a terminal, or as JSON lines; saving its files as they arrive."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kandiflux.errors import OutputMissing
from kandiflux.events import Event, JobQueued, NodeExecuted, NodesCached, NodeStarted, ProgressState
from kandiflux.job import Job
from kandiflux.outputs import Saver, collect_outputs
from kandiflux.result import Result
from kandiflux.server import Server

__all__ = ["follow", "progress_display"]

Show = Callable[[Event], None]


def follow(job: Job, server: Server, saver: Saver, *, json_lines: bool, show: Show, timeout: float | None) -> Result:
    """Reads the job's events to its end and saves what it makes; saved paths go to stdout, one a line.

    Raises what the job ended with, JobTimeout, or OutputError.
    """

    def report(path: Path | None) -> None:
        if path is not None:
            _print_json({"event": "saved", "path": str(path)}) if json_lines else print(path, flush=True)

    for event in job.events(timeout):
        if json_lines:
            _print_json(event.as_dict())
        show(event)
        if isinstance(event, NodeExecuted):
            title = job.prompt.title(event.display_node_id)
            for output in collect_outputs(event.display_node_id, title, event.output, server):
                if output.is_file and output.folder == "output":
                    try:
                        report(saver.save(output))
                    except OutputMissing:
                        # History has the last word on whether it is an output at all.
                        continue
    result = job.result()
    for output in result.files:
        report(saver.save(output))
    for text in result.texts:
        if not json_lines:
            print(text, flush=True)
    if json_lines:
        _print_json(
            {
                "event": "result",
                "prompt_id": result.prompt_id,
                "seconds": result.seconds,
                "values": dict(result.prompt.values),
                "outputs": [output.as_dict() for output in result.outputs],
            }
        )
    return result


def _show_nothing(_event: Event) -> None:
    pass


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


@contextmanager
def progress_display(job: Job, *, quiet: bool) -> Iterator[Show]:
    """A live line for the nodes and one for the steps of the present node; nothing where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield _show_nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Title(TextColumn):
        def render(self, task: Any) -> Text:
            return Text(task.description)

    columns = (Title(""), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        nodes = progress.add_task("waiting", total=len(job.prompt.nodes))
        steps = progress.add_task("", total=None, visible=False)
        done: set[str] = set()

        def show(event: Event) -> None:
            if isinstance(event, JobQueued) and event.position:
                progress.update(nodes, description=f"waiting behind {event.position}")
            elif isinstance(event, NodesCached):
                done.update(event.node_ids)
            elif isinstance(event, NodeStarted) and event.display_node_id is not None:
                progress.update(nodes, description=job.prompt.title(event.display_node_id))
                progress.update(steps, visible=False)
            elif isinstance(event, ProgressState):
                done.update(node_id for node_id, state in event.nodes.items() if state.state == "finished")
                for state in event.nodes.values():
                    if state.state == "running" and state.max > 1:
                        progress.update(
                            steps, description="  steps", completed=state.value, total=state.max, visible=True
                        )
            progress.update(nodes, completed=len(done & job.prompt.nodes.keys()))

        yield show
