"""Atomic writes of new safetensors files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_new(folder: Path, name: str, otherwise: str, tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write `folder/<name>_00001.safetensors`, or the next free number, and return the path. Characters not allowed in
    file names are replaced in `name`; `otherwise` is used if it is then empty."""
    stem = re.sub(r"[^\w .-]", "_", Path(name).name).strip(" .") or otherwise
    folder.mkdir(parents=True, exist_ok=True)
    path = _claimed(folder, stem)
    part, saved = path.with_suffix(".part"), False
    try:
        save_file(tensors, part, metadata=dict(metadata))
        part.replace(path)
        saved = True
    finally:
        if not saved:  # also on KeyboardInterrupt, or an empty file would be listed for loading
            part.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    return path


def _claimed(folder: Path, stem: str) -> Path:
    """Create an empty file with the next free number, to avoid a race condition between two prompts."""
    number = 1
    while True:
        path = folder / f"{stem}_{number:05}.safetensors"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path
