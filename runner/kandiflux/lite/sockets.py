"""The clients' websockets, and the frames sent to them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import struct
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import WSMsgType, web
from PIL import Image, ImageOps

from kandiflux.lite.jsontext import json_text
from kandiflux.lite.progress import Preview
from kandiflux.util.json_values import as_object, is_object, parse_json

__all__ = ["Sockets"]

log = logging.getLogger(__name__)

_PREVIEW_IMAGE, _PREVIEW_IMAGE_WITH_METADATA = 1, 4
_IMAGE_FORMATS = {"JPEG": 1, "PNG": 2}
_MOST_UNSENT_BYTES = 64 << 20
_OVERHEAD = 200
"""Memory in bytes that an unsent frame uses in addition to its content."""

Frame = str | bytes


class Sockets:
    """One websocket per client id. `send` and `send_preview` may be called from any thread."""

    def __init__(self, features: dict[str, Any]) -> None:
        self._features = features
        self._connections: dict[str, _SocketClient] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sets the event loop that sends frames. Earlier frames are dropped: no client is connected yet."""
        self._loop = loop

    def send(self, event: str, data: dict[str, Any], client_id: str | None = None) -> None:
        """Sends a text frame to one client, or to all if `client_id` is None."""
        if self._has(client_id):
            self._post(_text(event, data), client_id)

    def takes_preview_metadata(self, client_id: str | None) -> bool:
        """Whether the client requested previews with node and prompt ids."""
        connection = self._connections.get(client_id) if client_id is not None else None
        return connection is not None and connection.features.get("supports_preview_metadata") is True

    def send_preview(self, preview: Preview, metadata: dict[str, Any] | None, client_id: str | None) -> None:
        """Sends a preview image. Encodes it in the calling thread, to not block the event loop."""
        if not self._has(client_id):
            return
        image_format, picture, longest_side = preview
        encoded = _encoded(picture, image_format, longest_side)
        if metadata is None:
            frame = struct.pack(">II", _PREVIEW_IMAGE, _IMAGE_FORMATS.get(image_format, 1)) + encoded
        else:
            kind = "image/png" if image_format == "PNG" else "image/jpeg"
            text = json.dumps({**metadata, "image_type": kind}).encode()
            frame = struct.pack(">II", _PREVIEW_IMAGE_WITH_METADATA, len(text)) + text + encoded
        self._post(frame, client_id)

    async def serve(
        self,
        request: web.Request,
        queue_status: Callable[[], dict[str, Any]],
        running_node: Callable[[str], str | None],
    ) -> web.WebSocketResponse:
        """Serves a client's connection until it ends."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        connection = _SocketClient(socket, request.transport)
        self._connections[client_id] = connection
        sender = asyncio.create_task(connection.send_all())
        try:
            connection.post(_text("status", {"status": queue_status(), "sid": client_id}))
            node_id = running_node(client_id)
            if node_id is not None:
                connection.post(_text("executing", {"node": node_id}))
            await self._listen(connection)
        finally:
            # As in ComfyUI, this also unregisters a newer connection with the same id: a client that
            # reconnects must use a new id.
            self._connections.pop(client_id, None)
            sender.cancel()
            connection.forget()
        return socket

    async def close(self) -> None:
        """Closes all connections."""
        for connection in list(self._connections.values()):
            await connection.socket.close()

    async def _listen(self, connection: _SocketClient) -> None:
        first = valid = True
        async for message in connection.socket:
            if message.type != WSMsgType.TEXT:
                continue
            try:
                data = parse_json(message.data, finite=True)
            except ValueError as error:
                if valid:  # once per connection: a client can send millions of these
                    log.warning("A client sent a frame that is not valid JSON: %.200s", error)
                valid = False
                continue
            if not is_object(data):
                continue
            if first and data.get("type") == "feature_flags":
                connection.features = as_object(data.get("data"))
                connection.post(_text("feature_flags", self._features))
            first = False

    def _has(self, client_id: str | None) -> bool:
        """Whether any client would receive the frame. Checked first, because encoding takes time."""
        return client_id in self._connections if client_id is not None else bool(self._connections)

    def _post(self, frame: Frame, client_id: str | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, frame, client_id)

    def _deliver(self, frame: Frame, client_id: str | None) -> None:
        if client_id is None:
            for connection in self._connections.values():
                connection.post(frame)
        elif client_id in self._connections:
            self._connections[client_id].post(frame)


class _SocketClient:
    """A websocket with its queue of unsent frames, so that a client that does not read delays no others."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self.features: Mapping[str, Any] = {}
        self._transport = transport
        self._unsent: deque[Frame] = deque()
        self._unsent_bytes = 0
        self._more = asyncio.Event()
        self._dropped = False

    def post(self, frame: Frame) -> None:
        if self._dropped or self.socket.closed:
            return
        self._unsent_bytes += len(frame) + _OVERHEAD
        if self._unsent_bytes > _MOST_UNSENT_BYTES:
            # Disconnecting is better than dropping frames silently: the client notices it.
            log.warning("A client does not read its frames: disconnected, with %d unread.", len(self._unsent))
            self.forget()
            if self._transport is not None:
                self._transport.abort()  # close() would wait until the client reads
        else:
            self._unsent.append(frame)
            self._more.set()

    def forget(self) -> None:
        """Drops the unsent frames, and all later ones."""
        self._dropped = True
        self._unsent.clear()

    async def send_all(self) -> None:
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                while self._unsent:
                    frame = self._unsent.popleft()
                    if isinstance(frame, bytes):
                        await self.socket.send_bytes(frame)
                    else:
                        await self.socket.send_str(frame)
                    self._unsent_bytes -= len(frame) + _OVERHEAD
        except (ConnectionError, RuntimeError) as error:
            log.info("A client has disconnected: %s", error)


def _text(event: str, data: dict[str, Any]) -> str:
    return json_text({"type": event, "data": data})


def _encoded(picture: Image.Image, image_format: str, longest_side: int | None) -> bytes:
    if longest_side is not None:
        picture = ImageOps.contain(picture, (longest_side, longest_side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, quality=95, compress_level=1)
    return buffer.getvalue()
