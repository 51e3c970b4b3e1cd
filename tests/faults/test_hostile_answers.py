"""One strange answer ends what it is about, at most: no thread ends, no wait is endless, and all other jobs go on."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Client, Job, Saver
from kandiflux.api.events import ExecutionStarted, JobFinished, NodeExecuted, Unknown
from kandiflux.api.rest import ComfyApi
from kandiflux.cli.job_display import Plain, follow
from kandiflux.errors import (
    AccessDenied,
    AnswerLost,
    JobLost,
    KandifluxError,
    NodeFailed,
    OutputError,
    OutputMissing,
    ProtocolError,
    ServerError,
    ServerUnreachable,
    UsageError,
)
from kandiflux.workflow.prompt import Prompt

from tests.faults.hostile import ANSWERS
from tests.faults.proxy import Fault, Proxy
from tests.support.fake_comfyui import PNG, FakeComfyUI, prompt
from tests.support.hosts import RunningHost
from tests.support.raw_server import accept_websocket, answering
from tests.support.waiting import until

WAIT = 15
# urllib3 leaves the socket of an answer with two different lengths to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

QUICK = [kind for kind in ANSWERS if kind not in ("endless", "bomb", "drip")]


@pytest.fixture
def proxy(comfy: FakeComfyUI) -> Iterator[Proxy]:
    with Proxy(comfy.url, 5).serving() as proxy:
        yield proxy


@pytest.fixture
def hostile(proxy: Proxy) -> Iterator[Client]:
    """A client of a server whose answers the proxy changes."""
    with Client(proxy.url, timeout=(4.0, 1.5), poll_seconds=0.1, patience=3.0) as client:
        yield client


def thread_of(name: str) -> threading.Thread:
    return next(thread for thread in threading.enumerate() if thread.name == name)


# Following


def test_a_queue_that_is_answered_with_nonsense_costs_no_job(comfy: FakeComfyUI, proxy: Proxy) -> None:
    comfy.silent = True  # so that only the queue and the history tell how it ends
    with Client(proxy.url, timeout=(4.0, 1.5), poll_seconds=0.02, patience=60.0) as client:
        assert client.submit(prompt()).result(WAIT).images
        watcher = thread_of("kandiflux-watcher")
        for kind in ANSWERS:
            proxy.next_up = {"/queue": [f"hostile {kind}"] * 2}
            assert [image.read() for image in client.submit(prompt()).result(120).images] == [PNG], kind
            assert proxy.met[f"/queue hostile {kind}"] >= 1
        assert watcher.is_alive()


def job_of(kind: str) -> str:
    return f"00000000-0000-4000-8000-{ANSWERS.index(kind):012}"


def test_histories_that_stay_nonsense_end_their_jobs_alone(proxy: Proxy) -> None:
    """All kinds at the same time, each for a job of its own."""
    proxy.background = {"/history": (1.0, ("500",))}  # so that each is asked for by itself
    proxy.plan = {job_of(kind): [Fault(f"hostile {kind}", "/history", times=10_000)] for kind in QUICK}
    with Client(proxy.url, timeout=(1.0, 0.4), poll_seconds=0.1, patience=2.0) as client:
        jobs = {kind: client.submit(prompt(), job_id=job_of(kind)) for kind in QUICK}
        assert client.submit(prompt()).result(WAIT).images
        ends: dict[str, type[KandifluxError] | None] = {}
        for kind, job in jobs.items():
            try:
                # "{}" says that it is not there, and then the events count.
                assert job.result(60).images
                ends[kind] = None
            except KandifluxError as error:
                ends[kind] = type(error)
        assert client.submit(prompt()).result(WAIT).images
    for kind in ("types", "numbers", "length", "entry"):
        assert ends.pop(kind) in (None, ProtocolError, AnswerLost, NodeFailed), kind
    others: dict[str, type[KandifluxError]] = {"401": AccessDenied, "403": AccessDenied}
    others |= dict.fromkeys(("lines", "headers", "chunks", "half", "noise"), AnswerLost)
    for kind, end in ends.items():
        # On a busy machine the last answer may be too slow.
        assert end in (others.get(kind, ProtocolError), AnswerLost), kind


@pytest.mark.parametrize("kind", QUICK)
def test_a_picture_that_stays_nonsense_is_an_error_of_that_file(
    proxy: Proxy, hostile: Client, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.jobs.outputs._PAUSES", (0.01, 0.01))
    result = hostile.submit(prompt()).result(WAIT)
    proxy.plan[result.prompt_id] = [Fault(f"hostile {kind}", "/view", times=100)]
    # What breaks off says nothing of the file; the server may have gone.
    with pytest.raises((OutputError, AnswerLost)) as caught:
        Saver(tmp_path).save(result.images[0])
    if kind.isdigit() or kind.startswith("to ") or kind in ("types", "entry", "numbers", "deep"):
        assert isinstance(caught.value, OutputError)
        assert isinstance(caught.value, OutputMissing) == (kind == "404")
    assert list(tmp_path.iterdir()) == []
    proxy.plan.clear()
    assert Saver(tmp_path).save(result.images[0]).read_bytes() == PNG


def test_what_is_asked_before_a_job_ends_in_typed_errors(proxy: Proxy) -> None:
    """All kinds at the same time."""
    proxy.plan = {job_of(kind): [Fault(f"hostile {kind}", "/prompt")] for kind in QUICK}

    def ask(kind: str) -> KandifluxError | None:
        try:
            assert client.submit(prompt(), job_id=job_of(kind)).result(60).images
        except KandifluxError as error:
            return error
        return None

    with (
        Client(proxy.url, timeout=(1.0, 0.4), poll_seconds=0.1, patience=3.0) as client,
        ThreadPoolExecutor(len(QUICK)) as pool,
    ):
        ends = dict(zip(QUICK, pool.map(ask, QUICK), strict=True))
        assert client.submit(prompt()).result(WAIT).images
    # A server that says no, or something else that is clear, ends it; what is unclear is looked for and sent again.
    kinds: dict[str, type[KandifluxError]] = {"401": AccessDenied, "403": AccessDenied}
    kinds |= dict.fromkeys(("404", "410", "418", "451"), ServerError)
    for kind, error in ends.items():
        if kind in kinds:
            assert type(error) is kinds[kind], kind
        else:
            assert error is None or isinstance(error, (ServerError, JobLost)), (kind, error)


@pytest.mark.parametrize("kind", QUICK)
def test_node_classes_that_are_nonsense_end_in_a_typed_error(proxy: Proxy, kind: str) -> None:
    proxy.next_up = {"/object_info": [f"hostile {kind}"] * 12}  # for three attempts, or eleven redirects
    with ComfyApi(proxy.url, timeout=(1.0, 0.4)) as server:
        if kind in ("types", "entry", "numbers", "length"):
            with contextlib.suppress(ProtocolError, AnswerLost):  # an object of any kind is not looked into here
                assert isinstance(server.object_info(), dict)
        else:
            with pytest.raises((ServerError, ServerUnreachable)):
                server.object_info()


def test_jobs_end_with_the_thread_that_follows_them(
    comfy: FakeComfyUI, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    until(lambda: comfy.running)
    with monkeypatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)

        def die(*_: object, **__: object) -> None:
            raise SystemExit

        patch.setattr(ComfyApi, "queue", die)
        with pytest.raises(JobLost, match="no longer followed"):
            job.result(WAIT)
    comfy.call(comfy.release())
    comfy.ending = "success"
    assert client.submit(prompt()).result(WAIT).images


@pytest.mark.parametrize("patience", [1.0])
def test_patience_counts_from_the_moment_of_asking(comfy: FakeComfyUI, proxy: Proxy, patience: float) -> None:
    """However long a request may take by itself: the timeout here is six times the patience."""
    comfy.ending = "hold"
    with Client(proxy.url, timeout=(1.0, 6 * patience), poll_seconds=0.05, patience=patience) as client:
        job = client.submit(prompt())
        until(lambda: comfy.running)
        proxy.background = {"/queue": (1.0, ("hang",)), "/history": (1.0, ("hang",))}
        begun = time.monotonic()
        with pytest.raises(ServerUnreachable, match=f"has not answered for {patience:.0f} s"):
            job.result(WAIT)
        assert time.monotonic() - begun < 6 * patience
    comfy.call(comfy.release())


@pytest.mark.parametrize("status", ["401", "403"])
def test_access_that_is_withdrawn_in_mid_job_is_told_as_that(comfy: FakeComfyUI, proxy: Proxy, status: str) -> None:
    comfy.ending = "hold"
    with Client(proxy.url, timeout=(1.0, 0.4), poll_seconds=0.1, patience=60.0) as client:
        job = client.submit(prompt())
        until(lambda: comfy.running)
        # Once is nothing.
        proxy.next_up = {"/queue": [status]}
        until(lambda: not proxy.next_up["/queue"])
        looks = comfy.asked.count("/queue")
        until(lambda: comfy.asked.count("/queue") >= looks + 2)
        assert not job.finished
        proxy.background = {"/queue": (1.0, (status,))}
        with pytest.raises(AccessDenied, match="may still be there") as caught:
            job.result(WAIT)
        assert caught.value.hint
    comfy.call(comfy.release())


# Redirects, secrets


def test_a_redirect_to_another_origin_takes_no_header_along(comfy: FakeComfyUI) -> None:
    seen: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
        await writer.drain()
        writer.close()

    with answering(note) as elsewhere:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            address = elsewhere.replace("http", "ws", 1) if target.startswith("/ws") else elsewhere
            writer.write(f"HTTP/1.1 307 So\r\nLocation: {address}{target}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        headers = {"Authorization": "Bearer s3cr3t", "X-Key": "s3cr3t"}
        with answering(redirect) as url, Client(url, headers=headers, timeout=(1.0, 0.4)) as client:
            assert client.api.system_stats() == {}
            assert list(client.api.view("a.png", "", "output")) == [b"{}"]
            assert not client.listen(5)
    assert [head.split()[1] for head in seen] == ["/system_stats", "/view?filename=a.png&subfolder=&type=output"]
    assert "s3cr3t" not in str(seen)


@pytest.mark.parametrize("value", ["a\nb", "a\r\nX: y", "a\0b", "\u20ac"])
def test_a_header_that_cannot_be_sent_is_a_wrong_request(value: str) -> None:
    with pytest.raises(UsageError, match="'X-Key' cannot be sent") as caught:
        ComfyApi("http://127.0.0.1:9", headers={"X-Key": value})
    assert value not in str(caught.value)


def test_neither_http_nor_the_websocket_reaches_this_machine_through_a_proxy(
    comfy: FakeComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    with answering(refuse) as url:
        for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
            monkeypatch.setenv(name, url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Client(comfy.url, timeout=(1.0, 0.4)) as client:
            assert client.listen(5)
            assert client.submit(prompt()).result(WAIT).images
    assert asked == []


# Events


def test_no_frame_ends_the_reader(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    until(lambda: comfy.running and comfy.sockets)
    reader = thread_of("kandiflux-events")
    named = f'"prompt_id": "{job.prompt_id}"'
    big, deep = "1" + "0" * 400, "[" * 50_000 + "]" * 50_000
    frames: list[str | bytes] = [
        f'{{"type": "progress", "data": {{{named}, "value": {big}, "max": 1}}}}',
        f'{{"type": "progress", "data": {{{named}, "value": NaN, "max": Infinity}}}}',
        f'{{"type": "progress_state", "data": {{{named}, "nodes": {{"1": {{"value": -{big}}}}}}}}}',
        f'{{"type": "progress_state", "data": {{{named}, "nodes": [1]}}}}',
        f'{{"type": "executed", "data": {{{named}, "node": "1", "output": {deep}}}}}',
        f'{{"type": "execution_error", "data": {{{named}, "exception_type": "ExecutionBlocked", "traceback": 7}}}}',
        f'{{"type": "execution_cached", "data": {{{named}, "nodes": {big}}}}}',
        f'{{"type": ["a"], "data": {{{named}}}}}',
        '{"type": "status", "data": {"status": [1]}}',
        deep,
        "9" * 5000,
        struct.pack(">II", 4, len(deep)) + deep.encode(),
        struct.pack(">II", 4, 2) + b"[]",
        struct.pack(">II", 3, 1) + b"\xff\xff",
        b"\x00",
    ]
    socket = next(iter(comfy.sockets))
    comfy.call(comfy._raw(socket, *frames))
    connected = len(comfy.client_ids)
    comfy.call(comfy.release())
    assert [event.kind for event in job][-1] == "finished"
    assert job.result(WAIT).images
    assert reader.is_alive()
    assert len(comfy.client_ids) == connected, "the connection was not needed anew"


def test_fragments_of_one_message_are_bounded_together(monkeypatch: pytest.MonkeyPatch, comfy: FakeComfyUI) -> None:
    """A server that never ends a message is disconnected before it fills the memory."""
    monkeypatch.setattr("kandiflux.api.websocket._MAX_MESSAGE", 1 << 16)
    connections = []

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader, writer)
        sent = 0
        connections.append(sent)
        opcode = 0x2
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes([opcode, 126]) + struct.pack(">H", 1024) + b"x" * 1024)
                await writer.drain()
                opcode, sent = 0x0, sent + 1024
                connections[-1] = sent

    with answering(endless) as url, Client(url, timeout=(1.0, 0.4)) as client:
        client.listen(5)
        until(lambda: len(connections) >= 2)
    # What lies in the buffers of the sockets counts, too.
    assert connections[0] < 20 << 20


def test_a_message_may_come_in_fragments(comfy: FakeComfyUI) -> None:
    seen: list[object] = []
    text = b'{"type": "from_the_future", "data": {"n": "\xc3\xa9"}}'

    async def fragments(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader, writer)
        for at in range(len(text)):
            first, last = at == 0, at == len(text) - 1
            writer.write(bytes([(0x80 if last else 0) | (0x1 if first else 0x0), 1, text[at]]))
            writer.write(b"\x89\x00")  # a ping may come in between
        await writer.drain()
        await reader.read()

    with answering(fragments) as url:
        from kandiflux.api.websocket import EventStream

        stream = EventStream(url, on_event=seen.append, on_connect=lambda: None)
        stream.start()
        until(lambda: seen)
        stream.close()
    assert seen == [Unknown(None, type="from_the_future", data={"n": "é"})]


@pytest.mark.parametrize("kind", ["drip", "lines", "headers", "endless", "to login", "401", "noise", "announced"])
def test_a_handshake_that_is_nonsense_is_followed_by_polling(
    proxy: Proxy, hostile: Client, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.api.websocket._CONNECT_SECONDS", 0.5)  # for "drip"
    proxy.background = {"/ws": (1.0, (f"hostile {kind}",))}
    assert hostile.submit(prompt()).result(WAIT).images


def test_the_events_of_a_job_are_bounded(client: Client) -> None:
    job = Job(client, Prompt.from_api(prompt()), "00000000-0000-4000-8000-000000000003")
    reader = iter(job)
    job.deliver(ExecutionStarted(job.prompt_id))
    assert isinstance(next(reader), ExecutionStarted)
    for number in range(100_000):
        job.deliver(Unknown(job.prompt_id, type="x", data=number))
    job.deliver(NodeExecuted(job.prompt_id, node_id="2", display_node_id="2", output=None))
    assert len(job.told()) <= 20_000
    job.finish(JobLost("gone", prompt_id=job.prompt_id))
    left = list(reader)
    assert len(left) <= 20_000
    assert isinstance(left[-1], JobFinished)
    assert [event.data for event in left if isinstance(event, Unknown)][-1] == 99_999


# State


def test_the_state_of_a_job_that_has_ended_stays(client: Client) -> None:
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(300):
            job = Job(client, Prompt.from_api(prompt()), f"00000000-0000-4000-8000-{number:012}")
            threads = [
                threading.Thread(target=job.deliver, args=(ExecutionStarted(job.prompt_id),)),
                threading.Thread(target=job.finish, args=(JobLost("gone", prompt_id=job.prompt_id),)),
                threading.Thread(target=job.running),
                threading.Thread(target=job.queued, args=(3,)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert (job.state, job.finished) == ("lost", True)
    finally:
        sys.setswitchinterval(switch_interval)


# Time


def test_a_download_that_trickles_is_given_up(
    proxy: Proxy, hostile: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandiflux.jobs.outputs._PAUSES", ())
    result = hostile.submit(prompt()).result(WAIT)
    proxy.plan[result.prompt_id] = [Fault("hostile drip", "/view", times=100)]
    with pytest.raises(AnswerLost, match="too slow"):
        Saver(tmp_path).save(result.images[0])
    with pytest.raises(OutputError, match="not downloaded in time"):
        Saver(tmp_path).save(result.images[0], timeout=0.3)
    assert list(tmp_path.iterdir()) == []


def test_no_request_goes_on_after_the_deadline(proxy: Proxy) -> None:
    server = ComfyApi(proxy.url, timeout=(5.0, 30.0))
    proxy.background = dict.fromkeys(("/queue", "/object_info", "/upload", "/view"), (1.0, ("hostile drip",)))
    server.deadline = time.monotonic() + 1.0
    for ask in (server.queue, server.object_info, lambda: list(server.view("a.png", "", "output"))):
        with pytest.raises(ServerUnreachable):
            ask()
    assert time.monotonic() - server.deadline < 5.0
    server.deadline = None
    proxy.background = {}
    assert server.queue().running == ()


def test_object_info_is_read_once_for_all_threads(comfy: FakeComfyUI, client: Client) -> None:
    threads = [threading.Thread(target=client.object_info) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert comfy.asked.count("/object_info") == 1


# Files


def test_a_file_that_cannot_be_fetched_keeps_no_other_from_being_saved(
    lite_host: RunningHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"width": 16, "height": 16, "batch_size": 1, "color": 3}
    nodes: dict[str, object] = {"1": {"class_type": "EmptyImage", "inputs": size}}
    for name in ("a", "b", "c"):
        nodes[name] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"kept/{name}"}}
    view = ComfyApi.view

    def refuse(server: ComfyApi, filename: str, *rest: str, **options: Any) -> Iterator[bytes]:
        if filename.startswith("b"):
            raise OutputError("refused")
        return view(server, filename, *rest, **options)

    monkeypatch.setattr(ComfyApi, "view", refuse)
    with Client(lite_host.url) as client:
        job = client.submit(nodes)
        with pytest.raises(OutputError, match="refused"):
            follow(job, client.api, Saver(tmp_path), Plain(quiet=True), WAIT)
    assert [path.name[0] for path in sorted(tmp_path.iterdir())] == ["a", "c"]


@pytest.mark.parametrize("name", ["\ud800.png", "a\0b.png", "x" * 5000, "\u202egnp.exe", "..", ""])
def test_a_name_that_is_no_file_is_an_error_of_that_file(lite_host: RunningHost, name: str) -> None:
    with Client(lite_host.url, timeout=(5.0, 5.0)) as client:
        with pytest.raises(OutputError):
            list(client.api.view(name, "", "output"))
        assert client.api.queue().running == ()


def test_an_upload_arrives_whole_whatever_its_name(lite_host: RunningHost, tmp_path: Path) -> None:
    content = PNG + bytes(range(256)) * 1000  # several pieces
    with Client(lite_host.url) as client:
        for name in ("plain.png", 'a "quoted" name.png', "имя.png", "half \ud800.png"):
            stored = client.api.upload_image(name, io.BytesIO(b"before" + content), subfolder="uploads")
            assert b"".join(client.api.view(stored.partition("/")[2], "uploads", "input")) == b"before" + content
        file = io.BytesIO(b"before" + content)
        file.seek(6)
        stored = client.api.upload_image("rest.png", file)
        assert b"".join(client.api.view(stored, "", "input")) == content
