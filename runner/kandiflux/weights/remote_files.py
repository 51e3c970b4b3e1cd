"""Files on web servers: what a server says of one, and its bytes; each failure one of `kandiflux.errors`.

A token goes to the host it is for and to no other, wherever a redirect leads. Safe to use from many threads.
"""

from __future__ import annotations

import email.utils
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from kandiflux import __version__
from kandiflux.errors import AccessDenied, DownloadError

__all__ = ["Answer", "RemoteFile", "RemoteFiles", "Token", "Trouble", "page_of", "reason_of"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_HUB = "huggingface.co"


class Trouble(Exception):
    """What may be over after a while. `after`: seconds the server asks to wait; `no_answer`: nobody was there."""

    def __init__(self, message: str, *, after: float | None = None, no_answer: bool = False) -> None:
        self.after = after
        self.no_answer = no_answer
        super().__init__(message)


@dataclass(frozen=True)
class Token:
    """`variable` is the environment variable it was, or would be, read from."""

    variable: str
    value: str | None


@dataclass(frozen=True)
class RemoteFile:
    """What a server says of a file. `identity` changes when its content does, as far as the server tells; `if_range` is
    what it can be asked for a part on condition of, if anything."""

    size: int | None
    ranges: bool
    identity: str | None
    sha256: str | None = None
    if_range: str | None = None


@dataclass(frozen=True)
class Answer:
    """A response with its body still to come; close it."""

    response: requests.Response
    identity: str | None
    sha256: str | None
    if_range: str | None

    @property
    def length(self) -> int | None:
        """Bytes of the body, as the server says."""
        text = self.response.headers.get("Content-Length", "")
        return int(text) if text.isdecimal() else None

    @property
    def range(self) -> tuple[int, int | None] | None:
        """(first byte, size of the whole file) of a partial answer."""
        found = _RANGE.fullmatch(self.response.headers.get("Content-Range", "").strip())
        if self.response.status_code != 206 or found is None:
            return None
        return int(found[1]), None if found[3] == "*" else int(found[3])


class RemoteFiles:
    """tokens: by host, `huggingface.co` or `host:port`. timeout: seconds to connect, and between received bytes.

    verify: False, or a CA bundle's path, as in requests.
    """

    def __init__(
        self,
        tokens: Mapping[str, Token] | None = None,
        *,
        timeout: tuple[float, float] = (15.0, 60.0),
        verify: bool | str = True,
    ) -> None:
        self._tokens = dict(tokens or {})
        self._timeout = timeout
        self._verify = verify
        self._local = threading.local()

    def describe(self, url: str) -> RemoteFile:
        """Asks for one byte: unlike HEAD, that is answered everywhere, and shows whether ranges are understood."""
        answer = self.open(url, {"Range": "bytes=0-0"}, accepted=(200, 206, 416))
        with answer.response:
            if answer.response.status_code == 206 and answer.range is not None:
                first, size = answer.range
                ranges = size is not None and first == 0
                return RemoteFile(size, ranges, answer.identity, answer.sha256, answer.if_range)
            size = answer.length if answer.response.status_code == 200 else None
            return RemoteFile(size, False, answer.identity, answer.sha256)

    def open(self, url: str, headers: Mapping[str, str], accepted: tuple[int, ...] = (200, 206)) -> Answer:
        """The answer to a GET, its body not yet read. Trouble for what passes; DownloadError, AccessDenied else."""
        start = url
        linked: str | None = None
        for _ in range(_MOST_REDIRECTS):
            response = self._get(url, headers)
            linked = linked or response.headers.get("X-Linked-Etag")
            if response.status_code in _REDIRECTS and "Location" in response.headers:
                response.close()
                url = self._next(url, response.headers["Location"])
                continue
            if response.status_code in accepted:
                return self._answer(start, response, linked)
            with response:
                raise self._failure(start, url, response)
        raise DownloadError(f"{start} is redirected again and again.")

    def read_json(self, url: str) -> Any:
        """A small answer, decoded. Trouble; DownloadError where it is no JSON."""
        with self.open(url, {}, accepted=(200,)).response as response:
            try:
                return json.loads(response.content)
            except ValueError as error:
                raise DownloadError(f"{url} is not answered with JSON.", got=response.text[:100]) from error
            except requests.RequestException as error:
                raise Trouble(f"the connection broke off ({reason_of(error)})") from error

    def token_for(self, url: str) -> Token | None:
        """The token to be sent with a request for this address."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        return self._tokens.get(f"{host}:{parts.port}" if parts.port else host)

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        parts = urlsplit(url)
        local = _is_loopback(parts.hostname or "")
        sent = {"Accept-Encoding": "identity", "User-Agent": f"kandiflux/{__version__}", **headers}
        token = self.token_for(url)
        if token is not None and token.value and (parts.scheme == "https" or local):
            sent["Authorization"] = f"Bearer {token.value}"
        try:
            return self._session(local).get(
                url, headers=sent, stream=True, timeout=self._timeout, verify=self._verify, allow_redirects=False,
                auth=_as_it_is,
            )  # fmt: skip
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidHeader,
            requests.exceptions.InvalidSchema,
        ) as error:
            raise DownloadError(f"{url} cannot be asked for: {error}.") from error
        except requests.RequestException as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise DownloadError(
                    f"{parts.netloc} cannot be trusted: {reason_of(error)}.",
                    hint="Name the certificates to trust with --ca-bundle, or set the clock right.",
                ) from error
            raise Trouble(f"no answer from {parts.netloc} ({reason_of(error)})", no_answer=True) from error

    def _next(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DownloadError(f"{url} leads to {target!r}.", expected="an http or https address")
        if urlsplit(url).scheme == "https" and parts.scheme == "http":
            raise DownloadError(f"{url} leads from https to {target}, which anybody between could change.")
        return target

    def _answer(self, start: str, response: requests.Response, linked: str | None) -> Answer:
        headers = response.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise DownloadError(f"{start} is sent compressed although that was not asked for.")
        if headers.get("Content-Type", "").startswith("text/html"):
            response.close()
            raise DownloadError(
                f"{start} is a web page and no file.",
                hint="It may be a page to log in, or the address of the file's page instead of the file.",
            )
        plain = (linked or "").strip('"')
        sha256 = plain.lower() if _SHA256.fullmatch(plain) else None
        tag = headers.get("ETag")
        # A weak tag may not be asked for, and one that another server told of means nothing to this one.
        if_range = tag if tag is not None and tag.startswith('"') and linked is None else None
        return Answer(response, linked or tag or headers.get("Last-Modified"), sha256, if_range)

    def _failure(self, start: str, url: str, response: requests.Response) -> Exception:
        status = response.status_code
        if status in _PASSING:
            return Trouble(f"{urlsplit(url).netloc} answers HTTP {status}", after=_retry_after(response))
        if status in (401, 403):
            return self._denied(start, url, status, response)
        if status in (404, 410):
            return DownloadError(
                f"{start} is not there (HTTP {status}).",
                hint="The workflow's address may be old: look for the file's name.",
            )
        return DownloadError(f"{start} is answered with HTTP {status} {response.reason}.", expected="HTTP 200")

    def _denied(self, start: str, url: str, status: int, response: requests.Response) -> AccessDenied:
        token, parts = self.token_for(start), urlsplit(start)
        why = response.headers.get("X-Error-Message") or response.headers.get("X-Error-Code")
        page = page_of(start)
        if token is None:
            todo = (
                f"Log in at {page}, and name the variable that holds your token: --token-env {parts.netloc}=VARIABLE."
            )
        elif token.value:
            todo = f"Accept the licence at {page} with the account whose token {token.variable} holds, or set another."
        else:
            todo = f"Accept the licence at {page}, and set the environment variable {token.variable} to your token."
        given = f"a token from {token.variable}" if token and token.value else "no token"
        return AccessDenied(
            f"{start} is gated: {urlsplit(url).netloc} answers HTTP {status}{f' ({why})' if why else ''}.",
            expected="a token of an account that may read it",
            got=given,
            hint=todo,
        )

    def _session(self, local: bool) -> requests.Session:
        sessions: dict[bool, requests.Session] = self._local.__dict__.setdefault("sessions", {})
        if local not in sessions:
            session = sessions[local] = requests.Session()
            # A proxy named in the environment is not meant for this machine itself.
            session.trust_env = not local
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=0))
        return sessions[local]


def _as_it_is(request: Any) -> Any:
    """As requests' `auth`: else it would take passwords for any host from ~/.netrc."""
    return request


def reason_of(error: requests.RequestException) -> str:
    """What lies behind one of requests' errors, without the names of its classes around it."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).rpartition(": ")[2]


def page_of(url: str) -> str:
    """Where a person reads about a file and accepts its licence."""
    parts = urlsplit(url)
    if parts.hostname == _HUB:
        named = parts.path.strip("/").split("/")
        return f"https://{_HUB}/{'/'.join(named[: 3 if named[0] in ('datasets', 'spaces') else 2])}"
    return f"{parts.scheme}://{parts.netloc}"


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
