"""The host's HTTP server: ComfyUI's routes, each also under /api."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from kandiflux.lite import file_routes as files
from kandiflux.lite.editor_routes import Editor
from kandiflux.lite.guard import Failure, attempt
from kandiflux.lite.host import Host
from kandiflux.lite.http import (
    Handler,
    Refused,
    answer_errors,
    error_json,
    file_answer,
    json_answer,
    large_json_answer,
    query_int,
    read_form,
    read_json,
    read_object,
)
from kandiflux.lite.job_queue import LiteJob
from kandiflux.lite.job_routes import canonical_id, find_job, list_jobs
from kandiflux.lite.logs import OneLineErrors, loop_error_handler
from kandiflux.lite.origin import HostNames, same_origin
from kandiflux.lite.stats import system_stats
from kandiflux.lite.validate import validate
from kandiflux.util.json_values import as_list, is_dict, is_list

__all__ = ["WorkerEnded", "application", "serve"]

log = logging.getLogger(__name__)

_STOP_TIMEOUT = 5.0
"""Seconds to wait for a running node to react to the interrupt when the host stops."""

_LARGEST_SETTINGS = 1 << 20


class WorkerEnded(RuntimeError):
    """The worker thread has ended, so the host stopped: it would accept prompts but never run them."""


async def serve(
    host: Host,
    address: str,
    port: int,
    ready: Callable[[str], None],
    stop: asyncio.Event,
    names: HostNames,
    editor: Editor | None = None,
) -> None:
    """Listens until `stop` is set, after calling `ready(url)`. Port 0: any free port. Raises WorkerEnded."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_error_handler())
    logging.getLogger("aiohttp.server").addFilter(OneLineErrors())
    host.sockets.attach(loop)
    runner = web.AppRunner(application(host, names, editor), access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, address, port)
    await site.start()
    ended = threading.Event()

    def work() -> None:
        done = attempt(host.work)
        if isinstance(done, Failure):
            log.critical("%sThe worker ended: %s", done.text, done.message)
            ended.set()
            loop.call_soon_threadsafe(stop.set)

    worker = threading.Thread(target=work, name="kandiflux-worker", daemon=True)
    worker.start()
    # The port of an IPv4 address (a 2-tuple), as in `_reachable`: IPv6 (a 4-tuple) may use another free port.
    bound = min(runner.addresses, key=len)[1]
    ready(f"http://{_reachable(address)}:{bound}")
    await stop.wait()
    host.stop()
    await asyncio.to_thread(worker.join, _STOP_TIMEOUT)
    await host.sockets.close()
    await runner.cleanup()
    if ended.is_set():
        raise WorkerEnded("The worker thread has ended; the log has the traceback.")


def application(host: Host, names: HostNames, editor: Editor | None = None) -> web.Application:
    """Returns the aiohttp application for `host`, with the graph editor if given. `names`: see HostNames."""
    app = web.Application(client_max_size=host.max_upload, middlewares=[same_origin(names), answer_errors])
    routes = _Routes(host)
    table: list[tuple[str, str, Handler]] = [
        *(editor.routes() if editor else []),  # if two routes have the same path, the first one is used
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
        ("GET", "/api/jobs", routes.jobs),
        ("GET", "/api/jobs/{prompt_id}", routes.job),
        ("POST", "/api/jobs/cancel", routes.cancel_jobs),
        ("POST", "/api/jobs/{prompt_id}/cancel", routes.cancel_job),
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
        ("GET", "/users", routes.users),
        ("GET", "/settings", routes.settings),
        ("POST", "/settings", routes.change_settings),
        ("GET", "/settings/{id}", routes.setting),
        ("POST", "/settings/{id}", routes.change_setting),
    ]
    for method, path, handler in table:
        for one in ("GET", "HEAD") if method == "GET" else (method,):
            app.router.add_route(one, path, handler)
            if not path.startswith("/api/"):
                app.router.add_route(one, "/api" + path, handler)
    if editor:
        app.router.add_static("/", editor.static)
    app.on_response_prepare.append(_no_sniffing)
    return app


async def _no_sniffing(_: web.Request, response: web.StreamResponse) -> None:
    """Tells browsers not to guess another content type, for example to run a text file as a script."""
    response.headers["X-Content-Type-Options"] = "nosniff"


class _Routes:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._next_number = 0
        self._uploading = asyncio.Lock()  # otherwise two uploads could choose the same free name

    async def root(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="This is kandiflux's lite host, without the graph editor (start it with --editor).")

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        host = self._host
        return await host.sockets.serve(request, host.queue_info, host.executor.running_node_for)

    async def queue_info(self, _: web.Request) -> web.StreamResponse:
        return json_answer(self._host.queue_info())

    async def prompt(self, request: web.Request) -> web.StreamResponse:
        body = await read_object(request, {"extra_data": dict, "client_id": str, "partial_execution_targets": list})
        number = self._number(body)
        prompt = body.get("prompt")
        if not is_dict(prompt):
            raise Refused(400, "No prompt provided", error_json("no_prompt", "No prompt provided"))
        prompt_id = body.get("prompt_id")
        if prompt_id is not None and not canonical_id(prompt_id):
            message = "prompt_id must be a valid UUID"
            details = "expected a lowercase UUID with hyphens, or no prompt_id: then the server creates one"
            raise Refused(400, message, error_json("invalid_prompt_id", message, details))
        extra_data: dict[str, Any] = body.get("extra_data") or {}
        if body.get("client_id") is not None:
            extra_data["client_id"] = body["client_id"]
        only = body.get("partial_execution_targets")
        if not isinstance(extra_data.get("client_id", ""), str) or not _all_texts(only or []):
            details = "client_id: expected a string; partial_execution_targets: expected a list of strings"
            raise Refused(400, details, error_json("invalid_request", "Invalid request", details))
        # In a thread, because VALIDATE_INPUTS and INPUT_TYPES are code of packs and may be slow.
        verdict = await asyncio.to_thread(validate, prompt, self._host.registry, only)
        if verdict.error:
            raise Refused(400, verdict.error["message"], {"error": verdict.error, "node_errors": verdict.node_errors})
        prompt_id = prompt_id or str(uuid.uuid4())
        extra_data["create_time"] = int(time.time() * 1000)
        self._host.jobs.put(LiteJob(number, prompt_id, prompt, extra_data, verdict.outputs))
        return json_answer({"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors})

    def _number(self, body: Mapping[str, Any]) -> float:
        """Returns the queue number: as requested, or the next one, negative for "front" (before all others)."""
        if "number" in body:
            try:
                number = float(body["number"])
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not math.isfinite(number):  # NaN would break the order of the queue
                details = f"number: expected a finite number, got {str(body['number'])[:100]!r}"
                raise Refused(400, details, error_json("invalid_request", "Invalid request", details))
            return number
        number, self._next_number = self._next_number, self._next_number + 1
        return -number if body.get("front") else number

    async def queue(self, _: web.Request) -> web.StreamResponse:
        return await large_json_answer(self._host.jobs.snapshot())

    async def change_queue(self, request: web.Request) -> web.StreamResponse:
        return await _clear_or_delete(request, self._host.jobs.clear, self._host.jobs.delete)

    async def history(self, request: web.Request) -> web.StreamResponse:
        max_items, offset = query_int(request, "max_items"), query_int(request, "offset")
        return await large_json_answer(self._host.jobs.history(max_items, -1 if offset is None else offset))

    async def history_of(self, request: web.Request) -> web.StreamResponse:
        return json_answer(self._host.jobs.history_of(request.match_info["prompt_id"]))

    async def change_history(self, request: web.Request) -> web.StreamResponse:
        return await _clear_or_delete(request, self._host.jobs.clear_history, self._host.jobs.delete_history)

    async def interrupt(self, request: web.Request) -> web.StreamResponse:
        body = await read_object(request, {"prompt_id": str}) if request.can_read_body else {}
        self._host.jobs.interrupt(body.get("prompt_id") or None)
        return web.Response()

    async def free(self, request: web.Request) -> web.StreamResponse:
        body = await read_object(request)
        self._host.free(unload=bool(body.get("unload_models")), forget=bool(body.get("free_memory")))
        return web.Response()

    async def jobs(self, request: web.Request) -> web.StreamResponse:
        queue, history = self._host.jobs.snapshot(), self._host.jobs.history()
        return json_answer(await asyncio.to_thread(list_jobs, request.query, queue, history))

    async def job(self, request: web.Request) -> web.StreamResponse:
        prompt_id = request.match_info["prompt_id"]
        return json_answer(find_job(prompt_id, self._host.jobs.snapshot(), self._host.jobs.history_of(prompt_id)))

    async def cancel_job(self, request: web.Request) -> web.StreamResponse:
        return json_answer({"cancelled": self._host.jobs.cancel(request.match_info["prompt_id"])})

    async def cancel_jobs(self, request: web.Request) -> web.StreamResponse:
        body = await read_json(request)
        ids = body.get("job_ids") if is_dict(body) else None
        if not is_list(ids):
            raise Refused(400, "job_ids must be a list", {"error": "job_ids must be a list"})
        wrong = [job_id if isinstance(job_id, str) else repr(job_id) for job_id in ids if not canonical_id(job_id)]
        if wrong:
            message = "job_ids contains invalid id(s)"
            raise Refused(400, message, {"error": message, "invalid_ids": [one[:200] for one in wrong[:100]]})
        cancelled = [self._host.jobs.cancel(job_id) for job_id in dict.fromkeys(ids)]
        return json_answer({"cancelled": any(cancelled)})

    async def object_info(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("node_class")
        names = None if name is None else [name]
        return json_answer(await asyncio.to_thread(self._host.registry.object_info, names))

    async def view(self, request: web.Request) -> web.StreamResponse:
        sent = await asyncio.to_thread(files.view, self._host.folders, request.query)
        disposition = f'filename="{_header_safe(sent.name)}"'
        if sent.path is not None:
            return file_answer(sent.path, sent.content_type, disposition)
        headers = {"Content-Disposition": disposition, "Content-Type": sent.content_type or "application/octet-stream"}
        return web.Response(body=sent.body, headers=headers)

    async def upload_image(self, request: web.Request) -> web.StreamResponse:
        return await self._upload(request, is_mask=False)

    async def upload_mask(self, request: web.Request) -> web.StreamResponse:
        return await self._upload(request, is_mask=True)

    async def _upload(self, request: web.Request, is_mask: bool) -> web.StreamResponse:
        with await read_form(request, self._host.max_upload) as form:
            async with self._uploading:
                return json_answer(await asyncio.to_thread(files.upload, self._host.folders, form, is_mask))

    async def model_kinds(self, _: web.Request) -> web.StreamResponse:
        return json_answer(self._host.folders.model_kinds())

    async def models(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["folder"]
        if kind not in self._host.folders.model_kinds():
            return web.Response(status=404)
        return json_answer(await asyncio.to_thread(self._host.folders.model_files, kind))

    async def embeddings(self, _: web.Request) -> web.StreamResponse:
        names = await asyncio.to_thread(self._host.folders.model_files, "embeddings")
        return json_answer([str(Path(name).with_suffix("")) for name in names])

    async def extensions(self, _: web.Request) -> web.StreamResponse:
        return json_answer([])  # only the graph editor has extensions: see editor_routes.py

    async def features(self, _: web.Request) -> web.StreamResponse:
        return json_answer(self._host.features)

    async def system_stats(self, _: web.Request) -> web.StreamResponse:
        return json_answer(await asyncio.to_thread(system_stats))

    async def users(self, _: web.Request) -> web.StreamResponse:
        return json_answer({"storage": "server", "migrated": self._host.user.folder.is_dir()})

    async def settings(self, _: web.Request) -> web.StreamResponse:
        return json_answer(await asyncio.to_thread(self._host.user.settings))

    async def setting(self, request: web.Request) -> web.StreamResponse:
        settings = await asyncio.to_thread(self._host.user.settings)
        return json_answer(settings.get(request.match_info["id"]))

    async def change_settings(self, request: web.Request) -> web.StreamResponse:
        changes = await read_json(request, longest=_LARGEST_SETTINGS)
        if not is_dict(changes):
            raise Refused(400, "expected an object of settings by name")
        self._host.user.change_settings(changes)  # not in a thread: concurrent changes could be lost
        return web.Response()

    async def change_setting(self, request: web.Request) -> web.StreamResponse:
        value = await read_json(request, longest=_LARGEST_SETTINGS)
        self._host.user.change_settings({request.match_info["id"]: value})
        return web.Response()


async def _clear_or_delete(
    request: web.Request, clear: Callable[[], None], delete: Callable[[Collection[str]], None]
) -> web.StreamResponse:
    body = await read_object(request, {"delete": list})
    ids = as_list(body.get("delete"))
    if not _all_texts(ids):
        raise Refused(400, "delete: expected a list of strings")
    if body.get("clear"):
        clear()
    delete(ids)
    return web.Response()


def _all_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _header_safe(name: str) -> str:
    return "".join(letter for letter in name if letter.isprintable() and letter not in '"\\')


def _reachable(address: str) -> str:
    """Returns the address as written in a URL; a loopback address if the host listens on all addresses."""
    address = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"[{address}]" if ":" in address else address
