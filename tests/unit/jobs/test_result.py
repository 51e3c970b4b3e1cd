"""What a history entry, or a job's events, say of its end."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.api.events import (
    Event,
    ExecutionFailed,
    ExecutionInterrupted,
    ExecutionSucceeded,
    NodeExecuted,
    NodesCached,
    NodeStarted,
)
from kandiflux.errors import JobError, JobInterrupted, NodeFailed, OutOfMemory
from kandiflux.jobs.outputs import Output
from kandiflux.jobs.result import Result, node_error, outcome, outcome_of_events
from kandiflux.workflow.prompt import Prompt

from tests.support.fake_comfyui import prompt

PROMPT = Prompt.from_api(prompt())
SENT = Output("image", "2", "Result", "websocket.png", data=b"x")
SUCCESS: dict[str, Any] = {
    "status": {
        "status_str": "success",
        "completed": True,
        "messages": [
            ["execution_start", {"prompt_id": "p", "timestamp": 1000}],
            ["execution_cached", {"prompt_id": "p", "nodes": ["1", 7]}],
            ["execution_success", {"prompt_id": "p", "timestamp": 3500}],
        ],
    },
    "outputs": {"2": {"images": [{"filename": "a.png"}], "text": ["hi"]}},
}


def entry(**changes: Any) -> dict[str, Any]:
    return {**SUCCESS, **changes}


def status(*messages: object, word: str = "success") -> dict[str, Any]:
    return {"status_str": word, "messages": list(messages)}


def end(**changes: Any) -> Result | JobError:
    return outcome("p", PROMPT, entry(**changes), None, (SENT,))


def test_a_success_has_its_outputs_its_cached_nodes_and_its_time() -> None:
    result = end()
    assert isinstance(result, Result)
    assert [(one.kind, one.node_id, one.title, one.filename) for one in result.outputs] == [
        ("image", "2", "Result", "a.png"),
        ("text", "2", "Result", "Result_1.txt"),
        ("image", "2", "Result", "websocket.png"),
    ]
    assert (result.prompt_id, result.prompt, result.cached_nodes, result.seconds) == ("p", PROMPT, ("1", "7"), 2.5)


@pytest.mark.parametrize(
    ("first", "last", "seconds"),
    [
        (1000, 1000, 0.0),
        (2000, 1000, 0.0),  # a clock that was set back
        (0, 250, 0.25),
        (None, 1000, None),
        (1000, None, None),
        (1000, "2000", None),
        (float("nan"), 1000, None),
    ],
)
def test_the_time_of_a_job_is_the_servers_own(first: Any, last: Any, seconds: float | None) -> None:
    messages = ["execution_start", {"timestamp": first}], ["execution_success", {"timestamp": last}]
    result = end(status=status(*messages))
    assert isinstance(result, Result)
    assert result.seconds == seconds


@pytest.mark.parametrize(
    ("messages", "word", "kind", "said"),
    [
        ([["execution_interrupted", {}]], "error", JobInterrupted, "The job p was interrupted."),
        ([["execution_interrupted", {}], ["execution_error", {}]], "error", JobInterrupted, "interrupted"),
        ([["execution_error", {"node_id": "1", "exception_type": "E"}]], "success", NodeFailed, "'Canvas'"),
        ([["execution_error", {"exception_type": "torch.OutOfMemoryError"}]], "error", OutOfMemory, "OutOfMemory"),
        ([], "error", JobError, "The server reports that the job p failed, and gives no reason."),
        # A message that is not [name, object] is not one.
        ([["execution_error", {}, 1], ["execution_error", 3], "execution_error"], "error", JobError, "no reason"),
    ],
)
def test_how_a_job_failed(messages: list[Any], word: str, kind: type[JobError], said: str) -> None:
    error = end(status=status(*messages, word=word))
    assert type(error) is kind
    assert isinstance(error, JobError)
    assert said in error.message
    assert error.prompt_id == "p"


def test_a_message_may_be_a_tuple() -> None:
    assert isinstance(end(status=status(("execution_interrupted", {}))), JobInterrupted)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": None},
        {"status": [1]},
        {"status": {"messages": []}},
        {"status": {"status_str": 3, "messages": []}},
        {"status": {"status_str": "success"}},
        {"status": {"status_str": "success", "messages": {}}},
        {"outputs": None},
        {"outputs": []},
    ],
)
def test_an_entry_that_comfyui_would_not_write(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not an object"):
        end(**changes)


def test_an_expanded_nodes_outputs_are_those_of_the_node_of_the_prompt() -> None:
    shown = {"9.0.1": {"images": [{"filename": "a.png"}]}, "2.0": {"images": [{"filename": "b.png"}]}, "8": None}
    result = end(outputs=shown, meta={"9.0.1": {"display_node": "2"}, "2.0": [], "8": {}})
    assert isinstance(result, Result)
    assert [(one.node_id, one.title) for one in result.outputs[:2]] == [("2", "Result"), ("2.0", "Result")]


def test_cached_nodes_that_are_no_list_are_none() -> None:
    result = end(status=status(["execution_cached", {"nodes": 5}]))
    assert isinstance(result, Result)
    assert result.cached_nodes == ()


# Events


EXECUTED = NodeExecuted("p", "9.0", "2", {"images": [{"filename": "a.png"}]})
FAILED = ExecutionFailed("p", "1", "EmptyImage", "ValueError", "no such colour\n", ("a line",), {"width": [64]})
BLOCKED = ExecutionFailed("p", "1", None, "ExecutionBlocked", "")


def told(*events: Event) -> Result | JobError | None:
    return outcome_of_events("p", PROMPT, events, None, (SENT,))


def test_events_tell_a_whole_result() -> None:
    result = told(NodesCached("p", ("1",)), NodeStarted("p", "2", "2"), EXECUTED, BLOCKED, ExecutionSucceeded("p"))
    assert isinstance(result, Result)
    assert [(one.node_id, one.filename) for one in result.outputs] == [("2", "a.png"), ("2", "websocket.png")]
    assert (result.cached_nodes, result.seconds, result.prompt_id) == (("1",), None, "p")


@pytest.mark.parametrize("events", [(), (EXECUTED,), (EXECUTED, BLOCKED), (NodesCached("p", ()),)])
def test_events_that_do_not_reach_to_the_end(events: tuple[Event, ...]) -> None:
    assert told(*events) is None


def test_what_comes_after_the_success_does_not_undo_it() -> None:
    assert isinstance(told(ExecutionSucceeded("p"), EXECUTED), Result)


def test_events_tell_how_it_failed() -> None:
    assert isinstance(told(ExecutionInterrupted("p", "1", "X")), JobInterrupted)
    failed = told(BLOCKED, FAILED)
    assert type(failed) is NodeFailed
    assert (failed.title, failed.class_type, failed.exception_type) == ("Canvas", "EmptyImage", "ValueError")
    assert (failed.exception_message, failed.traceback) == ("no such colour", ("a line",))
    assert (failed.inputs, failed.hint, failed.prompt_id) == ({"width": [64]}, None, "p")


@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        ("torch.OutOfMemoryError", OutOfMemory),
        ("torch.cuda.OutOfMemoryError", OutOfMemory),
        ("MemoryError", OutOfMemory),
        ("OutOfMemory", OutOfMemory),
        ("MemoryErrors", NodeFailed),
        ("RuntimeError", NodeFailed),
    ],
)
def test_which_failures_are_a_lack_of_memory(exception: str, kind: type[NodeFailed]) -> None:
    error = node_error("p", PROMPT, ExecutionFailed("p", "1", None, exception, "x"))
    assert type(error) is kind
    assert error.class_type == "EmptyImage", "from the prompt, if the server does not say"
    assert (error.hint is not None) == (kind is OutOfMemory)


def test_a_failure_of_no_node() -> None:
    error = node_error("p", PROMPT, ExecutionFailed("p", None, None, "E", "x"))
    assert (error.node_id, error.class_type) == ("?", "")


# Kinds


def test_the_outputs_by_kind() -> None:
    shown = {"images": [{"filename": "a.png"}, {"filename": "b.mp4"}, {"filename": "c.latent"}], "text": ["hi", "ho"]}
    result = outcome("p", PROMPT, entry(outputs={"2": shown}), None)
    assert isinstance(result, Result)
    assert [one.filename for one in result.images] == ["a.png"]
    assert [one.filename for one in result.videos] == ["b.mp4"]
    assert [one.filename for one in result.latents] == ["c.latent"]
    assert result.texts == ("hi", "ho")
    assert [one.filename for one in result.files] == ["a.png", "b.mp4", "c.latent"]


def test_previews_count_only_if_nothing_was_saved() -> None:
    preview = {"filename": "a.png", "type": "temp"}
    for others, files in (([], ["a.png"]), ([{"filename": "b.png"}], ["b.png"])):
        result = outcome("p", PROMPT, entry(outputs={"2": {"images": [preview, *others], "text": ["x"]}}), None)
        assert isinstance(result, Result)
        assert [one.filename for one in result.files] == files
