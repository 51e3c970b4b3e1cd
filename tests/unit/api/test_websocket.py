"""The websocket: when it is taken for dead, what it hands over, and what it does not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import websocket
from kandiflux.api.events import Event, Unknown
from kandiflux.api.websocket import EventStream

from tests.support.raw_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    accept_websocket,
    answering,
    frame,
    read_frame,
)
from tests.support.waiting import until

SILENCE = 0.1
QUIET = 0.4
"""Within so many seconds the test's server answers a ping, on a busy machine too."""


def text(number: int) -> bytes:
    return json.dumps({"type": "x", "data": number}).encode()


@dataclass
class Peer:
    """A websocket server: sends `frames` on each connection, and answers pings if `pong` says so."""

    frames: list[bytes] = field(default_factory=list)
    pong: Callable[[int], bytes] = lambda number: frame(PONG)
    heads: list[str] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    pings: int = 0
    """On the last connection."""
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await accept_websocket(reader, writer))
            self.pings = 0
            writer.write(b"".join(self.frames))
            while True:
                opcode, data = await read_frame(reader)
                if opcode == TEXT:
                    self.texts.append(data)
                elif opcode == PING:
                    self.pings += 1
                    writer.write(self.pong(self.pings))
        finally:
            self.ended += 1

    @property
    def client_ids(self) -> list[str]:
        return [re.findall(r"clientId=(\S+)", head)[0] for head in self.heads]


@dataclass
class Heard:
    stream: EventStream
    events: list[Event]
    connections: list[str]

    @property
    def data(self) -> list[Any]:
        return [event.data for event in self.events if isinstance(event, Unknown)]


@contextlib.contextmanager
def listening(url: str, **options: Any) -> Iterator[Heard]:
    events: list[Event] = []
    connections: list[str] = []
    stream = EventStream(
        url, on_event=events.append, on_connect=lambda: connections.append(stream.client_id), **options
    )
    stream.start()
    try:
        yield Heard(stream, events, connections)
    finally:
        stream.close()


# Silence


def test_a_connection_on_which_pings_are_never_answered_is_given_up() -> None:
    """Half-open: a firewall has forgotten it, nothing comes any more and nothing is closed."""
    peer = Peer(pong=lambda number: b"")
    with answering(peer.serve) as url, listening(url, silence_seconds=SILENCE) as heard:
        until(lambda: len(heard.connections) >= 2)
        assert peer.ended >= 1
    assert len(set(peer.client_ids)) == len(peer.client_ids)


@pytest.mark.parametrize("answer", [frame(PONG), frame(TEXT, text(1))])
def test_a_quiet_connection_on_which_anything_answers_stays_until_nothing_does(answer: bytes) -> None:
    peer = Peer(pong=lambda number: answer if number < 3 else b"")
    with answering(peer.serve) as url, listening(url, silence_seconds=QUIET) as heard:
        until(lambda: peer.pings >= 3 or peer.ended)
        assert (len(peer.heads), peer.ended, heard.stream.connected) == (1, 0, True)
        until(lambda: peer.ended)
        assert peer.pings == 3


# Connecting


def test_each_connection_begins_with_our_flags_under_an_id_of_its_own() -> None:
    peer = Peer(frames=[frame(TEXT, text(1)), frame(CLOSE)])
    with answering(peer.serve) as url, listening(f"{url}/base", headers={"X-Key": "k"}) as heard:
        until(lambda: len(heard.connections) >= 2 and len(peer.texts) >= 2)
    assert len(set(peer.client_ids)) == len(peer.client_ids)
    assert heard.connections[:2] == peer.client_ids[:2], "it is known by then"
    assert all(head.startswith("GET /base/ws?clientId=") and "X-Key: k" in head for head in peer.heads)
    assert json.loads(peer.texts[0]) == {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


def test_it_is_known_whether_a_connection_stands() -> None:
    peer = Peer()
    with answering(peer.serve) as url, listening(url) as heard:
        assert heard.stream.wait_first_attempt(30)
        assert heard.stream.wait_connected(0)
        until(lambda: peer.client_ids == [heard.stream.client_id])
        reader = [thread for thread in threading.enumerate() if thread.name == "kandiflux-events"]
        heard.stream.start()
        assert [thread for thread in threading.enumerate() if thread.name == "kandiflux-events"] == reader
        peer.frames = [frame(CLOSE)] * 2
    until(lambda: not heard.stream.connected)
    assert not reader[0].is_alive()
    heard.stream.start()
    assert not any(thread.name == "kandiflux-events" for thread in threading.enumerate()), "it was closed"


def test_a_server_without_a_websocket_is_tried_again() -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    with answering(refuse) as url, listening(url) as heard:
        assert not heard.stream.wait_first_attempt(30)
        assert not heard.stream.wait_connected(0.01)
        until(lambda: len(asked) >= 2)
    assert heard.connections == []


def test_a_redirect_is_not_followed() -> None:
    peer = Peer()
    with answering(peer.serve) as elsewhere:
        address = elsewhere.replace("http", "ws")

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 307 So\r\nLocation: {address}/ws\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()

        with answering(redirect) as url, listening(url, headers={"X-Key": "k"}) as heard:
            assert not heard.stream.wait_first_attempt(30)
    assert peer.heads == []


def test_closing_ends_a_handshake_that_is_never_answered() -> None:
    begun = threading.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await reader.read()

    with answering(hang) as url:
        with listening(url):
            begun.wait(30)
        assert not any(thread.name == "kandiflux-events" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://p.test:3128", ("p.test", 3128, None, "http")),
        ("p.test", ("p.test", 80, None, "http")),
        ("https://p.test", ("p.test", 443, None, "http")),
        ("socks5h://p.test", ("p.test", 1080, None, "socks5h")),
        ("http://anna:a%40b@p.test:1", ("p.test", 1, ("anna", "a@b"), "http")),
        ("http://anna@p.test:1", ("p.test", 1, ("anna", ""), "http")),
        (None, ("unused", None, None, None)),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, proxy: str | None, expected: tuple[Any, ...]
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy is not None:
        monkeypatch.setenv("http_proxy", proxy)
    asked: list[tuple[str, dict[str, Any]]] = []

    def connect(self: websocket.WebSocket, address: str, **options: Any) -> None:
        asked.append((address, options))
        raise OSError("no network here")

    monkeypatch.setattr(websocket.WebSocket, "connect", connect)
    with listening("http://comfy.test:8188") as heard:
        assert not heard.stream.wait_first_attempt(30)
    address, options = asked[0]
    assert address.startswith("ws://comfy.test:8188/ws?clientId=")
    names = ("http_proxy_host", "http_proxy_port", "http_proxy_auth", "proxy_type")
    assert tuple(options.get(name) for name in names) == expected
    assert options["http_no_proxy"] == (["*"] if proxy is None else ["kandiflux.invalid"])


def test_https_is_a_secure_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def connect(self: websocket.WebSocket, address: str, **_: Any) -> None:
        asked.append((address, self.sock_opt.sslopt))
        raise OSError("no network here")

    monkeypatch.setattr(websocket.WebSocket, "connect", connect)
    for scheme in ("https", "http"):
        with listening(f"{scheme}://localhost") as heard:
            heard.stream.wait_first_attempt(30)
    (secure, tls), (plain, none) = asked[0], asked[-1]
    assert (secure[:9], plain[:8], set(tls), none) == ("wss://loc", "ws://loc", {"context"}, {})


# Messages


def heard_of(*frames: bytes, count: int = 1) -> tuple[list[Any], int]:
    """What is handed over until the `count`th event, and how often the server was connected to."""
    peer = Peer(frames=list(frames))
    with answering(peer.serve) as url, listening(url) as heard:
        until(lambda: len(heard.events) >= count)
        return heard.data[:count], len(peer.heads)


def test_a_message_may_come_in_fragments_with_other_frames_between() -> None:
    message = '{"type": "x", "data": "é"}'.encode()
    pieces = [message[at : at + 1] for at in range(len(message))]
    frames = [frame(TEXT, pieces[0], last=False)]
    for piece in pieces[1:-1]:
        frames += [frame(CONTINUATION, piece, last=False), frame(PING, b"x"), frame(PONG)]
    frames += [frame(CONTINUATION, pieces[-1]), frame(TEXT, text(2))]
    assert heard_of(*frames, count=2) == (["é", 2], 1)


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 200_000])
def test_messages_of_every_size(size: int) -> None:
    message = json.dumps({"type": "x", "data": "y" * size}).encode()
    assert heard_of(frame(TEXT, message), frame(TEXT, text(2)), count=2) == (["y" * size, 2], 1)


def test_what_cannot_be_read_costs_one_frame(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        frames = [frame(TEXT, b"{"), frame(BINARY, b"\0"), frame(TEXT, b'{"type": "\xff", "data": 3}')]
        assert heard_of(*frames, frame(TEXT, text(2)), count=2) == ([3, 2], 1)
    assert [record.message.splitlines()[0] for record in caplog.records] == [
        "A websocket text frame cannot be read.", "A websocket binary frame cannot be read."
    ]  # fmt: skip


def test_a_binary_message_is_handed_over_too() -> None:
    assert heard_of(frame(BINARY, b"\0\0\0\x63abc")) == ([7], 1)


def test_an_event_that_cannot_be_handled_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def fail(event: Event) -> None:
        seen.append(event)
        raise RuntimeError("mine")

    peer = Peer(frames=[frame(TEXT, text(1)), frame(TEXT, text(2))])
    with answering(peer.serve) as url:
        stream = EventStream(url, on_event=fail, on_connect=lambda: None)
        stream.start()
        until(lambda: len(seen) >= 2)
        stream.close()
    assert len(peer.heads) == 1
    assert "an event could not be handled" in caplog.text


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        ([frame(TEXT, text(1).ljust(1000))], True),
        ([frame(TEXT, text(1).ljust(1001))], False),
        # The length alone is enough, and nothing of it is waited for.
        ([frame(TEXT, announced=1001)], False),
        ([frame(TEXT, text(1).ljust(600), last=False), frame(CONTINUATION, b" " * 400)], True),
        ([frame(TEXT, text(1).ljust(600), last=False), frame(CONTINUATION, b" " * 401)], False),
        ([frame(TEXT, text(1), last=False), *[frame(CONTINUATION, last=False)] * 3, frame(CONTINUATION)], True),
        ([frame(TEXT, text(1), last=False), *[frame(CONTINUATION, last=False)] * 4, frame(CONTINUATION)], False),
    ],
)
def test_a_message_is_bounded(monkeypatch: pytest.MonkeyPatch, frames: list[bytes], kept: bool) -> None:
    """By all of its fragments together; a server that goes beyond that is disconnected."""
    monkeypatch.setattr("kandiflux.api.websocket._MAX_MESSAGE", 1000)
    monkeypatch.setattr("kandiflux.api.websocket._MAX_FRAGMENTS", 5)
    peer = Peer(frames=frames)
    with answering(peer.serve) as url, listening(url) as heard:
        until(lambda: heard.events or peer.ended)
        assert heard.data == ([1] if kept else [])
        if kept:
            assert peer.ended == 0


def test_the_fragments_of_one_message_are_not_counted_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandiflux.api.websocket._MAX_MESSAGE", 100)
    message = frame(TEXT, text(1).ljust(50), last=False) + frame(CONTINUATION, b" " * 50)
    assert heard_of(message, message, frame(TEXT, text(2)), count=3) == ([1, 1, 2], 1)
