"""Servers whose bytes a test writes by itself, HTTP or websocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "accept_websocket",
    "answering",
    "frame",
    "read_frame",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@contextlib.contextmanager
def answering(serve: Serve) -> Iterator[str]:
    """A server whose every connection is `serve`'s; its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    async def stop() -> None:
        listener.close()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(guarded, "127.0.0.1", 0), loop)
    listener = starting.result(10)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def accept_websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The server's side of the handshake; the head of the client's request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(line.partition(": ")[2] for line in head.splitlines() if line.lower().startswith("sec-websocket-key"))
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n".encode()
    )
    await writer.drain()
    return head


def frame(opcode: int, data: bytes = b"", *, last: bool = True, announced: int | None = None) -> bytes:
    """A frame as a server sends it. announced: its length, if it is to lie about that."""
    size = len(data) if announced is None else announced
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size) if size < 1 << 16 else b""
    return bytes([(0x80 if last else 0) | opcode]) + (length or b"\x7f" + struct.pack(">Q", size)) + data


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame of a client, less than 64 KiB: its opcode and what it holds."""
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    if size == 126:
        size = struct.unpack(">H", await reader.readexactly(2))[0]
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return head[0] & 0xF, bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
