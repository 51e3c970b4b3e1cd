"""A ComfyUI that misbehaves on command: the protocol's routes on one thread, with a fault where a test wants one.

It runs no nodes. Every accepted prompt "runs" for `job_seconds`, sends the frames ComfyUI sends, and leaves a
history entry with one picture. What was accepted and what ran is counted, so that a test can tell that nothing
ran twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
OBJECT_INFO = {
    "EmptyImage": {"input": {"required": {"width": ["INT", {"default": 64, "min": 1, "max": 4096}]}}},
    "SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "x"}]}}},
}


def prompt(width: int = 64, saver: str = "SaveImage") -> dict[str, Any]:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": width}, "_meta": {"title": "Canvas"}},
        "2": {"class_type": saver, "inputs": {"images": ["1", 0]}, "_meta": {"title": "Result"}},
    }


@dataclass
class FakeComfyUI:
    """Knobs are plain attributes; set them before the job they are for."""

    job_seconds: float = 0.02
    posts: list[str] = field(default_factory=list)
    """What each coming POST /prompt meets, in turn; after that all goes well. See `_post`."""
    silent: bool = False
    """Runs jobs but sends no frames."""
    cut_after: int | None = None
    """Cuts every websocket after so many frames of the next job."""
    garbage: bool = False
    ending: str = "success"
    """success, error, memory, interrupted, blocked, vanish (no history entry), forget (that, and no word of its end, as
    if restarted), nonsense (an unreadable entry) or hold (runs until released)"""
    websocket: bool = True
    view: str = "ok"
    """ok, missing, or truncated"""
    refused: set[str] = field(default_factory=set)
    """Prompt ids whose pictures are answered with the status `refusal`."""
    refusal: int = 403
    accepted: list[str] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    """Those that were accepted, in this order."""
    ran: list[str] = field(default_factory=list)
    interrupts: list[Any] = field(default_factory=list)
    freed: list[Any] = field(default_factory=list)
    """What POST /free was asked to do."""
    flags_first: list[bool] = field(default_factory=list)
    client_ids: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Each request's path, without its query."""
    lists_history: bool = True
    """Else GET /history is answered with an error, that of one job is not."""
    absences: int = 0
    """For so many looks each job that has ended is in neither the queue nor the history."""

    def __post_init__(self) -> None:
        self.history: dict[str, Any] = {}
        self.pending: list[list[Any]] = []
        self.running: list[list[Any]] = []
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.released = asyncio.Event()
        self._looks: Counter[str] = Counter()
        self._stop_running = False
        self._number = 0
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-comfyui")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def call(self, work: Awaitable[Any]) -> Any:
        """Runs a coroutine on the server's thread and waits for it."""

        async def run() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    @contextlib.contextmanager
    def serving(self) -> Iterator[FakeComfyUI]:
        self._thread.start()
        try:
            self.call(self.up())
            asyncio.run_coroutine_threadsafe(self._work(), self._loop)
            yield self
        finally:
            self.call(self.down())
            self.call(_end_tasks())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def up(self) -> None:
        @web.middleware
        async def note(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self.asked.append(request.path)
            return await handler(request)

        app = web.Application(middlewares=[note])
        routes: list[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]] = [
            ("GET", "/ws", self._ws),
            ("POST", "/prompt", self._post),
            ("GET", "/queue", self._get_queue),
            ("POST", "/queue", self._post_queue),
            ("GET", "/history", self._all_history),
            ("GET", "/history/{id}", self._one_history),
            ("POST", "/interrupt", self._interrupt),
            ("POST", "/free", self._free),
            ("GET", "/view", self._view),
            ("GET", "/object_info", self._object_info),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def down(self) -> None:
        await self.cut()
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
            # A connection that is just being taken has to be had before it can be closed.
            await asyncio.sleep(0.02)
            await self._runner.cleanup()
            self._runner = None

    async def cut(self) -> None:
        for socket in list(self.sockets.values()):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        self.sockets.clear()

    async def forget(self) -> None:
        """What a restart does to a queue and a history that live in memory."""
        self.pending.clear()
        self.running.clear()
        self.history.clear()
        self._stop_running = True
        self.released.set()

    async def release(self) -> None:
        self.released.set()

    # Running

    async def _work(self) -> None:
        while True:
            if not self.pending:
                await asyncio.sleep(0.002)
                continue
            item = self.pending.pop(0)
            self.running.append(item)
            self._stop_running = False
            self.released.clear()
            await self._run(item)
            if item in self.running:
                self.running.remove(item)

    async def _run(self, item: list[Any]) -> None:
        _, prompt_id, nodes, extra, _ = item
        client = extra.get("client_id")
        self.ran.append(prompt_id)
        sent = 0

        async def send(kind: str, data: dict[str, Any]) -> None:
            nonlocal sent
            if self.silent:
                return
            if self.garbage:
                await self._raw(client, "{not json", b"\x00\x00", struct.pack(">II", 3, 9999), b"\x00\x00\x00\x63abc")
                await self._send(client, {"type": "executed", "data": {"prompt_id": prompt_id}})
                await self._send(client, {"type": "from_the_future", "data": [1, 2]})
            if self.cut_after is not None and sent == self.cut_after:
                self.cut_after = None
                await self.cut()
            sent += 1
            await self._send(client, {"type": kind, "data": {"prompt_id": prompt_id, **data}})

        picture = {"filename": f"{prompt_id}.png", "subfolder": "", "type": "output"}
        await send("execution_start", {})
        await send("execution_cached", {"nodes": []})
        await send("executing", {"node": "1", "display_node": "1"})
        if self.ending == "hold":
            await self.released.wait()
        await asyncio.sleep(self.job_seconds)
        await send("progress", {"node": "1", "value": 1, "max": 1})
        if self.ending == "blocked":
            await send("execution_error", {"node_id": "1", "exception_type": "ExecutionBlocked"})
        await send("executing", {"node": "2", "display_node": "2"})
        if nodes["2"]["class_type"] == "SaveImageWebsocket" and not self.silent:
            await self._raw(client, struct.pack(">II", 1, 2) + PNG)
        messages: list[Any] = [["execution_start", {"prompt_id": prompt_id, "timestamp": 1000}]]
        failed = {
            "error": ["execution_error", _failure(prompt_id, "ValueError", "no such colour")],
            "memory": ["execution_error", _failure(prompt_id, "torch.OutOfMemoryError", "Allocation failed")],
            "interrupted": ["execution_interrupted", {"prompt_id": prompt_id, "node_id": "1", "node_type": "X"}],
        }.get("interrupted" if self._stop_running else self.ending)
        if item not in self.running:
            return
        if self.ending == "forget":
            self.running.remove(item)
            return
        if failed:
            await send(failed[0], failed[1])
            messages.append(failed)
        else:
            await send("executed", {"node": "2", "display_node": "2", "output": {"images": [picture]}})
            await send("execution_success", {})
            messages.append(["execution_success", {"prompt_id": prompt_id, "timestamp": 1500}])
        if self.ending == "nonsense":
            self.history[prompt_id] = {"outputs": [1, 2], "status": "?"}
        elif self.ending != "vanish":
            await asyncio.sleep(0.005)
            saved = nodes["2"]["class_type"] == "SaveImage" and not failed
            self.history[prompt_id] = {
                "prompt": item,
                "outputs": {"2": {"images": [picture]}} if saved else {},
                "status": {
                    "status_str": "error" if failed else "success",
                    "completed": not failed,
                    "messages": messages,
                },
                "meta": {},
            }
        self.running.remove(item)
        await send("executing", {"node": None})

    async def _send(self, client: str | None, message: dict[str, Any]) -> None:
        await self._raw(client, json.dumps(message))

    async def _raw(self, client: str | None, *frames: str | bytes) -> None:
        socket = self.sockets.get(client or "")
        if socket is None or socket.closed:
            return
        with contextlib.suppress(ConnectionError):
            for frame in frames:
                await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))

    # Routes

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        if not self.websocket:
            return web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query["clientId"]
        self.client_ids.append(client)
        self.sockets[client] = socket
        await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}}})
        first = True
        async for message in socket:
            if first and message.type == WSMsgType.TEXT:
                self.flags_first.append(message.json().get("type") == "feature_flags")
                first = False
        return socket

    def _accept(self, body: dict[str, Any]) -> str:
        prompt_id = str(body["prompt_id"])
        extra = {**body["extra_data"], "client_id": body["client_id"]}
        self._number += 1
        self.accepted.append(prompt_id)
        self.prompts.append(body["prompt"])
        number = -self._number if body.get("front") else self._number
        self.pending.append([number, prompt_id, body["prompt"], extra, ["2"]])
        self.pending.sort(key=lambda item: item[0])
        return prompt_id

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        fault = self.posts.pop(0) if self.posts else "well"
        if fault == "refuse":
            error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"}
            detail = {"type": "value_not_in_list", "message": "Value not in list", "details": "x", "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {"1": {"errors": [detail]}}}, status=400)
        if fault == "busy":
            return web.Response(status=429)
        if fault == "large":
            return web.Response(status=413)
        if fault in ("cut before", "cut, accept later"):
            _abort(request)
            if fault == "cut, accept later":
                self._loop.call_later(0.5, self._accept, body)
            return web.Response()
        if fault == "hang, accept later":
            # Later than anybody looks for a request whose connection broke.
            self._loop.call_later(2.0, self._accept, body)
            await asyncio.sleep(2.5)
            return web.Response(status=504)
        if fault == "gateway, not accepted":
            return web.Response(status=502)
        prompt_id = self._accept(body)
        if fault == "twice":
            self._accept(body)
        if fault == "cut at the end":
            while self.pending or self.running:
                await asyncio.sleep(0.01)
        if fault in ("cut after", "cut at the end"):
            _abort(request)
        if fault == "gateway":
            return web.Response(status=504)
        if fault == "stall":
            await asyncio.sleep(1.0)
        answer: dict[str, Any] = {"prompt_id": prompt_id, "number": self._number, "node_errors": {}}
        if fault == "partial":
            detail = {"type": "required_input_missing", "message": "Required input is missing", "details": "images"}
            answer["node_errors"] = {"2": {"errors": [detail], "class_type": "SaveImage"}}
        return web.json_response(answer)

    async def _get_queue(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"queue_running": self.running, "queue_pending": self.pending})

    async def _post_queue(self, request: web.Request) -> web.StreamResponse:
        for prompt_id in (await request.json()).get("delete", []):
            for at, item in enumerate(self.pending):
                if item[1] == prompt_id:
                    del self.pending[at]
                    break
        return web.Response()

    async def _all_history(self, request: web.Request) -> web.StreamResponse:
        if not self.lists_history:
            raise web.HTTPInternalServerError
        newest = list(self.history.items())[-int(request.query.get("max_items", len(self.history) or 1)) :]
        return web.json_response(dict(newest))

    async def _one_history(self, request: web.Request) -> web.StreamResponse:
        prompt_id = request.match_info["id"]
        self._looks[prompt_id] += prompt_id in self.history
        if self._looks[prompt_id] <= self.absences:
            return web.json_response({})
        return web.json_response({prompt_id: self.history[prompt_id]} if prompt_id in self.history else {})

    async def _interrupt(self, request: web.Request) -> web.StreamResponse:
        self.interrupts.append((await request.json()).get("prompt_id"))
        self._stop_running = True
        self.released.set()
        return web.Response()

    async def _free(self, request: web.Request) -> web.StreamResponse:
        self.freed.append(await request.json())
        return web.Response()

    async def _view(self, request: web.Request) -> web.StreamResponse:
        if self.view == "missing":
            return web.Response(status=404)
        if any(name in request.query["filename"] for name in self.refused):
            return web.Response(status=self.refusal)
        if self.view == "truncated":
            response = web.StreamResponse(headers={"Content-Length": str(len(PNG))})
            await response.prepare(request)
            await response.write(PNG[:20])
            _abort(request)
            return response
        return web.Response(body=PNG)

    async def _object_info(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(OBJECT_INFO)


async def _end_tasks() -> None:
    """Requests that were cut off, and the worker: none may outlive the loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Aborted connections are closed in the loop's next rounds.
    await asyncio.sleep(0.01)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _failure(prompt_id: str, kind: str, message: str) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "node_id": "1",
        "node_type": "EmptyImage",
        "exception_type": kind,
        "exception_message": message,
        "traceback": ["line 1"],
        "current_inputs": {"width": ["64"]},
    }
