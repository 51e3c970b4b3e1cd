"""Makes connection pools, with the same TLS and proxy policy for servers and model files.

The proxy comes from the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) or the system's settings. Requests
to this machine never use a proxy.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from kandiflux.api.time_limit import limited_pool_classes
from kandiflux.config import without_userinfo
from kandiflux.errors import UsageError
from kandiflux.util.addresses import is_loopback

__all__ = ["make_pool", "proxy_for"]

_CONNECTIONS = 32


def proxy_for(url: str) -> str | None:
    """Returns the URL of the proxy to use for `url` (http or https); None for a direct connection."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(unquote(host)):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


def make_pool(url: str, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Makes a connection pool for the origin of `url`. tls: the context for https; None if the URL is http.

    `TimeLimit` applies to its requests. UsageError if the proxy is a SOCKS proxy and PySocks is not installed.
    """
    options: dict[str, Any] = {"maxsize": _CONNECTIONS, **({} if tls is None else {"ssl_context": tls})}
    manager = _manager(url, options)
    manager.pool_classes_by_scheme = limited_pool_classes(manager)
    return manager


def _manager(url: str, options: dict[str, Any]) -> urllib3.PoolManager:
    proxy = proxy_for(url)
    if proxy is None:
        return urllib3.PoolManager(**options)
    if urlsplit(proxy).scheme.startswith("socks"):
        try:
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError as error:
            raise UsageError(
                f"The proxy for {url} is a SOCKS proxy, which needs PySocks.",
                hint="Install PySocks, or add the host to $NO_PROXY.",
            ) from error
        return SOCKSProxyManager(proxy, **options)
    bare, authorization = without_userinfo(proxy)
    headers = {"Proxy-Authorization": authorization} if authorization is not None else None
    return urllib3.ProxyManager(bare, proxy_headers=headers, **options)
