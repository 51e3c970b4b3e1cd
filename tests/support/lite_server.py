"""The lite host's server in a thread of this process: no start of a process, and its objects are at hand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import websocket
from kandiflux.lite import seam
from kandiflux.lite.editor_routes import Editor
from kandiflux.lite.folders import Folders
from kandiflux.lite.host import Host
from kandiflux.lite.origin import HostNames
from kandiflux.lite.server import serve

from tests.support.waiting import until

__all__ = ["LiteServer", "import_torch", "lite_server", "new_host"]

_PATIENCE = 60.0


@dataclass
class LiteServer:
    """A host that listens at `url`."""

    host: Host
    url: str
    http: requests.Session

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, self.url + path, timeout=_PATIENCE, **options)

    def get(self, path: str, /, **query: Any) -> requests.Response:
        return self.request("GET", path, params=query)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.request("POST", path, **({"json": body} if body is not None else {}), **options)

    def run(self, prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Run a prompt; its entry in the history."""
        answer = self.post("/prompt", {"prompt": prompt, **more})
        assert answer.status_code == 200, answer.text
        prompt_id = answer.json()["prompt_id"]
        until(lambda: prompt_id in self.host.jobs.history())
        return self.host.jobs.history()[prompt_id]

    @contextlib.contextmanager
    def socket(self, client_id: str | None = None) -> Iterator[websocket.WebSocket]:
        """A client's websocket, after the frame that greets it."""
        query = "" if client_id is None else f"?clientId={client_id}"
        connection = websocket.create_connection(
            self.url.replace("http", "ws", 1) + "/ws" + query,
            timeout=_PATIENCE,
            suppress_origin=True,
            skip_utf8_validation=True,  # a second for each MB
        )
        try:
            assert json.loads(connection.recv())["type"] == "status"
            yield connection
        finally:
            connection.close()
            connection.shutdown()  # close() does nothing after a frame that closes


def new_host(base: Path, max_upload: int = 1 << 20) -> Host:
    """A host with its folders in `base`."""
    folders = Folders(base / "input", base / "output", base / "temp", [base / "models"])
    return Host(folders, max_upload, base / "user")


@contextlib.contextmanager
def lite_server(host: Host, static: Path | None = None, address: str = "127.0.0.1") -> Iterator[LiteServer]:
    """Serve `host` on a free port, with the graph editor whose files are in `static` if given."""
    import_torch()
    started: concurrent.futures.Future[tuple[str, Callable[[], object]]] = concurrent.futures.Future()

    async def run() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def ready(url: str) -> None:
            started.set_result((url, lambda: loop.call_soon_threadsafe(stop.set)))

        editor = Editor(host, static) if static is not None else None
        await serve(host, address, 0, ready, stop, HostNames.of(address), editor)

    with _nothing_left_behind(host), concurrent.futures.ThreadPoolExecutor(1) as pool, requests.Session() as session:
        session.trust_env = False
        ended = pool.submit(asyncio.run, run())
        until(lambda: started.done() or ended.done(), _PATIENCE)
        if ended.done():
            ended.result()
        url, stop = started.result()
        try:
            yield LiteServer(host, url, session)
        finally:
            session.close()
            stop()
            ended.result(_PATIENCE)


def import_torch() -> None:
    """Before a host's worker does so in its thread: a fixture could see it half imported."""
    importlib.import_module("torch")


@contextlib.contextmanager
def _nothing_left_behind(host: Host) -> Iterator[None]:
    """The host is the one that nodes see, and takes what it adds to the loggers away again."""
    loggers = [logging.getLogger(name) for name in ("", "aiohttp.server")]
    before = [(one.handlers[:], one.filters[:]) for one in loggers]
    seam.active = host
    try:
        yield
    finally:
        seam.active = None  # loading packs has set it already
        for one, (handlers, filters) in zip(loggers, before, strict=True):
            one.handlers[:], one.filters[:] = handlers, filters
