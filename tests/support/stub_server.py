"""A server that answers what a test tells it to, and else as a ComfyUI without websocket that ends each job at once."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.fake_comfyui import OBJECT_INFO, PNG, prompt

__all__ = ["HTML", "PNG", "Answer", "StubServer", "drip", "hang", "html", "prompt"]

HTML = "<!DOCTYPE html>\n<html><head><title>\x1b]0;owned\x07Sign in</title></head>\n" + "<p>\x1b[2Jline</p>\n" * 2000


@dataclass
class Answer:
    """status, and the content: bytes, a text, or anything else as JSON."""

    content: Any
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    """More of them; a Content-Length here may lie."""


Reaction = Any
"""What to answer: an Answer, or what is JSON; or a function of the handler that answers by itself, or gives either."""


@dataclass
class StubServer:
    """reactions: by method and the path without its query, or the beginning of it. asked: "GET /queue", …"""

    reactions: dict[str, Reaction] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=lambda: {"2": {"images": [{"filename": "a.png"}]}})
    """What each job shows in its history."""

    status: dict[str, Any] = field(default_factory=lambda: {"status_str": "success", "completed": True, "messages": []})
    holding: bool = False
    """Jobs run, and do not end until one is interrupted."""

    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """What came with each request, names in small letters."""
    bodies: list[bytes] = field(default_factory=list)
    posted: dict[str, Any] = field(default_factory=dict)
    """Prompts that were taken, by id."""

    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def serving(self) -> Iterator[StubServer]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            self.ended.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def count(self, begin: str) -> int:
        """How many requests began like this."""
        return sum(asked.startswith(begin) for asked in self.asked)

    def usual(self, method: str, path: str, body: Any) -> Reaction:
        if method == "POST":
            if path == "/prompt":
                self.posted[body["prompt_id"]] = body
                return {"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}}
            self.holding = self.holding and path != "/interrupt"
            return Answer({}, 200 if path in ("/queue", "/interrupt", "/free") else 404)
        if path.startswith("/history") and not self.holding:
            entries = {
                job: {"prompt": [0, job, body["prompt"], {}, []], "outputs": self.outputs, "status": self.status}
                for job, body in self.posted.items()
            }
            wanted = path.removeprefix("/history/")
            return entries if path == "/history" else {wanted: entries[wanted]} if wanted in entries else {}
        return {
            "/object_info": OBJECT_INFO,
            "/system_stats": {"system": {"comfyui_version": "0.3.64"}, "devices": []},
            "/features": {},
            "/embeddings": [],
            "/queue": {
                "queue_running": [[1, job, {}, {}, []] for job in self.posted if self.holding],
                "queue_pending": [],
            },
            "/view": Answer(PNG, content_type="image/png"),
        }.get(path, Answer({}, 200 if path.startswith("/history") else 404))


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Never answers."""
    _stub_of(handler).ended.wait(120)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Answers a byte every 0.1 s, of a million."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not _stub_of(handler).ended.wait(0.1):
        handler.wfile.write(b"\x89")
        handler.wfile.flush()


def html(_: BaseHTTPRequestHandler) -> Answer:
    """A page instead."""
    return Answer(HTML, content_type="text/html")


def _stub_of(handler: BaseHTTPRequestHandler) -> StubServer:
    return handler.stub  # pyright: ignore[reportAttributeAccessIssue]


def _handler(stub: StubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the second piece of an answer waits for the client to confirm the first: 40 ms on Linux.
        disable_nagle_algorithm = True
        last_answer = False

        def react(self) -> None:
            path = self.path.partition("?")[0]
            request = f"{self.command} {path}"
            stub.asked.append(request)
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length) if length else b""
            stub.headers.append({name.lower(): value for name, value in self.headers.items()})
            stub.bodies.append(raw)
            reaction = next((react for begin, react in stub.reactions.items() if request.startswith(begin)), None)
            if reaction is None:
                reaction = stub.usual(self.command, path, json.loads(raw) if raw[:1] == b"{" else None)
            with contextlib.suppress(ConnectionError):
                if callable(reaction):
                    # If it answers by itself, the connection ends after that. A client that is not told so may send its
                    # next request just before the connection is closed, and that request would be lost.
                    self.last_answer = True
                    reaction = reaction(self)
                    self.last_answer = False
                if reaction is None:
                    self.close_connection = True
                else:
                    self.answer(reaction if isinstance(reaction, Answer) else Answer(reaction))

        def end_headers(self) -> None:
            if self.last_answer:
                self.send_header("Connection", "close")
            super().end_headers()

        def answer(self, answer: Answer) -> None:
            content = answer.content
            if not isinstance(content, bytes):
                content = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            # What was announced and does not come must not be waited for.
            self.close_connection = self.close_connection or "Content-Length" in answer.headers

        do_GET = do_POST = react

        def log_message(self, format: str, *args: Any) -> None:
            pass

    Handler.stub = stub  # pyright: ignore[reportAttributeAccessIssue]
    return Handler
