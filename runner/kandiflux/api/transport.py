"""Sends requests to one server, and maps failures to `kandiflux.errors`.

The errors tell whether the server may have processed a failed request: with `ServerUnreachable` nothing was sent, with
`AnswerLost` it may have been processed.

Every answer has a maximum size and a time limit. This uses urllib3 without the requests package: a job needs three
requests, and requests would double the cost of each.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import mmap
import re
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from typing import Any, BinaryIO
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    LocationValueError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.fields import RequestField
from urllib3.filepost import choose_boundary

from kandiflux.api.proxies import make_pool
from kandiflux.api.time_limit import TimeLimit
from kandiflux.api.tls import tls_context
from kandiflux.config import client_certificate, server_url, without_userinfo
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    BodyTooLarge,
    OutputError,
    ProtocolError,
    ServerUnreachable,
    UsageError,
)
from kandiflux.util.addresses import is_loopback
from kandiflux.util.json_values import parse_json

__all__ = ["MAX_ANSWER_BYTES", "Answer", "Download", "Transport", "Upload"]

_log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 << 20
"""The maximum size of an answer. /object_info of a server with many packs has about 10 MB, a long queue 50 MB."""

_LARGE_BYTES = 1 << 20
_MAX_REDIRECTS = 10
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_CHUNK = 1 << 16
_ANSWER_TIMEOUTS = 3.0
"""The time limit for a whole answer, in read timeouts."""

_SENDABLE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SENDABLE_VALUE = re.compile(r"[^\r\n\0]*")


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    status: int
    content: bytes

    @cached_property
    def body(self) -> Any:
        """The decoded JSON; None if it is not valid JSON, or nested too deep."""
        try:
            return parse_json(self.content)
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """The beginning of the content, for error messages."""
        return self.content[:2000].decode("utf-8", "replace")


@dataclass(frozen=True)
class Upload:
    """A file to send as a field of a form. It is read while it is sent. size: in bytes."""

    name: str
    file: BinaryIO
    size: int


class Download:
    """An answer whose content has not been read yet. Read it once, or close it.

    At least 64 KiB must be received in every `window` seconds, and at most `max_bytes` in total.
    """

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        what: str,
        limit: TimeLimit,
        *,
        max_bytes: int,
        window: float,
        until: float,
    ) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self._response = response
        self._what = what
        self._limit = limit
        self._max_bytes = max_bytes
        self._window = window
        self._until = until

    def close(self) -> None:
        """Closes the connection, unless all content was read: then the connection is back in the pool."""
        self._limit.close()
        self._response.close()

    def chunks(self) -> Iterator[bytes]:
        """Yields the content in pieces. AnswerLost if it is cut off or too slow, OutputError if it is too large."""
        total = 0
        since = 0
        try:
            for chunk in self._response.stream(_CHUNK):
                total += len(chunk)
                since += len(chunk)
                if total > self._max_bytes:
                    raise OutputError(f"{self._what} failed: it is larger than {self._max_bytes >> 30} GiB.")
                yield chunk
                if since >= _CHUNK:
                    since = 0
                    self._limit.extend(min(self._window, self._until - time.monotonic()))
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            # At the deadline the socket's own timeout may end the call before the time limit does.
            if self._limit.expired or _is_timeout(error):
                raise AnswerLost(f"{self._what} failed: it was too slow.") from error
            raise AnswerLost(f"{self._what} was cut off: {error}.") from error
        if self._limit.expired:  # an answer of unknown length ends without an error if its socket is shut down
            raise AnswerLost(f"{self._what} failed: it was too slow.")


class Transport:
    """Connections to one server. Safe to use from many threads.

    url, headers, verify, cert and timeout as in `ComfyApi`.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
        timeout: tuple[float, float],
    ) -> None:
        self.url, authorization = without_userinfo(server_url(url))
        self.headers = {**({"Authorization": authorization} if authorization else {}), **(headers or {})}
        _require_sendable(self.headers)
        self.verify = verify
        self.cert = client_certificate(cert)
        self.deadline: float | None = None
        """The time, on the monotonic clock, at which all requests end."""
        self._timeout = timeout
        self._origin = _origin(urlsplit(self.url))
        secure = self.url.startswith("https:")
        if secure and verify is False:
            _log.warning("%s: its certificate is not verified; others can read and change the traffic", self.url)
            # urllib3 would warn again with every request.
            urllib3.disable_warnings(InsecureRequestWarning)
        self._pool = make_pool(self.url, self._tls(self.cert) if secure else None)
        self._large_answer = threading.Lock()
        self._other_pools: dict[tuple[str, str, int], urllib3.PoolManager] = {}
        """Pools for other origins that the server redirects to, by origin."""

    def close(self) -> None:
        """Closes the connections that are not in use."""
        for pool in (self._pool, *self._other_pools.values()):
            pool.clear()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json_body: Mapping[str, Any] | None = None,
        form: Mapping[str, str | Upload] | None = None,
        within: float | None = None,
    ) -> Answer:
        """Sends one request, without retries, and returns the complete answer.

        form: fields of a multipart form.
        within: seconds for request and answer; by default three read timeouts, and longer for an upload.

        Raises ServerUnreachable if nothing was sent; AnswerLost if the request may have been processed; ProtocolError
        if the answer is too large or an unsafe redirect; AccessDenied for HTTP 401 and 403; BodyTooLarge for 413;
        UsageError if the request cannot be sent in this form.
        """
        headers: dict[str, str] = {}
        body: bytes | Iterable[bytes] | None = None
        size = 0
        if json_body is not None:
            body = _as_json(json_body)
            size = len(body)
            headers["Content-Type"] = "application/json"
        elif form is not None:
            body, size, form_headers = _multipart(form)
            headers.update(form_headers)
        # Allow time for sending the body (at least 64 KiB per second) besides the time for the answer.
        limit = self._time_limit(within, _ANSWER_TIMEOUTS * self._timeout[1] + size / _CHUNK)
        with limit:
            response = self._request(method, path, query, body, headers, limit)
            try:
                content = self._read_whole(response, path, limit)
            except (HTTPError, HTTPException, OSError, ValueError) as error:
                response.close()
                raise self._failure(path, error, limit) from error
            if limit.expired:
                raise self._failure(path, TimeoutError(), limit)
        self._require_access(response.status, path)
        if response.status == 413:
            raise BodyTooLarge(
                f"The request to {self.url}{path} is larger than the server accepts.",
                got=f"{size} bytes" if size else None,
                hint="Start the server with a larger upload limit, or send less: use smaller pictures, and upload them "
                "instead of putting them into the prompt.",
            )
        return Answer(response.status, content)

    def download(
        self, path: str, query: Mapping[str, Any], what: str, *, max_bytes: int, within: float | None = None
    ) -> Download:
        """Sends a GET request and returns the answer with its content not yet read.

        what: the name of the download for error messages.
        max_bytes: a larger content is refused.
        within: seconds for the whole download; by default only 64 KiB per read timeout are required.

        Raises the errors of `send`, but the caller must check the status, including 401 and 403.
        """
        window = self._timeout[1]
        until = min(self.deadline or float("inf"), float("inf") if within is None else time.monotonic() + within)
        limit = self._time_limit(None if within is None else min(within, window), window)
        try:
            response = self._request("GET", path, query, None, {}, limit)
        except BaseException:
            limit.close()
            raise
        return Download(response, what, limit, max_bytes=max_bytes, window=window, until=until)

    def _time_limit(self, within: float | None, usual: float) -> TimeLimit:
        seconds = usual if within is None else min(within, usual)
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - time.monotonic())
        if seconds <= 0:
            raise ServerUnreachable(f"There is no time left for a request to {self.url}.")
        return TimeLimit(seconds)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
        limit: TimeLimit,
    ) -> urllib3.BaseHTTPResponse:
        """Returns the answer with its content not yet read. Follows redirects of GET requests."""
        # Lone surrogates in file names must not fail here: the server decides about such names.
        url = f"{self.url}{path}" + (f"?{urlencode(query, errors='surrogatepass')}" if query else "")
        pool, sent = self._pool, {"Accept-Encoding": "gzip, deflate", **self.headers, **headers}
        for _ in range(_MAX_REDIRECTS + 1):
            left = max(0.001, limit.when - time.monotonic())
            timeout = urllib3.Timeout(connect=min(self._timeout[0], left), read=min(self._timeout[1], left))
            try:
                response = pool.request(
                    method, url, body=body, headers=sent, preload_content=False, timeout=timeout,
                    # No retries here: only the caller knows which requests are idempotent.
                    retries=False, redirect=False,
                )  # fmt: skip
            except LocationValueError as error:
                if pool is self._pool:
                    raise UsageError(f"The request to {self.url}{path} cannot be made: {error}.") from error
                raise _bad_redirect(self.url + path, url) from error
            except (HTTPError, HTTPException, OSError, ValueError) as error:
                raise self._failure(path, error, limit) from error
            # A redirected POST would become a GET.
            if method != "GET" or response.status not in _REDIRECT_STATUSES or "Location" not in response.headers:
                return response
            response.close()
            url = self._redirected(url, response.headers["Location"], path)
            pool = self._pool_of(url)
            if pool is not self._pool:
                # The headers, which may contain secrets, must only be sent to the configured server.
                sent = {"Accept-Encoding": "gzip, deflate"}
        raise ProtocolError(f"{self.url}{path} is redirected more than {_MAX_REDIRECTS} times.")

    def _redirected(self, url: str, location: str, path: str) -> str:
        """Returns the target of a redirect. ProtocolError if it must not be followed."""
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            _ = parts.port
        except ValueError as error:
            raise _bad_redirect(self.url + path, location) from error
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or (url.startswith("https:") and parts.scheme == "http")
            or (is_loopback(parts.hostname) and not is_loopback(urlsplit(url).hostname))
        ):
            raise _bad_redirect(self.url + path, location)
        return target.encode("utf-8", "replace").decode()

    def _pool_of(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        origin = _origin(parts)
        if origin == self._origin:
            return self._pool
        if origin not in self._other_pools:
            if len(self._other_pools) >= _MAX_REDIRECTS:
                self._other_pools.clear()
            self._other_pools[origin] = make_pool(url, self._tls(None) if parts.scheme == "https" else None)
        return self._other_pools[origin]

    def _read_whole(self, response: urllib3.BaseHTTPResponse, path: str, limit: TimeLimit) -> bytes:
        announced = response.headers.get("Content-Length", "")
        too_large = announced.isdecimal() and (len(announced) > 18 or int(announced) > MAX_ANSWER_BYTES)
        size = 0
        with contextlib.ExitStack() as stack:
            buffer: io.BytesIO | mmap.mmap = io.BytesIO()
            for piece in () if too_large else response.stream(_CHUNK):
                size += len(piece)
                if size > MAX_ANSWER_BYTES:
                    too_large = True
                    break
                if size > _LARGE_BYTES and isinstance(buffer, io.BytesIO):
                    # One large answer at a time, so that endless answers in many threads use this memory only once.
                    if not self._large_answer.acquire(timeout=max(0.0, limit.when - time.monotonic())):
                        raise TimeoutError("waiting for another large answer")
                    stack.callback(self._large_answer.release)
                    # mmap, because its pages return to the system at once; memory freed in small pieces often does not.
                    large = stack.enter_context(mmap.mmap(-1, MAX_ANSWER_BYTES))
                    large.write(buffer.getvalue())
                    buffer = large
                buffer.write(piece)
            if not too_large:
                return buffer.getvalue() if isinstance(buffer, io.BytesIO) else buffer[:size]
        response.close()
        raise ProtocolError(
            f"The answer to {self.url}{path} is too large.",
            expected=f"{MAX_ANSWER_BYTES >> 20} MiB at most",
            got=f"{announced[:20]} bytes" if announced else f"more than {size} bytes",
        )

    def _require_access(self, status: int, path: str) -> None:
        if status in (401, 403):
            raise AccessDenied(
                f"Access to {self.url}{path} is denied (HTTP {status}).",
                hint="Give a user, a token or a header, or put them into kandiflux.toml.",
                parameter="credentials",
            )

    def _failure(self, path: str, error: Exception, limit: TimeLimit) -> ServerUnreachable:
        if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
            # There was no connection, so the server cannot have processed the request.
            return ServerUnreachable(
                f"Nothing answers at {self.url}.",
                refused=True,
                hint="Start the server, or name another.",
                parameter="server",
            )
        slow = _is_timeout(error)
        # At the deadline the socket's own timeout may end the call before the time limit does.
        if limit.expired or (slow and time.monotonic() >= limit.when):
            return AnswerLost(f"{self.url}{path} was not answered in time.", still_coming=True)
        if isinstance(error, SSLError):
            hint = "Check the certificate, or name its CA bundle."
            message = f"No secure connection to {self.url}: {error}."
            # Other TLS errors may occur after the request was sent.
            before = isinstance(error.args[0] if error.args else None, ssl.SSLCertVerificationError)
            return ServerUnreachable(message, refused=True, hint=hint) if before else AnswerLost(message, hint=hint)
        if isinstance(error, ProxyError):
            return ServerUnreachable(
                f"The proxy for {self.url} cannot be reached: {error}.",
                refused=True,
                hint="Check $HTTP_PROXY and $HTTPS_PROXY, or add the host to $NO_PROXY.",
            )
        return AnswerLost(f"No answer from {self.url}{path}: {str(error)[:300]}.", still_coming=slow)

    def _tls(self, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
        try:
            return tls_context(self.verify, cert)
        except OSError as error:
            raise UsageError(
                f"The certificates for {self.url} cannot be read: {error}.",
                expected="PEM files for the CA bundle, and for the client certificate with its key",
            ) from error


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (ReadTimeoutError, TimeoutError))


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _bad_redirect(url: str, location: str) -> ProtocolError:
    return ProtocolError(
        f"{url} is redirected to a URL that cannot be followed.",
        expected="an http or https URL, not from https to http, and not to this machine from another",
        got=location[:200],
        hint="Sign in to the server again if it is behind a login page, or use its final URL.",
    )


def _require_sendable(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        try:
            value.encode("latin-1")
            fits = bool(_SENDABLE_NAME.fullmatch(name) and _SENDABLE_VALUE.fullmatch(value))
        except UnicodeEncodeError:
            fits = False
        if not fits:
            # The message must not contain the value, which may be a secret.
            raise UsageError(
                f"The header {name!r} cannot be sent.", expected="a name without spaces, and one line of plain text"
            )


def _multipart(form: Mapping[str, str | Upload]) -> tuple[Iterable[bytes], int, dict[str, str]]:
    """Encodes a multipart form; returns its content in pieces, its size in bytes, and its headers."""
    boundary = choose_boundary()
    parts: list[bytes | Upload] = []
    for name, value in form.items():
        field = RequestField(name, b"", filename=_as_utf8(value.name) if isinstance(value, Upload) else None)
        field.make_multipart(content_type="application/octet-stream" if isinstance(value, Upload) else None)
        parts.append(f"--{boundary}\r\n{field.render_headers()}".encode())
        parts.append(value if isinstance(value, Upload) else value.encode())
        parts.append(b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    size = sum(part.size if isinstance(part, Upload) else len(part) for part in parts)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}
    return _pieces(parts), size, headers


def _pieces(parts: Iterable[bytes | Upload]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        left = part.size
        while left and (piece := part.file.read(min(left, _CHUNK))):
            left -= len(piece)
            yield piece


def _as_utf8(name: str) -> str:
    # A file name may contain lone surrogates, for bytes that are not text.
    return name.encode("utf-8", "replace").decode()


def _as_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"The request cannot be encoded as JSON: {error}.", expected="strings, numbers, lists and objects"
        ) from error
