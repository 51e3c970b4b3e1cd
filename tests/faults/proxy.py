"""A TCP proxy that stands between a runner and a real host and breaks what passes, job by job, as it is told.

It reads just enough HTTP and websocket to know which job a request or a frame is about. What the host was asked and
what it accepted is counted behind the faults, so a test can tell what truly happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.faults.hostile import send_hostile

_HEAD_END = b"\r\n\r\n"
_TEXT, _BINARY, _CLOSE = 0x1, 0x2, 0x8
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Fault:
    """`kind` befalls the request `path` of a job once (`times`), or for "frame" its websocket at frame `position`.

    Requests: refuse (cut before it is passed on), cut (passed on, no answer), truncate (half an answer), stall (passed
    on, the answer comes late), late (passed on late), hang (half-open: not passed on, never answered, never closed;
    "hang+" is passed on), garbage (an answer that is not JSON), "hostile " and one of `hostile.ANSWERS` (a POST may
    have been passed on), or a status that the proxy answers itself: "500" and the like; "502+" is answered after
    passing the request on.
    Frames: cut, half (cut in the middle of it), after (cut once it has come), stall, mute (half-open: nothing comes any
    more, nothing is closed), twice, swap (with the next), garbage (nonsense before it), huge (a length that never
    comes).
    """

    kind: str
    path: str = "frame"
    position: int = 0
    times: int = 1


@dataclass
class Proxy:
    """Listens at `url` for the host at `upstream`. Faults are planned by job id; `seed` chooses the nonsense."""

    upstream: str
    seed: int = 0
    stall_seconds: float = 1.1
    plan: dict[str, list[Fault]] = field(default_factory=dict)
    newcomers: Callable[[], list[Fault]] | None = None
    """The plan of a job that has none: whose ids the runner makes."""
    background: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    """What befalls requests that are of no one job, by path: how likely, and one of which kinds. `/ws` is the socket's
    handshake (refuse, stall, hang or a status); `/queue` and `/history` as the requests above."""
    next_up: dict[str, list[str]] = field(default_factory=dict)
    """What befalls the next requests of a path that are of no one job, in turn; "" is nothing."""
    everywhere: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    """The same for every request, of a job or not, whose faults are not planned."""
    accepted: Counter[str] = field(default_factory=Counter)
    """How often the host answered 200 to a job's POST /prompt."""
    met: Counter[str] = field(default_factory=Counter)
    """Faults that came to pass, by kind and path."""
    hit: Counter[str] = field(default_factory=Counter)
    """The same by job."""
    frames: Counter[str] = field(default_factory=Counter)
    """How many frames the host sent of each job."""
    posting: int = 0
    """How many POST /prompt are under way, the late ones that nobody waits for too."""
    dead: bool = False
    """Refuses all: as a host that is gone."""
    websockets: int = 0
    client_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._randoms: dict[str, random.Random] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Proxy]:
        self._thread.start()
        self._call(self._listen())
        try:
            yield self
        finally:
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Cuts all connections and refuses new ones meanwhile: nobody listens, as where a host was killed."""
        self._call(self._unlisten())
        try:
            yield
        finally:
            self._call(self._listen())

    def cut_all(self) -> None:
        """Resets every connection that is open now."""
        self._loop.call_soon_threadsafe(lambda: [_reset(writer) for writer in list(self._writers)])

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=1 << 24)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        if self._server is not None:
            # Stop accepting, and let accepted connections be set up: asyncio loses the socket of one that it is still
            # setting up when its server closes.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening)
            await asyncio.sleep(0.01)
            self._server.close()
        for writer in list(self._writers):
            _reset(writer)

    async def _close(self) -> None:
        await self._unlisten()
        # A connection that is just being taken makes a task yet.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)

    def _take(self, job: str | None, path: str, position: int | None = None) -> str | None:
        """The fault due for this job here, which is then done with."""
        if job is None or (path in self.everywhere and job not in self.plan):
            return self._background(path)
        for at, fault in enumerate(self.plan.get(job, ())):
            if fault.path == path and (position is None or fault.position == position):
                left = [Fault(fault.kind, path, fault.position, fault.times - 1)] if fault.times > 1 else []
                self.plan[job][at : at + 1] = left
                self.met[f"{path} {fault.kind}"] += 1
                self.hit[job] += 1
                return fault.kind
        return None

    def _background(self, path: str) -> str | None:
        if self.next_up.get(path):
            kind = self.next_up[path].pop(0)
            self.met[f"{path} {kind}"] += 1
            return kind or None
        chance, kinds = self.everywhere.get(path) or self.background.get(path, (0.0, ()))
        if not kinds or self._random.random() >= chance:
            return None
        kind = self._random.choice(kinds)
        self.met[f"{path} {kind}"] += 1
        return kind

    # --- Connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while not self.dead:
                head = await reader.readuntil(_HEAD_END)
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if re.search(rb"(?i)\r\nupgrade: *websocket", head):
                    await self._websocket(head, reader, writer)
                    return
                posted = head.startswith(b"POST /prompt ")
                self.posting += posted
                try:
                    if not await self._request(head, body, writer):
                        return
                finally:
                    self.posting -= posted
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            _reset(writer)

    async def _open_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.upstream)
        return await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24)

    # --- Requests

    async def _request(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Passes one on, and its answer back; whether the connection is still good."""
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        path = urlsplit(target).path
        posted = method == "POST" and path == "/prompt"
        job = self._job_of(path, target, body if posted else b"")
        place = "/".join(path.split("/")[:2])
        if posted and job is not None and job not in self.plan and self.newcomers is not None:
            self.plan[job] = self.newcomers()
        kind = self._take(job, place)
        if kind == "refuse":
            return False
        if kind == "hang":
            await asyncio.Event().wait()
        if kind == "late":
            await asyncio.sleep(self.stall_seconds)
        if kind is not None and kind.startswith("hostile "):
            if method == "POST" and self._random.random() < 0.5:
                answer = await self._ask(head, body)
                self.accepted[job or ""] += posted and answer.startswith(b"HTTP/1.1 200")
            # Of its own for each job: what others ask meanwhile must not change what it meets.
            rng = self._randoms.setdefault(job, random.Random(f"{self.seed} {job}")) if job else self._random
            await send_hostile(kind[len("hostile ") :], target, job, writer, rng)
            return False
        if kind is not None and kind.isdigit():
            writer.write(_answer(int(kind), b"<html>not today</html>"))
            return True
        answer = await self._ask(head, body)
        if not answer:  # the host died over it
            return False
        status = int(answer.split(b" ", 2)[1])
        if posted and status == 200 and job is not None:
            self.accepted[job] += 1
        if kind == "hang+":
            await asyncio.Event().wait()
        if kind is not None and kind.endswith("+"):
            writer.write(_answer(int(kind[:-1]), b"<html>too slow</html>"))
        elif kind == "cut":
            return False
        elif kind == "truncate":
            writer.write(answer[: (answer.index(_HEAD_END) + 4 + len(answer)) // 2])
            await writer.drain()
            return False
        elif kind == "stall":
            await asyncio.sleep(self.stall_seconds)
            writer.write(answer)
        elif kind == "garbage":
            writer.write(_answer(200, bytes(self._random.randrange(256) for _ in range(60))))
        else:
            writer.write(answer)
        await writer.drain()
        return True

    async def _ask(self, head: bytes, body: bytes) -> bytes:
        """The host's whole answer; one connection for each, which is then closed, so its end is the answer's."""
        head = re.sub(rb"(?i)\r\n(connection|accept-encoding):[^\r]*", b"", head)
        reader, writer = await self._open_upstream()
        try:
            writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
            answer = await reader.read(-1)
        finally:
            writer.close()
        # To the client this connection may live on, so the answer has to say where it ends.
        top, _, content = answer.partition(_HEAD_END)
        if re.search(rb"(?i)transfer-encoding: *chunked", top):
            content = _joined(content)
        top = re.sub(rb"(?i)\r\n(connection|transfer-encoding|content-length|keep-alive):[^\r]*", b"", top)
        return top + f"\r\nContent-Length: {len(content)}".encode() + _HEAD_END + content

    def _job_of(self, path: str, target: str, body: bytes) -> str | None:
        if body:
            return str(json.loads(body)["prompt_id"])
        found = _UUID.search(target.encode())
        return found[0].decode() if found else None

    # --- Websockets

    async def _websocket(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.websockets += 1
        kind = self._take(None, "/ws")
        if kind == "refuse":
            return
        if kind == "hang":
            await asyncio.Event().wait()
        if kind == "stall":
            await asyncio.sleep(self.stall_seconds)
        elif kind is not None and kind.startswith("hostile "):
            await send_hostile(kind[len("hostile ") :], "/ws", None, writer, self._random)
            return
        elif kind is not None:
            writer.write(_answer(int(kind), b"no sockets today"))
            await writer.drain()
            return
        asked = re.search(rb"clientId=([0-9a-f-]+)", head)
        if asked:
            self.client_ids.append(asked[1].decode())
        up_reader, up_writer = await self._open_upstream()
        self._writers.add(up_writer)
        upward = asyncio.ensure_future(_pump(reader, up_writer))
        try:
            up_writer.write(head)
            writer.write(await up_reader.readuntil(_HEAD_END))
            await self._frames_down(up_reader, writer)
        finally:
            upward.cancel()
            self._writers.discard(up_writer)
            _reset(up_writer)

    async def _frames_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = b""
        while True:
            frame, opcode = await _read_frame(reader)
            job = self._job_of_frame(frame, opcode)
            kind = None
            if job is not None:
                kind = self._take(job, "frame", self.frames[job])
                self.frames[job] += 1
            if kind == "cut":
                return
            if kind == "half":
                writer.write(frame[: len(frame) // 2])
                await writer.drain()
                return
            if kind == "stall":
                await asyncio.sleep(self.stall_seconds)
            elif kind == "mute":
                await asyncio.Event().wait()
            elif kind == "huge":
                writer.write(struct.pack(">BBQ", 0x80 | _BINARY, 127, 1 << 50))
            elif kind == "garbage":
                writer.write(self._nonsense())
            elif kind == "twice":
                writer.write(frame)
            elif kind == "swap":
                held = frame
                continue
            writer.write(frame + held)
            held = b""
            await writer.drain()
            if kind == "after":
                return

    def _job_of_frame(self, frame: bytes, opcode: int) -> str | None:
        if opcode not in (_TEXT, _BINARY):
            return None
        # In a preview it stands in the metadata before the picture.
        found = re.search(rb'"prompt_id": ?"([0-9a-f-]{36})"', frame[:4096])
        return found[1].decode() if found else None

    def _nonsense(self) -> bytes:
        """A few frames that no host sends."""
        noise = bytes(self._random.randrange(256) for _ in range(self._random.randrange(1, 120)))
        texts = [b"", b"null", b"[1]", b"{", b'{"type": 7}', b'{"type": "executing"}', b'{"type": "x", "data": [[]]}']
        texts += [b'{"type": "progress", "data": {"value": "much", "max": null}}', b"\xff\xfe"]
        frames = [_frame(_TEXT, self._random.choice(texts)), _frame(_BINARY, noise), _frame(_BINARY, b"")]
        frames.append(_frame(_BINARY, struct.pack(">II", 4, 1 << 31) + noise))
        self._random.shuffle(frames)
        return b"".join(frames)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(RuntimeError):
        writer.transport.abort()


def _answer(status: int, content: bytes) -> bytes:
    head = f"HTTP/1.1 {status} So\r\nContent-Type: text/html\r\nContent-Length: {len(content)}"
    return head.encode() + _HEAD_END + content


def _joined(chunked: bytes) -> bytes:
    """The content of a chunked body."""
    content = b""
    while chunked:
        size, _, chunked = chunked.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not length:
            break
        content, chunked = content + chunked[:length], chunked[length + 2 :]
    return content


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """(the frame as it came, its opcode); a server's frames are not masked."""
    head = await reader.readexactly(2)
    length, more = head[1] & 0x7F, b""
    if length == 126:
        more = await reader.readexactly(2)
        length = struct.unpack(">H", more)[0]
    elif length == 127:
        more = await reader.readexactly(8)
        length = struct.unpack(">Q", more)[0]
    return head + more + await reader.readexactly(length), head[0] & 0x0F


def _frame(opcode: int, data: bytes) -> bytes:
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
    return bytes([0x80 | opcode]) + length + data
