"""Rejects browser requests that do not come from this host's own pages (CSRF and DNS rebinding).

A browser lets any web site send requests to 127.0.0.1. Without these checks, a site could queue prompts and upload
files. Such requests have the site's Origin, or Sec-Fetch-Site: cross-site. With DNS rebinding (the site's name resolves
to this machine), a site could also read the responses. Then Origin and Host match, but Host is not a name of this host.
Other programs send no Origin and no Sec-Fetch headers; for them, only Host is checked.
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
    """A parsed Host header: the normalized name, and the port if there is one."""

    name: str
    port: int | None


class Refusal(NamedTuple):
    """The reason why a request gets 403. `kind` is "host", "origin" or "site"."""

    kind: str
    text: str


@dataclass(frozen=True)
class HostNames:
    """The names under which browsers and programs may address this host.

    These are localhost, 127.0.0.1, [::1] and the address it listens on. If it listens on all addresses, also any IP
    address and this machine's own name: DNS rebinding needs a name that the attacker controls.
    """

    names: frozenset[str]
    any_address: bool = False

    @classmethod
    def of(cls, listen: str, more: Iterable[str] = ()) -> HostNames:
        """Returns the names of a host that listens on `listen`. `more`: additional names from the user."""
        everywhere = listen in ("", "0.0.0.0", "::")
        own = {socket.gethostname(), socket.getfqdn(), f"{socket.gethostname()}.local"} if everywhere else {listen}
        return cls(frozenset(map(_normalized, {*_LOCAL, *own, *more})), everywhere)

    def allow(self, name: str) -> bool:
        """Whether `name`, without a port, is allowed."""
        return name in self.names or (self.any_address and _is_address(name))


def same_origin(names: HostNames) -> Middleware:
    """Returns a middleware that answers requests from other sites with 403."""
    sparingly = Sparingly(5.0)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = refusal(request.method, request.headers, names)
        if refused is not None:
            # Rate-limited: a page can send thousands of requests.
            if sparingly.may(refused.kind):
                log.warning("Refused %s %.100r with 403. %s", request.method, request.path, refused.text)
            return web.Response(status=403, text=refused.text + "\n")
        if request.method == "OPTIONS":
            return web.Response()
        return await handler(request)

    return check


def refusal(method: str, headers: CIMultiDictProxy[str], names: HostNames) -> Refusal | None:
    """Returns why a request must be rejected; None if it is allowed."""
    hosts, origins = headers.getall("Host", []), headers.getall("Origin", [])
    # HTTP/1.0 programs may send no Host header. All browsers send one.
    host = _address(hosts[0]) if len(hosts) == 1 else None
    if hosts and (host is None or not names.allow(host.name)):
        received = ", ".join(hosts)[:200]
        return Refusal(
            "host",
            f"The Host header {received!r} is not a name of this host. If it is a name of this machine or of a "
            "reverse proxy, start the host with --allow-host NAME.",
        )
    if origins and not (len(origins) == 1 and host is not None and _same(origins[0], host)):
        received = ", ".join(origins)[:200]
        return Refusal(
            "origin",
            f"The request comes from a page of another origin: Origin {received!r}, Host {', '.join(hosts)[:200]!r}. "
            "A reverse proxy must forward the Host header unchanged.",
        )
    site, mode, target = (headers.get(f"Sec-Fetch-{name}", "").strip().lower() for name in ("Site", "Mode", "Dest"))
    if site == "cross-site":
        # Links from other sites are allowed; frames, images, forms and scripts are not.
        is_link = method in ("GET", "HEAD") and mode == "navigate" and target in ("", "document")
        if not is_link:
            return Refusal("site", "The request comes from a page of another site (Sec-Fetch-Site: cross-site).")
    return None


def _same(origin: str, host: _Address) -> bool:
    match = _ORIGIN.fullmatch(origin)
    address = _address(match["host"]) if match else None
    if match is None or address is None:  # also "null", the origin of any sandboxed page or local file
        return False
    default = _PORTS[match["scheme"].lower()]
    return address.name == host.name and (address.port or default) == (host.port or default)


def _address(header: str) -> _Address | None:
    found = _HOST.fullmatch(header.strip())
    if found is None:
        return None
    return _Address(_normalized(found["ipv6"] or found["name"]), int(found["port"]) if found["port"] else None)


def _normalized(name: str) -> str:
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
