"""The commands `kandiflux models pull` and `kandiflux models convert`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kandiflux.cli.check_command import ExtraPathsOption, in_bytes
from kandiflux.cli.common import CaOption, JsonOption, QuietOption, print_error, reporting
from kandiflux.cli.signals import exit_code
from kandiflux.cli.terminal import print_json, print_message, print_path, print_table
from kandiflux.errors import KandifluxError
from kandiflux.util.safe_text import escaped, one_line

if TYPE_CHECKING:
    from kandiflux.models.pull import PullPlan

__all__ = ["convert_models", "pull"]

_DONE = "done"


def pull(
    workflows: Annotated[
        list[str],
        typer.Argument(metavar="WORKFLOW…", help="Paths (JSON, or PNGs made by ComfyUI), or shipped workflows."),
    ],
    comfyui: Annotated[Path, typer.Option("--comfyui", metavar="PATH", help="ComfyUI's folder, containing models.")],
    extra_model_paths: ExtraPathsOption = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Download only this file; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be downloaded, and its size.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Number of parallel downloads.")] = 4,
    token_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[HOST=]VARIABLE",
            help="The environment variable that holds a token for a host (default: huggingface.co=HF_TOKEN and "
            "civitai.com=CIVITAI_API_TOKEN). It is sent only to that host.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also check size and hash of files that exist already.")
    ] = False,
    ca_bundle: CaOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Download the model files that workflows need and this machine's ComfyUI lacks.

    A file gets its final name once it is complete and its hash is correct. The same command resumes an interrupted
    download. Prints one saved path per line.

    \b
    Examples:
      kandiflux models pull flux_dev --comfyui ~/ComfyUI --dry-run
      kandiflux models pull flux_dev flux_fill_inpaint --comfyui ~/ComfyUI
      HF_TOKEN=hf_… kandiflux models pull flux_depth.json --comfyui ~/ComfyUI --only flux1-depth-dev.safetensors
    """
    from kandiflux.models import pull as work
    from kandiflux.models.model_folders import ModelFolders
    from kandiflux.models.remote_files import RemoteFiles
    from kandiflux.workflow.needed_models import needed_models
    from kandiflux.workflow.workflow import Workflow

    with reporting(as_json):
        folders = ModelFolders(comfyui, extra_model_paths or ())
        plan = work.make_plan(
            (needed for name in workflows for needed in needed_models(Workflow.load(name))), folders, only or ()
        )
        remotes = RemoteFiles(work.read_tokens(token_env or ()), verify=str(ca_bundle) if ca_bundle else True)
        stop = threading.Event()
        failures = work.verify_present(plan.present, lambda path: _say(f"verifying {path}", quiet)) if verify else []
        if not only:
            work.complete_folders(plan, folders, remotes, stop=stop)
        work.ask_servers(plan, remotes, stop=stop)
        failures += plan.refused
        if dry_run:
            _show(plan, as_json)
        else:
            work.require_space(plan.wanted)
            saved: list[str] = []
            with _display(quiet=quiet or as_json) as display:
                try:
                    for outcome in work.download_all(plan, remotes, display, jobs=jobs, stop=stop):
                        if isinstance(outcome, KandifluxError):
                            failures.append(outcome)
                            continue
                        saved.append(str(outcome))
                        if not as_json:
                            display.saved(outcome)
                except KeyboardInterrupt as interrupt:
                    stop.set()
                    print_message("Stopped. Partial downloads are kept: run the same command to resume them.")
                    raise typer.Exit(exit_code(interrupt)) from interrupt
            if as_json:
                errors = [failure.as_dict() for failure in failures]
                print_json({"saved": saved, "failed": errors})
            elif not plan.wanted and not failures:
                _say(f"Nothing is missing: {len(plan.present)} model files are present.", quiet)
        _end(failures)


def _end(failures: list[KandifluxError]) -> None:
    for failure in failures:
        print_error(failure)
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _show(plan: PullPlan, as_json: bool) -> None:
    if as_json:
        wanted = [
            {**one.model.as_dict(), "size": one.size, "path": str(one.target), "node": one.title} for one in plan.wanted
        ]
        refused = [error.as_dict() for error in plan.refused]
        print_json({"missing": wanted, "present": [str(path) for _, path in plan.present], "failed": refused})
        return
    rows = [
        (
            one.model.name,
            in_bytes(one.size) if one.size is not None else "?",
            str(one.target.parent),
            one.model.url or "",
        )
        for one in plan.wanted
    ]
    if rows:
        print_table(("file", "size", "folder", "from"), rows)
    total = in_bytes(sum(one.size or 0 for one in plan.wanted))
    print_message(f"{len(rows)} files, {total}; {len(plan.present)} are already present.")


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print_message(text)


class _PlainPull:
    def saved(self, path: Path) -> None:
        print_path(path)


class _Silent(_PlainPull):
    def bytes_done(self, name: str, done: int, total: int | None) -> None:
        pass

    def state(self, name: str, text: str) -> None:
        pass


class _PullLines(_PlainPull):
    """Without a terminal: prints a line when a download starts and when its state changes."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def bytes_done(self, name: str, done: int, total: int | None) -> None:
        self.state(name, f"downloading{f' {in_bytes(total)}' if total is not None else ''}")

    def state(self, name: str, text: str) -> None:
        with self._lock:
            if (name, text) not in self._said and text != _DONE:
                self._said.add((name, text))
                print_message(f"{name}: {text}")


class _Bars(_PlainPull):
    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def bytes_done(self, name: str, done: int, total: int | None) -> None:
        self._progress.update(self._task(name), completed=done, total=total)

    def state(self, name: str, text: str) -> None:
        self._progress.update(self._task(name), description=one_line(name if text == _DONE else f"{name} ({text})"))

    def saved(self, path: Path) -> None:
        if sys.stdout.isatty():
            # The terminal also shows the progress bars: print the path above them.
            self._progress.console.print(escaped(str(path)), markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            super().saved(path)

    def _task(self, name: str) -> Any:
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(one_line(name), total=None)
            return self._tasks[name]


@contextmanager
def _display(*, quiet: bool) -> Generator[_Silent | _PullLines | _Bars, None, None]:
    if quiet or not sys.stderr.isatty():
        yield _Silent() if quiet else _PullLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    # rich would print the paths on its console, not to the file or pipe that must receive them.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as progress:
        yield _Bars(progress)


def convert_models(
    source: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", help="An original .pt file, or a folder of them.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the model folders, such as ComfyUI/models/kandinsky.")
    ] = Path(),
    projection: Annotated[
        Path | None, typer.Option(help="The UNet's projection*.pt, if not in the same folder or flan_ul2_encoder.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite existing files.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Convert original Kandinsky 3.0 or 3.1 weights to safetensors that the Kandinsky 3 Loader reads.

    Makes a folder for each UNet (kandinsky-3, kandinsky-3-flash, kandinsky-3-inpainting) with unet, movq and
    scheduler, and prints each file it wrote. The pickles are read with torch's weights_only: no code in them is run.

    \b
    Examples:
      kandiflux models convert weights --out ComfyUI/models/kandinsky
      kandiflux models convert weights/kandinsky3_inpainting.pt
      kandiflux models convert kandinsky3_flash.pt --projection projection_flash.pt --force
      kandiflux models convert movq.pt --out models/kandinsky
    """
    from kandiflux.models.kandinsky3_checkpoint import convert as write
    from kandiflux.models.kandinsky3_checkpoint import plan

    with reporting(as_json):
        if not quiet and not as_json:
            print_message(f"Reading {source} with torch.load(weights_only=True, mmap=True): no code in it is run.")
        plans = plan(source, out, projection)
        for found in plans:
            if found.movq is None and not quiet and not as_json:
                print_message(f"No movq.pt found: {found.folder} also needs a movq folder.")
        written: list[str] = []
        with _bytes_written(quiet=quiet or as_json) as on_bytes:
            for path in write(plans, force=force, on_bytes=on_bytes):
                written.append(str(path))
                if not as_json:
                    print_path(path)
        if as_json:
            print_json({"written": written})


@contextmanager
def _bytes_written(*, quiet: bool) -> Generator[Callable[[str, int, int], None], None, None]:
    """Yields a callback that displays how much of each file is written, if stderr is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _file, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    # Paths are printed above the bars if stdout is the terminal too, else to its file or pipe.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as progress:
        tasks: dict[str, Any] = {}

        def on_bytes(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(one_line(file), total=total)
            progress.update(tasks[file], completed=done)

        yield on_bytes
