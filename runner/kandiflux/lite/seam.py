"""What a node pack may ask of the lite host: folders, progress, interrupt, memory.

The pack's `nodes/host.py` looks here when there is no ComfyUI. Standard library only, so that
importing it costs nothing and pulls nothing in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Interrupted", "Seam", "active"]


class Interrupted(Exception):
    """The user interrupted the running prompt. The lite host's executor ends the prompt on it."""


class Seam(Protocol):
    """The lite host as its nodes see it."""

    input_directory: Path
    output_directory: Path
    temp_directory: Path

    def model_folders(self, kind: str) -> list[Path]:
        """Folders searched for `kind` ("kandinsky", "loras", …), the first to be preferred; [] if unknown."""
        ...

    def add_model_folder(self, kind: str, folder: Path) -> None:
        """Search `folder` too for `kind`."""
        ...

    def progress(self, value: int, total: int, preview: tuple[str, Any, int | None] | None = None) -> None:
        """Report step `value` of `total` of the running node; raises Interrupted.

        `preview` is ComfyUI's triple: ("JPEG" | "PNG", PIL.Image, longest side or None).
        """
        ...

    def throw_if_interrupted(self) -> None:
        """Raise Interrupted if the running prompt is to stop."""
        ...

    def on_free(self, unload: Callable[[], None]) -> None:
        """Call `unload` when a client asks for memory back (POST /free)."""
        ...


active: Seam | None = None
"""The lite host running in this process, set before any pack is imported."""
