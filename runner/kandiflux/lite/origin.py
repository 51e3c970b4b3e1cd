"""Requests that another web site makes through the user's browser are refused."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

__all__ = ["Handler", "same_origin"]

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers a request."""


@web.middleware
async def same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """403 where the browser says that the page (Origin) is not this host (Host), on a loopback address.

    A browser lets any site POST to 127.0.0.1; without this, any site could queue prompts.
    """
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    if host and origin and not _matches(host, origin):
        log.warning("Refused a request to %s from a page of %s.", host, origin)
        return web.Response(status=403)
    if request.method == "OPTIONS":
        return web.Response()
    return await handler(request)


def _matches(host: str, origin: str) -> bool:
    try:
        here, there = urlsplit(f"//{host}"), urlsplit(origin)
        ports_differ = None not in (here.port, there.port) and here.port != there.port
    except ValueError:
        return False
    if not _is_loopback(here.hostname):
        return True
    # "Origin: null" (a sandboxed page, a file) has no host, and is let through as in ComfyUI.
    return not there.hostname or (here.hostname == there.hostname and not ports_differ)


def _is_loopback(name: str | None) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False
