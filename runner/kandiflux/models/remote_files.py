"""Files on web servers: requests their metadata and content, and maps failures to `kandiflux.errors`.

A token is sent only to its own host, also after redirects. Safe to use from many threads.
"""

from __future__ import annotations

import email.utils
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, LocationValueError, MaxRetryError, SSLError
from urllib3.util import Url

from kandiflux import __version__
from kandiflux.api.proxies import make_pool, proxy_for
from kandiflux.api.time_limit import TimeLimit
from kandiflux.api.tls import tls_context
from kandiflux.errors import AccessDenied, DownloadError, UsageError
from kandiflux.models.web_address import parse_address, shortened, shown_address
from kandiflux.util.addresses import is_loopback
from kandiflux.util.json_values import parse_json

__all__ = ["RemoteAnswer", "RemoteFile", "RemoteFiles", "Token", "Trouble", "page_of"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 10
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_BYTES = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HUB = "huggingface.co"
_MAX_JSON_BYTES = 16 << 20
_MAX_RETRY_AFTER = 1e9


class Trouble(Exception):
    """A temporary failure; the request can be retried.

    after: seconds that the server asks to wait. no_answer: no server answered.
    """

    def __init__(self, message: str, *, after: float | None = None, no_answer: bool = False) -> None:
        self.after = after
        self.no_answer = no_answer
        super().__init__(message)


@dataclass(frozen=True)
class Token:
    """An access token. `variable` is its environment variable; `value` is None if that is not set."""

    variable: str
    value: str | None


@dataclass(frozen=True)
class RemoteFile:
    """A server's metadata of a file.

    size: in bytes. ranges: whether the server supports range requests. identity: a value that changes with the content
    (ETag or Last-Modified). if_range: the validator for If-Range requests, if there is one.
    """

    size: int | None
    ranges: bool
    identity: str | None
    sha256: str | None = None
    if_range: str | None = None


@dataclass(frozen=True)
class RemoteAnswer:
    """A response whose body has not been read yet. Use it as a context manager to close it."""

    response: urllib3.BaseHTTPResponse
    limit: TimeLimit
    window: tuple[int, float]
    """(bytes, seconds): the minimum number of bytes that must be received in each period of so many seconds."""
    identity: str | None
    sha256: str | None
    if_range: str | None

    def __enter__(self) -> RemoteAnswer:
        return self

    def __exit__(self, *_: object) -> None:
        self.limit.close()
        self.response.close()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def length(self) -> int | None:
        """The Content-Length in bytes; None if it is missing or not valid."""
        text = self.response.headers.get("Content-Length", "").strip()
        return int(text) if _BYTES.fullmatch(text) else None

    @property
    def range(self) -> tuple[int, int | None] | None:
        """(first byte, size of the whole file) of a partial response; None for other responses."""
        found = _RANGE.fullmatch(self.response.headers.get("Content-Range", "").strip())
        if self.status != 206 or found is None:
            return None
        return int(found[1]), None if found[3] == "*" else int(found[3])

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yields the body in pieces of at most `size` bytes. Trouble if the connection is lost or too slow."""
        enough, seconds = self.window
        received = 0
        try:
            for chunk in self.response.stream(min(size, enough)):
                yield chunk
                received += len(chunk)
                if received >= enough:
                    received = 0
                    self.limit.extend(seconds)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            if not self.limit.expired:
                raise Trouble(f"the connection was lost ({_reason(error)})") from error
        if self.limit.expired:
            raise _too_slow(self.window)


class RemoteFiles:
    """Requests files from web servers.

    tokens: by host, `huggingface.co` or `host:port`.
    timeout: seconds to connect, and between received bytes.
    verify: False, or the path of a CA bundle.
    min_rate: the minimum bytes per second of a connection, measured over `rate_window` seconds; a slower one fails.
    """

    def __init__(
        self,
        tokens: Mapping[str, Token] | None = None,
        *,
        timeout: tuple[float, float] = (15.0, 60.0),
        verify: bool | str = True,
        min_rate: float = 1024.0,
        rate_window: float = 30.0,
    ) -> None:
        self._tokens = {host.lower(): _validated(token) for host, token in (tokens or {}).items()}
        self._timeout = urllib3.Timeout(connect=timeout[0], read=timeout[1])
        self._until_answer = timeout[0] + timeout[1] + rate_window
        self._window = (max(1, int(min_rate * rate_window)), rate_window)
        self._verify = verify
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._pools: dict[tuple[bool, str | None], urllib3.PoolManager] = {}

    def describe(self, url: str) -> RemoteFile:
        """Returns the metadata of a file.

        Requests one byte: all servers answer that, unlike HEAD, and it shows whether they support ranges.
        """
        with self.open(url, {"Range": "bytes=0-0"}, accepted=(200, 206, 416)) as answer:
            if answer.status == 206 and answer.range is not None:
                first, size = answer.range
                ranges = size is not None and first == 0
                return RemoteFile(size, ranges, answer.identity, answer.sha256, answer.if_range)
            size = answer.length if answer.status == 200 else None
            return RemoteFile(size, False, answer.identity, answer.sha256)

    def open(self, url: str, headers: Mapping[str, str], accepted: tuple[int, ...] = (200, 206)) -> RemoteAnswer:
        """Sends a GET request and returns the response with its body not yet read.

        Raises Trouble if the failure is temporary, else DownloadError or AccessDenied; UsageError if a token or the
        certificates cannot be used.
        """
        start = address = _require_address(url)
        linked: str | None = None
        for _ in range(_MAX_REDIRECTS):
            response, limit = self._get(address, headers)
            linked = linked or response.headers.get("X-Linked-Etag")
            if response.status in accepted:
                return self._answer(start, response, limit, linked)
            limit.close()
            response.close()
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                raise self._failure(start, address, response)
            address = _next(address, response.headers["Location"])
        raise DownloadError(f"{shown_address(start.url)} is redirected more than {_MAX_REDIRECTS} times.")

    def read_json(self, url: str) -> Any:
        """Requests and decodes JSON of at most 16 MiB. Trouble; DownloadError if it is too long or not valid JSON."""
        content = bytearray()
        with self.open(url, {}, accepted=(200,)) as answer:
            for chunk in answer.chunks(1 << 16):
                content += chunk
                if len(content) > _MAX_JSON_BYTES:
                    raise DownloadError(
                        f"{shown_address(url)} is too long.", expected=f"at most {_MAX_JSON_BYTES} bytes of JSON"
                    )
        try:
            return parse_json(content)
        except ValueError as error:
            raise DownloadError(
                f"{shown_address(url)} does not return valid JSON.", got=content[:100].decode("utf-8", "replace")
            ) from error

    def token_for(self, address: Url) -> Token | None:
        """Returns the token to send with a request to this URL."""
        usual = 443 if address.scheme == "https" else 80
        port = address.port or usual
        named = self._tokens.get(f"{address.host}:{port}")
        return named if named is not None or port != usual else self._tokens.get(address.host or "")

    def _get(self, address: Url, headers: Mapping[str, str]) -> tuple[urllib3.BaseHTTPResponse, TimeLimit]:
        sent = {"Accept-Encoding": "identity", "User-Agent": f"kandiflux/{__version__}", **headers}
        token = self.token_for(address)
        local = is_loopback((address.host or "").strip("[]"))
        if token is not None and token.value and (address.scheme == "https" or local):
            sent["Authorization"] = f"Bearer {token.value}"
        shown = shown_address(address.url)
        pool = self._pool(address)
        limit = TimeLimit(self._until_answer)
        try:
            response = pool.request(
                "GET", address.url, headers=sent, preload_content=False, decode_content=False, redirect=False,
                retries=False, timeout=self._timeout,
            )  # fmt: skip
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            limit.close()
            if limit.expired:
                raise _too_slow(self._window, no_answer=True) from error
            raise _no_answer(address.netloc or shown, shown, error) from error
        limit.extend(self._window[1])
        return response, limit

    def _pool(self, address: Url) -> urllib3.PoolManager:
        secure = address.scheme == "https"
        with self._lock:
            key = (secure, proxy_for(address.url))
            if key not in self._pools:
                if secure and self._tls is None:
                    self._tls = self._make_tls()
                self._pools[key] = make_pool(address.url, self._tls if secure else None)
            return self._pools[key]

    def _make_tls(self) -> ssl.SSLContext:
        try:
            return tls_context(self._verify, None)
        except OSError as error:
            raise UsageError(
                f"The trusted certificates cannot be read: {error}.",
                expected="a PEM file, or a folder of hashed ones, in `verify` or $REQUESTS_CA_BUNDLE",
            ) from error

    def _answer(
        self, start: Url, response: urllib3.BaseHTTPResponse, limit: TimeLimit, linked: str | None
    ) -> RemoteAnswer:
        headers = response.headers
        wrong: DownloadError | None = None
        if headers.get("Content-Encoding", "identity") != "identity":
            wrong = DownloadError(f"{shown_address(start.url)} is sent compressed although that was not requested.")
        elif headers.get("Content-Type", "").strip().lower().startswith("text/html"):
            wrong = DownloadError(
                f"{shown_address(start.url)} is a web page, not a file.",
                hint="It may be a login page, or the URL of the file's page instead of the file.",
            )
        if wrong is not None:
            limit.close()
            response.close()
            raise wrong
        plain = (linked or "").strip('"')
        sha256 = plain.lower() if _SHA256.fullmatch(plain) else None
        tag = headers.get("ETag")
        # A weak ETag must not be used in If-Range, and after a redirect the other server does not know this ETag.
        if_range = tag if tag is not None and tag.startswith('"') and linked is None else None
        return RemoteAnswer(
            response, limit, self._window, linked or tag or headers.get("Last-Modified"), sha256, if_range
        )

    def _failure(self, start: Url, address: Url, response: urllib3.BaseHTTPResponse) -> Exception:
        status, shown = response.status, shown_address(start.url)
        if status in _TEMPORARY:
            return Trouble(f"{address.netloc} answers HTTP {status}", after=_retry_after(response))
        if status in (401, 403):
            return self._denied(start, address, status, response)
        if status in (404, 410):
            return DownloadError(
                f"{shown} does not exist (HTTP {status}).",
                hint="The URL in the workflow may be out of date: search for the file's name.",
            )
        reason = shortened(response.reason or "", 80)
        return DownloadError(f"{shown} returns HTTP {status} {reason}.", expected="HTTP 200")

    def _denied(self, start: Url, address: Url, status: int, response: urllib3.BaseHTTPResponse) -> AccessDenied:
        token = self.token_for(start)
        why = shortened(response.headers.get("X-Error-Message") or response.headers.get("X-Error-Code") or "")
        page = page_of(start.url)
        if token is None:
            hint = f"Log in at {page}, and name the variable that holds your token: {start.netloc}=VARIABLE."
        elif token.value:
            hint = f"Accept the licence at {page} with the account of the token in {token.variable}, or set another."
        else:
            hint = f"Accept the licence at {page}, and set the environment variable {token.variable} to your token."
        given = f"a token from {token.variable}" if token and token.value else "no token"
        return AccessDenied(
            f"{shown_address(start.url)} is gated: {address.netloc} answers HTTP {status}{f' ({why})' if why else ''}.",
            expected="a token of an account that may read it",
            got=given,
            hint=hint,
            parameter="tokens",
        )


def page_of(url: str) -> str:
    """Returns the URL of the page on which a person can read about a file and accept its licence."""
    address = parse_address(url)
    if address is None:
        return shown_address(url)
    if address.host == _HUB:
        named = (address.path or "").strip("/").split("/")
        return shown_address(f"https://{_HUB}/{'/'.join(named[: 3 if named[0] in ('datasets', 'spaces') else 2])}")
    return f"{address.scheme}://{address.netloc}"


def _validated(token: Token) -> Token:
    value = (token.value or "").strip()
    if value and not _TOKEN.fullmatch(value):
        # The message must not contain the value, which is a secret.
        raise UsageError(
            f"The token in ${token.variable} cannot be sent.", expected="one line of ASCII characters without spaces"
        )
    return Token(token.variable, value or None)


def _require_address(url: str) -> Url:
    address = parse_address(url)
    if address is None:
        raise DownloadError(f"{shown_address(url)!r} is not a valid URL.", expected="an http or https URL")
    return address


def _next(address: Url, location: str) -> Url:
    """Returns the target of a redirect. DownloadError if it is not valid, or leads from https to http."""
    here = shown_address(address.url)
    try:
        target = parse_address(urljoin(address.url, location))
    except ValueError:
        target = None
    if target is None:
        raise DownloadError(
            f"{here} redirects to {shown_address(location.partition('?')[0])!r}.", expected="an http or https URL"
        )
    if address.scheme == "https" and target.scheme == "http":
        raise DownloadError(
            f"{here} redirects from https to http://{target.netloc}, which is not secure: the file could be changed."
        )
    return target


def _no_answer(netloc: str, shown: str, error: Exception) -> Exception:
    """Returns the error to raise if there was no response."""
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    if isinstance(cause, (LocationParseError, LocationValueError)):
        return DownloadError(f"{shown!r} is not a valid URL.", expected="an http or https URL")
    if isinstance(cause, SSLError) and isinstance(cause.args[0] if cause.args else None, ssl.SSLCertVerificationError):
        return DownloadError(
            f"{netloc} cannot be trusted: {_reason(cause)}.",
            hint="Check this machine's clock, or name the certificates to trust.",
            parameter="verify",
        )
    if isinstance(cause, (HTTPError, HTTPException, OSError)):
        return Trouble(f"no answer from {shortened(netloc)} ({_reason(cause)})", no_answer=True)
    return DownloadError(f"The request for {shown} cannot be made.")


def _too_slow(window: tuple[int, float], *, no_answer: bool = False) -> Trouble:
    return Trouble(f"fewer than {window[0]} bytes were received in {window[1]:g} seconds", no_answer=no_answer)


def _reason(error: Exception) -> str:
    """Returns the cause of an error of urllib3, without the leading object name."""
    inner = [argument for argument in error.args if isinstance(argument, Exception)]
    if inner:
        return _reason(inner[-1])
    return shortened(str(error).rpartition(": ")[2] or type(error).__name__)


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    try:
        if text.isdecimal():
            return min(float(text), _MAX_RETRY_AFTER)
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
