"""Which server to use if none is named."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kandiflux.api.rest import ComfyApi
from kandiflux.config import LITE, load_config
from kandiflux.errors import ServerError, ServerUnreachable
from kandiflux.processes.comfyui import running

__all__ = ["is_comfyui", "named_server"]

_USUAL = "http://127.0.0.1:8188"
_PROBE = (0.5, 3.0)


def named_server(server: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The server given by option, else by $KANDIFLUX_SERVER, else by the configuration file, else one that
    `kandiflux up` started, else a ComfyUI at the usual place; a name or a URL. None, a lite host, where there is none.

    None is also what the name "lite" stands for, whatever is running.
    """
    named = server or environ.get("KANDIFLUX_SERVER") or load_config(environ).default_server
    if named:
        return None if named == LITE else named
    started = next((found.url for found in running() if is_comfyui(found.url)), None)
    return started or (_USUAL if is_comfyui(_USUAL) else None)


def is_comfyui(url: str) -> bool:
    """True where something answers that describes itself as ComfyUI does; anything may listen on a port."""
    with ComfyApi(url, timeout=_PROBE) as server:
        try:
            system = server.system_stats().get("system")
        except (ServerUnreachable, ServerError):
            return False
    return isinstance(system, Mapping) and "comfyui_version" in system
