"""Requests to one server: what goes over the wire, and which of our errors each failure is.

What matters most is whether a request that failed can have been acted upon: `ServerUnreachable` says that nothing was
sent, `AnswerLost` that it may have been.

urllib3 and not requests on top of it: a job is three requests, and the layer would double what each costs us.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    LocationValueError,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from kandiflux.config import client_certificate, server_url, without_userinfo
from kandiflux.errors import AccessDenied, AnswerLost, BodyTooLarge, ServerUnreachable, UsageError
from kandiflux.tls import tls_context

__all__ = ["Answer", "Transport"]

_log = logging.getLogger(__name__)

_CONNECTIONS = 32
_REDIRECTS = 10
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    content: bytes

    @cached_property
    def body(self) -> Any:
        """The decoded JSON; None where it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """For error messages."""
        return self.content.decode("utf-8", "replace")


class Download:
    """An answer whose content is yet to come; to be read once, or closed."""

    def __init__(self, response: urllib3.BaseHTTPResponse, what: str) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self._response = response
        self._what = what

    def close(self) -> None:
        """Ends the connection, unless all has been read: then it is free for others already."""
        self._response.close()

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces. AnswerLost where it breaks off."""
        try:
            yield from self._response.stream(_CHUNK)
        except (HTTPError, HTTPException, OSError) as error:
            raise AnswerLost(f"{self._what} broke off: {error}.") from error


class Transport:
    """Connections to one server. Safe to use from many threads.

    url, headers, verify, cert and timeout as `Server` takes them.
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
        self.url, authorisation = without_userinfo(server_url(url))
        self.headers = {**({"Authorization": authorisation} if authorisation else {}), **(headers or {})}
        self.verify = verify
        self.cert = client_certificate(cert)
        self._timeout = urllib3.Timeout(connect=timeout[0], read=timeout[1])
        secure = self.url.startswith("https:")
        if secure and verify is False:
            _log.warning("%s: its certificate is not checked; others may read and change what is sent", self.url)
            # Said once is enough; urllib3 would say it with every request.
            urllib3.disable_warnings(InsecureRequestWarning)
        # What fails is not tried again here: only the caller knows what may be done twice.
        self._no_retries = urllib3.Retry(
            total=None, connect=0, read=0, status=0, other=0, redirect=_REDIRECTS,
            # What is sent to a server is for it alone.
            remove_headers_on_redirect=[*self.headers, "Cookie", "Proxy-Authorization"],
        )  # fmt: skip
        self._pools = _pools(self.url, self._tls() if secure else None)

    def close(self) -> None:
        """Closes the connections that nobody reads from now."""
        self._pools.clear()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json_body: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One request, never repeated, and its whole answer.

        form: fields of a multipart form, each a text or (file name, bytes). ServerUnreachable: nothing was sent.
        AnswerLost: it may have been acted upon. AccessDenied for HTTP 401 and 403, BodyTooLarge for 413. UsageError
        where it cannot be sent as it is.
        """
        body = None if json_body is None else _as_json(json_body)
        response = self._request(method, path, query=query, body=body, form=form)
        self._require_access(response.status, path)
        if response.status == 413:
            raise BodyTooLarge(
                f"The request to {self.url}{path} is larger than the server takes.",
                got=f"{len(body)} bytes" if body is not None else None,
                hint="Upload pictures instead of putting them into the prompt, "
                "or start the server with a larger --max-upload-size.",
            )
        return Answer(response.status, response.data)

    def download(self, path: str, query: Mapping[str, Any], what: str) -> Download:
        """A GET whose content is not read yet; errors as `send`. what: for the message of one that breaks off."""
        response = self._request("GET", path, query=query, whole=False)
        if response.status in (401, 403):
            response.close()
        self._require_access(response.status, path)
        return Download(response, what)

    def _require_access(self, status: int, path: str) -> None:
        if status in (401, 403):
            raise AccessDenied(
                f"{self.url}{path} is not open to this user (HTTP {status}).",
                hint="Give --user, --token-env or --header, or write them into kandiflux.toml.",
            )

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        form: Mapping[str, Any] | None = None,
        whole: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        fields = form if form is not None else query
        headers = {"Accept-Encoding": "gzip, deflate", **self.headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        about: dict[str, Any] = {} if fields is None else {"fields": fields}
        try:
            return self._pools.request(
                method, f"{self.url}{path}", body=body, headers=headers, preload_content=whole,
                timeout=self._timeout, retries=self._no_retries,
                # A redirected POST would arrive as a GET.
                redirect=method == "GET", **about,
            )  # fmt: skip
        except LocationValueError as error:
            raise UsageError(f"The request to {self.url}{path} cannot be made: {error}.") from error
        except (HTTPError, HTTPException, OSError) as error:
            raise self._failure(path, error) from error
        except ValueError:
            # Its message quotes the header, which may be a secret.
            raise UsageError("A header cannot be sent.", expected="one line of plain text each") from None

    def _failure(self, path: str, error: Exception) -> ServerUnreachable:
        cause = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
        if isinstance(cause, SSLError):
            hint = "Check the certificate, or name its CA bundle."
            message = f"No secure connection to {self.url}: {cause}."
            # Whatever else goes wrong with TLS may do so after the request has gone out.
            before = isinstance(cause.args[0] if cause.args else None, ssl.SSLCertVerificationError)
            return ServerUnreachable(message, refused=True, hint=hint) if before else AnswerLost(message, hint=hint)
        if isinstance(cause, ProxyError):
            return ServerUnreachable(
                f"The proxy before {self.url} cannot be reached: {cause}.",
                refused=True,
                hint="See $HTTP_PROXY and $HTTPS_PROXY, or put the host into $NO_PROXY.",
            )
        if isinstance(cause, (NewConnectionError, ConnectTimeoutError)):
            # Not even a connection came about, so the server cannot have acted.
            return ServerUnreachable(
                f"Nothing answers at {self.url}.",
                refused=True,
                hint="Start the server, or name another with --server.",
            )
        slow = isinstance(cause, ReadTimeoutError)
        return AnswerLost(f"No answer from {self.url}{path}: {cause}.", still_coming=slow)

    def _tls(self) -> ssl.SSLContext:
        try:
            return tls_context(self.verify, self.cert)
        except OSError as error:
            raise UsageError(
                f"The certificates for {self.url} cannot be read: {error}.",
                expected="PEM files: of the CA bundle, and of the client's certificate with its key",
            ) from error


def _pools(url: str, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    about: dict[str, Any] = {"maxsize": _CONNECTIONS, **({} if tls is None else {"ssl_context": tls})}
    proxy = _proxy(url)
    if proxy is None:
        return urllib3.PoolManager(**about)
    parts = urlsplit(proxy)
    if parts.scheme.startswith("socks"):
        try:
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError as error:
            raise UsageError(
                f"{url} is to be reached by a SOCKS proxy.", hint="Install PySocks, or put the host into $NO_PROXY."
            ) from error
        return SOCKSProxyManager(proxy, **about)
    bare, known = without_userinfo(proxy)
    headers = {"Proxy-Authorization": known} if known is not None else None
    return urllib3.ProxyManager(bare, proxy_headers=headers, **about)


def _proxy(url: str) -> str | None:
    """The proxy that the environment, or the system, names for it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # One is not meant for this machine itself.
    if _is_loopback(host) or proxy_bypass(unquote(host)):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _as_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The request cannot be written as JSON: {error}.", expected="texts, numbers, lists and objects"
        ) from error
