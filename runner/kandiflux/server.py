"""The HTTP side of one ComfyUI: each route a method, each failure one of `kandiflux.errors`.

Nothing here knows of jobs or waits for anything but an answer. Safe to use from many threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

from kandiflux.errors import (
    AnswerLost,
    OutputMissing,
    ProtocolError,
    ServerError,
    ServerUnreachable,
)
from kandiflux.json_values import as_object, is_dict, is_list
from kandiflux.transport import Answer, Transport

__all__ = ["MARKER", "Answer", "Queue", "QueueEntry", "Server"]

_log = logging.getLogger(__name__)

MARKER = "kandiflux_job"
"""Key in `extra_data` that carries our own id of a job: servers that ignore a client's prompt_id still keep this."""

_BUSY = frozenset({429, 502, 503, 504})


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
        self._transport = Transport(url, headers=headers, verify=verify, cert=cert, timeout=timeout)

    def __enter__(self) -> Server:
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

    def with_timeout(self, timeout: tuple[float, float]) -> Server:
        """The same server, asked with another patience; to be closed by itself."""
        return Server(self.url, headers=self.headers, verify=self.verify, cert=self.cert, timeout=timeout)

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
        return entry if is_dict(entry) else None

    def recent_history(self, max_items: int = 100, *, again: bool = True) -> dict[str, Any]:
        """The newest entries by prompt id. again: as in `history`."""
        return self._get_object("/history", {"max_items": max_items}, again=again)

    def post_prompt(self, body: Mapping[str, Any]) -> Answer:
        """One POST, never repeated. AnswerLost where it may have been accepted all the same."""
        answer = self._transport.send("POST", "/prompt", json_body=body)
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
        answer = self._transport.send("POST", "/upload/image", form={**form, "image": (name, file.read())})
        stored = as_object(answer.body)
        if answer.status != 200 or "name" not in stored:
            raise ServerError(
                f"{self.url} did not take the upload of {name}.",
                expected="HTTP 200 and the stored file's name",
                got=f"HTTP {answer.status} {answer.text[:200]}",
            )
        folder = stored.get("subfolder") or ""
        return f"{folder}/{stored['name']}" if folder else str(stored["name"])

    def view(self, filename: str, subfolder: str, folder: str) -> Iterator[bytes]:
        """A stored file's bytes, in pieces. OutputMissing where it is not there (any more), AnswerLost where the
        download breaks off."""
        query = {"filename": filename, "subfolder": subfolder, "type": folder}
        download = self._transport.download("/view", query, f"The download of {filename} from {self.url}")
        try:
            if download.status == 404:
                raise OutputMissing(
                    f"{self.url} lists {'/'.join(filter(None, (subfolder, filename)))} as an output, "
                    "but the file is no longer there.",
                    hint="The server answered from its cache. Run again with another seed, "
                    "or have it forget its cache (POST /free) first.",
                )
            if download.status != 200:
                raise ServerError(
                    f"{self.url} does not hand out {filename}.",
                    expected="HTTP 200",
                    got=f"HTTP {download.status} {download.reason}",
                )
            yield from download.chunks()
        finally:
            download.close()

    # Requests

    def _get_object(self, path: str, params: Mapping[str, Any] | None = None, *, again: bool = True) -> dict[str, Any]:
        answer = self._get(path, params, again=again)
        body = answer.body
        if answer.status != 200 or not is_dict(body):
            raise ProtocolError(
                f"{self.url}{path} is not answered as ComfyUI answers it.",
                expected="HTTP 200 and a JSON object",
                got=f"HTTP {answer.status} {answer.text[:200]}",
                hint="Check that the address is a ComfyUI's, with its path if it stands behind a proxy.",
            )
        return body

    def _get(self, path: str, params: Mapping[str, Any] | None = None, *, again: bool = True) -> Answer:
        """Reading can be repeated without harm, so a lost answer or a busy gateway is tried again."""
        for pause in (0.1, 0.4) if again else ():
            try:
                answer = self._transport.send("GET", path, query=params)
            except AnswerLost:
                _log.debug("GET %s: answer lost, trying again", path)
            else:
                if answer.status not in _BUSY:
                    return answer
            time.sleep(pause)
        answer = self._transport.send("GET", path, query=params)
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
    extra = as_object(item[3] if len(item) > 3 else None)
    return QueueEntry(float(item[0]), str(item[1]), extra.get(MARKER), item)
