"""The HTTP side of one ComfyUI: each route a method, each failure one of `kandiflux.errors`.

Nothing here knows of jobs or waits for anything but an answer. Safe to use from many threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import disable_warnings
from urllib3.exceptions import InsecureRequestWarning, NewConnectionError

from kandiflux.config import client_certificate, server_url, without_userinfo
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    BodyTooLarge,
    OutputMissing,
    ProtocolError,
    ServerError,
    ServerUnreachable,
    UsageError,
)

__all__ = ["Answer", "Queue", "QueueEntry", "Server"]

_log = logging.getLogger(__name__)

MARKER = "kandiflux_job"
"""Key in `extra_data` that carries our own id of a job: servers that ignore a client's prompt_id still keep this."""

_BUSY = frozenset({429, 502, 503, 504})
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Answer:
    """Status and decoded JSON body (None where the body is no JSON), with the text for error messages."""

    status: int
    body: Any
    text: str


@dataclass(frozen=True)
class QueueEntry:
    """One job in the server's queue. marker: our own id of it, where it is of ours."""

    number: float
    prompt_id: str
    marker: str | None
    item: Sequence[Any] = field(default=(), repr=False, compare=False)
    """As the server lists it: number, prompt id, prompt, extra data, output nodes."""

    def is_job(self, prompt_id: str, marker: str) -> bool:
        """Whether this is the job that we know by either."""
        return self.prompt_id == prompt_id or self.marker == marker


@dataclass(frozen=True)
class Queue:
    """`pending` in the order in which it will run."""

    running: tuple[QueueEntry, ...]
    pending: tuple[QueueEntry, ...]


class Server:
    """One ComfyUI's HTTP routes.

    url: base address; `user:password@` in it becomes an Authorization header. headers: sent with every request
    (authorisation). verify: False, or a CA bundle's path; cert: a client certificate; both as in requests.
    timeout: seconds to connect, and between two received bytes.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        timeout: tuple[float, float] = (5.0, 60.0),
    ) -> None:
        self.url, authorisation = without_userinfo(server_url(url))
        self.headers = {**({"Authorization": authorisation} if authorisation else {}), **(headers or {})}
        self.verify = verify
        self.cert = client_certificate(cert)
        if verify is False and self.url.startswith("https:"):
            _log.warning("%s: its certificate is not checked; others may read and change what is sent", self.url)
            # Said once is enough; urllib3 would say it with every request.
            disable_warnings(InsecureRequestWarning)
        self.timeout = timeout
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections of every thread."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
            self._local = threading.local()
        for session in sessions:
            session.close()

    # What the server is and knows

    def system_stats(self) -> dict[str, Any]:
        """Versions, memory and devices."""
        return self._get_object("/system_stats")

    def features(self) -> dict[str, Any]:
        """Empty for a server that has no such route yet."""
        answer = self._get("/features")
        return answer.body if answer.status == 200 and isinstance(answer.body, dict) else {}

    def object_info(self) -> dict[str, Any]:
        """Every node class with its inputs."""
        return self._get_object("/object_info")

    def embeddings(self) -> list[str] | None:
        """The names that prompts can call as `embedding:NAME`; None from a server that does not say."""
        answer = self._get("/embeddings")
        return [str(name) for name in answer.body] if answer.status == 200 and isinstance(answer.body, list) else None

    # Jobs

    def queue(self) -> Queue:
        """What runs and what waits."""
        body = self._get_object("/queue")
        try:
            running = tuple(_queue_entry(item) for item in body["queue_running"])
            pending = sorted((_queue_entry(item) for item in body["queue_pending"]), key=lambda entry: entry.number)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ProtocolError(
                f"{self.url}/queue answers something else.",
                expected="queue_running and queue_pending, lists of [number, prompt_id, prompt, extra_data, …]",
                got=str(body)[:200],
            ) from error
        return Queue(running, tuple(pending))

    def history(self, prompt_id: str, *, again: bool = True) -> dict[str, Any] | None:
        """The entry of one finished prompt; None while there is none. again: try again where the answer is lost."""
        entry = self._get_object(f"/history/{quote(prompt_id, safe='')}", again=again).get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def recent_history(self, max_items: int = 100) -> dict[str, Any]:
        """The newest entries by prompt id."""
        return self._get_object("/history", {"max_items": max_items})

    def post_prompt(self, body: Mapping[str, Any]) -> Answer:
        """One POST, never repeated. AnswerLost where it may have been accepted all the same."""
        answer = self._send("POST", "/prompt", json=body)
        if answer.status in (502, 503, 504):
            # A proxy speaks, not ComfyUI: what stood behind it may have taken the prompt.
            raise AnswerLost(f"A gateway before {self.url} answered {answer.status}.", still_coming=True)
        return answer

    def delete_pending(self, prompt_id: str) -> None:
        """Takes a waiting job from the queue; no word of it where there is none."""
        self._post_done("/queue", {"delete": [prompt_id]})

    def interrupt(self, prompt_id: str) -> None:
        """Stops what runs. Servers before 0.3.5x ignore the id and stop whatever runs: look first."""
        self._post_done("/interrupt", {"prompt_id": prompt_id})

    def free(self, *, unload_models: bool = True, free_memory: bool = True) -> None:
        """Asks for memory back after the running job; free_memory alone unloads models, too."""
        self._post_done("/free", {"unload_models": unload_models, "free_memory": free_memory})

    # Files

    def upload_image(self, name: str, file: BinaryIO, *, subfolder: str = "", overwrite: bool = False) -> str:
        """Puts a file into the server's input folder; the name to use for it, which may differ from `name`."""
        form = {"type": "input", "subfolder": subfolder, "overwrite": "true" if overwrite else "false"}
        answer = self._send("POST", "/upload/image", files={"image": (name, file)}, data=form)
        if answer.status != 200 or not isinstance(answer.body, dict) or "name" not in answer.body:
            raise ServerError(
                f"{self.url} did not take the upload of {name}.",
                expected="HTTP 200 and the stored file's name",
                got=f"HTTP {answer.status} {answer.text[:200]}",
            )
        folder = answer.body.get("subfolder") or ""
        return f"{folder}/{answer.body['name']}" if folder else str(answer.body["name"])

    def view(self, filename: str, subfolder: str, folder: str) -> Iterator[bytes]:
        """A stored file's bytes, in pieces. OutputMissing where it is not there (any more), AnswerLost where the
        download breaks off."""
        query = {"filename": filename, "subfolder": subfolder, "type": folder}
        try:
            with self._session().get(
                f"{self.url}/view", params=query, stream=True, timeout=self.timeout, verify=self.verify
            ) as response:
                if response.status_code == 404:
                    raise OutputMissing(
                        f"{self.url} lists {'/'.join(filter(None, (subfolder, filename)))} as an output, "
                        "but the file is no longer there.",
                        hint="The server answered from its cache. Run again with another seed, "
                        "or have it forget its cache (POST /free) first.",
                    )
                if response.status_code != 200:
                    raise ServerError(
                        f"{self.url} does not hand out {filename}.",
                        expected="HTTP 200",
                        got=f"HTTP {response.status_code} {response.reason}",
                    )
                sent = 0
                for chunk in response.iter_content(_CHUNK):
                    sent += len(chunk)
                    yield chunk
                whole = response.headers.get("Content-Length", "")
                # An older urllib3 takes a connection that ends for the end of the file.
                if whole.isdecimal() and "Content-Encoding" not in response.headers and sent != int(whole):
                    raise AnswerLost(f"The download of {filename} from {self.url} ended at {sent} of {whole} bytes.")
        except requests.RequestException as error:
            raise AnswerLost(f"The download of {filename} from {self.url} broke off: {error}.") from error

    # Requests

    def _get_object(self, path: str, params: Mapping[str, Any] | None = None, *, again: bool = True) -> dict[str, Any]:
        answer = self._get(path, params, again=again)
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise ProtocolError(
                f"{self.url}{path} is not answered as ComfyUI answers it.",
                expected="HTTP 200 and a JSON object",
                got=f"HTTP {answer.status} {answer.text[:200]}",
                hint="Check that the address is a ComfyUI's, with its path if it stands behind a proxy.",
            )
        return answer.body

    def _get(self, path: str, params: Mapping[str, Any] | None = None, *, again: bool = True) -> Answer:
        """Reading can be repeated without harm, so a lost answer or a busy gateway is tried again."""
        for pause in (0.1, 0.4) if again else ():
            try:
                answer = self._send("GET", path, params=params)
            except AnswerLost:
                _log.debug("GET %s: answer lost, trying again", path)
            else:
                if answer.status not in _BUSY:
                    return answer
            time.sleep(pause)
        answer = self._send("GET", path, params=params)
        if answer.status in _BUSY:
            raise ServerUnreachable(f"{self.url}{path} answers HTTP {answer.status} again and again.")
        return answer

    def _post_done(self, path: str, body: Mapping[str, Any]) -> None:
        answer = self._send("POST", path, json=body)
        if answer.status != 200:
            raise ServerError(
                f"{self.url} refused {path}.", expected="HTTP 200", got=f"HTTP {answer.status} {answer.text[:200]}"
            )

    def _send(self, method: str, path: str, **kwargs: Any) -> Answer:
        try:
            response = self._session().request(
                method,
                f"{self.url}{path}",
                timeout=self.timeout,
                verify=self.verify,
                # A redirected POST would arrive as a GET.
                allow_redirects=method == "GET",
                **kwargs,
            )
        except requests.exceptions.InvalidURL as error:
            raise UsageError(f"The request to {self.url}{path} cannot be made: {error}.") from error
        except requests.exceptions.InvalidHeader:
            # Its message quotes the header, which may be a secret.
            raise UsageError("A header cannot be sent.", expected="one line of plain text each") from None
        except requests.exceptions.SSLError as error:
            raise ServerUnreachable(
                f"No secure connection to {self.url}: {error}.", hint="Check the certificate, or name its CA bundle."
            ) from error
        except requests.RequestException as error:
            if _never_sent(error):
                raise ServerUnreachable(
                    f"Nothing answers at {self.url}.", hint="Start the server, or name another with --server."
                ) from error
            slow = isinstance(error, requests.exceptions.ReadTimeout)
            raise AnswerLost(f"No answer from {self.url}{path}: {error}.", still_coming=slow) from error
        if response.status_code in (401, 403):
            raise AccessDenied(
                f"{self.url}{path} is not open to this user (HTTP {response.status_code}).",
                hint="Give --user, --token-env or --header, or write them into kandiflux.toml.",
            )
        if response.status_code == 413:
            size = response.request.headers.get("Content-Length")
            raise BodyTooLarge(
                f"The request to {self.url}{path} is larger than the server takes.",
                got=f"{int(size)} bytes" if size else None,
                hint="Upload pictures instead of putting them into the prompt, "
                "or start the server with a larger --max-upload-size.",
            )
        try:
            body = response.json()
        except ValueError:
            body = None
        return Answer(response.status_code, body, response.text if body is None else str(body))

    def _session(self) -> requests.Session:
        # requests' sessions are not promised to be safe across threads, so each thread has its own.
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = _Session()
            session.headers.update(self.headers)
            session.cert = self.cert
            if any(name.lower() == "authorization" for name in self.headers):
                # Else a line for this machine in ~/.netrc would take the place of what was asked for.
                session.auth = _as_it_is
            # A proxy named in the environment is not meant for this machine itself.
            session.trust_env = not _is_loopback(self.url)
            session.mount("http://", HTTPAdapter(max_retries=0))
            session.mount("https://", HTTPAdapter(max_retries=0))
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """What is sent to a server is for it alone: requests itself drops no more than Authorization."""
        super().rebuild_auth(prepared_request, response)
        if self.should_strip_auth(response.request.url or "", prepared_request.url or ""):
            for name in self.headers.keys() - requests.utils.default_headers().keys():
                prepared_request.headers.pop(name, None)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _never_sent(error: requests.RequestException) -> bool:
    """True where not even a connection came about, so the server cannot have acted."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", None), NewConnectionError)


def _queue_entry(item: Any) -> QueueEntry:
    extra = item[3] if len(item) > 3 and isinstance(item[3], dict) else {}
    return QueueEntry(float(item[0]), str(item[1]), extra.get(MARKER), item)
