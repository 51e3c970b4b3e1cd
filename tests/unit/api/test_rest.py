"""Each route of a server: what is asked, what is read from the answer, and which error an answer is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from kandiflux import Client
from kandiflux.api.rest import ComfyApi, Queue, QueueEntry
from kandiflux.errors import (
    AnswerLost,
    KandifluxError,
    OutputError,
    OutputMissing,
    ProtocolError,
    ServerError,
    ServerUnreachable,
)

from tests.support.clock import Clock
from tests.support.stub_server import PNG, Answer, StubServer

PAGE = "<html>Sign in</html>"


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer().serving() as stub:
        yield stub


@pytest.fixture
def server(stub: StubServer) -> Iterator[ComfyApi]:
    with ComfyApi(stub.url, timeout=(5.0, 5.0)) as server:
        yield server


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The pauses between attempts pass at once."""
    clock = Clock()
    monkeypatch.setattr("kandiflux.api.rest.time", clock)
    return clock


def cut(handler: BaseHTTPRequestHandler) -> None:
    """The connection ends without an answer."""


def in_turn(*reactions: Any) -> Callable[[BaseHTTPRequestHandler], Any]:
    left = list(reactions)

    def react(handler: BaseHTTPRequestHandler) -> Any:
        reaction = left.pop(0) if len(left) > 1 else left[0]
        return reaction(handler) if callable(reaction) else reaction

    return react


# Attempts


@pytest.mark.parametrize("failure", [cut, *(Answer(PAGE, status) for status in (429, 502, 503, 504))])
def test_a_question_is_asked_three_times(stub: StubServer, server: ComfyApi, clock: Clock, failure: Any) -> None:
    stub.reactions["GET /system_stats"] = in_turn(failure, failure, {"system": {}})
    assert server.system_stats() == {"system": {}}
    assert (stub.asked, clock.slept) == (["GET /system_stats"] * 3, [0.1, 0.4])
    stub.reactions["GET /system_stats"] = failure
    with pytest.raises(ServerUnreachable) as caught:
        server.system_stats()
    assert isinstance(caught.value, AnswerLost) == (failure is cut)
    assert failure is cut or "in every attempt" in caught.value.message
    assert len(stub.asked) == 6


def test_another_status_is_not_asked_for_again(stub: StubServer, server: ComfyApi) -> None:
    stub.reactions["GET /object_info"] = Answer({"a": 1}, 500)
    with pytest.raises(ProtocolError, match=r"/object_info is not from a ComfyUI") as caught:
        server.object_info()
    assert caught.value.got == 'HTTP 500 {"a": 1}'
    assert len(stub.asked) == 1


@pytest.mark.parametrize("failure", [cut, Answer(PAGE, 503)])
def test_some_questions_are_asked_once(stub: StubServer, server: ComfyApi, failure: Any) -> None:
    stub.reactions["GET /history"] = failure
    for ask in (lambda: server.history("a", again=False), lambda: server.recent_history(again=False)):
        with pytest.raises(ServerUnreachable):
            ask()
    assert stub.asked == ["GET /history/a", "GET /history"]


def test_a_history_is_asked_for_again_unless_told_otherwise(stub: StubServer, server: ComfyApi, clock: Clock) -> None:
    paths: list[str] = []

    def note(handler: BaseHTTPRequestHandler) -> Any:
        paths.append(handler.path)
        return Answer(PAGE, 503) if len(paths) % 2 else {}

    stub.reactions["GET /history"] = note
    assert server.history("a") is None
    assert server.recent_history() == {}
    assert paths == ["/history/a"] * 2 + ["/history?max_items=100"] * 2


@pytest.mark.parametrize(("within", "attempts"), [(0.1, 1), (0.15, 2), (0.5, 2), (0.6, 3), (30.0, 3)])
def test_all_attempts_have_to_fit_into_the_time(
    stub: StubServer, server: ComfyApi, clock: Clock, within: float, attempts: int
) -> None:
    stub.reactions["GET /queue"] = Answer(PAGE, 503)
    with pytest.raises(ServerUnreachable):
        server.queue(within=within)
    assert len(stub.asked) == attempts


def test_no_attempt_after_the_time_is_over(stub: StubServer, server: ComfyApi, clock: Clock) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        clock.now += 5.0

    stub.reactions["GET /queue"] = slow
    with pytest.raises(AnswerLost):
        server.queue(within=5.0)
    assert len(stub.asked) == 1


# Questions


def test_what_a_server_knows(stub: StubServer, server: ComfyApi) -> None:
    stub.reactions = {"GET /features": {"a": 1}, "GET /embeddings": ["x", 3], "GET /object_info": {"N": {}}}
    assert (server.features(), server.embeddings(), server.object_info()) == ({"a": 1}, ["x", "3"], {"N": {}})
    stub.reactions = {"GET /features": [1], "GET /embeddings": {}}
    assert (server.features(), server.embeddings()) == ({}, None)
    stub.reactions = {"GET /features": in_turn(Answer(PAGE, 503), {"a": 1})}
    assert server.features() == {"a": 1}
    stub.reactions = {"GET /features": Answer({"a": 1}, 404), "GET /embeddings": Answer(["x"], 404)}
    assert (server.features(), server.embeddings()) == ({}, None)


@pytest.mark.parametrize("answer", [Answer({}, 404), Answer([]), Answer(PAGE), Answer("3")])
def test_what_is_no_object_is_no_comfyui(stub: StubServer, server: ComfyApi, answer: Answer) -> None:
    stub.reactions["GET /object_info"] = answer
    with pytest.raises(ProtocolError, match="not from a ComfyUI"):
        server.object_info()


def test_the_queue_in_its_order(stub: StubServer, server: ComfyApi) -> None:
    ours = [2, "b", {}, {"x": "m"}, []]
    strange = [[float("nan"), "n"], ["x", "t", {}, []], [-7, "front", {}, {}]]
    stub.reactions["GET /queue"] = {"queue_running": [[9, "r"]], "queue_pending": [[3, "c"], ours, *strange]}
    queue = server.queue()
    assert queue == Queue(
        (QueueEntry(9, "r"),),
        (QueueEntry(-7, "front"), QueueEntry(0, "n"), QueueEntry(0, "t"), QueueEntry(2, "b"), QueueEntry(3, "c")),
    )  # fmt: skip
    assert queue.pending[3].item == ours


@pytest.mark.parametrize(
    "body",
    [
        {"queue_running": []},
        {"queue_pending": []},
        {"queue_running": None, "queue_pending": []},
        *({"queue_running": [], "queue_pending": [item]} for item in (3, {}, [], [1], [1, 2], [1, None], "ab")),
    ],
)
def test_a_queue_that_cannot_be_read(stub: StubServer, server: ComfyApi, body: object) -> None:
    stub.reactions["GET /queue"] = body
    with pytest.raises(ProtocolError, match=r"/queue cannot be read"):
        server.queue()


def test_the_history_of_one_and_of_many(stub: StubServer, server: ComfyApi) -> None:
    stub.reactions["GET /history"] = {"a/b?": {"outputs": {}}, "x": 3}
    assert server.history("a/b?") == {"outputs": {}}
    assert server.history("x") is None
    assert server.history("y") is None
    assert server.recent_history(7) == {"a/b?": {"outputs": {}}, "x": 3}
    assert server.recent_history() != {}
    assert stub.asked[0] == "GET /history/a%2Fb%3F"


# Jobs


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_says_nothing_of_the_prompt(stub: StubServer, server: ComfyApi, status: int) -> None:
    stub.reactions["POST /prompt"] = Answer(PAGE, status)
    with pytest.raises(AnswerLost, match=rf"A gateway in front of .* returned HTTP {status}") as caught:
        server.post_prompt({})
    assert caught.value.still_coming
    assert len(stub.asked) == 1, "never repeated"


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_any_other_answer_to_a_prompt_is_the_callers_to_read(stub: StubServer, server: ComfyApi, status: int) -> None:
    stub.reactions["POST /prompt"] = Answer({"a": 1}, status)
    answer = server.post_prompt({"prompt": {}})
    assert (answer.status, answer.body, stub.bodies) == (status, {"a": 1}, [b'{"prompt": {}}'])


def test_a_prompt_whose_answer_is_too_large_may_have_been_taken(stub: StubServer, server: ComfyApi) -> None:
    stub.reactions["POST /prompt"] = Answer("{}", headers={"Content-Length": "1" + "0" * 12})
    with pytest.raises(AnswerLost, match="too large") as caught:
        server.post_prompt({})
    assert not caught.value.still_coming


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer({"cancelled": True}), True),
        (Answer({"cancelled": False}), False),
        (Answer({"cancelled": 1}), None),
        (Answer({"cancelled": True}, 404), None),
        (Answer(PAGE), None),
        (Answer(PAGE, 405), None),
        (Answer(PAGE, 501), None),
    ],
)
def test_cancelling_a_job(stub: StubServer, server: ComfyApi, answer: Answer, said: bool | None) -> None:
    stub.reactions["POST /api/jobs/a%2Fb/cancel"] = answer
    assert server.cancel_job("a/b") is said


def test_a_job_that_could_not_be_cancelled(stub: StubServer, server: ComfyApi) -> None:
    stub.reactions["POST /api/jobs/a/cancel"] = Answer({"cancelled": True}, 500)
    with pytest.raises(ServerError, match="did not cancel the job a") as caught:
        server.cancel_job("a")
    assert caught.value.got == 'HTTP 500 {"cancelled": true}'


def test_what_is_only_done(stub: StubServer, server: ComfyApi) -> None:
    server.delete_pending("a")
    server.interrupt("b")
    server.free()
    server.free(unload_models=False, free_memory=False)
    assert stub.asked == ["POST /queue", "POST /interrupt", "POST /free", "POST /free"]
    assert [json.loads(body) for body in stub.bodies] == [
        {"delete": ["a"]}, {"prompt_id": "b"}, {"unload_models": True, "free_memory": True},
        {"unload_models": False, "free_memory": False},
    ]  # fmt: skip
    stub.reactions["POST /free"] = Answer("no", 500)
    with pytest.raises(ServerError, match="refused /free") as caught:
        server.free()
    assert caught.value.got == "HTTP 500 no"


# Files


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"name": "a_1.png", "subfolder": "s", "type": "input"}, "s/a_1.png"),
        ({"name": "a.png", "subfolder": ""}, "a.png"),
        ({"name": "a.png"}, "a.png"),
    ],
)
def test_an_upload_has_the_name_that_the_server_gives_it(
    stub: StubServer, server: ComfyApi, answer: object, name: str
) -> None:
    stub.reactions["POST /upload/image"] = answer
    file = io.BytesIO(b"before" + PNG)
    file.seek(6)
    assert server.upload_image('a "1".png', file, subfolder="s", overwrite=True) == name
    content_type = stub.headers[0]["content-type"]
    boundary = content_type.partition("multipart/form-data; boundary=")[2].encode()
    kinds = b"Content-Type: application/octet-stream\r\n"
    assert stub.bodies[0].split(b"--" + boundary) == [
        b"",
        b'\r\nContent-Disposition: form-data; name="type"\r\n\r\ninput\r\n',
        b'\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\ns\r\n',
        b'\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n',
        b'\r\nContent-Disposition: form-data; name="image"; filename="a %221%22.png"\r\n' + kinds + b"\r\n" + PNG
        + b"\r\n",
        b"--\r\n",
    ]  # fmt: skip
    server.upload_image("b.png", io.BytesIO())
    assert b"\r\n\r\nfalse\r\n" in stub.bodies[1]


@pytest.mark.parametrize(
    "answer", [Answer({"name": "a"}, 400), Answer({"name": 3}), Answer({"name": "a", "subfolder": 3}), Answer(PAGE)]
)
def test_an_upload_that_was_not_taken(stub: StubServer, server: ComfyApi, answer: Answer) -> None:
    stub.reactions["POST /upload/image"] = answer
    with pytest.raises(ServerError, match=r"did not accept the upload of a\.png"):
        server.upload_image("a.png", io.BytesIO(PNG))


def test_the_packs_that_a_manager_knows(stub: StubServer, server: ComfyApi) -> None:
    assert server.node_map() is None
    assert stub.asked == ["GET /customnode/getmappings", "GET /v2/customnode/getmappings"]
    for path in stub.asked[:2]:
        stub.reactions = {path: {"riddles": [["Riddle"], {}]}}
        assert server.node_map() == {"riddles": [["Riddle"], {}]}
    stub.reactions = {"GET /customnode": Answer(PAGE), "GET /v2": Answer([5])}
    assert server.node_map() is None


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("a.png", {"filename": "a.png", "subfolder": "", "type": "input"}),
        ("pasted/image (72).png", {"filename": "image (72).png", "subfolder": "pasted", "type": "input"}),
        ("clipspace/b/a.png [input]", {"filename": "a.png", "subfolder": "clipspace/b", "type": "input"}),
        ("a.png [output]", {"filename": "a.png", "subfolder": "", "type": "output"}),
        ("a.png [temp]", {"filename": "a.png", "subfolder": "", "type": "temp"}),
    ],
)
def test_whether_an_input_exists(stub: StubServer, server: ComfyApi, name: str, query: dict[str, str]) -> None:
    asked: list[str] = []
    answers = [Answer(b"x"), Answer("", 404), Answer("", 400)]

    def view(handler: BaseHTTPRequestHandler) -> Answer:
        asked.append(handler.path)
        return answers[len(asked) - 1]

    stub.reactions["GET /view"] = view
    assert [server.has_input(name) for _ in answers] == [True, False, None]
    assert [dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)) for path in asked] == [query] * 3
    assert server.has_input(f"sub\\{name}") is None


def test_a_file_is_fetched(stub: StubServer, server: ComfyApi) -> None:
    paths: list[str] = []

    def note(handler: BaseHTTPRequestHandler) -> Answer:
        paths.append(handler.path)
        return Answer(PNG * 10_000, content_type="image/png")

    stub.reactions["GET /view"] = note
    pieces = list(server.view("a &.png", "s/t", "temp", kind="image"))
    assert b"".join(pieces) == PNG * 10_000
    assert len(pieces) > 1
    assert paths == ["/view?filename=a+%26.png&subfolder=s%2Ft&type=temp"]


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, OutputMissing, "lists s/a.png as an output, but the file no longer exists"),
        (401, OutputError, "refused to send s/a.png"),
        (403, OutputError, "refused to send s/a.png"),
        (400, OutputError, "refused to send s/a.png"),
        (499, OutputError, "refused to send s/a.png"),
        (429, ServerUnreachable, "too busy to send s/a.png"),
        (503, ServerUnreachable, "too busy to send s/a.png"),
        (500, ServerError, "did not send s/a.png"),
        (204, ServerError, "did not send s/a.png"),
        (399, ServerError, "did not send s/a.png"),
    ],
)
def test_a_file_that_is_not_handed_out(
    stub: StubServer, server: ComfyApi, status: int, kind: type[KandifluxError], said: str
) -> None:
    stub.reactions["GET /view"] = Answer("" if status == 204 else "no", status)
    with pytest.raises(kind) as caught:
        list(server.view("a.png", "s", "output"))
    assert type(caught.value) is kind
    assert said in caught.value.message
    assert (caught.value.hint is not None) == (status in (401, 403, 404))
    assert len(stub.asked) == 1


@pytest.mark.parametrize("kind", ["image", "video", "audio", "text", "file", "latent"])
@pytest.mark.parametrize("content_type", ["text/html", "Application/JSON; charset=utf-8", "image/png", "text/plain"])
def test_a_page_instead_of_a_picture(stub: StubServer, server: ComfyApi, kind: str, content_type: str) -> None:
    stub.reactions["GET /view"] = Answer(PNG, content_type=content_type)
    if kind in ("image", "video", "audio") and ("html" in content_type or "JSON" in content_type):
        with pytest.raises(ProtocolError, match=r"sent a page instead of a\.png") as caught:
            list(server.view("a.png", "", "output", kind=kind))
        assert caught.value.expected == f"the {kind}"
    else:
        assert b"".join(server.view("a.png", "", "output", kind=kind)) == PNG


@pytest.mark.parametrize(("kind", "gib"), [("image", 1), ("video", 16), ("file", 16)])
def test_how_large_a_file_may_be(
    stub: StubServer, server: ComfyApi, monkeypatch: pytest.MonkeyPatch, kind: str, gib: int
) -> None:
    asked: list[int] = []
    transport: Any = server._transport
    download = transport.download

    def note(*args: Any, max_bytes: int, **options: Any) -> Any:
        asked.append(max_bytes)
        return download(*args, max_bytes=max_bytes, **options)

    monkeypatch.setattr(transport, "download", note)
    assert list(server.view("a", "", "output", kind=kind))
    assert asked == [gib << 30]


def test_the_same_server_with_other_timeouts(stub: StubServer) -> None:
    url = stub.url.replace("://", "://anna:secret@")
    with ComfyApi(url, headers={"X-Key": "k"}) as server, server.with_timeout((1.0, 1.0)) as other:
        server.deadline = 1.0
        assert (other.url, other.deadline) == (stub.url, None)
        other.queue()
        with pytest.raises(ServerUnreachable, match="no time left"):
            server.queue()
    assert [(sent["x-key"], sent["authorization"]) for sent in stub.headers] == [("k", "Basic YW5uYTpzZWNyZXQ=")]


def test_certificates_are_checked_unless_told_otherwise() -> None:
    with ComfyApi("https://localhost") as server, Client("https://localhost") as client:
        assert server.verify is True
        assert client.api.verify is True
        assert (server.cert, server.headers) == (None, {})
