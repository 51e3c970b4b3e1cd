"""Displays one job on a terminal or as JSON lines, and saves its files as they become available."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from kandiflux.api.events import Event, JobQueued, NodeExecuted, NodesCached, NodeStarted, ProgressState
from kandiflux.api.rest import ComfyApi
from kandiflux.cli.terminal import print_event, print_message, print_path
from kandiflux.errors import OutputError, ServerUnreachable
from kandiflux.jobs.job import Job
from kandiflux.jobs.outputs import Output, Saver, collect_outputs
from kandiflux.jobs.result import Result
from kandiflux.util.json_values import is_list
from kandiflux.util.safe_text import escaped, one_line, shortened
from kandiflux.workflow.metadata import write_sidecar
from kandiflux.workflow.prompt import Prompt

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Display", "JsonLines", "Plain", "follow", "live_display", "remarks"]

_TEXT_LIMIT, _TEXT_LINES = 20_000, 400
_TITLE_LIMIT = 60
_MOST_NODES = 5


class Display(Protocol):
    """Displays a job while it runs. Saved paths are the results and go to stdout, one per line."""

    def show(self, event: Event) -> None:
        """Displays an event of the job."""
        ...

    def saved(self, path: Path) -> None:
        """Displays the path of a saved file."""
        ...

    def text(self, text: str) -> None:
        """Displays the text output of a node."""
        ...

    def finished(self, result: Result) -> None:
        """Called when the job has succeeded and all its files are saved."""
        ...


def follow(
    job: Job,
    server: ComfyApi,
    saver: Saver,
    display: Display,
    timeout: float | None = None,
    *,
    sidecar: bool = False,
    own_host: bool = False,
) -> Result:
    """Displays the job's events until it ends, and saves its files as early as possible.

    timeout: seconds for everything, including downloads. sidecar: writes FILE.json with the prompt beside each file.
    own_host: the server stops with the command. Raises the job's error, JobTimeout, or OutputError: immediately if a
    file cannot be written to disk, else after all other files are saved.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    saved: set[tuple[str, str, str, str]] = set()

    def save(output: Output) -> None:
        key = (output.node_id, output.folder, output.subfolder, output.filename)
        if key in saved:
            return
        try:
            path = saver.save(output, timeout=None if deadline is None else deadline - time.monotonic())
        except OutputError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise OutputError(error.message, hint=_where_it_is(output, server, own_host)) from error.__cause__
        saved.add(key)
        if sidecar:
            write_sidecar(path, job.prompt, output=output.as_dict(), server=server.url, prompt_id=job.prompt_id)
        display.saved(path)

    for event in job.events(timeout):
        display.show(event)
        if isinstance(event, NodeExecuted):
            title = job.prompt.title(event.display_node_id)
            for output in collect_outputs(event.display_node_id, title, event.output, server):
                if output.is_file and output.folder == "output":
                    try:
                        save(output)
                    except (OutputError, ServerUnreachable) as error:
                        # Not final: the history decides which files are outputs.
                        if isinstance(error.__cause__, OSError):
                            raise
    result = job.result()
    failures: list[OutputError] = []
    for output in result.files:
        try:
            save(output)
        except OutputError as error:
            if isinstance(error.__cause__, OSError):
                raise
            failures.append(error)
    if failures:
        raise failures[0]
    for text in result.texts:
        display.text(text)
    display.finished(result)
    return result


def _where_it_is(output: Output, server: ComfyApi, own_host: bool) -> str:
    """Returns a hint about a file that could not be saved."""
    retry = "Run the command again with another --out."
    if own_host or output.data is not None:
        return f"{retry} The file itself is lost."
    query = {"filename": output.filename, "subfolder": output.subfolder, "type": output.folder}
    return f"It is still on the server, at {server.url}/view?{urlencode(query, errors='surrogatepass')} . {retry}"


class Plain:
    """Prints saved paths, and texts on stderr unless `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def show(self, event: Event) -> None:
        pass

    def saved(self, path: Path) -> None:
        print_path(path)

    def text(self, text: str) -> None:
        if not self._quiet:
            print_message(text)

    def finished(self, result: Result) -> None:
        for remark in remarks(result):
            self.text(f"note: {remark}")


class JsonLines:
    """Prints everything as lines of JSON on stdout."""

    def show(self, event: Event) -> None:
        print_event(event.as_dict())

    def saved(self, path: Path) -> None:
        print_event({"event": "saved", "path": str(path)})

    def text(self, text: str) -> None:
        pass

    def finished(self, result: Result) -> None:
        print_event(
            {
                "event": "result",
                "prompt_id": result.prompt_id,
                "seconds": result.seconds,
                "values": dict(result.prompt.values),
                "outputs": [output.as_dict() for output in result.outputs],
                "notes": [*result.prompt.notes, *remarks(result)],
            }
        )


def remarks(result: Result) -> list[str]:
    """Returns what a user should know of a job that succeeded, but has made nothing, or nothing new."""
    found: list[str] = []
    if not result.outputs:
        prompt = result.prompt
        values = [value for node in prompt.nodes.values() for value in node["inputs"].values()]
        used = {str(value[0]) for value in values if is_list(value) and value}
        last = [f"{prompt.title(node_id)!r} (node {node_id})" for node_id in prompt.nodes if node_id not in used]
        found.append(
            "the job succeeded, but the server names no file or text that it made. If its last nodes wrote files, they "
            f"are on the server: {', '.join(last[:_MOST_NODES])}."
        )
    if result.from_cache:
        seeds = f" (seed {', '.join(map(str, result.cached_seeds))})" if result.cached_seeds else ""
        again = " For another result: --seed random." if result.cached_seeds else ""
        found.append(f"the server answered from its cache: nothing has changed since an earlier run{seeds}.{again}")
    return found


@contextmanager
def live_display(prompt: Prompt) -> Generator[Display, None, None]:
    """Displays a progress bar for the nodes and one for the steps of the current node, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # rich would redirect stdout to its console, away from the file or pipe that must receive the paths.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        yield _Live(prompt, progress)


class _Live(Plain):
    def __init__(self, prompt: Prompt, progress: Progress) -> None:
        super().__init__()
        self._prompt = prompt
        self._progress = progress
        self._nodes = progress.add_task("waiting", total=len(prompt.nodes))
        self._steps = progress.add_task("", total=None, visible=False)
        self._done: set[str] = set()

    def show(self, event: Event) -> None:
        if isinstance(event, JobQueued) and event.position:
            self._progress.update(self._nodes, description=f"waiting behind {event.position}")
        elif isinstance(event, NodesCached):
            self._done.update(event.node_ids)
        elif isinstance(event, NodeStarted) and event.display_node_id is not None:
            self._progress.update(self._nodes, description=self._title(event.display_node_id))
            self._progress.update(self._steps, visible=False)
        elif isinstance(event, ProgressState):
            self._done.update(node_id for node_id, state in event.nodes.items() if state.state == "finished")
            for state in event.nodes.values():
                if state.state == "running" and state.max > 1:
                    self._progress.update(
                        self._steps, description="  steps", completed=state.value, total=state.max, visible=True
                    )
        self._progress.update(self._nodes, completed=len(self._done & self._prompt.nodes.keys()))

    def saved(self, path: Path) -> None:
        if sys.stdout.isatty():
            # The terminal also shows the progress bars: print the path above them, unwrapped.
            self._above(str(path))
        else:
            super().saved(path)

    def text(self, text: str) -> None:
        self._above(text)

    def _title(self, node_id: str) -> str:
        return one_line(self._prompt.title(node_id), _TITLE_LIMIT)

    def _above(self, text: str) -> None:
        text = escaped(shortened(text, _TEXT_LIMIT, _TEXT_LINES))
        self._progress.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
