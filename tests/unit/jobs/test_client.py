"""A client: which jobs it follows, and what it does not do twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from kandiflux import Client
from kandiflux.api.events import NodeText, Preview
from kandiflux.errors import (
    InvalidPrompt,
    JobInterrupted,
    ParameterError,
    ServerError,
    UsageError,
)

from tests.support.fake_comfyui import FakeComfyUI, prompt
from tests.support.stub_server import Answer, StubServer
from tests.support.waiting import until

WAIT = 20


def test_the_jobs_that_have_not_ended(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    job = client.submit(prompt())
    assert client.jobs == [job]
    assert job.client_id == comfy.client_ids[0]
    assert client.url == comfy.url
    until(lambda: comfy.running)
    comfy.call(comfy.release())
    job.result(WAIT)
    until(lambda: client.jobs == [])


def test_a_prompt_that_is_refused_is_not_followed(comfy: FakeComfyUI, client: Client) -> None:
    comfy.posts = ["refuse"]
    with pytest.raises(InvalidPrompt):
        client.submit(prompt())
    assert client.jobs == []


@pytest.mark.parametrize("refused", [False, True])
def test_a_submission_that_is_interrupted_is_cancelled_or_said_to_be_there(
    refused: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kandiflux.jobs.client.submit_prompt", interrupted)
    with StubServer().serving() as stub, Client(stub.url) as client:
        stub.reactions["POST /api/jobs"] = Answer({}, 500) if refused else {"cancelled": True}
        with pytest.raises(KeyboardInterrupt):
            client.submit(prompt(), job_id="j")
        assert client.jobs == []
        assert stub.count("POST /api/jobs/j/cancel") == 1
    assert ("The job j may still be on the server: " in caplog.text) == refused


def test_a_job_may_have_an_id_of_the_callers(comfy: FakeComfyUI, client: Client) -> None:
    job = client.submit(prompt(), job_id="00000000-0000-4000-8000-000000000009")
    job.result(WAIT)
    assert comfy.ran == [job.prompt_id] == ["00000000-0000-4000-8000-000000000009"]


def test_a_job_of_an_earlier_client_is_taken_up(comfy: FakeComfyUI) -> None:
    comfy.ending = "hold"
    with Client(comfy.url) as first:
        job = first.submit(prompt())
        until(lambda: comfy.running)
    with Client(comfy.url, poll_seconds=0.1) as client:
        taken = client.adopt(prompt(), job.prompt_id)
        assert taken is not None
        assert (taken.prompt_id, client.jobs) == (job.prompt_id, [taken])
        assert client.adopt(prompt(), "another") is None
        comfy.call(comfy.release())
        assert taken.result(WAIT).images
        until(lambda: client.jobs == [])
        known = client.adopt(prompt(), job.prompt_id)
        assert known is not None
        assert known.result(WAIT).images
    assert comfy.accepted == [job.prompt_id]
    for ask in (lambda: client.adopt(prompt(), "x"), lambda: client.submit(prompt())):
        with pytest.raises(UsageError, match="is closed"):
            ask()


def test_a_waiting_job_is_withdrawn_and_a_running_one_is_not(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    first, second = client.submit(prompt()), client.submit(prompt())
    until(lambda: comfy.running)
    for job in (first, second):
        client.withdraw(job)
    with pytest.raises(JobInterrupted, match="before it began"):
        second.result(WAIT)
    comfy.call(comfy.release())
    assert first.result(WAIT).images
    asked = len(comfy.asked)
    client.withdraw(first)
    client.cancel(first)
    assert len(comfy.asked) == asked, "it has ended"


def test_old_previews_and_texts_are_of_the_job_that_runs(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    first, second = client.submit(prompt()), client.submit(prompt())
    until(lambda: first.current_node == "1")
    socket = next(iter(comfy.sockets))
    comfy.call(comfy._raw(socket, b"\0\0\0\1\0\0\0\2png", b"\0\0\0\3\0\0\0\1" + b"1text"))
    until(lambda: any(isinstance(event, NodeText) for event in first.told()))
    assert first.latest(Preview) is not None
    assert second.latest(Preview) is None
    comfy.ending = "success"
    comfy.call(comfy.release())
    assert first.result(WAIT).images
    assert second.result(WAIT).images


def test_node_classes_are_read_once(comfy: FakeComfyUI, client: Client) -> None:
    assert client.object_info() is client.object_info()
    assert comfy.asked.count("/object_info") == 1
    client.object_info(refresh=True)
    assert comfy.asked.count("/object_info") == 2


def test_a_picture_is_uploaded(tmp_path: Path) -> None:
    with StubServer({"POST /upload/image": {"name": "b.png", "subfolder": "s"}}).serving() as stub:
        (tmp_path / "a.png").write_bytes(b"content")
        with Client(stub.url) as client:
            assert client.upload(tmp_path / "a.png", subfolder="s") == "s/b.png"
            with pytest.raises(ParameterError, match=r"none\.png cannot be read: No such file"):
                client.upload(tmp_path / "none.png")
    assert b'filename="a.png"' in stub.bodies[0]
    assert b"content" in stub.bodies[0]
    assert len(stub.asked) == 1


def test_a_server_without_a_websocket_is_asked_once_whether_it_is_there() -> None:
    with StubServer({"GET /queue": Answer("no", 500)}).serving() as stub, Client(stub.url) as client:
        client.submit(prompt())
        assert stub.asked[: stub.asked.index("POST /prompt")].count("GET /queue") == 1
        with pytest.raises(ServerError):
            client.api.queue()


def test_without_a_websocket_a_job_is_looked_for_at_once() -> None:
    with StubServer().serving() as stub, Client(stub.url, poll_seconds=1000.0) as client:
        assert client.submit(prompt()).result(WAIT).images
