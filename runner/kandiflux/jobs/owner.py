"""Whose jobs are whose, on a server that knows no users."""

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
    """The same for all that one user of one machine submits; says nothing of who and where that is."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container's user often has no name.
        user = "?"
    return hashlib.sha256(f"{user}@{socket.gethostname()}".encode()).hexdigest()[:16]
