"""What a server says of a file, in its headers, and which failures may pass."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from kandiflux.api.time_limit import TimeLimit
from kandiflux.api.tls import tls_context
from kandiflux.errors import AccessDenied, DownloadError
from kandiflux.models.remote_files import RemoteFile, RemoteFiles, Token, Trouble, page_of
from kandiflux.models.web_address import parse_address

from tests.support.file_server import Fault, FileServer, serving, serving_raw

DIGEST = "aB" * 32


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


def described(head: str) -> RemoteFile:
    answer = head.replace("\n", "\r\n") + "\r\nConnection: close\r\n\r\nx"
    with serving_raw(answer.encode()) as url:
        return RemoteFiles(timeout=(5.0, 5.0)).describe(f"{url}/x")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("206 P\nContent-Range: bytes 0-0/55\nContent-Length: 1", RemoteFile(55, True, None)),
        ("206 P\nContent-Range: bytes 0-0/*\nContent-Length: 1", RemoteFile(None, False, None)),
        ("206 P\nContent-Range: bytes 1-1/55\nContent-Length: 1", RemoteFile(55, False, None)),
        ("206 P\nContent-Length: 1", RemoteFile(None, False, None)),
        ("206 P\nContent-Range: bytes 0-0/1234567890123456789\nContent-Length: 1", RemoteFile(None, False, None)),
        ("200 OK\nContent-Length: 55", RemoteFile(55, False, None)),
        ("200 OK\nContent-Range: bytes 0-0/55", RemoteFile(None, False, None)),
        ("416 R\nContent-Range: bytes */0\nContent-Length: 1", RemoteFile(None, False, None)),
        ('206 P\nContent-Range: bytes 0-0/55\nETag: "t"', RemoteFile(55, True, '"t"', None, '"t"')),
        ('206 P\nContent-Range: bytes 0-0/55\nETag: W/"t"', RemoteFile(55, True, 'W/"t"', None, None)),
        ("206 P\nContent-Range: bytes 0-0/55\nLast-Modified: then", RemoteFile(55, True, "then", None, None)),
        (
            '206 P\nContent-Range: bytes 0-0/55\nETag: "t"\nLast-Modified: then',
            RemoteFile(55, True, '"t"', None, '"t"'),
        ),
        (
            f'206 P\nContent-Range: bytes 0-0/55\nX-Linked-Etag: "{DIGEST}"\nETag: "t"',
            RemoteFile(55, True, f'"{DIGEST}"', DIGEST.lower(), None),
        ),
        ('206 P\nContent-Range: bytes 0-0/55\nX-Linked-Etag: "t"', RemoteFile(55, True, '"t"', None, None)),
        (
            f'200 OK\nContent-Length: 55\nX-Linked-Etag: "{DIGEST}"',
            RemoteFile(55, False, f'"{DIGEST}"', DIGEST.lower()),
        ),
        ("200 OK\nContent-Length: 55\nContent-Encoding: identity", RemoteFile(55, False, None)),
        ("200 OK\nContent-Length: 55\nContent-Type: text/plain", RemoteFile(55, False, None)),
    ],
)
def test_what_a_server_says_of_a_file(head: str, expected: RemoteFile) -> None:
    assert described(f"HTTP/1.1 {head}") == expected


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("200 OK\nContent-Encoding: gzip\nContent-Length: 1", "is sent compressed although that was not requested"),
        ("200 OK\nContent-Type: Text/HTML; charset=x\nContent-Length: 1", "is a web page, not a file"),
        ("404 N\nContent-Length: 1", r"does not exist \(HTTP 404\)"),
        ("410 N\nContent-Length: 1", r"does not exist \(HTTP 410\)"),
        ("418 Teapot\nContent-Length: 1", r"returns HTTP 418 Teapot\."),
        ("302 Found\nContent-Length: 1", r"returns HTTP 302 Found\."),
        ("204 None\nContent-Length: 0", r"returns HTTP 204 None\."),
    ],
)
def test_answers_that_are_no_file(head: str, said: str) -> None:
    with pytest.raises(DownloadError, match=said):
        described(f"HTTP/1.1 {head}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("9" * 40, 1e9),
        ("-5", None),
        ("soon", None),
        ("", None),
        (email.utils.formatdate(1.0), 0.0),
    ],
)
def test_failures_that_may_pass(status: int, after: str | None, seconds: float | None) -> None:
    told = "" if after is None else f"\nRetry-After: {after}"
    with pytest.raises(Trouble, match=f"answers HTTP {status}") as caught:
        described(f"HTTP/1.1 {status} Busy\nContent-Length: 1{told}")
    assert (caught.value.after, caught.value.no_answer) == (seconds, False)


def test_retry_after_may_be_a_date() -> None:
    date = email.utils.formatdate(time.time() + 1000, usegmt=True)
    with pytest.raises(Trouble) as caught:
        described(f"HTTP/1.1 503 Busy\nContent-Length: 1\nRetry-After: {date}")
    assert caught.value.after == pytest.approx(1000, abs=60)


def test_no_answer_is_told_from_a_bad_one() -> None:
    with pytest.raises(Trouble, match=r"no answer from 127\.0\.0\.1:9 \(.*refused") as caught:
        RemoteFiles().describe("http://127.0.0.1:9/x")
    assert caught.value.no_answer


@pytest.mark.parametrize("times", [9, 10])
def test_redirects_are_followed_nine_times(server: FileServer, times: int) -> None:
    for number in range(times):
        server.add(f"/{number}", b"", redirect=f"/{number + 1}")
    server.add(f"/{times}", b"content")
    if times == 9:
        assert RemoteFiles().describe(f"{server.url}/0").size == 7
    else:
        with pytest.raises(DownloadError, match="more than 10 times"):
            RemoteFiles().describe(f"{server.url}/0")


def test_the_tag_of_a_redirects_answer_is_kept_to_the_end(server: FileServer) -> None:
    server.add("/x", b"", redirect="/y", headers={"X-Linked-Etag": f'"{DIGEST}"'})
    server.add("/y", b"content", headers={"X-Linked-Etag": '"other"'})
    found = RemoteFiles().describe(f"{server.url}/x")
    assert (found.identity, found.sha256, found.if_range) == (f'"{DIGEST}"', DIGEST.lower(), None)


@pytest.mark.parametrize(
    ("token", "why", "said", "got", "todo"),
    [
        (None, {}, "answers HTTP 403.", "no token", "Log in at {url}, and name the variable"),
        (
            Token("MINE", None),
            {"X-Error-Code": "Gated"},
            "HTTP 403 (Gated).",
            "no token",
            "set the environment variable MINE",
        ),
        (
            Token("MINE", "t"),
            {"X-Error-Message": "No", "X-Error-Code": "Gated"},
            "HTTP 403 (No).",
            "a token from MINE",
            "with the account of the token in MINE",
        ),
    ],
)
def test_a_file_that_is_denied(
    server: FileServer, token: Token | None, why: dict[str, str], said: str, got: str, todo: str
) -> None:
    url = server.add("/x", b"", Fault(status=403, headers=why))
    host = server.url.removeprefix("http://")
    with pytest.raises(AccessDenied) as caught:
        RemoteFiles({host.upper(): token} if token else {}).describe(url)
    assert said in str(caught.value)
    assert caught.value.got == got
    assert todo.format(url=server.url) in str(caught.value.hint)


@pytest.mark.parametrize(
    ("named", "url", "sent"),
    [
        ("a.example", "https://a.example/x", True),
        ("A.example", "https://a.EXAMPLE/x", True),
        ("a.example", "https://a.example:443/x", True),
        ("a.example", "https://a.example:8443/x", False),
        ("a.example:8443", "https://a.example:8443/x", True),
        ("a.example:443", "https://a.example/x", True),
        ("a.example:80", "http://a.example/x", True),
        ("a.example:80", "https://a.example/x", False),
        ("a.example", "https://b.example/x", False),
    ],
)
def test_the_token_for_an_address(named: str, url: str, sent: bool) -> None:
    address = parse_address(url)
    assert address is not None
    found = RemoteFiles({named: Token("MINE", " t\n")}).token_for(address)
    assert found == (Token("MINE", "t") if sent else None)


def test_a_token_of_a_port_comes_before_that_of_its_host() -> None:
    remotes = RemoteFiles({"a.example": Token("HOST", "h"), "a.example:443": Token("PORT", None)})
    address = parse_address("https://a.example/x")
    assert address is not None
    assert remotes.token_for(address) == Token("PORT", None)


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://huggingface.co/a/b/resolve/main/c", "https://huggingface.co/a/b"),
        ("https://huggingface.co/datasets/a/b/resolve/main/c", "https://huggingface.co/datasets/a/b"),
        ("https://huggingface.co/spaces/a/b/resolve/main/c", "https://huggingface.co/spaces/a/b"),
        ("https://civitai.com/api/x?token=t", "https://civitai.com"),
        ("http://a.example:81/x", "http://a.example:81"),
        ("ftp://user:pass@a/b", "ftp://a/b"),
    ],
)
def test_the_page_where_a_licence_is_accepted(url: str, page: str) -> None:
    assert page_of(url) == page


def test_what_is_asked_with_each_request(server: FileServer) -> None:
    RemoteFiles().describe(server.add("/x", b"abc"))
    (request,) = server.requests
    assert (request.range, request.headers["Accept-Encoding"]) == ((0, 0), "identity")
    assert request.headers["User-Agent"].startswith("kandiflux/")
    assert "Authorization" not in request.headers


def test_a_body_in_pieces(server: FileServer) -> None:
    with RemoteFiles().open(server.add("/x", b"abcdefg"), {}) as answer:
        assert (answer.status, answer.length, answer.range) == (200, 7, None)
        assert list(answer.chunks(3)) == [b"abc", b"def", b"g"]


@pytest.mark.parametrize(
    ("content", "value", "said"),
    [(b'{"a": 1}', {"a": 1}, None), (b"[]", [], None), (b"<html>", None, "does not return valid JSON")],
)
def test_a_small_answer_as_json(server: FileServer, content: bytes, value: Any, said: str | None) -> None:
    url = server.add("/x", content)
    if said is None:
        assert RemoteFiles().read_json(url) == value
    else:
        with pytest.raises(DownloadError, match=said) as caught:
            RemoteFiles().read_json(url)
        assert caught.value.got == content.decode()


@pytest.mark.parametrize("more", [0, 1])
def test_an_answer_of_more_than_16_mib_is_not_read(server: FileServer, more: int) -> None:
    url = server.add("/x", b" " * ((16 << 20) - 1 + more) + b"5")
    if more:
        with pytest.raises(DownloadError, match="is too long"):
            RemoteFiles().read_json(url)
    else:
        assert RemoteFiles().read_json(url) == 5


# What is asked of the network


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each time limit, and of each extension."""
    noted: list[float] = []

    class Noted(TimeLimit):
        def __init__(self, seconds: float) -> None:
            noted.append(seconds)
            super().__init__(seconds)

        def extend(self, seconds: float) -> None:
            noted.append(seconds)
            super().extend(seconds)

    monkeypatch.setattr("kandiflux.models.remote_files.TimeLimit", Noted)
    return noted


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each request; none is made."""
    noted: list[dict[str, Any]] = []

    def request(_pool: urllib3.PoolManager, _method: str, _url: str, **options: Any) -> None:
        noted.append(options)
        raise urllib3.exceptions.ProtocolError("not made")

    monkeypatch.setattr(urllib3.PoolManager, "request", request)
    return noted


def ask(remotes: RemoteFiles, url: str) -> None:
    with pytest.raises(Trouble, match="not made"):
        remotes.describe(url)


def test_how_long_an_answer_is_waited_for(sent: list[dict[str, Any]], limits: list[float]) -> None:
    ask(RemoteFiles(timeout=(3.0, 5.0), rate_window=7.0), "http://localhost/x")
    ask(RemoteFiles(), "http://localhost/x")
    waited = [options["timeout"] for options in sent]
    assert [(timeout.connect_timeout, timeout.read_timeout) for timeout in waited] == [(3.0, 5.0), (15.0, 60.0)]
    assert limits == [15.0, 105.0]
    assert [(options["retries"], options["redirect"], options["decode_content"]) for options in sent] == [
        (False, False, False)
    ] * 2


def test_the_time_for_a_body_is_put_off_with_every_so_many_bytes(server: FileServer, limits: list[float]) -> None:
    remotes = RemoteFiles(timeout=(5.0, 5.0), min_rate=2.5, rate_window=4.0)
    with remotes.open(server.add("/x", b"a" * 25), {}) as answer:
        assert answer.window == (10, 4.0)
        assert list(map(len, answer.chunks(100))) == [10, 10, 5]
    assert limits == [14.0, 4.0, 4.0, 4.0]
    limits.clear()
    with remotes.open(f"{server.url}/x", {}) as answer:
        assert list(map(len, answer.chunks(6))) == [6, 6, 6, 6, 1]
    assert limits == [14.0, 4.0, 4.0, 4.0]
    with RemoteFiles(min_rate=0).open(f"{server.url}/x", {}) as answer:
        assert answer.window == (1, 30.0)


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("https://a.example/x", True),
        ("http://a.example:443/x", False),
        ("http://localhost:443/x", True),
        ("http://[::1]:443/x", True),
    ],
)
def test_a_token_goes_out_encrypted_or_stays_on_this_machine(sent: list[dict[str, Any]], url: str, goes: bool) -> None:
    hosts = ("a.example:443", "localhost:443", "[::1]:443")
    ask(RemoteFiles({host: Token("MINE", "t") for host in hosts}), url)
    ask(RemoteFiles({host: Token("MINE", "") for host in hosts}), url)
    assert [options["headers"].get("Authorization") for options in sent] == ["Bearer t" if goes else None, None]


def test_certificates_are_read_once_and_only_for_https(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[Any, Any]] = []

    def noted(verify: Any, cert: Any) -> Any:
        read.append((verify, cert))
        return tls_context(True, None)

    monkeypatch.setattr("kandiflux.models.remote_files.tls_context", noted)
    remotes = RemoteFiles(verify="mine.pem")
    ask(remotes, "http://a.example/x")
    assert read == []
    for url in ("https://a.example/x", "https://b.example/x", "http://a.example/x"):
        ask(remotes, url)
    assert read == [("mine.pem", None)]
    assert len(sent) == 4


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 306, 307, 308])
def test_which_answers_lead_elsewhere(status: int) -> None:
    followed = status in (301, 302, 303, 307, 308)
    said = "is redirected more than 10 times" if followed else f"returns HTTP {status}"
    with pytest.raises(DownloadError, match=said):
        described(f"HTTP/1.1 {status} M\nLocation: /x\nContent-Length: 1")


def test_who_denied_a_file_that_is_redirected(server: FileServer) -> None:
    """The token to set is that of the address that the workflow names."""
    with serving() as other:
        other.add("/y", b"", Fault(status=401))
        url = server.add("/x", b"", redirect=f"{other.url}/y")
        token = Token("MINE", "t")
        with pytest.raises(AccessDenied) as caught:
            RemoteFiles({server.url.removeprefix("http://"): token}).describe(url)
    assert f"{url} is gated: {other.url.removeprefix('http://')} answers HTTP 401." in caught.value.message
    assert "of the token in MINE" in str(caught.value.hint)
    assert caught.value.parameter == "tokens"


def test_an_answer_that_does_not_come_in_time(sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    class Over(TimeLimit):
        def __init__(self, seconds: float) -> None:
            super().__init__(seconds)
            self.expired = True

    monkeypatch.setattr("kandiflux.models.remote_files.TimeLimit", Over)
    with pytest.raises(Trouble, match=r"^fewer than 20 bytes were received in 2 seconds$") as caught:
        RemoteFiles(min_rate=10.0, rate_window=2.0).describe("http://localhost/x")
    assert caught.value.no_answer
    assert len(sent) == 1


UNTRUSTED = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed"))
POOL: Any = None


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (UNTRUSTED, DownloadError, "localhost cannot be trusted: self-signed."),
        (urllib3.exceptions.MaxRetryError(POOL, "/x", UNTRUSTED), DownloadError, "localhost cannot be trusted"),
        (urllib3.exceptions.MaxRetryError(POOL, "/x"), Trouble, "no answer from localhost"),
        (urllib3.exceptions.SSLError(ssl.SSLError(1, "cut off")), Trouble, "no answer from localhost (cut off)"),
        (urllib3.exceptions.SSLError(), Trouble, "no answer from localhost (SSLError)"),
        (urllib3.exceptions.LocationParseError("x"), DownloadError, "'http://localhost/x' is not a valid URL."),
        (ConnectionResetError("reset"), Trouble, "no answer from localhost (reset)"),
        (ValueError("x"), DownloadError, "The request for http://localhost/x cannot be made."),
    ],
)
def test_why_no_answer_came(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, error: type[Exception], said: str
) -> None:
    def request(*_arguments: Any, **_options: Any) -> None:
        raise failure

    monkeypatch.setattr(urllib3.PoolManager, "request", request)
    with pytest.raises(error) as caught:
        RemoteFiles().describe("http://localhost/x")
    assert str(caught.value).startswith(said)
    assert getattr(caught.value, "parameter", None) == ("verify" if "trusted" in said else None)
    assert getattr(caught.value, "no_answer", None) == (True if error is Trouble else None)
