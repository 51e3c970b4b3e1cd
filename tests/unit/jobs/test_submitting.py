"""However the answer to a POST is lost, the prompt runs once, or an error says that it may have."""

from __future__ import annotations

import logging

import pytest
from kandiflux import Client, Workflow
from kandiflux.errors import (
    AnswerLost,
    BodyTooLarge,
    InvalidPrompt,
    ServerUnreachable,
    UsageError,
    WorkflowError,
)
from kandiflux.jobs.submit import find_prompts

from tests.support.fake_comfyui import PNG, FakeComfyUI, prompt
from tests.support.stub_server import StubServer, hang

WAIT = 10


def test_a_prompt_comes_back_as_a_picture(comfy: FakeComfyUI, client: Client) -> None:
    job = client.submit(prompt())
    kinds = [event.kind for event in job]
    result = job.result()
    assert [image.read() for image in result.images] == [PNG]
    assert result.images[0].title == "Result"
    assert result.seconds == 0.5
    assert kinds[-1] == "finished"
    assert {"execution_start", "executed"} <= set(kinds)
    assert comfy.ran == [job.prompt_id]
    assert all(comfy.flags_first)


@pytest.mark.parametrize("fault", ["cut after", "cut before", "cut, accept later", "gateway", "stall", "busy", "twice"])
def test_a_lost_answer_does_not_run_the_prompt_twice(comfy: FakeComfyUI, client: Client, fault: str) -> None:
    comfy.posts = [fault]
    comfy.job_seconds = 0.3 if fault == "twice" else 0.02
    assert client.submit(prompt()).result(WAIT).images
    assert len(comfy.ran) == 1


def test_a_request_that_arrives_after_its_answer_was_given_up_runs_once(comfy: FakeComfyUI) -> None:
    """A gateway may hold it back for longer than one looks for a job after a broken connection."""
    comfy.posts = ["hang, accept later"]
    with Client(comfy.url, timeout=(5.0, 0.4), poll_seconds=0.2, patience=30.0) as client:
        job = client.submit(prompt())
        assert job.result(WAIT).images
    assert comfy.ran == comfy.accepted == [job.prompt_id]


@pytest.mark.parametrize("posts", [["cut at the end"], ["cut before", "cut at the end"]])
def test_a_job_that_was_heard_of_is_not_posted_again_if_history_has_forgotten_it(
    comfy: FakeComfyUI, client: Client, posts: list[str]
) -> None:
    """Somebody clears the history meanwhile."""
    comfy.posts, comfy.ending = posts, "vanish"
    job = client.submit(prompt())
    assert job.result(WAIT).images
    assert comfy.ran == [job.prompt_id]


def test_a_second_lost_answer_is_survived_too(comfy: FakeComfyUI, client: Client) -> None:
    comfy.posts = ["cut before", "cut after"]
    assert client.submit(prompt()).result(WAIT).images
    assert len(comfy.ran) == 1


def test_behind_a_gateway_nothing_is_posted_again(comfy: FakeComfyUI, client: Client) -> None:
    comfy.posts = ["gateway, not accepted"]
    with pytest.raises(AnswerLost, match="not known whether"):
        client.submit(prompt())
    assert comfy.accepted == []


def test_a_refusal_names_the_nodes_by_title(comfy: FakeComfyUI, client: Client) -> None:
    comfy.posts = ["refuse"]
    with pytest.raises(InvalidPrompt, match=r"'Canvas'.*Value not in list") as caught:
        client.submit(prompt())
    assert caught.value.problems[0].kind == "value_not_in_list"
    assert caught.value.exit_code == 2


def test_a_prompt_taken_in_part_does_not_run(comfy: FakeComfyUI, client: Client) -> None:
    comfy.ending = "hold"
    blocker = client.submit(prompt())
    comfy.posts = ["partial"]
    with pytest.raises(InvalidPrompt, match="'Result'"):
        client.submit(prompt())
    comfy.call(comfy.release())
    blocker.result(WAIT)
    assert comfy.ran == [blocker.prompt_id]


def test_a_prompt_taken_in_part_runs_where_that_is_wanted(comfy: FakeComfyUI, client: Client) -> None:
    comfy.posts = ["partial"]
    assert client.submit(prompt(), strict=False).result(WAIT).images


def test_many_that_may_be_there_are_looked_for_together(comfy: FakeComfyUI, client: Client) -> None:
    """Some have ended, some wait, some never arrived."""
    jobs = [client.submit(prompt(width=64 + number)) for number in range(4)]
    for job in jobs:
        job.result(WAIT)
    comfy.ending = "hold"
    jobs += [client.submit(prompt(width=80 + number)) for number in range(4)]
    comfy.asked.clear()
    ids = {job.prompt_id for job in jobs}
    assert find_prompts(client.api, ids | {f"never-{number}" for number in range(4)}, 0.0, 0.0) == (ids, True)
    assert comfy.asked.count("/history/never-0") == 2
    comfy.call(comfy.release())


def test_too_large_a_prompt_is_named(comfy: FakeComfyUI, client: Client) -> None:
    comfy.posts = ["large"]
    with pytest.raises(BodyTooLarge, match="larger than the server accepts"):
        client.submit(prompt())


def test_no_server_at_all() -> None:
    with Client("127.0.0.1:9", timeout=(0.5, 0.5)) as client, pytest.raises(ServerUnreachable) as caught:
        client.submit(prompt())
    assert caught.value.exit_code == 3


def test_what_is_no_prompt_is_not_sent(client: Client) -> None:
    with pytest.raises(WorkflowError):
        client.submit({"nodes": []})


def test_a_closed_client_submits_nothing(client: Client) -> None:
    client.close()
    with pytest.raises(UsageError):
        client.submit(prompt())


def test_without_a_websocket_polling_does(comfy: FakeComfyUI, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    comfy.websocket = False
    with caplog.at_level(logging.WARNING):
        assert client.submit(prompt()).result(WAIT).images
        assert client.submit(prompt()).result(WAIT).images
    assert [record.message for record in caplog.records if "polling" in record.message][1:] == []


def test_a_server_that_is_silent_before_the_job_was_sent_is_not_an_answer_that_was_lost() -> None:
    with StubServer({"GET /queue": hang, "GET /object_info": hang}).serving() as stub:
        with Client(stub.url, timeout=(1.0, 0.2), patience=0.5) as client:
            for workflow in (prompt(), Workflow.from_data(prompt())):
                with pytest.raises(ServerUnreachable, match="No job was submitted") as caught:
                    client.submit(workflow)
                assert type(caught.value) is ServerUnreachable
            assert client.jobs == []
        assert stub.count("POST /prompt") == 0
