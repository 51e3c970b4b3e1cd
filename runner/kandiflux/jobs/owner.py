"""Marks jobs with their owner, because ComfyUI has no user accounts."""

from __future__ import annotations

import functools
import getpass
import hashlib
import socket

__all__ = ["OWNER", "this_owner"]

OWNER = "kandiflux_owner"
"""Key in a prompt's `extra_data`."""


@functools.cache
def this_owner() -> str:
    """Returns an id that is the same for all jobs of one user of one machine, and reveals neither."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        # In containers the user often has no name.
        user = "?"
    return hashlib.sha256(f"{user}@{socket.gethostname()}".encode()).hexdigest()[:16]
