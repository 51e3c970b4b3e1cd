"""Which host a URL names."""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback"]


def is_loopback(host: str | None) -> bool:
    """Whether the host name or IP address, without port and brackets, is this machine itself.

    `localhost` and names below it count (RFC 6761), and so does 127.0.0.0/8; other names are not resolved.
    """
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
