"""The HTTP side of one ComfyUI: each route a method, each failure one of `kandiflux.errors`.

Nothing here knows of jobs or waits for anything but an answer. Safe to use from many threads.
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
    """As the server lists it: number, prompt id, prompt, extra data, output nodes."""


@dataclass(frozen=True)
class Queue:
    """`pending` in the order in which it will run."""

    running: tuple[QueueEntry, ...]
    pending: tuple[QueueEntry, ...]


class ComfyApi:
    """One ComfyUI's HTTP routes.

    url: base address; `user:password@` in it becomes an Authorization header. headers: sent with every request
    (authorisation). verify: False, or a CA bundle's path; cert: a client certificate; both as in requests.
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
        """The base address, without user and password."""
        return self._transport.url

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with every request."""
        return self._transport.headers

    @property
    def verify(self) -> bool | str:
        """Whether certificates are checked, or the bundle that they are checked with."""
        return self._transport.verify

    @property
    def cert(self) -> str | tuple[str, str] | None:
        """The client certificate, as it was given."""
        return self._transport.cert

    @property
    def deadline(self) -> float | None:
        """On the monotonic clock: no request takes longer than until then, and none is begun after it."""
        return self._transport.deadline

    @deadline.setter
    def deadline(self, when: float | None) -> None:
        self._transport.deadline = when

    def with_timeout(self, timeout: tuple[float, float]) -> ComfyApi:
        """The same server with other timeouts and no deadline; to be closed by itself."""
        return ComfyApi(self.url, headers=self.headers, verify=self.verify, cert=self.cert, timeout=timeout)

    def close(self) -> None:
        """Closes its connections."""
        self._transport.close()

    # What the server is and knows

    def system_stats(self) -> dict[str, Any]:
        """Versions, memory and devices."""
        return self._get_object("/system_stats")

    def features(self) -> dict[str, Any]:
        """Empty for a server that has no such route yet."""
        answer = self._get("/features")
        return answer.body if answer.status == 200 and is_dict(answer.body) else {}

    def object_info(self) -> dict[str, Any]:
        """Every node class with its inputs."""
        return self._get_object("/object_info")

    def embeddings(self) -> list[str] | None:
        """The names that prompts can call as `embedding:NAME`; None from a server that does not say."""
        answer = self._get("/embeddings")
        return [str(name) for name in answer.body] if answer.status == 200 and is_list(answer.body) else None

    # Jobs

    def queue(self, *, within: float | None = None) -> Queue:
        """What runs and what waits. within: seconds for the answer, retries included."""
        body = self._get_object("/queue", within=within)
        try:
            running = tuple(_queue_entry(item) for item in body["queue_running"])
            pending = sorted((_queue_entry(item) for item in body["queue_pending"]), key=lambda entry: entry.number)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            # An entry that is left out could be the very job that is looked for.
            raise ProtocolError(
                f"The answer to {self.url}/queue cannot be read.",
                expected="queue_running and queue_pending, lists of [number, prompt_id, prompt, extra_data, …]",
                got=str(body)[:200],
            ) from error
        return Queue(running, tuple(pending))

    def history(self, prompt_id: str, *, again: bool = True, within: float | None = None) -> dict[str, Any] | None:
        """The entry of one finished prompt; None while there is none.

        again: try again if the answer is lost. within: seconds for the answer.
        """
        entry = self._get_object(f"/history/{_quoted(prompt_id)}", again=again, within=within).get(prompt_id)
        return entry if is_dict(entry) else None

    def recent_history(
        self, max_items: int = 100, *, again: bool = True, within: float | None = None
    ) -> dict[str, Any]:
        """The newest entries by prompt id. again, within: as in `history`."""
        return self._get_object("/history", {"max_items": max_items}, again=again, within=within)

    def post_prompt(self, body: Mapping[str, Any]) -> Answer:
        """One POST, never repeated. AnswerLost if it may have been accepted all the same."""
        try:
            answer = self._transport.send("POST", "/prompt", json_body=body)
        except ProtocolError as error:
            # Its answer is too large to read.
            raise AnswerLost(error.message) from error
        if answer.status in (502, 503, 504):
            # A proxy speaks, not ComfyUI: what stood behind it may have taken the prompt.
            raise AnswerLost(f"A gateway before {self.url} answered {answer.status}.", still_coming=True)
        return answer

    def cancel_job(self, prompt_id: str) -> bool | None:
        """Takes a job from the queue, or interrupts it if it runs, in one atomic request (ComfyUI 0.33 and later).

        True if it did, False if the job has ended or is not known, None if the server has no such route.
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
        """Takes a waiting job from the queue; the server does not say whether there was one."""
        self._post_done("/queue", {"delete": [prompt_id]})

    def interrupt(self, prompt_id: str) -> None:
        """Stops what runs. Servers before 0.3.5x ignore the id and stop whatever runs: look first."""
        self._post_done("/interrupt", {"prompt_id": prompt_id})

    def free(self, *, unload_models: bool = True, free_memory: bool = True) -> None:
        """Asks for memory back after the running job; free_memory alone unloads models, too."""
        self._post_done("/free", {"unload_models": unload_models, "free_memory": free_memory})

    # Files

    def upload_image(self, name: str, file: BinaryIO, *, subfolder: str = "", overwrite: bool = False) -> str:
        """Puts a file into the server's input folder; the name to use for it, which may differ from `name`.

        file: from its present position to its end; must be seekable.
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
                f"{self.url} did not take the upload of {name}.",
                expected="HTTP 200 and the stored file's name",
                got=f"HTTP {answer.status} {answer.text[:200]}",
            )
        return f"{folder}/{stored_name}" if folder else stored_name

    def view(
        self, filename: str, subfolder: str, folder: str, *, kind: str = "file", within: float | None = None
    ) -> Iterator[bytes]:
        """A stored file's bytes, in pieces.

        kind: what the file is, as in `Output`; instead of a picture, video or sound a page (HTML or JSON) is refused.
        within: seconds for all of it. OutputMissing if the file is not there (any more), OutputError if the server
        does not hand it out, ServerError if it answers nonsense, AnswerLost if the download breaks off or is too slow.
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
                    f"{self.url} lists {shown} as an output, but the file is no longer there.",
                    hint="The server answered from its cache. Run again with another seed, "
                    "or have it forget its cache (POST /free) first.",
                )
            got = f"HTTP {status} {download.reason}"
            if status in _BUSY:
                raise ServerUnreachable(f"{self.url} is too busy to hand out {shown} ({got}).")
            if status in (401, 403):
                # Of this file only: ComfyUI refuses what a node has saved outside its output folder.
                raise OutputError(
                    f"{self.url} does not hand out {shown}.",
                    expected="HTTP 200",
                    got=got,
                    hint="A node that saves outside ComfyUI's output folder keeps its files on the server's disk; have "
                    "it save inside. If every file is refused, sign in to the server.",
                )
            if 400 <= status < 500:
                raise OutputError(f"{self.url} does not hand out {shown}.", expected="HTTP 200", got=got)
            if status != 200:
                raise ServerError(f"{self.url} does not hand out {shown}.", expected="HTTP 200", got=got)
            if kind in _NOT_TEXT and download.content_type in _PAGES:
                raise ProtocolError(
                    f"{self.url} sends a page instead of {shown}.",
                    expected=f"the {kind}",
                    got=f"Content-Type: {download.content_type}",
                    hint="A login page or a gateway's error page stands in for the file.",
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
                f"The answer to {self.url}{path} is not one of ComfyUI's.",
                expected="HTTP 200 and a JSON object",
                got=f"HTTP {answer.status} {answer.text[:200]}",
                hint="Check that the address is a ComfyUI's, with its path if it is behind a proxy.",
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
        """Reading can be repeated without harm, so a lost answer or a busy gateway is tried again."""
        deadline = None if within is None else time.monotonic() + within
        for pause in (0.1, 0.4) if again else ():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= pause:
                break
            try:
                answer = self._transport.send("GET", path, query=params, within=left)
            except AnswerLost:
                _log.debug("GET %s: answer lost, trying again", path)
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            else:
                if answer.status not in _BUSY:
                    return answer
            time.sleep(pause)
        left = None if deadline is None else deadline - time.monotonic()
        answer = self._transport.send("GET", path, query=params, within=left)
        if answer.status in _BUSY:
            raise ServerUnreachable(f"{self.url}{path} answers HTTP {answer.status} again and again.")
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
    # ComfyUI takes any number, NaN too, from anyone who submits one.
    return QueueEntry(as_float(item[0]) or 0.0, item[1], item)


def _quoted(prompt_id: str) -> str:
    return quote(prompt_id, safe="", errors="surrogatepass")
