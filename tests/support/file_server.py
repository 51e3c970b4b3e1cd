"""A web server for model files that goes wrong where a test tells it to, and counts what it sends."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Fault", "FileServer", "Served", "serving", "serving_raw"]

_SETTLED = 5.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    status: answered with it instead of the file. headers: say this instead of the truth. cut, stall: after so many
    bytes of the body the connection ends, or nothing comes for `seconds`. length: what Content-Length says instead of
    the truth. whole: Range is not looked at.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: int | None = None
    seconds: float = 0.0
    length: int | None = None
    whole: bool = False


@dataclass
class Served:
    """`faults` are used up, one a request, the first being for the question that comes before the download;
    `always` is for every request after those. pace: bytes a second of each connection."""

    content: bytes
    etag: str | None = '"1"'
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    faults: deque[Fault | None] = field(default_factory=deque)
    always: Fault | None = None
    token: str | None = None
    redirect: str | None = None
    pace: float | None = None
    chunked: bool = False


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        return (int(found[1]), int(found[2])) if found else None


class FileServer:
    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.sent_so_far = 0
        self.open = self.most_open = 0
        self.lock = threading.Lock()
        self.url = ""

    def add(self, path: str, content: bytes, *faults: Fault | None, **options: Any) -> str:
        """The address of a new file."""
        self.files[path] = Served(content, faults=deque(faults), **options)
        return f"{self.url}{path}"

    @property
    def sent(self) -> int:
        """Bytes of bodies, when all that was asked for is answered or given up."""
        deadline = time.monotonic() + _SETTLED
        while self.open and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.sent_so_far

    def forget(self) -> None:
        """Starts to count anew."""
        if self.sent:
            with self.lock:
                self.sent_so_far = 0
        self.requests.clear()


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """tls: for https, at https://localhost."""
    served = FileServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": served}))
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    if tls is not None:
        served.url = f"https://localhost:{server.server_address[1]}"
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serving_raw(*answers: bytes, pause: float = 0.0, at_once: int = 0) -> Iterator[str]:
    """The URL of a server that sends each connection the next of `answers` as it is; the last one again and again.

    pause: seconds between single bytes after the first `at_once`; without it an answer is sent whole.
    """
    left = deque(answers)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            answer = left.popleft() if len(left) > 1 else left[0]
            request = b""
            with contextlib.suppress(OSError):
                while b"\r\n\r\n" not in request and (piece := self.request.recv(1 << 16)):
                    request += piece
                if not pause:
                    self.request.sendall(answer)
                    return
                self.request.sendall(answer[:at_once])
                for at in range(at_once, len(answer)):
                    self.request.sendall(answer[at : at + 1])
                    time.sleep(pause)

    server = _RawServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _RawServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """Else the second piece of an answer waits for the client to confirm the first: 40 ms on Linux."""
    files: FileServer

    def do_GET(self) -> None:
        files = self.files
        request = Request(self.path, {name.title(): value for name, value in self.headers.items()})
        with files.lock:
            files.requests.append(request)
            files.open += 1
            files.most_open = max(files.most_open, files.open)
            file = files.files.get(self.path)
            fault = None if file is None else file.faults.popleft() if file.faults else file.always
        try:
            self._answer(request, file, fault or Fault())
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with files.lock:
                files.open -= 1

    def _answer(self, request: Request, file: Served | None, fault: Fault) -> None:
        if file is None:
            self._head(404, {"Content-Length": "0"})
        elif fault.status is not None:
            self._head(fault.status, {"Content-Length": "0", **fault.headers})
        elif file.redirect is not None:
            self._head(302, {"Content-Length": "0", "Location": file.redirect, **file.headers})
        elif file.token is not None and request.headers.get("Authorization") != f"Bearer {file.token}":
            self._head(401, {"Content-Length": "0", "X-Error-Code": "GatedRepo"})
        else:
            self._file(request, file, fault)

    def _file(self, request: Request, file: Served, fault: Fault) -> None:
        body, headers, status = file.content, dict(file.headers), 200
        if file.etag is not None:
            headers["ETag"] = file.etag
        wanted = request.range if file.ranges and not fault.whole else None
        if wanted is not None and request.headers.get("If-Range", file.etag) == file.etag:
            first, last = wanted
            if first >= len(body):
                self._head(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0", **headers})
                return
            headers["Content-Range"] = f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}"
            body, status = body[first : last + 1], 206
        if file.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body) if fault.length is None else fault.length)
        self._head(status, {**headers, **fault.headers})
        self._body(body, file, fault)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, body: bytes, file: Served, fault: Fault) -> None:
        piece = 16 << 10
        for at in range(0, len(body), piece):
            end = min(at + piece, len(body))
            if fault.cut is not None and end >= fault.cut:
                self._send(body[at : fault.cut], file)
                self._hang_up()
                return
            if fault.stall is not None and at >= fault.stall:
                time.sleep(fault.seconds)
            self._send(body[at:end], file)
            if file.pace is not None:
                time.sleep((end - at) / file.pace)
        if file.chunked:
            self.wfile.write(b"0\r\n\r\n")
        if fault.length is not None:
            self._hang_up()

    def _send(self, piece: bytes, file: Served) -> None:
        if not piece:
            return
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if file.chunked else piece)
        with self.files.lock:
            self.files.sent_so_far += len(piece)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        pass
