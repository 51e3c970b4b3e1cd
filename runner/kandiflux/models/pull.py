"""Downloads the model files that workflows need and a ComfyUI on this machine lacks."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from kandiflux.errors import DiskFull, DownloadError, KandifluxError, OutputError, UsageError, WrongFile
from kandiflux.models.backoff import Patience, Stopped
from kandiflux.models.download import FileDownload
from kandiflux.models.file_hashes import digest_of, why_unverifiable
from kandiflux.models.model_files import ModelFile, NeededModel, why_unsafe
from kandiflux.models.model_folders import ModelFolders
from kandiflux.models.part_file import PartFile
from kandiflux.models.remote_files import RemoteFile, RemoteFiles, Token, Trouble
from kandiflux.models.web_address import shortened, shown_address
from kandiflux.models.whole_folders import companions, repositories
from kandiflux.util.wording import near_names

__all__ = [
    "PullDisplay",
    "PullPlan",
    "Wanted",
    "ask_servers",
    "complete_folders",
    "download_all",
    "make_plan",
    "read_tokens",
    "require_space",
    "size_of",
    "verify_present",
]

_log = logging.getLogger(__name__)

_DEFAULT_TOKENS = {"huggingface.co": "HF_TOKEN", "civitai.com": "CIVITAI_API_TOKEN"}
_RESERVED_BYTES = 64 << 20
_TICK = 0.2
_PARALLEL_REQUESTS = 8
_INDEX = "model_index.json"
_ASKING = Patience(attempts=3)
"""For requests before a download. Fewer attempts than for a download: no received bytes are lost if it fails."""


@dataclass
class Wanted:
    """A file to download to `target`. `remote` is set when the server has been asked."""

    model: ModelFile
    target: Path
    title: str
    remote: RemoteFile | None = None

    @property
    def size(self) -> int | None:
        """The size in bytes from the server, else from the workflow; None if neither is known."""
        return self.remote.size if self.remote is not None and self.remote.size is not None else self.model.size


@dataclass
class PullPlan:
    """The files to download (`wanted`), those that exist, and errors for those that cannot be had (`refused`)."""

    wanted: list[Wanted] = field(default_factory=list[Wanted])
    present: list[tuple[ModelFile, Path]] = field(default_factory=list[tuple[ModelFile, Path]])
    refused: list[KandifluxError] = field(default_factory=list[KandifluxError])


class PullDisplay(Protocol):
    """Shows the progress of each file. Called from many threads."""

    def bytes_done(self, name: str, done: int, total: int | None) -> None:
        """`done` bytes of the file have been received, of `total` if that is known."""
        ...

    def state(self, name: str, text: str) -> None:
        """The file is in another state than downloading: waiting, verifying, done."""
        ...


def read_tokens(options: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> dict[str, Token]:
    """Reads tokens, by host, from the usual environment variables and those that options name.

    options: each `VARIABLE` (for Hugging Face) or `HOST=VARIABLE`; UsageError if it is neither.
    """
    variables = dict(_DEFAULT_TOKENS)
    for option in options:
        host, equals, variable = option.rpartition("=")
        if not variable.isidentifier() or (equals and not host):
            raise UsageError("The token option is not valid.", expected="VARIABLE or HOST=VARIABLE", got=option)
        variables[host.lower() or "huggingface.co"] = variable
    return {host: Token(variable, environ.get(variable) or None) for host, variable in variables.items()}


def make_plan(needs: Iterable[NeededModel], folders: ModelFolders, only: Iterable[str] = ()) -> PullPlan:
    """Returns which of the files that workflows need are missing in `folders`. Sends no request.

    only: names of the files to consider, if any; UsageError if no workflow needs one of them.
    """
    needed = {(one.model.directory, one.model.name): one for one in needs}
    names = [one.model.name for one in needed.values()]
    for name in (chosen := list(only)):
        if name not in names:
            near = near_names(name, names)
            raise UsageError(
                f"No workflow here needs a model file {name!r}.",
                expected=", ".join(names) or "(no model files are needed)",
                hint=f"Did you mean {near}?" if near else None,
            )
    plan = PullPlan()
    for one in needed.values():
        if not chosen or one.model.name in chosen:
            _classify(one, folders, plan)
    return plan


def _classify(one: NeededModel, folders: ModelFolders, plan: PullPlan) -> None:
    model, name, title = one.model, shortened(one.model.name), shortened(one.title)
    if (path := folders.find(model)) is not None:
        plan.present.append((model, path))
        return
    refused = why_unsafe(model) or folders.why_refused(model)
    if model.url is None:
        folder = f"models/{shortened(model.directory)}" if model.directory else "the folder that its node reads"
        plan.refused.append(
            DownloadError(
                f"No URL is known for {name} ({title!r} needs it).",
                hint=f"Put it into {folder}, or add its URL to the node's properties.models in the workflow.",
            )
        )
    elif refused is not None:
        plan.refused.append(
            DownloadError(
                f"{name!r}, which {title!r} needs, is not downloaded: {refused}.", got=shown_address(model.url)
            )
        )
    else:
        plan.wanted.append(Wanted(model, folders.target(model), one.title))


def complete_folders(
    plan: PullPlan,
    folders: ModelFolders,
    remotes: RemoteFiles,
    *,
    patience: Patience | None = None,
    stop: threading.Event,
) -> None:
    """Adds the files that published folders need besides the weights that workflows name, from their repositories."""
    named = [one.model for one in plan.wanted] + [model for model, _ in plan.present]
    for repository, directory in repositories(named).items():
        name = repository[2]
        index = ModelFile(f"{name}/{_INDEX}", directory)
        if folders.find(index) is not None and not any(one.model.name.startswith(f"{name}/") for one in plan.wanted):
            continue
        try:
            ask = partial(companions, repository, directory, remotes)
            listed = (patience or _ASKING).retry(f"The list of {name}'s files", ask, stop)
        except KandifluxError as error:
            plan.refused.append(error)
            continue
        for model in listed:
            if folders.find(model) is None and folders.why_refused(model) is None:
                plan.wanted.append(Wanted(model, folders.target(model), name))


def ask_servers(
    plan: PullPlan, remotes: RemoteFiles, *, patience: Patience | None = None, stop: threading.Event
) -> None:
    """Requests the size of each file. Files that cannot be downloaded move from `wanted` to `refused`."""

    def ask(one: Wanted) -> RemoteFile | KandifluxError:
        try:
            return FileDownload(one.model, one.target, remotes, patience=patience or _ASKING, stop=stop).describe()
        except KandifluxError as error:
            return error

    with ThreadPoolExecutor(_PARALLEL_REQUESTS) as threads:
        try:
            answers = list(threads.map(ask, plan.wanted))
        except KeyboardInterrupt:
            stop.set()
            raise
    plan.refused += [answer for answer in answers if isinstance(answer, KandifluxError)]
    plan.wanted = [
        replace(one, remote=answer)
        for one, answer in zip(plan.wanted, answers, strict=True)
        if isinstance(answer, RemoteFile)
    ]


def size_of(model: ModelFile) -> int | None:
    """Returns the file's size from its server; None if the request fails."""
    try:
        return RemoteFiles(read_tokens()).describe(model.url or "").size
    except (KandifluxError, Trouble):
        return None


def require_space(wanted: Iterable[Wanted]) -> None:
    """Raises DiskFull if all files to download do not fit on their disk."""
    by_disk: dict[int, tuple[Path, int]] = {}
    for one in wanted:
        folder = next(parent for parent in one.target.absolute().parents if parent.exists())
        disk = folder.stat().st_dev
        kept = PartFile(one.target).size
        by_disk[disk] = (folder, by_disk.get(disk, (folder, 0))[1] + max(0, (one.size or 0) - kept))
    for folder, needed in by_disk.values():
        free = shutil.disk_usage(folder).free
        if needed and needed + _RESERVED_BYTES > free:
            raise DiskFull(
                f"The model files do not fit on the disk of {folder}.",
                expected=f"{(needed + _RESERVED_BYTES) / 1e9:.2f} GB free",
                got=f"{free / 1e9:.2f} GB",
                hint="Free some space, download only some, or name folders on another disk in extra_model_paths.yaml.",
            )


def download_all(
    plan: PullPlan,
    remotes: RemoteFiles,
    display: PullDisplay,
    *,
    jobs: int = 4,
    patience: Patience | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Path | KandifluxError]:
    """Downloads all files; yields the path of each file when it is complete, or its error.

    jobs: number of parallel downloads. To stop, set `stop` or close the iterator; the bytes received so far are kept
    for the next time.
    """
    stop = stop or threading.Event()
    waiting: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    for wanted in plan.wanted:
        waiting.put(wanted)
    outcomes: queue.SimpleQueue[Path | BaseException] = queue.SimpleQueue()

    def work() -> None:
        while not stop.is_set():
            try:
                one = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                outcomes.put(_download(one, remotes, display, patience, stop))
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - re-raised in the thread that iterates
                outcomes.put(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(max(1, min(jobs, len(plan.wanted))))]
    for worker in workers:
        worker.start()
    try:
        for _ in plan.wanted:
            outcome = _next(outcomes, stop)
            if outcome is None:
                return
            if isinstance(outcome, BaseException) and not isinstance(outcome, KandifluxError):
                raise outcome
            yield outcome
    finally:
        stop.set()
        for worker in workers:
            worker.join(2.0)


def _next(outcomes: queue.SimpleQueue[Path | BaseException], stop: threading.Event) -> Path | BaseException | None:
    # Short timeouts, so that Ctrl-C is handled before a file is complete.
    while not stop.is_set():
        try:
            return outcomes.get(timeout=_TICK)
        except queue.Empty:
            continue
    return None


def _download(
    one: Wanted,
    remotes: RemoteFiles,
    display: PullDisplay,
    patience: Patience | None,
    stop: threading.Event,
) -> Path:
    name = one.model.name
    download = FileDownload(
        one.model, one.target, remotes, patience=patience, stop=stop,
        on_bytes=partial(display.bytes_done, name), on_state=partial(display.state, name),
    )  # fmt: skip
    path = download.run(one.remote)
    display.state(name, "done")
    return path


def verify_present(present: Iterable[tuple[ModelFile, Path]], on_file: Callable[[Path], None]) -> list[KandifluxError]:
    """Verifies existing files; returns an error for each that does not match the workflow's size or hash."""
    wrong: list[KandifluxError] = []
    for model, path in present:
        on_file(path)
        if model.hash is not None and (why := why_unverifiable(model.hash_type, model.hash)) is not None:
            wrong.append(DownloadError(f"{path} cannot be verified: {why}."))
            continue
        problem = None
        try:
            size = path.stat().st_size
            if model.size is not None and size != model.size:
                problem = (f"{model.size} bytes", f"{size} bytes")
            elif model.hash is not None and (got := digest_of(path, model.hash_type)) != model.hash:
                problem = (f"{model.hash_type} {model.hash}", f"{model.hash_type} {got}")
        except OSError as error:
            wrong.append(OutputError(f"{path} cannot be read: {error.strerror or error}."))
            continue
        if problem is not None:
            wrong.append(
                WrongFile(
                    f"{path} is not the {model.name} that the workflow needs.",
                    expected=problem[0],
                    got=problem[1],
                    hint="Rename or delete it, and pull again.",
                )
            )
    return wrong
