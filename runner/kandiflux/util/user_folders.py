"""The user's folders for kandiflux's data and its configuration."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["config_folder", "home"]


def home() -> Path:
    """$KANDIFLUX_HOME, else kandiflux's folder among the user's application data."""
    named = os.environ.get("KANDIFLUX_HOME")
    return Path(named).expanduser().absolute() if named else platformdirs.user_data_path("kandiflux", appauthor=False)


def config_folder() -> Path:
    """Where `kandiflux.toml` is looked for last."""
    return platformdirs.user_config_path("kandiflux", appauthor=False, roaming=True)
