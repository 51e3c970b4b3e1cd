"""Which requests of browsers and programs the lite host answers: by Host, Origin and Sec-Fetch headers."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from kandiflux.lite.origin import HostNames, refusal, same_origin
from multidict import CIMultiDict, CIMultiDictProxy

HERE = "127.0.0.1:8188"
ORIGIN = f"http://{HERE}"
CROSS = {"Sec-Fetch-Site": "cross-site"}
LINK = {**CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

Headers = dict[str, str]

# On a host that listens on 127.0.0.1 and was started with --allow-host comfy.example.org.
TABLE: list[tuple[str, Headers, str | None]] = [
    # Programs: only the Host counts.
    ("POST", {"Host": HERE}, None),
    ("POST", {"Host": "127.0.0.1"}, None),
    ("POST", {"Host": "localhost:8188"}, None),
    ("POST", {"Host": "LOCALHOST:8188"}, None),
    ("POST", {"Host": "[::1]:8188"}, None),
    ("POST", {"Host": "[::1]"}, None),
    ("POST", {"Host": "127.0.0.1:9000"}, None),  # a forwarded port
    ("POST", {"Host": "comfy.example.org"}, None),
    ("POST", {"Host": "comfy.example.org:443"}, None),
    ("POST", {}, None),  # HTTP/1.0
    # Rebinding: names that resolve to this machine but are not its own.
    ("POST", {"Host": "evil.example"}, "host"),
    ("GET", {"Host": "evil.example:8188"}, "host"),
    ("GET", {"Host": "127.0.0.1.nip.io:8188"}, "host"),
    ("GET", {"Host": "localhost.:8188"}, "host"),
    ("GET", {"Host": "localhost.evil.example"}, "host"),
    ("GET", {"Host": "evil.localhost"}, "host"),
    ("GET", {"Host": "0.0.0.0:8188"}, "host"),
    ("GET", {"Host": "127.0.0.2:8188"}, "host"),
    ("GET", {"Host": "[::ffff:127.0.0.1]:8188"}, "host"),
    ("GET", {"Host": "2130706433:8188"}, "host"),
    ("GET", {"Host": "0x7f000001"}, "host"),
    ("GET", {"Host": "192.168.1.5:8188"}, "host"),
    ("GET", {"Host": "comfy.example.org.evil.example"}, "host"),
    ("GET", {"Host": "127.0.0.1@evil.example"}, "host"),
    ("GET", {"Host": "evil.example@127.0.0.1"}, "host"),
    ("GET", {"Host": "127.0.0.1:8188/x"}, "host"),
    ("GET", {"Host": "127.0.0.1:81x8"}, "host"),
    ("GET", {"Host": "127.0.0.1, evil.example"}, "host"),
    ("GET", {"Host": "::1"}, "host"),
    ("GET", {"Host": ""}, "host"),
    ("GET", {"Host": "evil.example", "Origin": "http://evil.example"}, "host"),
    (
        "GET",
        {"Host": "evil.example:8188", "Origin": "http://evil.example:8188", "Sec-Fetch-Site": "same-origin"},
        "host",
    ),
    ("GET", {"Host": "evil.example", **LINK}, "host"),
    # The host's own pages.
    ("POST", {"Host": HERE, "Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, None),
    ("POST", {"Host": HERE, "Origin": "HTTP://127.0.0.1:8188"}, None),
    ("POST", {"Host": "localhost:8188", "Origin": "http://localhost:8188"}, None),
    ("POST", {"Host": "[::1]:8188", "Origin": "http://[0:0:0:0:0:0:0:1]:8188"}, None),
    ("POST", {"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}, None),
    ("POST", {"Host": "127.0.0.1:80", "Origin": "http://127.0.0.1"}, None),
    ("POST", {"Host": "comfy.example.org", "Origin": "https://comfy.example.org"}, None),  # behind a proxy with TLS
    ("POST", {"Host": "comfy.example.org:8443", "Origin": "https://comfy.example.org:8443"}, None),
    # Other origins.
    ("POST", {"Host": HERE, "Origin": "null"}, "origin"),
    ("GET", {"Host": HERE, "Origin": "null"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://evil.example"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://127.0.0.1:3000"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://127.0.0.1"}, "origin"),
    ("POST", {"Host": "127.0.0.1", "Origin": "http://127.0.0.1:3000"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://localhost:8188"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://127.0.0.1:8188@evil.example"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://evil.example#@127.0.0.1:8188"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://127.0.0.1:8188.evil.example"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "http://127.0.0.1:8188/"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "file://"}, "origin"),
    ("POST", {"Host": HERE, "Origin": "chrome-extension://abcdef"}, "origin"),
    ("POST", {"Host": HERE, "Origin": ""}, "origin"),
    ("POST", {"Host": "comfy.example.org", "Origin": "https://www.example.org"}, "origin"),
    ("POST", {"Origin": "http://evil.example"}, "origin"),
    ("OPTIONS", {"Host": HERE, "Origin": "http://evil.example"}, "origin"),
    # Requests of other sites that have no Origin: pictures, frames, links.
    ("GET", {"Host": HERE, **LINK}, None),
    ("HEAD", {"Host": HERE, **LINK}, None),
    ("GET", {"Host": HERE, **CROSS, "Sec-Fetch-Mode": "navigate"}, None),
    ("POST", {"Host": HERE, **LINK}, "site"),
    ("GET", {"Host": HERE, **CROSS}, "site"),
    ("GET", {"Host": HERE, **CROSS, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, "site"),
    ("GET", {"Host": HERE, **CROSS, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, "site"),
    ("GET", {"Host": HERE, **CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, "site"),
    ("GET", {"Host": HERE, **CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object"}, "site"),
    ("GET", {"Host": HERE, "Sec-Fetch-Site": "CROSS-SITE", "Sec-Fetch-Mode": "websocket"}, "site"),
    ("GET", {"Host": HERE, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, None),
    ("GET", {"Host": HERE, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, None),
]


def decided(method: str, headers: Headers, names: HostNames) -> str | None:
    refused = refusal(method, CIMultiDictProxy(CIMultiDict(headers)), names)
    return refused.kind if refused else None


@pytest.mark.parametrize(("method", "headers", "kind"), TABLE, ids=lambda value: str(value)[:90])
def test_on_this_machine_only(method: str, headers: Headers, kind: str | None) -> None:
    assert decided(method, headers, HostNames.of("127.0.0.1", ["Comfy.Example.org"])) == kind


@pytest.mark.parametrize(
    ("listen", "host", "allowed"),
    [
        ("0.0.0.0", "192.168.1.5:8188", True),
        ("0.0.0.0", "[fe80::1]:8188", True),
        ("::", "0.0.0.0:8188", True),
        ("", socket.gethostname(), True),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", "1.2.3.4.nip.io", False),
        ("192.168.1.5", "192.168.1.5:8188", True),
        ("192.168.1.5", "localhost", True),
        ("192.168.1.5", "192.168.1.6", False),
        ("studio.lan", "studio.lan:8188", True),
        ("studio.lan", "studio", False),
    ],
)
def test_on_other_addresses(listen: str, host: str, allowed: bool) -> None:
    assert (decided("GET", {"Host": host}, HostNames.of(listen)) is None) == allowed


@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_two_headers_are_refused(name: str) -> None:
    headers = CIMultiDict({"Host": HERE, "Origin": ORIGIN})
    headers.add(name, headers[name])
    refused = refusal("GET", CIMultiDictProxy(headers), HostNames.of("127.0.0.1"))
    assert refused is not None
    assert refused.kind == name.lower()


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Host": "x" * 300}, f"The Host header '{'x' * 200}' is not a name of this host."),
        ({"Host": HERE, "Origin": "y" * 300}, f"another origin: Origin '{'y' * 200}', Host '127.0.0.1:8188'."),
        ({"Host": HERE, **CROSS}, "a page of another site (Sec-Fetch-Site: cross-site)."),
    ],
)
def test_the_reason_is_told(headers: Headers, text: str) -> None:
    refused = refusal("POST", CIMultiDictProxy(CIMultiDict(headers)), HostNames.of("127.0.0.1"))
    assert refused is not None
    assert text in refused.text


def test_what_is_refused_is_not_handled_and_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    check = same_origin(HostNames.of("127.0.0.1"))
    handled: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        handled.append(request.path)
        return web.Response(status=204)

    def answered(method: str, **headers: str) -> web.StreamResponse:
        async def answer() -> web.StreamResponse:
            return await check(make_mocked_request(method, "/x", headers), handler)

        return asyncio.run(answer())

    for _ in range(3):
        for headers in ({"Host": "evil.example"}, {"Host": HERE, "Origin": "null"}, {"Host": HERE, **CROSS}):
            answer = answered("POST", **headers)
            assert isinstance(answer, web.Response)
            assert answer.status == 403
            assert answer.text is not None
            assert answer.text.endswith(".\n")
    assert [message.partition("403. ")[0] for message in caplog.messages] == ["Refused POST '/x' with "] * 3
    assert (answered("OPTIONS", Host=HERE).status, handled) == (200, [])
    assert (answered("GET", Host=HERE).status, handled) == (204, ["/x"])
