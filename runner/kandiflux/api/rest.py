"""The HTTP API of one ComfyUI: one method per route. Failures are raised as `kandiflux.errors`.

Knows nothing of jobs, and only waits for answers. Safe to use from many threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

from kandiflux.api.transport import Answer, Transport, Upload
from kandiflux.errors import (
    AnswerLost,
    OutputError,
    OutputMissing,
    ProtocolError,
    ServerError,
    ServerUnreachable,
)
from kandiflux.util.json_values import as_float, as_object, is_array, is_dict, is_list

__all__ = ["Answer", "ComfyApi", "Queue", "QueueEntry"]

_log = logging.getLogger(__name__)

_BUSY = frozenset({429, 502, 503, 504})
_MAX_PICTURE_BYTES, _MAX_FILE_BYTES = 1 << 30, 16 << 30
_PAGES = frozenset({"text/html", "application/xhtml+xml", "application/json", "application/problem+json"})
_NOT_TEXT = frozenset({"image", "video", "audio"})


@dataclass(frozen=True)
class QueueEntry:
    """One job in the server's queue."""

    number: float
    prompt_id: str
    item: Sequence[Any] = field(default=(), repr=False, compare=False)
    """The server's entry: number, prompt id, prompt, extra data, output nodes."""


@dataclass(frozen=True)
class Queue:
    """The server's queue. `pending` is in the order in which the jobs will run."""

    running: tuple[QueueEntry, ...]
    pending: tuple[QueueEntry, ...]


class ComfyApi:
    """The HTTP routes of one ComfyUI.

    url: the base URL; `user:password@` in it becomes an Authorization header.
    headers: sent with every request, for example for authorisation.
    verify: False, or the path of a CA bundle. cert: a client certificate. Both as in requests.
    timeout: seconds to connect, and between two received bytes; a whole answer may take three times the latter.
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
        self._transport = Transport(url, headers=headers, verify=verify, cert=cert, timeout=timeout)

    def __enter__(self) -> ComfyApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The base URL, without user and password."""
        return self._transport.url

    @property
    def headers(self) -> dict[str, str]:
        """The headers sent with every request."""
        return self._transport.headers

    @property
    def verify(self) -> bool | str:
        """Whether certificates are verified, or the CA bundle to verify them with."""
        return self._transport.verify

    @property
    def cert(self) -> str | tuple[str, str] | None:
        """The client certificate."""
        return self._transport.cert

    @property
    def deadline(self) -> float | None:
        """The time, on the monotonic clock, at which all requests end; later requests fail. None for no limit."""
        return self._transport.deadline

    @deadline.setter
    def deadline(self, when: float | None) -> None:
        self._transport.deadline = when

    def with_timeout(self, timeout: tuple[float, float]) -> ComfyApi:
        """Returns an API of the same server with other timeouts and no deadline. Close it separately."""
        return ComfyApi(self.url, headers=self.headers, verify=self.verify, cert=self.cert, timeout=timeout)

    def close(self) -> None:
        """Closes all connections."""
        self._transport.close()

    # Server information

    def system_stats(self) -> dict[str, Any]:
        """Returns versions, memory and devices."""
        return self._get_object("/system_stats")

    def features(self) -> dict[str, Any]:
        """Returns the server's feature flags; empty if it has no such route."""
        answer = self._get("/features")
        return answer.body if answer.status == 200 and is_dict(answer.body) else {}

    def object_info(self) -> dict[str, Any]:
        """Returns all node classes with their inputs."""
        return self._get_object("/object_info")

    def embeddings(self) -> list[str] | None:
        """Returns the names for `embedding:NAME` in prompts; None if the server has no such route."""
        answer = self._get("/embeddings")
        return [str(name) for name in answer.body] if answer.status == 200 and is_list(answer.body) else None

    def node_map(self) -> dict[str, Any] | None:
        """Returns ComfyUI-Manager's list of packs and their node classes; None if the server has no Manager."""
        for path in ("/customnode/getmappings", "/v2/customnode/getmappings"):
            answer = self._get(path, {"mode": "local"})  # local: from the Manager's own files, not from the web
            if answer.status == 200 and is_dict(answer.body):
                return answer.body
        return None

    # Jobs

    def queue(self, *, within: float | None = None) -> Queue:
        """Returns the running and waiting jobs. within: seconds for the answer, including retries."""
        body = self._get_object("/queue", within=within)
        try:
            running = tuple(_queue_entry(item) for item in body["queue_running"])
            pending = sorted((_queue_entry(item) for item in body["queue_pending"]), key=lambda entry: entry.number)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            # Do not skip malformed entries: one of them may be the job that the caller looks for.
            raise ProtocolError(
                f"The answer to {self.url}/queue cannot be read.",
                expected="queue_running and queue_pending, lists of [number, prompt_id, prompt, extra_data, …]",
                got=str(body)[:200],
            ) from error
        return Queue(running, tuple(pending))

    def history(self, prompt_id: str, *, again: bool = True, within: float | None = None) -> dict[str, Any] | None:
        """Returns the entry of a finished prompt; None if there is none yet.

        again: retry if the answer is lost. within: seconds for the answer.
        """
        entry = self._get_object(f"/history/{_quoted(prompt_id)}", again=again, within=within).get(prompt_id)
        return entry if is_dict(entry) else None

    def recent_history(
        self, max_items: int = 100, *, again: bool = True, within: float | None = None
    ) -> dict[str, Any]:
        """Returns the newest entries by prompt id. again, within: as in `history`."""
        return self._get_object("/history", {"max_items": max_items}, again=again, within=within)

    def post_prompt(self, body: Mapping[str, Any]) -> Answer:
        """Submits a prompt in a single request, without retries. AnswerLost if it may have been accepted."""
        try:
            answer = self._transport.send("POST", "/prompt", json_body=body)
        except ProtocolError as error:
            # The answer is too large to read, but the prompt may have been accepted.
            raise AnswerLost(error.message) from error
        if answer.status in (502, 503, 504):
            # A proxy answers, not ComfyUI: ComfyUI may have accepted the prompt.
            raise AnswerLost(f"A gateway in front of {self.url} returned HTTP {answer.status}.", still_coming=True)
        return answer

    def cancel_job(self, prompt_id: str) -> bool | None:
        """Removes a job from the queue, or interrupts it if it runs, in one atomic request (ComfyUI 0.33 and later).

        Returns True if it was cancelled, False if it has ended or is unknown, None if the server has no such route.
        """
        answer = self._transport.send("POST", f"/api/jobs/{_quoted(prompt_id)}/cancel", json_body={})
        cancelled = as_object(answer.body).get("cancelled")
        if answer.status == 200 and isinstance(cancelled, bool):
            return cancelled
        if answer.status in (200, 404, 405, 501):
            return None
        raise ServerError(
            f"{self.url} did not cancel the job {prompt_id}.",
            expected='HTTP 200 and {"cancelled": true or false}',
            got=f"HTTP {answer.status} {answer.text[:200]}",
        )

    def delete_pending(self, prompt_id: str) -> None:
        """Removes a waiting job from the queue; the server does not say whether there was one."""
        self._post_done("/queue", {"delete": [prompt_id]})

    def interrupt(self, prompt_id: str) -> None:
        """Interrupts a job. Servers before 0.3.5x ignore the id and interrupt any job: check first which one runs."""
        self._post_done("/interrupt", {"prompt_id": prompt_id})

    def free(self, *, unload_models: bool = True, free_memory: bool = True) -> None:
        """Frees memory after the running job. free_memory without unload_models unloads models, too."""
        self._post_done("/free", {"unload_models": unload_models, "free_memory": free_memory})

    # Files

    def upload_image(self, name: str, file: BinaryIO, *, subfolder: str = "", overwrite: bool = False) -> str:
        """Uploads a file to the server's input folder; returns its name there, which may differ from `name`.

        file: sent from its current position to its end; must be seekable.
        """
        begin = file.tell()
        size = file.seek(0, os.SEEK_END) - begin
        file.seek(begin)
        form = {"type": "input", "subfolder": subfolder, "overwrite": "true" if overwrite else "false"}
        answer = self._transport.send("POST", "/upload/image", form={**form, "image": Upload(name, file, size)})
        stored = as_object(answer.body)
        stored_name, folder = stored.get("name"), stored.get("subfolder") or ""
        if answer.status != 200 or not isinstance(stored_name, str) or not isinstance(folder, str):
            raise ServerError(
                f"{self.url} did not accept the upload of {name}.",
                expected="HTTP 200 and the name of the stored file",
                got=f"HTTP {answer.status} {answer.text[:200]}",
            )
        return f"{folder}/{stored_name}" if folder else stored_name

    def has_input(self, name: str) -> bool | None:
        """Returns whether an input such as `sub/a.png` or `a.png [output]` names an existing file.

        None if that is not certain: the server refuses to tell, or may run on Windows and the name has backslashes.
        """
        folder = next((one for one in ("input", "output", "temp") if name.endswith(f" [{one}]")), None)
        path = name.removesuffix(f" [{folder}]") if folder else name
        subfolder, _, filename = path.rpartition("/")
        if "\\" in path or not filename:
            return None
        query = {"filename": filename, "subfolder": subfolder, "type": folder or "input"}
        with contextlib.closing(
            self._transport.download("/view", query, f"The look-up of {name} on {self.url}", max_bytes=_MAX_FILE_BYTES)
        ) as answer:
            return {200: True, 404: False}.get(answer.status)

    def view(
        self, filename: str, subfolder: str, folder: str, *, kind: str = "file", within: float | None = None
    ) -> Iterator[bytes]:
        """Downloads a stored file; yields its bytes in pieces.

        kind: the kind of file, as in `Output`. For an image, video or audio, an HTML or JSON page is refused.
        within: seconds for the whole download.

        Raises OutputMissing if the file does not exist (any more), OutputError if the server refuses to send it,
        ServerError for another unexpected answer, AnswerLost if the download is cut off or too slow.
        """
        query = {"filename": filename, "subfolder": subfolder, "type": folder}
        shown = "/".join(filter(None, (subfolder, filename)))
        what = f"The download of {filename} from {self.url}"
        max_bytes = _MAX_PICTURE_BYTES if kind == "image" else _MAX_FILE_BYTES
        with contextlib.closing(
            self._transport.download("/view", query, what, max_bytes=max_bytes, within=within)
        ) as download:
            status = download.status
            if status == 404:
                raise OutputMissing(
                    f"{self.url} lists {shown} as an output, but the file no longer exists.",
                    hint="The server took the output from its cache. Run again with another seed, "
                    "or clear its cache (POST /free) first.",
                )
            got = f"HTTP {status} {download.reason}"
            if status in _BUSY:
                raise ServerUnreachable(f"{self.url} is too busy to send {shown} ({got}).")
            if status in (401, 403):
                # An error of this file, not of the server: ComfyUI refuses files outside its output folder.
                raise OutputError(
                    f"{self.url} refused to send {shown}.",
                    expected="HTTP 200",
                    got=got,
                    hint="Files that a node saves outside ComfyUI's output folder cannot be downloaded: make it save "
                    "inside. If every file is refused, sign in to the server.",
                )
            if 400 <= status < 500:
                raise OutputError(f"{self.url} refused to send {shown}.", expected="HTTP 200", got=got)
            if status != 200:
                raise ServerError(f"{self.url} did not send {shown}.", expected="HTTP 200", got=got)
            if kind in _NOT_TEXT and download.content_type in _PAGES:
                raise ProtocolError(
                    f"{self.url} sent a page instead of {shown}.",
                    expected=f"the {kind}",
                    got=f"Content-Type: {download.content_type}",
                    hint="It is probably a login page, or an error page of a gateway.",
                )
            yield from download.chunks()

    # Requests

    def _get_object(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        again: bool = True,
        within: float | None = None,
    ) -> dict[str, Any]:
        answer = self._get(path, params, again=again, within=within)
        body = answer.body
        if answer.status != 200 or not is_dict(body):
            raise ProtocolError(
                f"The answer to {self.url}{path} is not from a ComfyUI.",
                expected="HTTP 200 and a JSON object",
                got=f"HTTP {answer.status} {answer.text[:200]}",
                hint="Check that the URL is that of a ComfyUI, including its path if it is behind a proxy.",
            )
        return body

    def _get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        again: bool = True,
        within: float | None = None,
    ) -> Answer:
        """Sends a GET request. It is idempotent, so it is retried if the answer is lost or a gateway is busy."""
        deadline = None if within is None else time.monotonic() + within
        for pause in (0.1, 0.4) if again else ():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= pause:
                break
            try:
                answer = self._transport.send("GET", path, query=params, within=left)
            except AnswerLost:
                _log.debug("GET %s: answer lost, retrying", path)
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            else:
                if answer.status not in _BUSY:
                    return answer
            time.sleep(pause)
        left = None if deadline is None else deadline - time.monotonic()
        answer = self._transport.send("GET", path, query=params, within=left)
        if answer.status in _BUSY:
            raise ServerUnreachable(f"{self.url}{path} returned HTTP {answer.status} in every attempt.")
        return answer

    def _post_done(self, path: str, body: Mapping[str, Any]) -> None:
        answer = self._transport.send("POST", path, json_body=body)
        if answer.status != 200:
            raise ServerError(
                f"{self.url} refused {path}.", expected="HTTP 200", got=f"HTTP {answer.status} {answer.text[:200]}"
            )


def _queue_entry(item: Any) -> QueueEntry:
    if not is_array(item) or len(item) < 2 or not isinstance(item[1], str):
        raise TypeError("expected [number, prompt_id, …]")
    # ComfyUI accepts any number from clients, even NaN.
    return QueueEntry(as_float(item[0]) or 0.0, item[1], item)


def _quoted(prompt_id: str) -> str:
    return quote(prompt_id, safe="", errors="surrogatepass")
