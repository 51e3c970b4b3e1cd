"""The interface that the lite host offers to node packs: folders, progress, interrupt, memory.

The pack's `nodes/host.py` uses it if there is no ComfyUI. It imports only the standard library, so
that importing it is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Interrupted", "Seam", "active"]


class Interrupted(Exception):
    """The user interrupted the running prompt. The lite host's executor catches it and ends the prompt."""


class Seam(Protocol):
    """The lite host as seen by its nodes."""

    input_directory: Path
    output_directory: Path
    temp_directory: Path

    def model_folders(self, kind: str) -> list[Path]:
        """Returns the folders searched for `kind` ("loras", …) in order of preference; [] if the kind is unknown."""
        ...

    def add_model_folder(self, kind: str, folder: Path) -> None:
        """Adds `folder` as the last folder to search for `kind`."""
        ...

    def progress(self, value: int, total: int, preview: tuple[str, Any, int | None] | None = None) -> None:
        """Reports step `value` of `total` of the running node. Raises Interrupted if the prompt must stop.

        preview: ComfyUI's preview tuple, ("JPEG" | "PNG", PIL.Image, maximum side in pixels or None).
        """
        ...

    def throw_if_interrupted(self) -> None:
        """Raises Interrupted if the running prompt must stop."""
        ...

    def on_free(self, unload: Callable[[], None]) -> None:
        """Registers `unload`, which is called when a client requests that memory is freed (POST /free)."""
        ...


active: Seam | None = None
"""The lite host of this process. It is set before packs are imported."""
