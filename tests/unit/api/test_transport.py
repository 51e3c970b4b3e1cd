"""Requests: what goes over the wire, and which error each failure is: sent or not, answered or not."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from kandiflux.api.time_limit import TimeLimit
from kandiflux.api.tls import tls_context
from kandiflux.api.transport import Answer as Got
from kandiflux.api.transport import Transport, Upload
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    BodyTooLarge,
    OutputError,
    ProtocolError,
    ServerUnreachable,
    UsageError,
)

from tests.support.stub_server import Answer, StubServer, drip, hang
from tests.support.waiting import until

PAGE = "<html>"
# urllib3 leaves the socket of an answer that breaks off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def transport(url: str, timeout: tuple[float, float] = (5.0, 5.0), headers: dict[str, str] | None = None) -> Transport:
    return Transport(url, headers=headers, verify=True, cert=None, timeout=timeout)


@contextlib.contextmanager
def talking(
    stub: StubServer, timeout: tuple[float, float] = (5.0, 5.0), headers: dict[str, str] | None = None
) -> Iterator[Transport]:
    with contextlib.closing(transport(stub.url, timeout, headers)) as talk:
        yield talk


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer().serving() as stub:
        yield stub


def without_length(content: bytes) -> Any:
    """An answer that ends where its connection does."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    return write


# What is sent


def test_a_question_has_its_query_and_our_headers(stub: StubServer) -> None:
    paths: list[str] = []

    def note(handler: BaseHTTPRequestHandler) -> dict[str, Any]:
        paths.append(handler.path)
        return {"a": 1}

    stub.reactions["GET /x"] = note
    with talking(stub, headers={"X-Key": "k"}) as talk:
        answer = talk.send("GET", "/x", query={"a": "b c", "d": 1})
        assert (answer.status, answer.body, answer.text) == (200, {"a": 1}, '{"a": 1}')
        talk.send("GET", "/x", query={"a": "\ud800"})
    assert paths == ["/x?a=b+c&d=1", "/x?a=%ED%A0%80"]
    assert stub.headers[0]["x-key"] == "k"
    assert stub.headers[0]["accept-encoding"] == "gzip, deflate"
    assert "content-type" not in stub.headers[0]


def test_json_is_sent_as_it_is(stub: StubServer) -> None:
    with talking(stub) as talk:
        talk.send("POST", "/queue", json_body={"a": [1, "é"]})
        for strange in ({"a": float("nan")}, {"a": {1}}):
            with pytest.raises(UsageError, match="cannot be encoded as JSON"):
                talk.send("POST", "/queue", json_body=strange)
    assert stub.headers[0]["content-type"] == "application/json"
    assert json.loads(stub.bodies[0]) == {"a": [1, "é"]}
    assert len(stub.asked) == 1


def test_of_a_file_only_what_was_announced_is_sent(stub: StubServer) -> None:
    """It may grow while it is read."""
    stub.reactions["POST /upload"] = {}
    content = bytes(range(256)) * 1000
    with talking(stub) as talk:
        talk.send("POST", "/upload", form={"b": Upload("n", io.BytesIO(content), len(content) - 1), "a": "é"})
    body = stub.bodies[0]
    assert int(stub.headers[0]["content-length"]) == len(body)
    assert b"\r\n\r\n" + content[:-1] + b"\r\n--" in body
    assert "\r\n\r\né\r\n".encode() in body


def test_a_user_in_the_address_is_a_header_and_a_header_of_ones_own_goes_before_it() -> None:
    talk = transport("http://anna:b@localhost:1")
    assert (talk.url, talk.headers) == ("http://localhost:1", {"Authorization": "Basic YW5uYTpi"})
    assert transport("http://anna:b@localhost", headers={"Authorization": "x"}).headers == {"Authorization": "x"}


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("X-Key", "a b\té\xff", True),
        ("X_1.~", "", True),
        ("X Key", "a", False),
        ("", "a", False),
        ("X:", "a", False),
        ("É", "a", False),
        ("X", "a\nb", False),
        ("X", "a\r", False),
        ("X", "\0", False),
        ("X", "€", False),
    ],
)
def test_which_headers_can_be_sent(name: str, value: str, fits: bool) -> None:
    if fits:
        assert transport("http://localhost", headers={name: value}).headers == {name: value}
    else:
        with pytest.raises(UsageError, match="cannot be sent"):
            transport("http://localhost", headers={name: value})


def test_a_request_that_no_url_allows_is_the_callers_fault(stub: StubServer) -> None:
    with (
        contextlib.closing(transport("http://" + "a" * 300)) as talk,
        pytest.raises(UsageError, match="cannot be made"),
    ):
        talk.send("GET", "/x")


# Answers


@pytest.mark.parametrize(("content", "body"), [(b"[1]", [1]), (b"{", None), (b"", None), (b"[" * 900, None)])
def test_the_json_of_an_answer(content: bytes, body: object) -> None:
    assert Got(200, content).body == body


def test_the_beginning_of_an_answer_is_shown() -> None:
    assert Got(200, b"\xff" + b"x" * 3000).text == "\ufffd" + "x" * 1999


@pytest.mark.parametrize("status", [401, 403])
def test_access_that_is_denied(stub: StubServer, status: int) -> None:
    stub.reactions["GET /x"] = Answer(PAGE, status)
    with talking(stub) as talk, pytest.raises(AccessDenied, match=rf"HTTP {status}") as caught:
        talk.send("GET", "/x")
    assert caught.value.parameter == "credentials"


@pytest.mark.parametrize(("body", "got"), [({"a": 1}, "8 bytes"), (None, None)])
def test_a_body_that_is_too_large_for_the_server(
    stub: StubServer, body: dict[str, Any] | None, got: str | None
) -> None:
    stub.reactions["POST /x"] = Answer(PAGE, 413)
    with talking(stub) as talk, pytest.raises(BodyTooLarge, match="larger than the server accepts") as caught:
        talk.send("POST", "/x", json_body=body)
    assert caught.value.got == got


@pytest.mark.parametrize("status", [200, 204, 400, 402, 404, 412, 500])
def test_any_other_status_is_an_answer(stub: StubServer, status: int) -> None:
    stub.reactions["GET /x"] = Answer("", status)
    with talking(stub) as talk:
        assert talk.send("GET", "/x").status == status


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(("size", "fits"), [(0, True), (999, True), (1000, True), (1001, False), (5000, False)])
def test_an_answer_is_bounded(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch, size: int, announced: bool, fits: bool
) -> None:
    """Also beyond the size from which it is collected in a mapping."""
    monkeypatch.setattr("kandiflux.api.transport.MAX_ANSWER_BYTES", 1000)
    monkeypatch.setattr("kandiflux.api.transport._LARGE_BYTES", 500)
    monkeypatch.setattr("kandiflux.api.transport._CHUNK", 100)
    content = bytes(number % 251 for number in range(size))
    stub.reactions["GET /x"] = Answer(content) if announced else without_length(content)
    with talking(stub) as talk:
        if fits:
            assert [talk.send("GET", "/x").content for _ in range(2)] == [content] * 2
            return
        with pytest.raises(ProtocolError, match="is too large") as caught:
            talk.send("GET", "/x")
        assert caught.value.got == (f"{size} bytes" if announced else f"more than {min(size, 1100)} bytes")


@pytest.mark.parametrize("length", ["9" * 18, "9" * 19, "9" * 5000])
def test_an_answer_that_announces_too_much_is_not_waited_for(stub: StubServer, length: str) -> None:
    stub.reactions["GET /x"] = Answer("{}", headers={"Content-Length": length})
    with talking(stub) as talk, pytest.raises((ProtocolError, AnswerLost)):
        talk.send("GET", "/x")


@pytest.mark.parametrize(("length", "sent"), [("5", b"{}12345"), ("x", b"{}")])
def test_more_than_was_announced_is_not_read(stub: StubServer, length: str, sent: bytes) -> None:
    stub.reactions["GET /x"] = Answer(sent, headers={"Content-Length": length})
    with talking(stub) as talk:
        assert talk.send("GET", "/x").content == (sent[:5] if length == "5" else sent)


# Failures


def test_where_nobody_listens_nothing_was_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            contextlib.closing(transport(url)) as talk,
            pytest.raises(ServerUnreachable, match="Nothing answers") as caught,
        ):
            talk.send("POST", "/x")
    assert type(caught.value) is ServerUnreachable
    assert caught.value.refused
    assert caught.value.parameter == "server"


@pytest.mark.parametrize(
    ("reaction", "timeout", "still_coming"),
    [
        (lambda handler: None, 60.0, False),
        (Answer("{}", headers={"Content-Length": "1000"}), 60.0, False),
        (hang, 0.5, True),
    ],
)
def test_an_answer_that_does_not_come(stub: StubServer, reaction: Any, timeout: float, still_coming: bool) -> None:
    """One that is only slow may still be acted upon."""
    stub.reactions["POST /x"] = reaction
    lost = pytest.raises(AnswerLost, match=r"No answer from http://.*/x: .")
    with talking(stub, (5.0, timeout)) as talk, lost as caught:
        talk.send("POST", "/x", json_body={})
    assert (caught.value.still_coming, caught.value.refused) == (still_coming, False)
    assert len(stub.asked) == 1


@pytest.mark.parametrize(("within", "timeout"), [(0.2, 60.0), (None, 1.0)])
def test_a_whole_answer_is_bounded_in_time(stub: StubServer, within: float | None, timeout: float) -> None:
    """Three read timeouts, or what the caller says: a byte now and then keeps no read timeout from starting again."""
    stub.reactions["GET /x"] = drip
    begun = time.monotonic()
    with talking(stub, (5.0, timeout)) as talk, pytest.raises(AnswerLost, match="was not answered in time") as caught:
        talk.send("GET", "/x", within=within)
    assert caught.value.still_coming
    assert time.monotonic() - begun >= (within or 3 * timeout)


def test_an_answer_without_length_that_is_cut_short_by_time_is_not_whole(stub: StubServer) -> None:
    def begin(handler: BaseHTTPRequestHandler) -> None:
        without_length(b"{}")(handler)
        handler.wfile.flush()
        hang(handler)

    stub.reactions["GET /x"] = begin
    with talking(stub, (5.0, 60.0)) as talk, pytest.raises(AnswerLost, match="was not answered in time"):
        talk.send("GET", "/x", within=0.2)


def test_no_request_is_begun_after_the_deadline(stub: StubServer) -> None:
    with talking(stub) as talk:
        talk.deadline = time.monotonic()
        for ask in (
            lambda: talk.send("GET", "/queue"),
            lambda: talk.download("/view", {}, "It", max_bytes=1),
        ):
            with pytest.raises(ServerUnreachable, match="no time left") as caught:
                ask()
            assert type(caught.value) is ServerUnreachable
        with pytest.raises(ServerUnreachable, match="no time left"):
            talk.send("GET", "/queue", within=0.0)
        assert stub.asked == []
        stub.reactions["GET /x"] = drip
        talk.deadline = time.monotonic() + 1.0
        with pytest.raises(AnswerLost, match="in time"):
            talk.send("GET", "/x", within=60.0)
        talk.deadline = time.monotonic() + 60.0
        assert talk.send("GET", "/queue").status == 200


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_question_is_redirected_and_nothing_else(stub: StubServer, status: int) -> None:
    """A redirected POST would arrive as a GET."""
    stub.reactions = {"GET /old": Answer("", status, headers={"Location": "/new?a=1"}), "GET /new": {"new": 1}}
    stub.reactions["POST /old"] = stub.reactions["GET /old"]
    with talking(stub, headers={"X-Key": "k"}) as talk:
        assert talk.send("GET", "/old").body == {"new": 1}
        assert talk.send("POST", "/old", json_body={}).status == status
        with contextlib.closing(talk.download("/old", {}, "It", max_bytes=99)) as download:
            assert b"".join(download.chunks()) == b'{"new": 1}'
    assert stub.asked == ["GET /old", "GET /new", "POST /old", "GET /old", "GET /new"]
    assert [sent.get("x-key") for sent in stub.headers] == ["k"] * 5


@pytest.mark.parametrize(("status", "headers"), [(300, {"Location": "/new"}), (302, {}), (200, {"Location": "/new"})])
def test_what_is_no_redirect_is_the_answer(stub: StubServer, status: int, headers: dict[str, str]) -> None:
    stub.reactions["GET /old"] = Answer("", status, headers=headers)
    with talking(stub) as talk:
        assert talk.send("GET", "/old").status == status
    assert stub.asked == ["GET /old"]


@pytest.mark.parametrize(("length", "fits"), [(10, True), (11, False)])
def test_ten_redirects_are_followed(stub: StubServer, length: int, fits: bool) -> None:
    for number in range(length):
        stub.reactions[f"GET /{number}."] = Answer("", 302, headers={"Location": f"/{number + 1}."})
    stub.reactions[f"GET /{length}."] = {}
    with talking(stub) as talk:
        if fits:
            assert talk.send("GET", "/0.").body == {}
        else:
            with pytest.raises(ProtocolError, match="redirected more than 10 times"):
                talk.send("GET", "/0.")
    assert len(stub.asked) == 11


def test_headers_stay_with_their_server(stub: StubServer) -> None:
    """Another port is another server; and what came back from there is not trusted again."""
    with StubServer().serving() as other:
        stub.reactions = {"GET /a": Answer("", 302, headers={"Location": f"{other.url}/b"}), "GET /c": {"end": 1}}
        other.reactions["GET /b"] = Answer("", 302, headers={"Location": f"{stub.url}/c"})
        with talking(stub, headers={"X-Key": "k"}) as talk:
            for _ in range(2):
                assert talk.send("GET", "/a").body == {"end": 1}
    assert [sent.get("x-key") for sent in stub.headers] == ["k", None] * 2
    assert [sent.get("x-key") for sent in other.headers] == [None] * 2


@pytest.mark.parametrize(
    "location", ["comfy-login://sso", "file:///etc/passwd", "http://[::1", "http://127.0.0.1:99999/", "https:///x"]
)
def test_an_address_that_cannot_be_followed(stub: StubServer, location: str) -> None:
    stub.reactions["GET /x"] = Answer("", 302, headers={"Location": location})
    with talking(stub) as talk, pytest.raises(ProtocolError, match="/x is redirected to a URL that") as caught:
        talk.send("GET", "/x")
    assert caught.value.got == location
    assert "Sign in" in (caught.value.hint or "")


@pytest.mark.parametrize("location", ["http://" + "a" * 300 + "/", "http://x" + "é" * 70 + "/"])
def test_a_redirect_to_a_host_that_is_none(stub: StubServer, location: str) -> None:
    stub.reactions["GET /x"] = Answer("", 302, headers={"Location": location.encode().decode("latin-1")})
    with talking(stub) as talk, pytest.raises(ProtocolError, match="cannot be followed"):
        talk.send("GET", "/x")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "a.localhost", "[::1]"])
def test_another_machine_does_not_send_us_to_this_one(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", stub.url)
    stub.reactions["GET http://comfy.test/x"] = Answer("", 302, headers={"Location": f"http://{host}:9/y"})
    stub.reactions["GET http://comfy.test/z"] = Answer("", 302, headers={"Location": "http://other.test/y"})
    stub.reactions["GET http://other.test/y"] = {"end": 1}
    stub.reactions["GET http://comfy.test/same"] = Answer("", 302, headers={"Location": "http://comfy.test:80/end"})
    stub.reactions["GET http://comfy.test:80/end"] = {"end": 2}
    with contextlib.closing(transport("http://comfy.test", headers={"X-Key": "k"})) as talk:
        with pytest.raises(ProtocolError, match="cannot be followed"):
            talk.send("GET", "/x")
        assert talk.send("GET", "/z").body == {"end": 1}
        assert talk.send("GET", "/same").body == {"end": 2}
    assert [sent.get("x-key") for sent in stub.headers] == ["k", "k", None, "k", "k"]


# Downloads


def fetched(stub: StubServer, *, max_bytes: int = 1 << 20, timeout: float = 5.0, within: float | None = None) -> bytes:
    with (
        talking(stub, (5.0, timeout)) as talk,
        contextlib.closing(talk.download("/x", {"a": 1}, "It", max_bytes=max_bytes, within=within)) as download,
    ):
        return b"".join(download.chunks())


def test_what_a_download_is(stub: StubServer) -> None:
    stub.reactions["GET /x"] = Answer(b"abc", 404, "Image/PNG ; a=b")
    with talking(stub) as talk:
        for _ in range(2):
            with contextlib.closing(talk.download("/x", {}, "It", max_bytes=3)) as download:
                about = download.status, download.reason, download.content_type
                assert about == (404, "Not Found", "image/png")
                assert list(download.chunks()) == [b"abc"]


@pytest.mark.parametrize(("size", "fits"), [(3000, True), (3001, False)])
def test_a_download_is_bounded(stub: StubServer, size: int, fits: bool) -> None:
    stub.reactions["GET /x"] = without_length(b"x" * size)
    if fits:
        assert len(fetched(stub, max_bytes=3000)) == size
    else:
        with pytest.raises(OutputError, match="It failed: it is larger than 0 GiB"):
            fetched(stub, max_bytes=3000)


def test_a_download_that_breaks_off(stub: StubServer) -> None:
    stub.reactions["GET /x"] = Answer(b"abc", headers={"Content-Length": "5"})
    with pytest.raises(AnswerLost, match=r"It was cut off: ."):
        fetched(stub)


@pytest.mark.parametrize(("timeout", "within"), [(1.5, None), (60.0, 1.5), (1.5, 60.0)])
def test_a_download_that_is_too_slow(stub: StubServer, timeout: float, within: float | None) -> None:
    stub.reactions["GET /x"] = drip
    with pytest.raises(AnswerLost, match="It failed: it was too slow"):
        fetched(stub, timeout=timeout, within=within)


def test_a_download_without_length_that_is_cut_short_by_time_is_not_whole(stub: StubServer) -> None:
    def begin(handler: BaseHTTPRequestHandler) -> None:
        without_length(b"abc")(handler)
        handler.wfile.flush()
        hang(handler)

    stub.reactions["GET /x"] = begin
    with pytest.raises(AnswerLost, match="too slow"):
        fetched(stub, timeout=60.0, within=1.5)


class Unnoticed(TimeLimit):
    """A deadline that passes without the thread that watches for it."""

    def expire(self) -> None:
        pass


def test_the_deadline_is_said_to_have_passed_if_a_read_timeout_comes_first(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.api.transport.TimeLimit", Unnoticed)

    def begin(handler: BaseHTTPRequestHandler) -> None:
        without_length(b"abc")(handler)
        hang(handler)

    stub.reactions |= {"GET /x": begin, "GET /hang": hang}
    with pytest.raises(AnswerLost, match="It failed: it was too slow"):
        fetched(stub, timeout=60.0, within=1.5)
    with talking(stub, (5.0, 60.0)) as talk:
        for path in ("/x", "/hang"):
            with pytest.raises(AnswerLost, match=f"{path} was not answered in time") as caught:
                talk.send("GET", path, within=0.2)
            assert caught.value.still_coming


def test_without_a_connection_nothing_was_sent_even_if_the_deadline_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[TimeLimit] = []

    class Noted(TimeLimit):
        def __init__(self, seconds: float) -> None:
            super().__init__(seconds)
            limits.append(self)

    def request(*_arguments: Any, **_options: Any) -> None:
        until(lambda: limits[-1].expired)
        raise urllib3.exceptions.ConnectTimeoutError("slow")

    monkeypatch.setattr("kandiflux.api.transport.TimeLimit", Noted)
    monkeypatch.setattr(urllib3.PoolManager, "request", request)
    with contextlib.closing(transport("http://localhost")) as talk, pytest.raises(ServerUnreachable) as caught:
        talk.send("POST", "/x", within=0.05)
    assert type(caught.value) is ServerUnreachable
    assert caught.value.refused


def steady(handler: BaseHTTPRequestHandler) -> None:
    """64 KiB every 0.25 s, eight times."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(8 << 16))
    handler.end_headers()
    for _ in range(8):
        time.sleep(0.25)
        handler.wfile.write(b"x" * (1 << 16))


def test_a_download_may_take_as_long_as_it_makes_progress(stub: StubServer) -> None:
    stub.reactions["GET /x"] = steady
    assert len(fetched(stub, timeout=1.6)) == 8 << 16
    with pytest.raises(AnswerLost, match="too slow"):
        fetched(stub, timeout=1.5, within=1.6)


def test_a_deadline_holds_for_a_download_too(stub: StubServer) -> None:
    stub.reactions["GET /x"] = steady
    with talking(stub, (5.0, 5.0)) as talk:
        talk.deadline = time.monotonic() + 1.5
        with (
            contextlib.closing(talk.download("/x", {}, "It", max_bytes=1 << 30)) as download,
            pytest.raises(AnswerLost, match="too slow"),
        ):
            list(download.chunks())


def test_a_connection_is_used_again(stub: StubServer) -> None:
    ports: set[int] = set()

    def note(handler: BaseHTTPRequestHandler) -> dict[str, Any]:
        ports.add(handler.client_address[1])
        return {}

    stub.reactions["GET /x"] = note
    with talking(stub) as talk:
        for _ in range(2):
            talk.send("GET", "/x")
            with contextlib.closing(talk.download("/x", {}, "It", max_bytes=9)) as download:
                list(download.chunks())
    assert len(ports) == 1


# What is asked of the network


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each time limit."""
    noted: list[float] = []

    class Noted(TimeLimit):
        def __init__(self, seconds: float) -> None:
            noted.append(seconds)
            super().__init__(seconds)

    monkeypatch.setattr("kandiflux.api.transport.TimeLimit", Noted)
    return noted


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each request; none is made."""
    noted: list[dict[str, Any]] = []

    def request(_pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> None:
        noted.append({"method": method, "url": url, **options})
        raise urllib3.exceptions.ProtocolError("not made")

    monkeypatch.setattr(urllib3.PoolManager, "request", request)
    return noted


def waited(options: dict[str, Any]) -> tuple[float, float]:
    return options["timeout"].connect_timeout, options["timeout"].read_timeout


def test_how_long_a_request_may_take(sent: list[dict[str, Any]], limits: list[float]) -> None:
    body = {"a": "x" * (1 << 17)}
    with contextlib.closing(transport("http://localhost", (200.0, 500.0))) as talk:

        def ask(**options: Any) -> None:
            with pytest.raises(AnswerLost, match="not made"):
                talk.send("POST", "/x", **options)

        ask()
        ask(json_body=body)
        ask(form={"a": Upload("n", io.BytesIO(), 5 << 16)})
        ask(within=60.0)
        ask(within=6000.0)
        talk.deadline = time.monotonic() + 100.0
        ask()
        ask(within=60.0)
    assert limits[:2] == [1500.0, 1500.0 + len(json.dumps(body)) / 65536]
    assert 1505.0 < limits[2] < 1505.1
    assert limits[3:5] == [60.0, 1500.0]
    assert 90.0 < limits[5] <= 100.0
    assert limits[6] == 60.0
    assert [waited(sent[at]) for at in (0, 1, 2, 4)] == [(200.0, 500.0)] * 4
    for at, most in ((3, 60.0), (5, 100.0), (6, 60.0)):
        assert all(most - 10 < seconds <= most for seconds in waited(sent[at]))
    assert all((one["retries"], one["redirect"], one["preload_content"]) == (False, False, False) for one in sent)


def test_how_long_the_beginning_of_a_download_may_take(sent: list[dict[str, Any]], limits: list[float]) -> None:
    with contextlib.closing(transport("http://localhost", (200.0, 500.0))) as talk:
        for within in (None, 60.0, 6000.0):
            with pytest.raises(AnswerLost, match="not made"):
                talk.download("/view", {"a": 1}, "It", max_bytes=1, within=within)
    assert limits == [500.0, 60.0, 500.0]
    assert {(one["method"], one["url"]) for one in sent} == {("GET", "http://localhost/view?a=1")}


POOL: Any = None


@pytest.mark.parametrize(
    ("failure", "error", "said", "about"),
    [
        (
            urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed")),
            ServerUnreachable, "No secure connection", {"refused": True},
        ),
        (urllib3.exceptions.SSLError(ssl.SSLError(1, "cut off")), AnswerLost, "No secure connection", {}),
        (urllib3.exceptions.SSLError(), AnswerLost, "No secure connection", {}),
        (
            urllib3.exceptions.ProxyError("no proxy", OSError()),
            ServerUnreachable, "The proxy for http://localhost cannot be reached", {"refused": True},
        ),
        (
            urllib3.exceptions.NewConnectionError(POOL, "refused"),
            ServerUnreachable, "Nothing answers at http://localhost.", {"refused": True, "parameter": "server"},
        ),
        (
            urllib3.exceptions.ConnectTimeoutError("slow"),
            ServerUnreachable, "Nothing answers at http://localhost.", {"refused": True, "parameter": "server"},
        ),
        (
            urllib3.exceptions.ReadTimeoutError(POOL, "/x", "slow"),
            AnswerLost, "No answer from http://localhost/x", {"still_coming": True},
        ),
        (TimeoutError("slow"), AnswerLost, "No answer from http://localhost/x: slow.", {"still_coming": True}),
        (ConnectionResetError("reset"), AnswerLost, "No answer from http://localhost/x: reset.", {}),
        (OSError("y" * 400), AnswerLost, "No answer from http://localhost/x: " + "y" * 300,
         {}),
    ],
)  # fmt: skip
def test_which_failure_says_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, error: type[Exception], said: str, about: dict[str, Any]
) -> None:
    def request(*_arguments: Any, **_options: Any) -> None:
        raise failure

    monkeypatch.setattr(urllib3.PoolManager, "request", request)
    with contextlib.closing(transport("http://localhost")) as talk, pytest.raises(ServerUnreachable) as caught:
        talk.send("GET", "/x")
    assert type(caught.value) is error
    assert caught.value.message.startswith(said)
    expected = {"refused": False, "parameter": None, "still_coming": False, **about}
    assert {name: getattr(caught.value, name, False) for name in expected} == expected


def test_a_certificate_of_ones_own_is_for_the_server_that_was_named(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cert = str(tmp_path / "mine.pem")
    Path(cert).touch()
    made: list[Any] = []

    def noted(verify: Any, own: Any) -> ssl.SSLContext:
        made.append((verify, own))
        return tls_context(True, None)

    monkeypatch.setattr("kandiflux.api.transport.tls_context", noted)
    makers = [("http://localhost", None), ("https://localhost", None), ("https://localhost", cert)]
    for url, own in makers:
        Transport(url, headers=None, verify=True, cert=own, timeout=(1.0, 1.0)).close()
    assert made == [(True, None), (True, cert)]
    refuse = urllib3.PoolManager.request
    places = ("/same", "https://LOCALHOST:443/same", "https://other.test/x", "https://other.test/y")
    answers = [SimpleNamespace(status=302, headers={"Location": place}, close=lambda: None) for place in places]

    def request(pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
        if answers:
            sent.append({"url": url, "key": options["headers"].get("X-Key")})
            return answers.pop(0)
        return refuse(pool, method, url, **options)

    monkeypatch.setattr(urllib3.PoolManager, "request", request)
    made.clear()
    talk = Transport("https://localhost", headers={"X-Key": "k"}, verify=True, cert=cert, timeout=(1.0, 1.0))
    with contextlib.closing(talk), pytest.raises(AnswerLost):
        talk.send("GET", "/x")
    assert made == [(True, cert), (True, None)], "one context for each of the two servers"
    assert [(one["url"], one.get("key", one.get("headers", {}).get("X-Key"))) for one in sent] == [
        ("https://localhost/x", "k"),
        ("https://localhost/same", "k"),
        ("https://LOCALHOST:443/same", "k"),
        ("https://other.test/x", None),
        ("https://other.test/y", None),
    ]


def test_only_an_unchecked_certificate_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for url, verify in (("http://localhost", False), ("https://localhost", True)):
            Transport(url, headers=None, verify=verify, cert=None, timeout=(1.0, 1.0)).close()
        assert caplog.text == ""
        Transport("https://localhost", headers=None, verify=False, cert=None, timeout=(1.0, 1.0)).close()
    assert "https://localhost: its certificate is not verified" in caplog.text


def test_the_time_for_a_download_is_put_off_up_to_its_end(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    extended: list[float] = []

    class Noted(TimeLimit):
        def extend(self, seconds: float) -> None:
            extended.append(seconds)
            super().extend(seconds)

    monkeypatch.setattr("kandiflux.api.transport.TimeLimit", Noted)
    stub.reactions["GET /view"] = without_length(b"x" * (1 << 18))
    with talking(stub, (5.0, 500.0)) as talk:
        for within, deadline, least, most in (
            (None, None, 500, 500), (60.0, None, 30, 60), (60.0, 50.0, 20, 50), (6000.0, None, 500, 500),
        ):  # fmt: skip
            talk.deadline = None if deadline is None else time.monotonic() + deadline
            coming = talk.download("/view", {}, "It", max_bytes=1 << 20, within=within)
            assert sum(map(len, coming.chunks())) == 1 << 18
            coming.close()
            assert extended
            assert all(least <= seconds <= most for seconds in extended)
            extended.clear()


def test_large_answers_are_read_one_at_a_time(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.api.transport._LARGE_BYTES", 500)
    go_on = threading.Event()

    def in_halves(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "131072")
        handler.end_headers()
        handler.wfile.write(b"x" * 65536)
        handler.wfile.flush()
        go_on.wait(30)
        handler.wfile.write(b"x" * 65536)

    stub.reactions |= {"GET /slow": in_halves, "GET /large": {"a": "x" * 1000}, "GET /small": {"a": "x" * 300}}
    with talking(stub, (30.0, 30.0)) as talk, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(talk.send, "GET", "/slow")
        try:
            until(lambda: getattr(talk, "_large_answer").locked())  # noqa: B009
            with pytest.raises(AnswerLost):
                talk.send("GET", "/large", within=0.1)
            assert len(talk.send("GET", "/small").content) < 400
        finally:
            go_on.set()
        assert len(slow.result(30).content) == 131072
        assert len(talk.send("GET", "/large").content) > 1000
