"""Saves a job's outputs under the job's own name."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from kandiflux.batch.ledger import Saved
from kandiflux.errors import OutputError
from kandiflux.jobs.outputs import Output, safe_name, true_name

__all__ = ["remove_partials", "save_outputs"]

_PARTIAL = ".kandiflux-batch-{}.part"


def save_outputs(
    outputs: Sequence[Output], folder: Path, name: str, is_taken: Callable[[str], bool] = lambda name: False
) -> list[Saved]:
    """Saves outputs as `name.png`, `name_2.png`, …, with atomic writes. Returns the saved files.

    is_taken: returns whether a further name belongs to another job and must be skipped.

    No other job has this name, so files of an earlier attempt of the same job are replaced.
    OutputError immediately if a file cannot be written; if files cannot be downloaded, the first one's error (as
    `Output.write`), after all others have been saved.
    """
    saved: list[Saved] = []
    taken: dict[str, int] = {}
    failure: OutputError | None = None

    def next_path(filename: str) -> str:
        suffix = PurePosixPath(filename).suffix
        number = taken.get(suffix, 0) + 1
        while number > 1 and is_taken(f"{name}_{number}"):
            number += 1
        taken[suffix] = number
        return f"{name}{suffix}" if number == 1 else f"{name}_{number}{suffix}"

    for output in outputs:
        try:
            path, size = _save(output, folder, next_path)
        except OutputError as error:
            if isinstance(error.__cause__, OSError):
                raise
            failure = failure or error
        else:
            saved.append(Saved(path, output.kind, output.title, size))
    if failure is not None:
        raise failure
    return saved


def remove_partials(folder: Path) -> None:
    """Deletes the incomplete files of a killed run."""
    for path in folder.glob(_PARTIAL.format("*")):
        with contextlib.suppress(OSError):
            path.unlink()


def _save(output: Output, folder: Path, next_path: Callable[[str], str]) -> tuple[str, int]:
    """Saves one output. Returns its path in `folder` and its size in bytes. next_path: chooses the path for a name."""
    partial = folder / _PARTIAL.format(uuid.uuid4().hex)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            size = output.write(file, again=False)
        if size == 0:
            raise OutputError(f"The server sent an empty file for {output.filename}.")
        path = next_path(true_name(safe_name(output.filename), output.kind, partial))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        partial.replace(folder / path)
    except OSError as error:
        raise OutputError(
            f"{output.filename} cannot be written to {folder}: {error.strerror or error}.",
            hint="Free disk space or choose another folder; then run the batch again.",
            parameter="folder",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path, size
