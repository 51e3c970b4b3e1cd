"""The HTTP side of the host: ComfyUI's routes, each also under /api."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kandiflux.json_values import as_object, is_dict, is_object
from kandiflux.lite import files
from kandiflux.lite.jobs import Job
from kandiflux.lite.origin import Handler, same_origin
from kandiflux.lite.stats import system_stats
from kandiflux.lite.validate import validate

if TYPE_CHECKING:
    from kandiflux.lite.editor import Editor
    from kandiflux.lite.host import Host

__all__ = ["application"]


def application(host: Host, max_upload: int, editor: Editor | None = None) -> web.Application:
    """The aiohttp application for `host`, with the graph editor if given; bodies over `max_upload` bytes get 413."""
    app = web.Application(client_max_size=max_upload, middlewares=[same_origin])
    routes = _Routes(host)
    table: list[tuple[str, str, Handler]] = [
        *(editor.routes() if editor else []),  # the first of a path answers
        ("GET", "/", routes.root),
        ("GET", "/ws", routes.websocket),
        ("GET", "/prompt", routes.queue_info),
        ("POST", "/prompt", routes.prompt),
        ("GET", "/queue", routes.queue),
        ("POST", "/queue", routes.change_queue),
        ("GET", "/history", routes.history),
        ("GET", "/history/{prompt_id}", routes.history_of),
        ("POST", "/history", routes.change_history),
        ("POST", "/interrupt", routes.interrupt),
        ("POST", "/free", routes.free),
        ("GET", "/object_info", routes.object_info),
        ("GET", "/object_info/{node_class}", routes.object_info),
        ("GET", "/view", routes.view),
        ("POST", "/upload/image", routes.upload_image),
        ("POST", "/upload/mask", routes.upload_mask),
        ("GET", "/models", routes.model_kinds),
        ("GET", "/models/{folder}", routes.models),
        ("GET", "/embeddings", routes.embeddings),
        ("GET", "/extensions", routes.extensions),
        ("GET", "/features", routes.features),
        ("GET", "/system_stats", routes.system_stats),
    ]
    for method, path, handler in table:
        app.router.add_route(method, path, handler)
        app.router.add_route(method, "/api" + path, handler)
    if editor:
        app.router.add_static("/", editor.static)
    return app


class _Routes:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._next_number = 0
        self._uploading = asyncio.Lock()  # or two uploads of one name would find the same free name

    async def root(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="This is kandiflux's lite host, without the graph editor (start it with --editor).")

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        host = self._host
        return await host.sockets.serve(request, host.queue_info, host.executor.running_node_for)

    async def queue_info(self, _: web.Request) -> web.StreamResponse:
        return _json(self._host.queue_info())

    async def prompt(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        number = self._number(body)
        prompt = body.get("prompt")
        if not is_dict(prompt):
            text = "No prompt provided"
            return _json({"error": _error("no_prompt", text, text), "node_errors": {}}, status=400)
        extra_data = body.get("extra_data") or dict[str, Any]()
        if not is_dict(extra_data):
            raise _bad_request("extra_data: expected an object")
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        if not isinstance(extra_data.get("client_id", ""), str):
            raise _bad_request("client_id: expected a string")
        only = body.get("partial_execution_targets")
        # In a thread: VALIDATE_INPUTS and INPUT_TYPES are the packs' code, and may take their time.
        verdict = await asyncio.to_thread(validate, prompt, self._host.registry, only)
        if verdict.error:
            return _json({"error": verdict.error, "node_errors": verdict.node_errors}, status=400)
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        self._host.jobs.put(Job(number, prompt_id, prompt, extra_data, verdict.outputs))
        return _json({"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors})

    def _number(self, body: Mapping[str, Any]) -> float:
        """The prompt's place in the queue: as asked for, or the next; "front" goes before all others."""
        if "number" in body:
            try:
                return float(body["number"])
            except (TypeError, ValueError) as error:
                raise _bad_request(f"number: {error}") from error
        number, self._next_number = self._next_number, self._next_number + 1
        return -number if body.get("front") else number

    async def queue(self, _: web.Request) -> web.StreamResponse:
        return _json(self._host.jobs.snapshot())

    async def change_queue(self, request: web.Request) -> web.StreamResponse:
        return await _clear_or_delete(request, self._host.jobs.clear, self._host.jobs.delete)

    async def history(self, request: web.Request) -> web.StreamResponse:
        try:
            max_items = int(request.query["max_items"]) if "max_items" in request.query else None
            offset = int(request.query.get("offset", -1))
        except ValueError as error:
            raise _bad_request(str(error)) from error
        return _json(self._host.jobs.history(max_items, offset))

    async def history_of(self, request: web.Request) -> web.StreamResponse:
        return _json(self._host.jobs.history_of(request.match_info["prompt_id"]))

    async def change_history(self, request: web.Request) -> web.StreamResponse:
        return await _clear_or_delete(request, self._host.jobs.clear_history, self._host.jobs.delete_history)

    async def interrupt(self, request: web.Request) -> web.StreamResponse:
        prompt_id = None
        with contextlib.suppress(ValueError):
            prompt_id = as_object(json.loads(await request.read() or b"{}")).get("prompt_id")
        if not prompt_id or prompt_id == self._host.jobs.running_id():
            self._host.interrupt.request()
        return web.Response()

    async def free(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        self._host.free(unload=bool(body.get("unload_models")), forget=bool(body.get("free_memory")))
        return web.Response()

    async def object_info(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("node_class")
        names = None if name is None else [name]
        return _json(await asyncio.to_thread(self._host.registry.object_info, names))

    async def view(self, request: web.Request) -> web.StreamResponse:
        try:
            sent = await asyncio.to_thread(files.view, self._host.folders, request.query)
        except files.Refused as refused:
            return web.Response(status=refused.status, text=str(refused))
        headers = {"Content-Disposition": f'filename="{_header_safe(sent.name)}"', "Content-Type": sent.content_type}
        if sent.path is not None:
            return web.FileResponse(sent.path, headers=headers)
        return web.Response(body=sent.body, headers=headers)

    async def upload_image(self, request: web.Request) -> web.StreamResponse:
        return await self._upload(request, is_mask=False)

    async def upload_mask(self, request: web.Request) -> web.StreamResponse:
        return await self._upload(request, is_mask=True)

    async def _upload(self, request: web.Request, is_mask: bool) -> web.StreamResponse:
        form = await request.post()
        try:
            async with self._uploading:
                return _json(await asyncio.to_thread(files.upload, self._host.folders, form, is_mask))
        except files.Refused as refused:
            return web.Response(status=refused.status, text=str(refused))

    async def model_kinds(self, _: web.Request) -> web.StreamResponse:
        return _json(self._host.folders.model_kinds())

    async def models(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["folder"]
        if kind not in self._host.folders.model_kinds():
            return web.Response(status=404)
        return _json(await asyncio.to_thread(self._host.folders.model_files, kind))

    async def embeddings(self, _: web.Request) -> web.StreamResponse:
        names = await asyncio.to_thread(self._host.folders.model_files, "embeddings")
        return _json([str(Path(name).with_suffix("")) for name in names])

    async def extensions(self, _: web.Request) -> web.StreamResponse:
        return _json([])  # scripts for the graph editor, which is not here: see editor.py

    async def features(self, _: web.Request) -> web.StreamResponse:
        return _json(self._host.features)

    async def system_stats(self, _: web.Request) -> web.StreamResponse:
        return _json(await asyncio.to_thread(system_stats))


async def _clear_or_delete(
    request: web.Request, clear: Callable[[], None], delete: Callable[[str], None]
) -> web.StreamResponse:
    body = await _body(request)
    if body.get("clear"):
        clear()
    for prompt_id in body.get("delete") or ():
        delete(str(prompt_id))
    return web.Response()


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise _bad_request(f"the body is not JSON: {error}") from error
    if not is_object(body):
        raise _bad_request("the body is not a JSON object")
    return body


def _bad_request(details: str) -> web.HTTPBadRequest:
    text = json.dumps({"error": _error("invalid_request", "Invalid request", details), "node_errors": {}})
    return web.HTTPBadRequest(text=text, content_type="application/json")


def _error(kind: str, message: str, details: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {}}


def _json(data: Any, status: int = 200) -> web.Response:
    # default=str: what nodes return or declare may hold anything.
    return web.json_response(data, status=status, dumps=lambda value: json.dumps(value, default=str))


def _header_safe(name: str) -> str:
    return "".join(letter for letter in name if letter.isprintable() and letter != '"')
