"""Saving what a job made under the job's own name."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from kandiflux.batch.ledger import Saved
from kandiflux.errors import OutputError
from kandiflux.outputs import Output, safe_name

__all__ = ["remove_partials", "save_outputs"]

_PARTIAL = ".kandiflux-batch-{}.part"


def save_outputs(
    outputs: Sequence[Output], folder: Path, name: str, is_taken: Callable[[str], bool] = lambda name: False
) -> list[Saved]:
    """`name.png`, then `name_2.png`, …: each file complete under its name, or not there at all.

    is_taken: whether a further name is another job's, and to be left out.

    The name is the job's alone, so what an earlier try of the same job left under it is replaced.
    OutputError where the disk says no; OutputMissing, ServerUnreachable and ServerError as `Output.write`.
    """
    saved: list[Saved] = []
    taken: dict[str, int] = {}
    for output in outputs:
        suffix = PurePosixPath(safe_name(output.filename)).suffix
        number = taken.get(suffix, 0) + 1
        while number > 1 and is_taken(f"{name}_{number}"):
            number += 1
        taken[suffix] = number
        path = f"{name}{suffix}" if number == 1 else f"{name}_{number}{suffix}"
        saved.append(Saved(path, output.kind, output.title, _save(output, folder, path)))
    return saved


def remove_partials(folder: Path) -> None:
    """What a killed run was in the middle of."""
    for path in folder.glob(_PARTIAL.format("*")):
        with contextlib.suppress(OSError):
            path.unlink()


def _save(output: Output, folder: Path, path: str) -> int:
    partial, target = folder / _PARTIAL.format(uuid.uuid4().hex), folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            size = output.write(file, again=False)
        if size == 0:
            raise OutputError(f"The server sent an empty file for {output.filename}.")
        partial.replace(target)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written to {folder}: {error.strerror or error}.",
            hint="Make room there, or choose another folder with --out. Run the same again to go on.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return size
