"""Which requests of browsers are answered: those of this host's own pages.

A browser lets any web site send requests to 127.0.0.1. Without these checks a site could queue prompts and upload
files: its requests have its Origin, or Sec-Fetch-Site: cross-site. One whose name resolves to this machine ("DNS
rebinding") could also read the answers: then Origin and Host agree, but Host is a name that is not ours. Programs send
no Origin and no Sec-Fetch headers; for them only the Host counts.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import CIMultiDictProxy

from kandiflux.lite.http import Handler
from kandiflux.lite.logs import Sparingly

__all__ = ["HostNames", "Refusal", "refusal", "same_origin"]

log = logging.getLogger(__name__)

_LOCAL = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^\[\]:/?#@\s\\]+))(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]+)", re.IGNORECASE)


class _Address(NamedTuple):
    """A host header taken apart: the name in its usual spelling, and the port if one is given."""

    name: str
    port: int | None


class Refusal(NamedTuple):
    """Why a request gets 403. `kind` is one of "host", "origin" and "site"."""

    kind: str
    text: str


@dataclass(frozen=True)
class HostNames:
    """The names under which browsers and programs may address this host.

    localhost, 127.0.0.1, [::1] and the address it listens on. A host that listens on all addresses may also be
    addressed by any IP address and by this machine's own name: rebinding needs a name that the attacker controls.
    """

    names: frozenset[str]
    any_address: bool = False

    @classmethod
    def of(cls, listen: str, more: Iterable[str] = ()) -> HostNames:
        """For a host that listens on `listen`; `more` are the user's further names."""
        everywhere = listen in ("", "0.0.0.0", "::")
        own = {socket.gethostname(), socket.getfqdn(), f"{socket.gethostname()}.local"} if everywhere else {listen}
        return cls(frozenset(map(_usual, {*_LOCAL, *own, *more})), everywhere)

    def allow(self, name: str) -> bool:
        """Whether `name`, without a port, is one of them."""
        return name in self.names or (self.any_address and _is_address(name))


def same_origin(names: HostNames) -> Middleware:
    """The middleware that answers other sites' requests with 403."""
    sparingly = Sparingly(5.0)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = refusal(request.method, request.headers, names)
        if refused is not None:
            # A page can send thousands of requests.
            if sparingly.may(refused.kind):
                log.warning("Refused %s %.100r with 403. %s", request.method, request.path, refused.text)
            return web.Response(status=403, text=refused.text + "\n")
        if request.method == "OPTIONS":
            return web.Response()
        return await handler(request)

    return check


def refusal(method: str, headers: CIMultiDictProxy[str], names: HostNames) -> Refusal | None:
    """Why a request is refused; None if it is not."""
    hosts, origins = headers.getall("Host", []), headers.getall("Origin", [])
    # HTTP/1.0 programs may send no Host. Every browser sends one.
    host = _address(hosts[0]) if len(hosts) == 1 else None
    if hosts and (host is None or not names.allow(host.name)):
        told = ", ".join(hosts)[:200]
        return Refusal(
            "host",
            f"The Host header {told!r} is not a name of this host. If it is your name for this machine, or a reverse "
            "proxy's, start the host with --allow-host NAME.",
        )
    if origins and not (len(origins) == 1 and host is not None and _same(origins[0], host)):
        told = ", ".join(origins)[:200]
        return Refusal(
            "origin",
            f"The request comes from a page of another origin: Origin {told!r}, Host {', '.join(hosts)[:200]!r}. "
            "A reverse proxy must pass on the Host header as the browser sent it.",
        )
    site, mode, target = (headers.get(f"Sec-Fetch-{name}", "").strip().lower() for name in ("Site", "Mode", "Dest"))
    if site == "cross-site":
        # A link on another site that leads here is followed; a frame, a picture, a form or a script is not let in.
        is_link = method in ("GET", "HEAD") and mode == "navigate" and target in ("", "document")
        if not is_link:
            return Refusal("site", "The request comes from a page of another site (Sec-Fetch-Site: cross-site).")
    return None


def _same(origin: str, host: _Address) -> bool:
    found = _ORIGIN.fullmatch(origin)
    there = _address(found["host"]) if found else None
    if found is None or there is None:  # "null" too: a sandboxed page, or a file, of anybody
        return False
    default = _PORTS[found["scheme"].lower()]
    return there.name == host.name and (there.port or default) == (host.port or default)


def _address(header: str) -> _Address | None:
    found = _HOST.fullmatch(header.strip())
    if found is None:
        return None
    return _Address(_usual(found["ipv6"] or found["name"]), int(found["port"]) if found["port"] else None)


def _usual(name: str) -> str:
    name = name.strip("[]").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
