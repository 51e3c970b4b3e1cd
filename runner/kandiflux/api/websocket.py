"""The websocket of one ComfyUI: a background thread reads events and reconnects.

Every connection has a new client id. ComfyUI keeps one socket per id, and if an old socket closes late, it removes the
new socket with the same id; a new id avoids that. Events sent while there is no connection are lost, so the owner is
notified of every (re)connection and then reads the state over HTTP.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import uuid
from collections.abc import Callable, Mapping
from socket import SHUT_RDWR
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import websocket
from websocket._abnf import frame_buffer

from kandiflux.api.events import Event, parse_binary, parse_text
from kandiflux.api.proxies import proxy_for
from kandiflux.api.time_limit import TimeLimit
from kandiflux.api.tls import tls_context
from kandiflux.config import without_userinfo
from kandiflux.errors import ProtocolError

__all__ = ["EventStream"]

_log = logging.getLogger(__name__)

# ComfyUI's event loop blocks while a model loads, so wait a minute before treating the connection as dead.
_SILENCE_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_MAX_MESSAGE = 64 << 20
"""The maximum bytes of a message, all fragments together. A PNG of 4096 × 4096 pixels has less than 50 MB."""
_MAX_FRAGMENTS = 10_000
_RECEIVE_BYTES = 16384
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class _Frames(frame_buffer):
    """Reads up to 16 KiB per recv(), because most frames are small and arrive in bursts.

    A frame with a length of more than `_MAX_MESSAGE` bytes ends the connection.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__(lambda size: receive(max(size, _RECEIVE_BYTES)), True)

    def recv_length(self) -> None:
        super().recv_length()
        if self.length is not None and self.length > _MAX_MESSAGE:
            raise _too_large(self.length)


def _too_large(size: int) -> websocket.WebSocketPayloadException:
    return websocket.WebSocketPayloadException(f"a message of {size} bytes; the maximum is {_MAX_MESSAGE}")


def _shut(socket: websocket.WebSocket) -> None:
    """Ends any call that blocks on the socket in the reader, including the handshake. The reader closes the socket."""
    if socket.sock is not None:
        with contextlib.suppress(OSError):
            socket.sock.shutdown(SHUT_RDWR)


class EventStream:
    """Reads frames in a thread; calls `on_event` with each event, and `on_connect` after every connection.

    Both are called in the reader's thread and must not block; exceptions that they raise are logged. `url` is the
    server's HTTP URL. Redirects are not followed, because the headers must only be sent to this server.
    """

    def __init__(
        self,
        url: str,
        *,
        on_event: Callable[[Event], None],
        on_connect: Callable[[], None],
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        silence_seconds: float = _SILENCE_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._address = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path}/ws"
        self._headers = [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._tls = {"context": tls_context(verify, cert)} if parts.scheme == "https" else {}
        self._silence = silence_seconds
        self._on_event = on_event
        self._on_connect = on_connect
        self._client_id = str(uuid.uuid4())
        self._socket: websocket.WebSocket | None = None
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._tried = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def client_id(self) -> str:
        """The client id of the current connection; changes with every reconnection."""
        return self._client_id

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connected.is_set()

    def start(self) -> None:
        """Starts the reader if it is not running."""
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="kandiflux-events", daemon=True)
                self._thread.start()

    def wait_first_attempt(self, timeout: float) -> bool:
        """Waits until the first connection has been made or has failed; returns whether there is one."""
        self._tried.wait(timeout)
        return self.connected

    def wait_connected(self, timeout: float) -> bool:
        """Waits for a connection; returns whether there is one."""
        return self._connected.wait(timeout)

    def close(self) -> None:
        """Closes the connection and stops the reader."""
        self._stop.set()
        with self._lock:
            socket, thread = self._socket, self._thread
        if socket is not None:
            _shut(socket)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=_CONNECT_SECONDS)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            try:
                socket = self._connect()
            except Exception as error:  # noqa: BLE001 - no answer of a server may end this thread
                self._tried.set()
                _log.debug("no websocket to %s: %s", self._address, error)
            else:
                pause = _FIRST_PAUSE
                try:
                    self._on_connect()
                    self._read(socket)
                except Exception as error:  # noqa: BLE001 - nothing that a server sends may end this thread
                    if not self._stop.is_set():
                        _log.info("websocket to %s lost: %s", self._address, error)
                finally:
                    self._connected.clear()
                    socket.shutdown()  # type: ignore[no-untyped-call]
            with self._lock:
                self._socket = None
            self._stop.wait(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _connect(self) -> websocket.WebSocket:
        client_id = str(uuid.uuid4())
        socket = websocket.WebSocket(
            sslopt=self._tls, enable_multithread=True, skip_utf8_validation=True, fire_cont_frame=True
        )
        socket.frame_buffer = _Frames(socket.frame_buffer.recv)
        with self._lock:
            self._socket = socket
        with contextlib.ExitStack() as on_failure, TimeLimit(2 * _CONNECT_SECONDS, lambda: _shut(socket)):
            on_failure.callback(socket.shutdown)
            address = f"{self._address}?clientId={client_id}"
            socket.connect(  # type: ignore[no-untyped-call]
                address, header=self._headers, timeout=_CONNECT_SECONDS, redirect_limit=0, **self._proxy()
            )
            # ComfyUI accepts the flags only in the first text message of a connection.
            socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            socket.settimeout(self._silence)
            on_failure.pop_all()
        with self._lock:
            self._client_id = client_id
        self._connected.set()
        self._tried.set()
        return socket

    def _proxy(self) -> dict[str, Any]:
        """Returns options for the same proxy as for HTTP. The library alone would use a proxy for this machine, too."""
        found = proxy_for(self._url)
        if found is None:
            # The library ignores http_no_proxy unless a proxy is given.
            return {"http_proxy_host": "unused", "http_no_proxy": ["*"]}
        parts = urlsplit(without_userinfo(found)[0])
        user = urlsplit(found)
        auth = (unquote(user.username), unquote(user.password or "")) if user.username else None
        # Default ports of the schemes.
        port = parts.port or (443 if parts.scheme == "https" else 1080 if parts.scheme.startswith("socks") else 80)
        kind = parts.scheme if parts.scheme.startswith("socks") else "http"
        return {
            "http_proxy_host": parts.hostname, "http_proxy_port": port, "http_proxy_auth": auth, "proxy_type": kind,
            "http_no_proxy": ["kandiflux.invalid"],  # proxy_for has already applied $NO_PROXY
        }  # fmt: skip

    def _read(self, socket: websocket.WebSocket) -> None:
        waiting_for_pong = False
        # The fragments received so far of the current message, and its opcode and size.
        fragments: list[bytes] = []
        kind = size = 0
        while not self._stop.is_set():
            try:
                opcode, frame = cast(
                    "tuple[int, websocket.ABNF | None]",
                    socket.recv_data_frame(control_frame=True),  # pyright: ignore[reportUnknownMemberType] - untyped
                )
            except websocket.WebSocketTimeoutException:
                if waiting_for_pong:
                    raise
                socket.ping()
                waiting_for_pong = True
                continue
            waiting_for_pong = False
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise websocket.WebSocketConnectionClosedException("closed by the server")
            if frame is None or opcode in (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG):
                continue
            content = frame.data
            if opcode != websocket.ABNF.OPCODE_CONT:
                fragments, kind, size = [], opcode, 0
            fragments.append(content.encode() if isinstance(content, str) else content)
            size += len(content)
            if size > _MAX_MESSAGE or len(fragments) > _MAX_FRAGMENTS:
                raise _too_large(size)
            if frame.fin:
                message, fragments = fragments[0] if len(fragments) == 1 else b"".join(fragments), []
                self._dispatch(kind, message)

    def _dispatch(self, opcode: int, message: bytes) -> None:
        try:
            if opcode == websocket.ABNF.OPCODE_TEXT:
                self._on_event(parse_text(message.decode("utf-8", "replace")))
            elif opcode == websocket.ABNF.OPCODE_BINARY:
                self._on_event(parse_binary(message))
        except ProtocolError as error:
            # The job's state comes from the history: an unreadable frame only loses progress.
            _log.warning("%s", error)
        except Exception:  # noqa: BLE001 - an error in one event must not end the events of all jobs
            _log.exception("an event could not be handled")
