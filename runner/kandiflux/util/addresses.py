"""Tells whether a host is this machine."""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback"]


def is_loopback(host: str | None) -> bool:
    """Returns whether a host name or IP address, without port and brackets, is this machine.

    True for `localhost` and its subdomains (RFC 6761), 127.0.0.0/8 and ::1. Other names are not resolved.
    """
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
