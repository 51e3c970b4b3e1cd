"""Displays a batch: saved paths on stdout, one per line; everything else on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from kandiflux.batch.status import BatchEvent, WorkerStatus
from kandiflux.cli.terminal import print_event, print_message, print_path
from kandiflux.util.safe_text import escaped, one_line, shortened

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["BatchJsonLines", "BatchLines", "Show", "live"]

_WINDOW = 40
_TITLE_LIMIT = 60
_MESSAGE_LIMIT, _MESSAGE_LINES = 2_000, 20
_STATES = {
    "connecting": "connecting",
    "silent": "does not answer",
    "away": "refuses connections",
    "gone": "gone",
    "unfit": "cannot be used",
}


class Show(Protocol):
    """Displays a batch."""

    def event(self, event: BatchEvent) -> None:
        """Displays an event."""
        ...

    def say(self, text: str) -> None:
        """Displays a message to the user."""
        ...


class BatchJsonLines:
    """Prints every event as a line of JSON on stdout."""

    def __init__(self) -> None:
        self._printing = threading.Lock()

    def event(self, event: BatchEvent) -> None:
        with self._printing:
            print_event(event.as_dict())

    def say(self, text: str) -> None:
        print_message(text)


class BatchLines:
    """Prints paths on stdout and messages on stderr; if `quiet`, only messages about failures."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def event(self, event: BatchEvent) -> None:
        if event.kind == "saved":
            self.path(str(event.about["path"]))
        text = _in_words(event)
        if text is not None and (not self._quiet or event.kind == "failed"):
            self.say(text)

    def path(self, path: str) -> None:
        """Prints the path of a saved file."""
        print_path(path)

    def say(self, text: str) -> None:
        print_message(text)


@contextmanager
def live(status: Callable[[], Sequence[WorkerStatus]]) -> Generator[Show, None, None]:
    """Displays an overall progress bar, and a line for each server, on stderr."""
    from rich.console import Console
    from rich.live import Live

    # rich would redirect stdout to its console, away from the file or pipe that must receive the paths.
    shown = _LiveBatch(status, Console(stderr=True))
    with Live(
        get_renderable=shown.render,
        console=shown.console,
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as lines:
        shown.refresh = lines.refresh
        yield shown


class _LiveBatch(BatchLines):
    def __init__(self, status: Callable[[], Sequence[WorkerStatus]], console: Console) -> None:
        super().__init__()
        self.console = console
        self._status = status
        self._total = self._done = self._failed = 0
        self._ends: deque[float] = deque(maxlen=_WINDOW)
        self.refresh: Callable[[], None] = lambda: None
        """Redraws the lines immediately."""

    def event(self, event: BatchEvent) -> None:
        if event.kind == "planned":
            self._total, self._done = event.about["total"], event.about["done"]
        elif event.kind == "done":
            self._done += 1
            self._ends.append(time.monotonic())
        elif event.kind in ("failed", "lost") and not event.about["again"]:
            self._failed += 1
            self._ends.append(time.monotonic())
        elif event.kind in ("written", "ended"):
            # Printing redraws the lines as they last were, possibly before the last job ended.
            self.refresh()
        super().event(event)

    def path(self, path: str) -> None:
        if sys.stdout.isatty():
            # The terminal also shows the live lines: print the path above them, unwrapped.
            self.say(path)
        else:
            super().path(path)

    def say(self, text: str) -> None:
        self.console.print(escaped(text), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self._total:
            return Text("checking the jobs")
        ended = self._done + self._failed
        text = f"{self._done} of {self._total} done" + (f", {self._failed} failed" if self._failed else "")
        overall = Table.grid(padding=(0, 1))
        overall.add_row(ProgressBar(max(1, self._total), ended, width=40), Text(text), Text(self._left(ended)))
        servers = Table.grid(padding=(0, 1))
        for worker in self._status():
            step = Text("")
            if worker.value is not None and worker.max:
                step = Text(f"{worker.value:g}/{worker.max:g}")
            servers.add_row(Text(one_line(worker.server), style="bold"), Text(_doing(worker)), step)
        return Group(overall, servers)

    def _left(self, ended: int) -> str:
        if len(self._ends) < 2 or ended >= self._total:
            return ""
        pace = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return f"about {_duration(pace * (self._total - ended))} left"


def _doing(worker: WorkerStatus) -> str:
    if worker.state != "up":
        return _STATES[worker.state]
    if worker.index is None:
        return "waiting" if not worker.queued else "starting"
    return f"job {worker.index}" + (f": {one_line(worker.node, _TITLE_LIMIT)}" if worker.node else "")


def _in_words(event: BatchEvent) -> str | None:
    about = event.about
    if event.kind == "planned":
        return _planned(about)
    if event.kind in ("failed", "lost"):
        message = shortened(str(about["error"]["message"]), _MESSAGE_LIMIT, _MESSAGE_LINES)
        what = "will be retried" if about["again"] else "failed"
        return f"job {about['index']} {what}: {message}"
    if event.kind == "found":
        return f"job {about['index']} was already on {about['server']}"
    if event.kind == "server" and about["state"] != "connecting":
        words = {
            "up": "is available",
            "silent": "does not answer; its jobs stay there",
            "away": "refuses connections",
            "gone": "did not come back in time; its jobs run on other servers, if there are any",
            "unfit": "cannot be used",
        }[about["state"]]
        reason = (
            f": {shortened(str(about['reason']), _MESSAGE_LIMIT, _MESSAGE_LINES)}" if about["state"] == "unfit" else ""
        )
        return f"{about['server']} {words}{reason}"
    if event.kind == "written":
        return f"wrote {about['path']}"
    if event.kind == "ended":
        return _ended(about)
    return None


def _planned(about: Any) -> str:
    text = f"{about['total']} job" + ("s" if about["total"] != 1 else "")
    if about["done"] or about["new"] < about["total"]:
        text += f": {about['done']} already done, {about['total'] - about['done']} remaining"
    notes: list[str] = []
    if about["unlisted"]:
        notes.append(f"{about['unlisted']} jobs of an earlier run are no longer listed, and are left unchanged")
    if about["done"] and about["new"]:
        notes.append(f"{about['new']} are new")
    if about["files_gone"]:
        notes.append(f"{about['files_gone']} finished jobs run again because their files are missing or changed")
    return "; ".join([text, *notes]) + "."


def _ended(about: Any) -> str:
    text = f"{about['done']} of {about['total']} done"
    if about["failed"]:
        text += f", {about['failed']} failed"
    if about["waiting"]:
        text += f", {about['waiting']} not done yet"
    text += f" ({about['ran']} in {_duration(about['seconds'])})."
    if about["failed"] or about["waiting"]:
        text += " Run the same command again to continue."
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
