"""The websockets of clients: their first frames, who gets which frame, previews, and clients that do not read."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import struct
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import websocket
from kandiflux.lite.progress import Preview
from kandiflux.lite.sockets import Sockets
from PIL import Image, ImageOps

from tests.support.lite_server import LiteServer, lite_server, new_host
from tests.support.waiting import until

Json = dict[str, Any]
WANTS_METADATA = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
METADATA = {"node_id": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteServer]:
    with lite_server(new_host(tmp_path_factory.mktemp("sockets"))) as server:
        yield server


@pytest.fixture
def sockets(server: LiteServer) -> Iterator[Sockets]:
    """With nobody connected."""
    yield server.host.sockets
    until(lambda: not anybody(server))


def anybody(server: LiteServer) -> bool:
    """Whether a frame to all would be made."""
    asked: list[int] = []

    class Noticed(Json):
        def items(self) -> Any:
            asked.append(1)
            return super().items()

    server.host.sockets.send("nothing", Noticed(a=1))
    return bool(asked)


def received(socket: websocket.WebSocket) -> Json:
    return json.loads(socket.recv())


def ping(server: LiteServer, socket: websocket.WebSocket, client: str) -> None:
    """Nothing else has come before a frame that is sent now."""
    server.host.sockets.send("ping", {}, client)
    assert received(socket) == {"type": "ping", "data": {}}


@contextlib.contextmanager
def greeted(server: LiteServer, query: str = "") -> Iterator[tuple[websocket.WebSocket, Json]]:
    url = server.url.replace("http", "ws", 1) + "/ws" + query
    with contextlib.closing(websocket.create_connection(url, timeout=30)) as socket:
        yield socket, received(socket)


# The first frames


def test_the_first_frame_is_the_queue_and_the_clients_id(server: LiteServer, sockets: Sockets) -> None:
    with greeted(server, "?clientId=me") as (_, frame):
        status = {"exec_info": {"queue_remaining": 0}}
        assert frame == {"type": "status", "data": {"status": status, "sid": "me"}}


@pytest.mark.parametrize("query", ["", "?clientId="])
def test_a_client_without_an_id_is_given_one(server: LiteServer, sockets: Sockets, query: str) -> None:
    with greeted(server, query) as (one, first), greeted(server, query) as (_, second):
        ids = [frame["data"]["sid"] for frame in (first, second)]
        assert ids[0] != ids[1]
        assert all(uuid.UUID(each).hex == each for each in ids)
        ping(server, one, ids[0])


def test_a_client_that_comes_back_is_told_what_runs(
    server: LiteServer, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.host.executor, "running_node_for", {"me": "7"}.get)
    with server.socket("me") as socket:
        assert received(socket) == {"type": "executing", "data": {"node": "7"}}
    with server.socket("other") as socket:
        ping(server, socket, "other")


# Who gets a frame


def test_a_frame_goes_to_one_client_or_to_all(server: LiteServer, sockets: Sockets) -> None:
    with server.socket("a") as a, server.socket("b") as b:
        sockets.send("only", {"to": "a"}, "a")
        sockets.send("only", {"to": "nobody"}, "c")
        sockets.send("all", {})
        assert [received(a), received(a)] == [{"type": "only", "data": {"to": "a"}}, {"type": "all", "data": {}}]
        assert received(b) == {"type": "all", "data": {}}


def test_after_its_end_a_client_gets_nothing(server: LiteServer, sockets: Sockets) -> None:
    with server.socket("a"):
        assert anybody(server)
    until(lambda: not anybody(server))
    with server.socket("b") as b:
        sockets.send("late", {}, "a")
        ping(server, b, "b")


def test_without_a_client_nothing_is_encoded(sockets: Sockets) -> None:
    nothing: Any = None  # no preview: encoding it would fail
    sockets.send_preview(nothing, None, None)
    sockets.send_preview(nothing, None, "a")
    Sockets({}).send("nobody", {})


def test_a_host_that_stops_closes_the_connections(tmp_path_factory: pytest.TempPathFactory) -> None:
    with contextlib.ExitStack() as stack:
        with lite_server(new_host(tmp_path_factory.mktemp("stops"))) as server:
            sockets = [stack.enter_context(server.socket(name)) for name in ("a", "b")]
        for socket in sockets:
            assert received(socket)["type"] == "status", "the queue was cleared"
            assert socket.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE


# Feature flags


def test_feature_flags_are_answered_with_the_hosts(server: LiteServer, sockets: Sockets) -> None:
    with server.socket("me") as socket:
        assert not sockets.takes_preview_metadata("me")
        socket.send(json.dumps(WANTS_METADATA))
        assert received(socket) == {"type": "feature_flags", "data": server.host.features}
        assert sockets.takes_preview_metadata("me")
        assert not sockets.takes_preview_metadata("other")
        assert not sockets.takes_preview_metadata(None)
    until(lambda: not sockets.takes_preview_metadata("me"))


@pytest.mark.parametrize("data", [{}, None, [], {"supports_preview_metadata": 1}, {"supports_preview_metadata": False}])
def test_flags_that_ask_for_no_metadata(server: LiteServer, sockets: Sockets, data: Any) -> None:
    with server.socket("me") as socket:
        socket.send(json.dumps({"type": "feature_flags", "data": data}))
        assert received(socket)["type"] == "feature_flags"
        assert not sockets.takes_preview_metadata("me")


def test_flags_count_in_the_first_object_only(server: LiteServer, sockets: Sockets) -> None:
    with server.socket("me") as socket:
        socket.send_binary(json.dumps({"type": "binary"}).encode())
        for ignored in ("[1]", "no JSON", "5"):
            socket.send(ignored)
        socket.send(json.dumps(WANTS_METADATA))
        assert received(socket)["type"] == "feature_flags"
        socket.send(json.dumps({"type": "feature_flags", "data": {}}))
        socket.ping()
        assert socket.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_PONG, "and no answer to the second"
        assert sockets.takes_preview_metadata("me")
    with server.socket("me") as socket:
        socket.send(json.dumps({"type": "other", "data": {}}))
        socket.send(json.dumps(WANTS_METADATA))
        socket.ping()
        assert socket.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_PONG
        assert not sockets.takes_preview_metadata("me")


def test_frames_that_are_not_json_are_logged_once_a_connection(
    server: LiteServer, sockets: Sockets, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with server.socket("me") as socket:
            for text in ("no JSON", "NaN", '{"a": 1e999}'):
                socket.send(text)
            socket.ping()
            socket.recv_data(control_frame=True)
        until(lambda: not anybody(server))
    assert [text[:47] for text in caplog.messages] == ["A client sent a frame that is not valid JSON: E"] * 2


# Previews

PICTURE = Image.radial_gradient("L").convert("RGB").resize((64, 32))


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, quality=95, compress_level=1)
    return buffer.getvalue()


SMALL = ImageOps.contain(PICTURE, (16, 16), Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    ("preview", "number", "kind", "picture"),
    [
        (("JPEG", PICTURE, None), 1, "image/jpeg", encoded(PICTURE, "JPEG")),
        (("PNG", PICTURE, None), 2, "image/png", encoded(PICTURE, "PNG")),
        (("WEBP", PICTURE, None), 1, "image/jpeg", encoded(PICTURE, "WEBP")),
        (("PNG", PICTURE, 16), 2, "image/png", encoded(SMALL, "PNG")),
    ],
    ids=["JPEG", "PNG", "other", "smaller"],
)
def test_previews(
    server: LiteServer, sockets: Sockets, preview: Preview, number: int, kind: str, picture: bytes
) -> None:
    with server.socket("a") as a, server.socket("b") as b:
        sockets.send_preview(preview, None, "a")
        assert a.recv() == struct.pack(">II", 1, number) + picture
        sockets.send_preview(preview, METADATA, None)
        text = json.dumps({**METADATA, "image_type": kind}).encode()
        for socket in (a, b):
            assert socket.recv() == struct.pack(">II", 4, len(text)) + text + picture


# Clients that do not read


def read_all(socket: websocket.WebSocket) -> None:
    while True:
        socket.recv()


def test_a_client_that_does_not_read_is_disconnected_and_others_go_on(
    server: LiteServer, sockets: Sockets, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    large = {"text": "x" * (4 << 20)}
    with server.socket("reads") as reads, server.socket("idle") as idle:
        for _ in range(30):  # 120 MB: more than the limit and the system's buffers
            sockets.send("large", large)
            assert received(reads)["data"] == large
        with pytest.raises((websocket.WebSocketException, OSError)):
            read_all(idle)
        ping(server, reads, "reads")
    told = [text for text in caplog.messages if "does not read" in text]
    assert len(told) == 1
    assert 10 <= int(told[0].split()[-2]) <= 16, "frames of 64 MB, without those that the system holds"


def test_its_other_frames_are_dropped_without_a_word(
    server: LiteServer, sockets: Sockets, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them come at once: the server's loop is held up meanwhile."""
    blocked, go = threading.Event(), threading.Event()

    def queue_info() -> Json:
        blocked.set()
        assert go.wait(60)
        return {}

    with server.socket("idle"), ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(server.host, "queue_info", queue_info)
        asked = pool.submit(server.get, "/prompt")
        assert blocked.wait(60)
        for _ in range(8):
            sockets.send("large", {"text": "x" * (16 << 20)}, "idle")
        go.set()
        assert asked.result(60).json() == {}
        until(lambda: not anybody(server))
    assert [text for text in caplog.messages if "read" in text] == [
        "A client does not read its frames: disconnected, with 3 unread."
    ]


def test_many_frames_at_once_all_come_in_order(server: LiteServer, sockets: Sockets) -> None:
    with server.socket("me") as socket:
        for number in range(1000):
            sockets.send("one", {"n": number}, "me")
        assert [received(socket)["data"]["n"] for _ in range(1000)] == list(range(1000))
