"""Where the lite host keeps its data when nobody says otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["home"]


def home() -> Path:
    """$KANDIFLUX_HOME, else kandiflux's folder among the user's application data."""
    if os.environ.get("KANDIFLUX_HOME"):
        return Path(os.environ["KANDIFLUX_HOME"]).expanduser().absolute()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "kandiflux"
