"""The lite host holds against any prompt, body, upload and client: one test for each kind of attack or accident."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from kandiflux.lite.execute import Executor
from kandiflux.lite.folders import Folders
from kandiflux.lite.host import Host
from kandiflux.lite.job_queue import Interrupt, LiteJob
from kandiflux.lite.nodes_preview import PreviewAny
from kandiflux.lite.origin import HostNames
from kandiflux.lite.server import WorkerEnded, serve
from PIL import Image

from tests.conversations.common import SLOW, node, png, show
from tests.lite.rude_nodes import RAISED, RETURNED, Unreadable
from tests.support.hosts import PROTOCOL_PACK, RunningHost, running_lite
from tests.support.recorder import Recorder
from tests.support.waiting import until

GOOD = {"1": node("PrimitiveInt", value=1), "2": show("1", 0)}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    packs = (PROTOCOL_PACK, Path(__file__).parent / "rude_nodes")
    with running_lite(tmp_path_factory.mktemp("hard"), packs=packs) as host:
        yield host


@pytest.fixture
def client(host: RunningHost) -> Iterator[Recorder]:
    with Recorder(host) as client:
        client.connect()
        yield client


def post(host: RunningHost, path: str, body: str | bytes) -> requests.Response:
    content = body.encode() if isinstance(body, str) else body
    return requests.post(host.url + path, data=content, timeout=60)


def strict(text: str) -> Any:
    """Parse JSON as a browser does."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def still_runs(client: Recorder) -> None:
    assert client.run(GOOD).history["status"]["completed"]


# The worker.


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("class_type", ["RudeRaises", "RudeChanged"])
def test_whatever_a_node_raises_ends_its_job_only(client: Recorder, class_type: str, kind: str) -> None:
    ran = client.run({"1": node(class_type, kind=kind)})
    assert ran.history["status"]["completed"] == (class_type == "RudeChanged")
    if class_type == "RudeRaises":
        assert len(ran.data("execution_error")["exception_message"]) < 20_000
        assert ran.history["status"]["messages"][-1][0] == "execution_error"
    still_runs(client)


@pytest.mark.parametrize("kind", RETURNED)
@pytest.mark.parametrize("class_type", ["RudeReturns", "RudeChanged"])
def test_whatever_a_node_returns_is_sent_as_valid_json(client: Recorder, class_type: str, kind: str) -> None:
    ran = client.run({"1": node(class_type, kind=kind)})
    for path in ("/history", f"/history/{ran.prompt_id}", "/queue", "/api/jobs", f"/api/jobs/{ran.prompt_id}"):
        assert strict(client.quietly("GET", path).text)
    assert ran.history["status"]["completed"]
    if (class_type, kind) == ("RudeReturns", "nan"):
        assert ran.history["outputs"]["1"] == {"text": [[None, None, None, None]]}
        assert ran.data("executed")["output"] == {"text": [[None, None, None, None]]}
    still_runs(client)


class Outbox:
    """Takes frames and drops them."""

    def send(self, event: str, data: dict[str, Any], client_id: str | None) -> None: ...

    def takes_preview_metadata(self, client_id: str | None) -> bool:
        return False

    def send_preview(self, preview: Any, metadata: dict[str, Any] | None, client_id: str | None) -> None: ...


class Uncopyable:
    def __deepcopy__(self, memo: object) -> object:
        raise RuntimeError("no copies")


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("extra", [Uncopyable(), _deep(5000), Unreadable()])
def test_a_job_that_cannot_be_started_ends_with_an_error(extra: Any) -> None:
    executor = Executor({"PreviewAny": PreviewAny}, Outbox(), Interrupt())
    good = {"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}}
    outcome = executor.run(LiteJob(0, "a", good, {"a": extra}, ["1"]))
    if not isinstance(extra, Unreadable):
        assert not outcome.success
        assert [kind for kind, _ in outcome.messages] == ["execution_start", "execution_error"]
    assert executor.run(LiteJob(0, "b", good, {}, ["1"])).outputs == {"1": {"text": ["x"]}}


def test_a_host_whose_worker_ended_stops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Folders(tmp_path / "input", tmp_path / "output", tmp_path / "temp", [tmp_path / "models"])
    host = Host(folders, 1 << 20, tmp_path / "user")
    monkeypatch.setattr(host.jobs, "take", lambda: 1 / 0)

    async def serve_it() -> None:
        await serve(host, "127.0.0.1", 0, lambda _: None, asyncio.Event(), HostNames.of("127.0.0.1"))

    with pytest.raises(WorkerEnded):
        asyncio.run(asyncio.wait_for(serve_it(), 30))


# Bodies.

OF_TYPES = [
    ("/prompt", {"prompt": GOOD, "extra_data": 3}),
    ("/prompt", {"prompt": GOOD, "client_id": [1]}),
    ("/prompt", {"prompt": GOOD, "extra_data": {"client_id": {}}}),
    ("/prompt", {"prompt": GOOD, "partial_execution_targets": 5}),
    ("/prompt", {"prompt": GOOD, "partial_execution_targets": "2"}),
    ("/prompt", {"prompt": GOOD, "partial_execution_targets": [["2"]]}),
    ("/prompt", {"prompt": GOOD, "prompt_id": 5}),
    ("/prompt", {"prompt": GOOD, "prompt_id": "not a UUID"}),
    ("/prompt", {"prompt": GOOD, "prompt_id": str(uuid.uuid4()).upper()}),
    ("/prompt", {"prompt": GOOD, "number": []}),
    ("/prompt", {"prompt": GOOD, "number": "nan"}),
    ("/prompt", {"prompt": GOOD, "number": "-Infinity"}),
    ("/prompt", {"prompt": GOOD, "number": "9" * 4000}),
    ("/prompt", {"prompt": {"1": {"class_type": ["PrimitiveInt"], "inputs": {}}}}),
    ("/prompt", {"prompt": {"1": {"class_type": {}, "inputs": {}}}}),
    ("/prompt", {"prompt": {"1": {"class_type": None}}}),
    ("/prompt", {"prompt": {"1": 5}}),
    ("/prompt", {"prompt": []}),
    ("/prompt", {"prompt": {"1": node("PrimitiveFloat", value="nan"), "2": show("1", 0)}}),
    ("/prompt", {"prompt": {"1": node("PrimitiveFloat", value="1e999"), "2": show("1", 0)}}),
    ("/prompt", {"prompt": {"1": node("PrimitiveInt", value="9" * 4000), "2": show("1", 0)}}),
    ("/queue", {"delete": "abc"}),
    ("/queue", {"delete": [1]}),
    ("/history", {"delete": {"a": 1}}),
    ("/interrupt", {"prompt_id": ["x"]}),
    ("/interrupt", []),
    ("/free", 5),
    ("/api/jobs/cancel", {"job_ids": "x"}),
    ("/api/jobs/cancel", {"job_ids": [{}]}),
    ("/settings", [1]),
]


@pytest.mark.parametrize(("path", "body"), OF_TYPES, ids=lambda value: str(value)[:60])
def test_wrong_types_are_bad_requests(host: RunningHost, path: str, body: Any) -> None:
    assert post(host, path, json.dumps(body)).status_code == 400


JSON_ROUTES = ["/prompt", "/queue", "/history", "/interrupt", "/free", "/api/jobs/cancel", "/settings", "/settings/a"]
NOT_JSON = {
    "NaN": '{"number": NaN}',
    "Infinity": '{"a": [Infinity]}',
    "1e999": '{"number": 1e999}',
    "a huge integer": '{"number": 1%s}' % ("0" * 400),
    "5,000 digits": '{"number": %s}' % ("9" * 5000),
    "210 levels": "[" * 210 + "]" * 210,
    "3,000 levels": '{"prompt": {}, "extra_data": ' + "[" * 3000 + "]" * 3000 + "}",
    "100,000 levels": "[" * 100_000,
    "no UTF-8": b'{"a": "\xff"}',
    "no JSON": "{",
}


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize("kind", NOT_JSON)
def test_what_a_browser_could_not_have_sent_is_a_bad_request(host: RunningHost, path: str, kind: str) -> None:
    answer = post(host, path, NOT_JSON[kind])
    assert answer.status_code == 400
    assert len(answer.content) < 2000


def test_numbers_of_the_query_are_bounded(host: RunningHost) -> None:
    for query in ("max_items=" + "9" * 5000, "max_items=²", "offset=x", "max_items=1.5", "offset="):
        assert requests.get(f"{host.url}/history?{query}", timeout=10).status_code == 400
    assert requests.get(f"{host.url}/history?max_items=-5&offset=-5", timeout=10).status_code == 200


def test_what_is_not_http_is_one_line_in_the_log(host: RunningHost) -> None:
    before = host.log.stat().st_size
    heads = [
        b"\0\1\2\3\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ]
    heads += [b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"]
    heads += [b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"]
    for head in heads:
        with socket.create_connection(("127.0.0.1", int(host.url.rsplit(":", 1)[1])), timeout=10) as raw:
            raw.sendall(head)
            raw.shutdown(socket.SHUT_WR)
            assert b" 500 " not in raw.recv(4096)
    log = host.log.read_bytes()[before:].decode()
    assert "Traceback" not in log
    assert len(log) < 500 * len(heads)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x"])
def test_compressed_bodies_are_refused(host: RunningHost, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    for path in ("/prompt", "/upload/image", "/settings"):
        assert requests.post(host.url + path, data=b"{", headers=headers, timeout=5).status_code in (400, 415)


# Uploads.

UPLOADS = [
    ".",
    "..",
    "",
    "/",
    "a/",
    "a/.",
    "a/..",
    "../x.png",
    "\\\\",
    "a\\\\",
    "..\\\\x.png",
    "C:x.png",
    "c:\\\\x.png",
]
UPLOADS += [
    "door/x.png",
    "link.png",
    "x" * 300 + ".png",
    "a/" * 1000 + "x.png",
    "a/" * 2000 + "x.png",
    "file.png/x.png",
]


@pytest.fixture
def trap(host: RunningHost, tmp_path: Path) -> Iterator[Path]:
    """Ways out of the output folder, to a folder beside it."""
    if not (host.output / "door").exists():
        (host.output / "door").symlink_to(tmp_path, target_is_directory=True)
        (host.output / "link.png").symlink_to(tmp_path / "x.png")
        (host.output / "file.png").write_bytes(b"x")
    yield tmp_path
    for name in ("door", "link.png", "file.png"):
        (host.output / name).unlink()


@pytest.mark.parametrize("overwrite", ["true", "false"])
@pytest.mark.parametrize("name", UPLOADS, ids=lambda name: name[:20])
def test_uploads_stay_in_their_folder(host: RunningHost, trap: Path, name: str, overwrite: str) -> None:
    beside = sorted(path.name for path in host.base.iterdir())
    for route in ("/upload/image", "/upload/mask"):
        answer = requests.post(
            host.url + route,
            files={"image": (name, png((1, 2, 3, 4)))},
            data={
                "type": "output",
                "overwrite": overwrite,
                "original_ref": '{"filename": "file.png", "type": "output"}',
            },
            timeout=10,
        )
        assert answer.status_code == 400, answer.text
    assert sorted(path.name for path in host.base.iterdir()) == beside
    assert list(trap.iterdir()) == []


@pytest.mark.parametrize(
    "subfolder", ["..", "../..", "/tmp", "door", "a/../..", "\0", "a\nb", "\ud800", "file.png", "x" * 300]
)
def test_subfolders_stay_in_their_folder(host: RunningHost, trap: Path, subfolder: str) -> None:
    boundary = b"--B\r\nContent-Disposition: form-data; name="
    fields = {b'"subfolder"': subfolder.encode("utf-8", "surrogatepass"), b'"type"': b"output"}
    body = b"".join(boundary + name + b"\r\n\r\n" + value + b"\r\n" for name, value in fields.items())
    body += boundary + b'"image"; filename="x.png"\r\n\r\nx\r\n--B--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = requests.post(f"{host.url}/upload/image", data=body, headers=headers, timeout=10)
    assert answer.status_code == 400
    assert list(trap.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_blocks_neither_uploads_nor_the_worker(host: RunningHost, client: Recorder) -> None:
    os.mkfifo(host.input / "pipe.png")
    form = {"overwrite": "true"}
    answer = requests.post(f"{host.url}/upload/image", files={"image": ("pipe.png", b"x")}, data=form, timeout=10)
    assert answer.status_code == 400
    client.rejected({"1": node("LoadImage", image="pipe.png"), "2": node("PreviewImage", images=["1", 0])})
    (host.input / "pipe.png").unlink()
    assert requests.post(f"{host.url}/upload/image", files={"image": ("ok.png", b"x")}, timeout=10).status_code == 200
    still_runs(client)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}
FORMS: list[tuple[dict[str, str], bytes]] = [
    ({"Content-Type": "multipart/form-data"}, b"--B--"),
    ({"Content-Type": "multipart/form-data; boundary="}, b""),
    ({"Content-Type": "multipart/form-data; boundary=" + "b" * 200}, b""),
    ({"Content-Type": "text/plain"}, b"x"),
    ({}, b""),
    (MULTIPART, b""),
    (MULTIPART, b"--B\r\n\r\nx\r\n--B--\r\n"),
    (MULTIPART, b'--B\r\nContent-Disposition: form-data; filename="x.png"\r\n\r\nx\r\n--B--\r\n'),
    (MULTIPART, b'--B\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\nno end'),
    (MULTIPART, b'--B\r\nContent-Disposition: form-data; name="type"\r\n\r\n\xff\r\n--B--\r\n'),
    (
        MULTIPART,
        b'--B\r\nContent-Disposition: form-data; name="image"\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n',
    ),
    (MULTIPART, b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 50_000 + b"--B--\r\n"),
    (MULTIPART, b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * (2 << 20) + b"\r\n--B--\r\n"),
]


@pytest.mark.parametrize(("headers", "body"), FORMS, ids=range(len(FORMS)))
def test_malformed_forms_are_bad_requests(host: RunningHost, headers: dict[str, str], body: bytes) -> None:
    for route in ("/upload/image", "/upload/mask"):
        assert requests.post(host.url + route, data=body, headers=headers, timeout=30).status_code == 400


# Files.


ACTIVE = (
    "x.svg x.SVG x.svgz x.xml x.xsl x.xslt x.rdf x.atom x.pdf x.html x.htm x.xhtml x.shtml x.js x.mjs x.css x.swf x.mht"
)
OTHER = "x.eml x.txt x.json x.png.gz x x.unknown x.hta x.wasm"


@pytest.mark.parametrize("name", [*ACTIVE.split(), *OTHER.split()])
def test_a_browser_runs_nothing_that_was_uploaded(host: RunningHost, name: str) -> None:
    files = {"image": (name, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")}
    requests.post(f"{host.url}/upload/image", files=files, data={"overwrite": "true"}, timeout=10)
    answer = requests.get(
        f"{host.url}/view?filename={name}&type=input", headers={"Sec-Fetch-Dest": "document"}, timeout=10
    )
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Encoding" not in answer.headers


SHOWN = {"a.png": "image/png", "a.JPG": "image/jpeg", "a.webp": "image/webp", "a.gif": "image/gif"}
SHOWN |= {"a.mp4": "video/mp4", "a.flac": "audio/"}


@pytest.mark.parametrize(("name", "kind"), SHOWN.items())
def test_pictures_sound_and_video_are_shown(host: RunningHost, name: str, kind: str) -> None:
    requests.post(f"{host.url}/upload/image", files={"image": (name, b"x")}, timeout=10)
    answer = requests.get(f"{host.url}/view?filename={name}&type=input", timeout=10)
    assert answer.headers["Content-Type"].startswith(kind)
    assert answer.headers["Content-Disposition"] == f'filename="{name}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_user_files_are_only_downloaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("comfyui_frontend_package", reason="the graph editor's package is not installed")
    base = tmp_path_factory.mktemp("user files")
    (base / "secret.txt").write_text("secret")
    with running_lite(base, "--editor", "--user", str(base / "user")) as host:
        for name in ("page.html", "x.svg", "sub%2Fuser.css", "w.json", "x.js"):
            assert requests.post(f"{host.url}/userdata/{name}", data=b"<script>", timeout=10).status_code == 200
            headers = requests.get(f"{host.url}/api/userdata/{name}", timeout=10).headers
            assert headers["Content-Type"] == "application/octet-stream"
            assert headers["Content-Disposition"].startswith("attachment")
        requests.post(f"{host.url}/userdata/user.css", data=b"* {}", timeout=10)
        assert requests.get(f"{host.url}/userdata/user.css", timeout=10).headers["Content-Type"] == "text/css"
        for path in ("..%2F..%2F..", "%2F" + str(base).lstrip("/").replace("/", "%2F"), "..%5C.."):
            with requests.Session() as session:
                ask = requests.Request("GET", host.url).prepare()
                ask.url = f"{host.url}/extensions/{path}/secret.txt"
                assert session.send(ask, timeout=10).status_code in (403, 404)


def _bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (15_000, 15_000)).save(buffer, "PNG")
    return buffer.getvalue()


NO_PICTURES = {"empty": b"", "text": b"x", "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}
NO_PICTURES |= {"cut": png((1, 2, 3, 4))[:40], "225 million pixels": _bomb()}


@pytest.mark.parametrize("content", NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_not_a_picture_has_no_preview(host: RunningHost, content: bytes) -> None:
    files, form = {"image": ("broken.png", content)}, {"overwrite": "true"}
    assert requests.post(f"{host.url}/upload/image", files=files, data=form, timeout=10).status_code == 200
    for query in ("preview=webp", "preview=jpeg;²", "preview=;" + "9" * 500, "channel=rgb", "channel=a"):
        answer = requests.get(f"{host.url}/view?filename=broken.png&type=input&{query}", timeout=30)
        assert answer.status_code == 400
    reference = {"original_ref": '{"filename": "broken.png", "type": "input"}'}
    masked = {"image": ("masked.png", png((0, 0, 0, 9)))}
    assert requests.post(f"{host.url}/upload/mask", files=masked, data=reference, timeout=30).status_code == 400


def test_a_quality_of_a_preview_may_be_anything(host: RunningHost) -> None:
    requests.post(f"{host.url}/upload/image", files={"image": ("good.png", png((1, 2, 3, 4)))}, timeout=10)
    for quality in ("²", "0", "999", "9" * 500, "", "-1"):
        answer = requests.get(f"{host.url}/view?filename=good.png&type=input&preview=webp;{quality}", timeout=10)
        assert answer.headers["Content-Type"] == "image/webp"


# Large and slow.


class Polling:
    """Asks the host for its queue all the time; `worst` is the longest it waited for an answer, in seconds."""

    def __init__(self, host: RunningHost) -> None:
        self.worst = 0.0
        self._host = host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Polling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                began = time.monotonic()
                session.get(f"{self._host.url}/prompt", timeout=60)
                self.worst = max(self.worst, time.monotonic() - began)
                time.sleep(0.01)


def chain(length: int) -> dict[str, Any]:
    nodes: dict[str, Any] = {"0": node("PrimitiveInt", value=0)}
    for number in range(1, length):
        nodes[str(number)] = node("ProbeAdd", a=[str(number - 1), 0], b=1)
    return {**nodes, "end": show(str(length - 1), 0)}


def wide(count: int) -> dict[str, Any]:
    nodes = {f"a{number}": node("PrimitiveInt", value=number) for number in range(count)}
    nodes |= {f"b{number}": node("ProbeAdd", a=[f"a{number}", 0], b=1) for number in range(count)}
    return nodes | {f"c{number}": show(f"b{number}", 0) for number in range(count)}


def diamonds(count: int) -> dict[str, Any]:
    nodes: dict[str, Any] = {"0": node("PrimitiveInt", value=0)}
    for number in range(1, count):
        nodes[str(number)] = node("ProbeJoin", values=[str(number - 1), 0], separator=[str(number - 1), 0])
    return {**nodes, "end": show("0", 0)}


LARGE: dict[str, Callable[[bool], dict[str, Any]]] = {
    "a chain of 3,000 nodes": lambda _: chain(3000),
    "2,000 outputs": lambda _: wide(2000),
    "400 diamonds": lambda _: diamonds(400),
    "a text of 15 MB": lambda _: {"1": node("PrimitiveString", value="x" * 15_000_000), "2": show("1", 0)},
    "30,000 nodes, or 100,000": lambda full: {
        **{str(n): node("PrimitiveString", value="x" * 100) for n in range(100_000 if full else 30_000)},
        "e": show("1", 0),
    },
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_prompt_holds_up_nobody(host: RunningHost, client: Recorder, kind: str, full_campaign: bool) -> None:
    body = json.dumps({"prompt": LARGE[kind](full_campaign)})
    with Polling(host) as polling:
        prompt_id = post(host, "/prompt", body).json()["prompt_id"]
        assert client.history(prompt_id)["status"]["completed"]
    assert polling.worst < 15
    requests.post(f"{host.url}/history", json={"clear": True}, timeout=10)


INVALID = {
    "inputs missing": node("SaveImage"),
    "links to nothing": node("SaveImage", images=["9", 0]),
    "no such class": node("NoSuch" * 1000),
    "long links": show("x" * 5000, 0),
}


@pytest.mark.parametrize("bad", INVALID.values(), ids=INVALID)
def test_thousands_of_invalid_nodes_are_refused_quickly_and_briefly(host: RunningHost, bad: dict[str, Any]) -> None:
    answer = post(host, "/prompt", json.dumps({"prompt": {str(number): bad for number in range(3000)}}))
    assert answer.status_code == 400
    assert answer.elapsed.total_seconds() < 20
    assert len(answer.content) < 2_000_000


@pytest.mark.parametrize("value", ["x" * 5_000_000, {"a": ["x"] * 500_000}], ids=["text", "object"])
def test_a_large_wrong_value_is_not_sent_back(host: RunningHost, value: Any) -> None:
    answer = post(host, "/prompt", json.dumps({"prompt": {"1": node("PrimitiveInt", value=value), "2": show("1", 0)}}))
    assert answer.status_code == 400
    assert len(answer.content) < 20_000


def test_an_interrupt_is_heeded_while_cache_keys_are_computed(client: Recorder) -> None:
    # All keys together take a minute and a half.
    prompt_id = client.submit({str(n): node("RudeSlowKey", kind=str(n)) for n in range(900)}).json()["prompt_id"]
    while client.frame()["type"] != "execution_start":
        pass
    began = time.monotonic()
    client.quietly("POST", "/interrupt", json={"prompt_id": prompt_id})
    ran = client.follow(prompt_id)
    assert time.monotonic() - began < 20
    assert ran.history["status"]["messages"][-1][0] == "execution_interrupted"
    still_runs(client)


def test_progress_frames_do_not_grow_with_the_prompt(client: Recorder) -> None:
    ran = client.run(chain(250))
    states = [frame["data"]["nodes"] for frame in ran.frames if frame["type"] == "progress_state"]
    assert max(map(len, states)) <= 101
    running = [frame["data"]["node"] for frame in ran.frames if frame["type"] == "executing"][:-1]
    assert len(running) == 251
    assert all(any(node_id in nodes for nodes in states) for node_id in running)


def memory(host: RunningHost) -> int:
    """The host's resident memory in MB."""
    status = Path(f"/proc/{host.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_client_that_does_not_read_is_dropped_by_bytes(host: RunningHost, client: Recorder) -> None:
    still_runs(client)
    before = memory(host)
    with socket.create_connection(("127.0.0.1", int(host.url.rsplit(":", 1)[1]))) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.sendall(
            b"GET /ws?clientId=deaf HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert deaf.recv(12) == b"HTTP/1.1 101"
        peak = before
        prompt_id = client.submit(chain(2999), client_id="deaf").json()["prompt_id"]
        while not client.quietly("GET", f"/history/{prompt_id}").json():
            peak = max(peak, memory(host))
            time.sleep(0.02)
        assert "does not read its frames" in host.log.read_text()
        assert peak - before < 200
    still_runs(client)


def test_frames_of_clients_may_be_anything(host: RunningHost, client: Recorder) -> None:
    before = host.log.stat().st_size
    for frame in (
        "",
        "{",
        "[" * 100_000,
        "NaN",
        '{"type": "feature_flags", "data": ' + "[" * 3000,
        "[]",
        "null",
        "x" * 100_000,
    ):
        client.connect()
        assert client.socket is not None
        for _ in range(20):
            client.socket.send(frame)
        client.socket.send_binary(b"\xff\0" * 100)
        still_runs(client)
    assert "Traceback" not in host.log.read_text()[before:]
    assert host.log.read_text()[before:].count("not valid JSON") <= 8


def test_at_the_limit_of_open_files_the_log_stays_small(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        starting = running_lite(tmp_path)
        host = starting.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    try:
        address = ("127.0.0.1", int(host.url.rsplit(":", 1)[1]))
        connections = [socket.socket() for _ in range(300)]
        for connection in connections:
            connection.setblocking(False)
            connection.connect_ex(address)
        # What the host says of one attempt to accept connections is in the log before it answers a request.
        until(lambda: "Too many open files" in host.log.read_text())
        for connection in connections:
            connection.close()
        assert requests.get(f"{host.url}/prompt", timeout=30).status_code == 200
        assert len(host.log.read_text()) < 5000
    finally:
        starting.__exit__(None, None, None)


def test_interrupts_of_everybody_and_the_rest_go_on(client: Recorder) -> None:
    """A last check of what the other tests may have broken: a slow job is interrupted, the next one runs."""
    prompt_id = client.submit(SLOW).json()["prompt_id"]
    while client.frame()["type"] != "progress":
        pass
    client.quietly("POST", "/interrupt")
    assert client.follow(prompt_id).history["status"]["messages"][-1][0] == "execution_interrupted"
    still_runs(client)
