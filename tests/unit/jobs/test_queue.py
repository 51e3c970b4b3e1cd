"""The jobs on a server: whose they are, what they draw, and taking them away."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.api.rest import ComfyApi
from kandiflux.errors import UsageError
from kandiflux.jobs.owner import OWNER, this_owner
from kandiflux.jobs.queue import (
    Cancelled,
    QueuedJob,
    cancel,
    cancel_on_server,
    interrupt,
    match_jobs,
    queued_jobs,
)

from tests.support.stub_server import Answer, StubServer

NODES = {
    "1": {"class_type": "A", "inputs": {"text": "  by its\n name  ", "width": 5}},
    "2": {"class_type": "B", "inputs": {"prompt": ["1", 0], "positive": "", "other": "by the workflow"}},
    "3": {"class_type": "C", "inputs": {"t5xxl": "later in the list"}},
}


def item(prompt_id: str, *rest: Any, number: float = 1) -> list[Any]:
    return [number, prompt_id, *rest]


def extra(title: object = None, parameters: object = None) -> dict[str, Any]:
    return {"extra_pnginfo": {"workflow": {"extra": {"kandiflux": {"title": title, "parameters": parameters}}}}}


def listed(running: list[Any], pending: list[Any]) -> StubServer:
    return StubServer({"GET /queue": {"queue_running": running, "queue_pending": pending}})


def jobs_of(stub: StubServer) -> list[QueuedJob]:
    with stub.serving(), ComfyApi(stub.url) as server:
        return queued_jobs(server)


def test_what_runs_and_what_waits_in_its_order() -> None:
    stub = listed([item("a", {}, {}, [])], [item("c", number=3), item("b", {}, {OWNER: this_owner()}, number=2)])
    first, second, third = jobs_of(stub)
    assert first == QueuedJob("a", "running", 0, "", "", mine=False)
    assert second == QueuedJob("b", "pending", 1, "", "", mine=True)
    assert third == QueuedJob("c", "pending", 2, "", "", mine=False)
    assert second.as_dict() == {
        "prompt_id": "b", "state": "pending", "position": 1, "title": "", "text": "", "mine": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (None, "by its name"),
        ({"prompt": {"node": 2, "input": "other"}}, "by the workflow"),
        ({"prompt": {"nodes": [["9", "x"], ["2", "other"]]}}, "by the workflow"),
        ({"prompt": {"nodes": [["2"], "2", ["2", "other", "x"]]}}, "by its name"),
        ({"prompt": {"node": "2", "input": "prompt"}}, "by its name"),  # a link, not a text
        ({"prompt": {"node": "2", "input": "positive"}}, "by its name"),
        ({"prompt": 3}, "by its name"),
    ],
)
def test_the_text_that_a_job_draws(parameters: object, text: str) -> None:
    (job,) = jobs_of(listed([item("a", NODES, extra("A title", parameters))], []))
    assert (job.title, job.text, job.mine) == ("A title", text, False)


@pytest.mark.parametrize(("length", "shown"), [(199, 199), (200, 200), (201, 200), (900, 200)])
def test_a_long_text_is_cut(length: int, shown: int) -> None:
    (job,) = jobs_of(listed([item("a", {"1": {"inputs": {"text": "x" * length}}}, {})], []))
    assert len(job.text) == shown
    assert job.text.endswith("…") == (length > shown)
    assert job.text.rstrip("…") == "x" * min(length, 199 if length > 200 else 200)


@pytest.mark.parametrize("nodes", [None, [], {"1": 3}, {"1": {"inputs": [1]}}, {"1": {"inputs": {"text": 5}}}])
def test_a_job_whose_nodes_are_nonsense_has_no_text(nodes: object) -> None:
    (job,) = jobs_of(listed([item("a", nodes, [1])], []))
    assert (job.title, job.text) == ("", "")


def job(prompt_id: str, state: Any = "pending") -> QueuedJob:
    return QueuedJob(prompt_id, state, 0, "", "", mine=False)


def test_an_id_may_be_cut_short_if_it_is_clear() -> None:
    jobs = [job("abcd"), job("abcdef"), job("xyz12345")]
    assert match_jobs(jobs, ["abcd"]) == [jobs[0]], "one that is whole is meant"
    assert match_jobs(jobs, ["xyz1", "xyz12", "abcde"]) == [jobs[2], jobs[1]], "each once"
    assert match_jobs(jobs, []) == []


@pytest.mark.parametrize(
    ("wanted", "said", "hint"),
    [
        ("abcd", "Several jobs in the queue match 'abcd'.", False),
        ("xyz", "No job in the queue matches 'xyz'.", True),
        ("9999", "No job in the queue matches '9999'.", True),
    ],
)
def test_an_id_that_is_not_clear(wanted: str, said: str, hint: bool) -> None:
    with pytest.raises(UsageError) as caught:
        match_jobs([job("abcde"), job("abcdf"), job("xyz12345")], [wanted])
    assert (caught.value.message, caught.value.expected) == (said, "abcde, abcdf, xyz12345")
    assert (caught.value.hint is not None) == hint
    with pytest.raises(UsageError, match="the queue is empty"):
        match_jobs([], [wanted])


def test_cancelling_on_a_new_server_is_one_request_a_job() -> None:
    answers = {"a": True, "b": True, "c": False}
    stub = StubServer({f"POST /api/jobs/{name}/cancel": {"cancelled": done} for name, done in answers.items()})
    with stub.serving(), ComfyApi(stub.url) as server:
        ended = cancel(server, [job("a", "running"), job("b"), job("c")])
        assert ended == Cancelled(deleted=("b",), interrupted=("a",), gone=("c",))
        assert stub.asked == [f"POST /api/jobs/{name}/cancel" for name in answers]
        cancel_on_server(server, "a")
        assert stub.asked[3:] == ["POST /api/jobs/a/cancel"]


def test_cancelling_on_an_old_server_stops_only_what_is_seen_running() -> None:
    stub = listed([item("b"), item("x")], [])
    with stub.serving(), ComfyApi(stub.url) as server:
        ended = cancel(server, [job("a", "running"), job("b"), job("c")])
    assert ended == Cancelled(deleted=("c",), interrupted=("b",), gone=("a",))
    assert stub.asked == [
        "POST /api/jobs/a/cancel", "POST /queue", "POST /queue", "POST /queue", "GET /queue", "POST /interrupt"
    ]  # fmt: skip


def test_nothing_to_cancel_asks_nothing() -> None:
    with StubServer().serving() as stub, ComfyApi(stub.url) as server:
        assert cancel(server, []) == Cancelled()
    assert stub.asked == []


@pytest.mark.parametrize(("running", "interrupted"), [("a", True), ("b", False)])
def test_another_job_is_not_interrupted(running: str, interrupted: bool) -> None:
    stub = listed([item(running)], [])
    with stub.serving(), ComfyApi(stub.url) as server:
        cancel_on_server(server, "a")
    asked = ["POST /api/jobs/a/cancel", "POST /queue", "GET /queue"]
    assert stub.asked == asked + ["POST /interrupt"] * interrupted


def test_interrupting_what_runs() -> None:
    stub = listed([item("abcde")], [item("fghij")])
    stub.reactions["POST /api/jobs/abcde/cancel"] = {"cancelled": True}
    with stub.serving(), ComfyApi(stub.url) as server:
        assert interrupt(server) == "abcde"
        assert interrupt(server, "abcd") == "abcde"
        with pytest.raises(UsageError, match="No job in the queue matches 'fghij'"):
            interrupt(server, "fghij")
        stub.reactions["GET /queue"] = {"queue_running": [], "queue_pending": [item("fghij")]}
        assert interrupt(server) is None
    assert stub.count("POST") == 2


def test_a_server_that_cannot_say_whether_it_cancelled() -> None:
    """405 and 501, and an answer without the word, stand for "no such route"."""
    for answer in (Answer({}, 405), Answer({}, 501), Answer({"cancelled": "yes"})):
        stub = listed([], [])
        stub.reactions["POST /api/jobs/a/cancel"] = answer
        with stub.serving(), ComfyApi(stub.url) as server:
            assert cancel(server, [job("a")]) == Cancelled(deleted=("a",))
