"""Requests to one server: what goes over the wire, and which of our errors each failure is.

What matters most is whether a request that failed can have been acted upon: `ServerUnreachable` says that nothing was
sent, `AnswerLost` that it may have been.

Every answer is bounded: in size, and in the time for all of it. urllib3 is used without requests on top of it: a job is
three requests, and that layer would double what each costs us.
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
"""Of an answer that is read whole. /object_info of a server with many packs has some 10 MB, a long queue 50 MB."""

_LARGE_BYTES = 1 << 20
_MAX_REDIRECTS = 10
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_CHUNK = 1 << 16
_WHOLE_ANSWER = 3.0
"""How many read timeouts a whole answer may take."""

_SENDABLE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SENDABLE_VALUE = re.compile(r"[^\r\n\0]*")


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

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
        """Its beginning, for error messages."""
        return self.content[:2000].decode("utf-8", "replace")


@dataclass(frozen=True)
class Upload:
    """A file to send as one field of a form; it is read while it is sent."""

    name: str
    file: BinaryIO
    size: int


class Download:
    """An answer whose content has not been read yet; read it once, or close it.

    At least 64 KiB must come in every `window` seconds, and no more than `max_bytes` in all.
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
        """Ends the connection, unless all has been read: then it is free for others already."""
        self._limit.close()
        self._response.close()

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces. AnswerLost if it breaks off or is too slow, OutputError if it is too large."""
        total = 0
        since = 0
        try:
            for chunk in self._response.stream(_CHUNK):
                total += len(chunk)
                since += len(chunk)
                if total > self._max_bytes:
                    raise OutputError(f"{self._what} was given up: it is larger than {self._max_bytes >> 30} GiB.")
                yield chunk
                if since >= _CHUNK:
                    since = 0
                    self._limit.extend(min(self._window, self._until - time.monotonic()))
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            if self._limit.expired:
                raise AnswerLost(f"{self._what} was given up: it was too slow.") from error
            raise AnswerLost(f"{self._what} broke off: {error}.") from error
        if self._limit.expired:  # an answer of unknown length just ends where its socket is shut down
            raise AnswerLost(f"{self._what} was given up: it was too slow.")


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
        """On the monotonic clock: no request takes longer than until then."""
        self._timeout = timeout
        self._origin = _origin(urlsplit(self.url))
        secure = self.url.startswith("https:")
        if secure and verify is False:
            _log.warning("%s: its certificate is not checked; others may read and change what is sent", self.url)
            # Said once is enough; urllib3 would say it with every request.
            urllib3.disable_warnings(InsecureRequestWarning)
        self._pool = make_pool(self.url, self._tls(self.cert) if secure else None)
        self._large_answer = threading.Lock()
        self._other_pools: dict[tuple[str, str, int], urllib3.PoolManager] = {}
        """Of the origins that the server redirects to."""

    def close(self) -> None:
        """Closes the connections that nobody reads from now."""
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
        """One request, never repeated, and its whole answer.

        form: fields of a multipart form. within: seconds for all of it; else three read timeouts, and longer for an
        upload. ServerUnreachable: nothing was sent. AnswerLost: it may have been acted upon. ProtocolError: the
        answer is too large, or redirects to somewhere else. AccessDenied for HTTP 401 and 403, BodyTooLarge for 413.
        UsageError if it cannot be sent as it is.
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
        # What the server has not taken in its own read timeout is not coming; the sending itself may take longer.
        limit = self._time_limit(within, _WHOLE_ANSWER * self._timeout[1] + size / _CHUNK)
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
                f"The request to {self.url}{path} is larger than the server takes.",
                got=f"{size} bytes" if size else None,
                hint="Start the server with a larger limit for uploads, or send less: smaller pictures, and pictures "
                "as uploads and not inside the prompt.",
            )
        return Answer(response.status, content)

    def download(
        self, path: str, query: Mapping[str, Any], what: str, *, max_bytes: int, within: float | None = None
    ) -> Download:
        """A GET whose content is not read yet; errors as `send`, but access is the caller's to judge.

        what: for the message of one that fails. max_bytes: what is larger is refused. within: seconds for all of it;
        else it may take as long as it brings 64 KiB in each read timeout.
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
            raise ServerUnreachable(f"There is no time left to ask {self.url}.")
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
        """The answer, its content not read yet. A GET is redirected."""
        # Never a failure here: names that are no text (lone surrogates) are the server's to refuse.
        url = f"{self.url}{path}" + (f"?{urlencode(query, errors='surrogatepass')}" if query else "")
        pool, sent = self._pool, {"Accept-Encoding": "gzip, deflate", **self.headers, **headers}
        for _ in range(_MAX_REDIRECTS + 1):
            left = max(0.001, limit.when - time.monotonic())
            timeout = urllib3.Timeout(connect=min(self._timeout[0], left), read=min(self._timeout[1], left))
            try:
                response = pool.request(
                    method, url, body=body, headers=sent, preload_content=False, timeout=timeout,
                    # What fails is not tried again here: only the caller knows what may be done twice.
                    retries=False, redirect=False,
                )  # fmt: skip
            except LocationValueError as error:
                if pool is self._pool:
                    raise UsageError(f"The request to {self.url}{path} cannot be made: {error}.") from error
                raise _bad_redirect(self.url + path, url) from error
            except (HTTPError, HTTPException, OSError, ValueError) as error:
                raise self._failure(path, error, limit) from error
            # A redirected POST would arrive as a GET.
            if method != "GET" or response.status not in _REDIRECT_STATUSES or "Location" not in response.headers:
                return response
            response.close()
            url = self._redirected(url, response.headers["Location"], path)
            pool = self._pool_of(url)
            if pool is not self._pool:
                # What is sent to a server is for that server alone.
                sent = {"Accept-Encoding": "gzip, deflate"}
        raise ProtocolError(f"{self.url}{path} is redirected more than {_MAX_REDIRECTS} times.")

    def _redirected(self, url: str, location: str, path: str) -> str:
        """The URL to ask next. ProtocolError if it is not one that may be followed."""
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
                    # One at a time, so that an answer without end costs its limit once, however many threads ask.
                    if not self._large_answer.acquire(timeout=max(0.0, limit.when - time.monotonic())):
                        raise TimeoutError("waiting for another large answer")
                    stack.callback(self._large_answer.release)
                    # Its pages go back to the system at once; what is freed in small pieces often does not.
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
                f"{self.url}{path} is not open to this user (HTTP {status}).",
                hint="Give a user, a token or a header, or write them into kandiflux.toml.",
                parameter="credentials",
            )

    def _failure(self, path: str, error: Exception, limit: TimeLimit) -> ServerUnreachable:
        if limit.expired:
            return AnswerLost(f"{self.url}{path} was not answered in time.", still_coming=True)
        if isinstance(error, SSLError):
            hint = "Check the certificate, or name its CA bundle."
            message = f"No secure connection to {self.url}: {error}."
            # Whatever else goes wrong with TLS may do so after the request has gone out.
            before = isinstance(error.args[0] if error.args else None, ssl.SSLCertVerificationError)
            return ServerUnreachable(message, refused=True, hint=hint) if before else AnswerLost(message, hint=hint)
        if isinstance(error, ProxyError):
            return ServerUnreachable(
                f"The proxy before {self.url} cannot be reached: {error}.",
                refused=True,
                hint="See $HTTP_PROXY and $HTTPS_PROXY, or put the host into $NO_PROXY.",
            )
        if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
            # Not even a connection came about, so the server cannot have acted.
            return ServerUnreachable(
                f"Nothing answers at {self.url}.",
                refused=True,
                hint="Start the server, or name another.",
                parameter="server",
            )
        slow = isinstance(error, (ReadTimeoutError, TimeoutError))
        return AnswerLost(f"No answer from {self.url}{path}: {str(error)[:300]}.", still_coming=slow)

    def _tls(self, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
        try:
            return tls_context(self.verify, cert)
        except OSError as error:
            raise UsageError(
                f"The certificates for {self.url} cannot be read: {error}.",
                expected="PEM files: of the CA bundle, and of the client's certificate with its key",
            ) from error


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _bad_redirect(url: str, location: str) -> ProtocolError:
    return ProtocolError(
        f"{url} is redirected to an address that cannot be followed.",
        expected="an http or https URL, not from https to http, and not to this machine from another",
        got=location[:200],
        hint="Sign in to the server again if it is behind a login page, or name its final address.",
    )


def _require_sendable(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        try:
            value.encode("latin-1")
            fits = bool(_SENDABLE_NAME.fullmatch(name) and _SENDABLE_VALUE.fullmatch(value))
        except UnicodeEncodeError:
            fits = False
        if not fits:
            # The value may be a secret.
            raise UsageError(
                f"The header {name!r} cannot be sent.", expected="a name without blanks, and one line of plain text"
            )


def _multipart(form: Mapping[str, str | Upload]) -> tuple[Iterable[bytes], int, dict[str, str]]:
    """A multipart form as pieces, its size in bytes, and its headers."""
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
    # A file's name may hold bytes that are not text.
    return name.encode("utf-8", "replace").decode()


def _as_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"The request cannot be written as JSON: {error}.", expected="texts, numbers, lists and objects"
        ) from error
