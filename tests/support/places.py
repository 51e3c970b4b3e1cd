"""Where things lie: this checkout, the tests' data, and the shared data that only the makers have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["DATA", "NO_SHARED", "ROOT", "shared", "why_no_shared"]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
NO_SHARED = "no shared data"


def _shared_folder() -> Path:
    return Path(os.environ.get("KANDIFLUX_SHARED") or ROOT.parent / "shared")


def why_no_shared() -> str | None:
    """Why tests that need the shared data cannot run; None if they can."""
    folder = _shared_folder()
    return None if folder.is_dir() else f"{NO_SHARED} at {folder} (set KANDIFLUX_SHARED)"


def shared(place: str) -> Path:
    """The file or folder `place` in the shared data; the test, or the whole module, is skipped if there is none."""
    found = _shared_folder() / place
    if not found.exists():
        reason = why_no_shared() or f"{NO_SHARED} at {found}"
        pytest.skip(reason, allow_module_level=True)
    return found
