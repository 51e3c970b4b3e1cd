"""Chooses the server if none is named."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kandiflux.api.rest import ComfyApi
from kandiflux.config import LITE, load_config
from kandiflux.errors import ServerError, ServerUnreachable
from kandiflux.processes.comfyui import running

__all__ = ["is_comfyui", "named_server"]

_USUAL = "http://127.0.0.1:8188"  # ComfyUI's default
_PROBE = (0.5, 3.0)


def named_server(server: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns a server's name or URL: `server`, else $KANDIFLUX_SERVER, else the configuration file's, else one that
    `kandiflux up` started, else a ComfyUI at its default address. None, for a lite host, if there is none.

    The name "lite" also gives None, whatever servers are running.
    """
    named = server or environ.get("KANDIFLUX_SERVER") or load_config(environ).default_server
    if named:
        return None if named == LITE else named
    started = next((found.url for found in running() if is_comfyui(found.url)), None)
    return started or (_USUAL if is_comfyui(_USUAL) else None)


def is_comfyui(url: str) -> bool:
    """Returns whether the server at this URL identifies itself as ComfyUI; any program may listen on a port."""
    with ComfyApi(url, timeout=_PROBE) as server:
        try:
            system = server.system_stats().get("system")
        except (ServerUnreachable, ServerError):
            return False
    return isinstance(system, Mapping) and "comfyui_version" in system
