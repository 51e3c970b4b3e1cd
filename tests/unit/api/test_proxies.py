"""Which proxy is used for a server."""

from __future__ import annotations

import builtins
import ssl
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from kandiflux.api.proxies import make_pool, proxy_for
from kandiflux.errors import UsageError

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://a.test", None),
        ({"http_proxy": "http://p:1"}, "http://a.test:8188/x", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://a.test", None),
        ({"http_proxy": "http://p:1", "all_proxy": "http://q:2"}, "https://a.test", "http://q:2"),
        ({"https_proxy": "p:1", "all_proxy": "http://q:2"}, "https://a.test", "http://p:1"),
        ({"all_proxy": "http://q:2", "no_proxy": "a.test"}, "http://a.test", None),
        ({"all_proxy": "http://q:2", "no_proxy": "b.test"}, "http://a.test", "http://q:2"),
        ({"all_proxy": "http://q:2"}, "http://localhost:8188", None),
        ({"all_proxy": "http://q:2"}, "http://127.0.0.1", None),
        ({"all_proxy": "http://q:2"}, "http://[::1]:8188", None),
        ({"all_proxy": "http://q:2", "no_proxy": "a b.test"}, "http://a%20b.test", None),
        ({"all_proxy": "socks5://q:2"}, "https://a.test", "socks5://q:2"),
    ],
)
def test_which_proxy(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_a_pool_without_and_with_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context()
    plain = make_pool("http://a.test", None)
    secure = make_pool("https://a.test", context)
    assert not isinstance(plain, urllib3.ProxyManager)
    assert (plain.connection_pool_kw, secure.connection_pool_kw) == (
        {"maxsize": 32}, {"maxsize": 32, "ssl_context": context}
    )  # fmt: skip
    monkeypatch.setenv("http_proxy", "http://anna:b@p:1")
    through = make_pool("http://a.test", None)
    assert isinstance(through, urllib3.ProxyManager)
    assert (str(through.proxy), through.proxy_headers) == ("http://p:1", {"Proxy-Authorization": "Basic YW5uYTpi"})
    monkeypatch.setenv("http_proxy", "http://p:1")
    without_user = make_pool("http://a.test", None)
    assert isinstance(without_user, urllib3.ProxyManager)
    assert without_user.proxy_headers == {}
    for pool in (plain, secure, through, without_user):
        assert all("Limited" in kind.__name__ for kind in pool.pool_classes_by_scheme.values())
        pool.clear()


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5h://p:1")
    importing = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "urllib3.contrib.socks":
            raise ImportError(name)
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match="needs PySocks"):
        make_pool("http://a.test", None)


def test_a_socks_proxy_is_used_if_the_package_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, dict[str, Any]]] = []

    class Manager(urllib3.PoolManager):
        def __init__(self, proxy: str, **options: Any) -> None:
            made.append((proxy, options))
            super().__init__(**options)

    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", SimpleNamespace(SOCKSProxyManager=Manager))
    monkeypatch.setenv("http_proxy", "socks5h://anna:b@p:1")
    with make_pool("http://a.test", None) as pool:
        assert isinstance(pool, Manager)
        assert all("Limited" in kind.__name__ for kind in pool.pool_classes_by_scheme.values())
    assert made == [("socks5h://anna:b@p:1", {"maxsize": 32})]
