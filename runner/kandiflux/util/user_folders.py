"""The user's folders for the data and configuration of kandiflux."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["config_folder", "home"]


def home() -> Path:
    """Returns the data folder: $KANDIFLUX_HOME, else the kandiflux folder in the user's application data."""
    named = os.environ.get("KANDIFLUX_HOME")
    return Path(named).expanduser().absolute() if named else platformdirs.user_data_path("kandiflux", appauthor=False)


def config_folder() -> Path:
    """Returns the user's configuration folder, the last one in which `kandiflux.toml` is looked for."""
    return platformdirs.user_config_path("kandiflux", appauthor=False, roaming=True)
