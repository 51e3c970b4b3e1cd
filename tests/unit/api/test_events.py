"""Frames become typed events; what cannot be read is an error, what is new is not."""

from __future__ import annotations

import json
import struct

import pytest
from kandiflux.api.events import (
    Event,
    ExecutionFailed,
    ExecutionInterrupted,
    ExecutionStarted,
    ExecutionSucceeded,
    FeatureFlags,
    NodeExecuted,
    NodeProgress,
    NodesCached,
    NodeStarted,
    NodeState,
    NodeText,
    Preview,
    ProgressState,
    ServerStatus,
    Unknown,
    parse_binary,
    parse_text,
)
from kandiflux.errors import ProtocolError


def text(kind: str, **data: object) -> Event:
    return parse_text(json.dumps({"type": kind, "data": data}))


def test_status_and_flags() -> None:
    status = text("status", status={"exec_info": {"queue_remaining": 3}}, sid="x")
    assert status == ServerStatus(None, queue_remaining=3)
    assert text("feature_flags", max_upload_size=5) == FeatureFlags(None, flags={"max_upload_size": 5})


def test_nodes() -> None:
    assert text("executing", node=None, prompt_id="p") == NodeStarted("p", None, None)
    assert text("executing", node="5.0.1", display_node="5", prompt_id="p") == NodeStarted("p", "5.0.1", "5")
    assert text("executing", node="5") == NodeStarted(None, "5", "5"), "after a reconnection there is no prompt_id"
    assert text("progress", node="5", value=2, max=9, prompt_id="p") == NodeProgress("p", "5", 2, 9)
    assert text("executed", node="5", output=None, prompt_id="p") == NodeExecuted("p", "5", "5", None)


def test_progress_state_names_the_node_of_the_prompt() -> None:
    states = {"5.0": {"value": 1, "max": 4, "state": "running", "display_node_id": "5"}}
    event = text("progress_state", prompt_id="p", nodes=states)
    assert isinstance(event, ProgressState)
    assert event.nodes["5.0"].display_node_id == "5"
    assert json.loads(json.dumps(event.as_dict()))["nodes"]["5.0"]["value"] == 1


def test_errors_and_blocked_branches() -> None:
    failed = text("execution_error", prompt_id="p", node_id="1", exception_type="ValueError", exception_message="no")
    blocked = text("execution_error", prompt_id="p", node_id="1", exception_type="ExecutionBlocked")
    assert isinstance(failed, ExecutionFailed)
    assert failed.terminal
    assert isinstance(blocked, ExecutionFailed)
    assert not blocked.terminal


def test_what_is_new_is_passed_through() -> None:
    assert text("from_the_future", prompt_id="p") == Unknown("p", type="from_the_future", data={"prompt_id": "p"})
    assert parse_binary(struct.pack(">I", 77)) == Unknown(None, type="binary 77", data=4)


def test_binary_frames() -> None:
    assert parse_binary(struct.pack(">II", 1, 1) + b"jpg") == Preview(None, None, None, "image/jpeg", b"jpg")
    assert parse_binary(struct.pack(">II", 1, 2) + b"png") == Preview(None, None, None, "image/png", b"png")
    assert parse_binary(struct.pack(">II", 3, 2) + "12привет".encode()) == NodeText(None, "12", "привет")
    about = json.dumps({"prompt_id": "p", "node_id": "5.0", "display_node_id": "5", "image_type": "image/png"}).encode()
    preview = parse_binary(struct.pack(">II", 4, len(about)) + about + b"png")
    assert preview == Preview("p", "5.0", "5", "image/png", b"png")
    assert preview.as_dict()["bytes"] == 3


@pytest.mark.parametrize("frame", ["", "{", "[]", "3", '{"data": {}}', '{"type": "executed", "data": {}}', "null"])
def test_text_that_cannot_be_read(frame: str) -> None:
    with pytest.raises(ProtocolError):
        parse_text(frame)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x00\x00", b"\x00\x00\x00\x01", struct.pack(">II", 3, 99) + b"x", struct.pack(">II", 4, 2) + b"[]"],
)
def test_bytes_that_cannot_be_read(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_binary(frame)


@pytest.mark.parametrize("kind", ["executing", "executed", "progress_state", "execution_error", "of the future"])
def test_an_id_that_is_none_can_be_looked_up(kind: str) -> None:
    """Whatever stands there, the reader asks a dictionary for it."""
    data = {"prompt_id": {"no": ["id"]}, "node": "1", "nodes": {}}
    event = parse_text(json.dumps({"type": kind, "data": data}))
    assert {}.get(event.prompt_id) is None


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("execution_start", {"prompt_id": 7}, ExecutionStarted("7")),
        ("execution_cached", {"prompt_id": "p", "nodes": [1, "2"]}, NodesCached("p", ("1", "2"))),
        ("execution_cached", {"prompt_id": "p", "nodes": 3}, NodesCached("p", ())),
        ("execution_success", {"prompt_id": "p"}, ExecutionSucceeded("p")),
        ("execution_interrupted", {"prompt_id": 7, "node_id": 1, "node_type": 2}, ExecutionInterrupted("7", "1", "2")),
        ("execution_interrupted", {}, ExecutionInterrupted(None, None, None)),
        ("executed", {"node": 5, "display_node": "6", "output": {"a": 1}}, NodeExecuted(None, "5", "6", {"a": 1})),
        ("executed", {"node": "5", "output": [1]}, NodeExecuted(None, "5", "5", None)),
        ("progress", {}, NodeProgress(None, None, 0.0, 1.0)),
        ("progress", {"value": 2, "max": 4.5, "node": 3}, NodeProgress(None, "3", 2.0, 4.5)),
        ("progress_state", {"nodes": {"1": {}}}, ProgressState(None, {"1": NodeState(0.0, 1.0, "", "1")})),
        (
            "progress_state",
            {"nodes": {"1": {"value": 2, "max": 3, "state": "error", "real_node_id": "0"}, "2": [1]}},
            ProgressState(None, {"1": NodeState(2.0, 3.0, "error", "0"), "2": NodeState(0.0, 1.0, "", "2")}),
        ),
        ("status", {"status": {"exec_info": {"queue_remaining": "3"}}}, ServerStatus(None, None)),
        ("status", {}, ServerStatus(None, None)),
        ("execution_error", {}, ExecutionFailed(None, None, None, "unknown", "")),
        (
            "execution_error",
            {
                "prompt_id": "p", "node_id": 1, "node_type": "T", "exception_type": "E", "exception_message": "m",
                "traceback": ["a", 1], "current_inputs": {"x": [1]},
            },
            ExecutionFailed("p", "1", "T", "E", "m", ("a", "1"), {"x": [1]}),
        ),
        ("execution_error", {"traceback": 3, "current_inputs": [1]}, ExecutionFailed(None, None, None, "unknown", "")),
        ("feature_flags", {}, FeatureFlags(None, {})),
        ("new", None, Unknown(None, "new", {})),
        ("new", [1], Unknown(None, "new", [1])),
    ],
)  # fmt: skip
def test_each_type_of_text_frame(kind: str, data: object, expected: Event) -> None:
    assert parse_text(json.dumps({"type": kind, "data": data})) == expected


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("execution_start", {}), ("execution_cached", {}), ("execution_success", {}), ("progress_state", {}),
        ("progress_state", {"nodes": [1]}), ("progress", {"value": "much"}), ("progress", {"max": True}),
        ("progress", {"value": float("nan")}), ("progress", [1]), ("status", [1]),
    ],
)  # fmt: skip
def test_frames_that_lack_what_their_type_must_have(kind: str, data: object) -> None:
    with pytest.raises(ProtocolError, match="text frame") as caught:
        parse_text(json.dumps({"type": kind, "data": data}))
    assert caught.value.got is not None


def test_of_a_frame_that_cannot_be_read_the_beginning_is_shown() -> None:
    for content in (b"x" * 1000, b"\0" * 3):
        with pytest.raises(ProtocolError) as caught:
            parse_text(content.decode())
        assert caught.value.got == content.decode()[:200]
    with pytest.raises(ProtocolError, match="binary frame") as caught:
        parse_binary(struct.pack(">II", 3, 200) + b"x" * 100)
    assert caught.value.got == "108 bytes beginning 00000003000000c87878787878787878"


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, Preview(None, None, None, "image/jpeg", b"i")),
        ({"node_id": 5}, Preview(None, "5", "5", "image/jpeg", b"i")),
        ({"display_node_id": "6", "node_id": 5, "image_type": "image/png"}, Preview(None, "5", "6", "image/png", b"i")),
    ],
)
def test_what_a_preview_says_of_itself(about: dict[str, object], expected: Preview) -> None:
    header = json.dumps(about).encode()
    assert parse_binary(struct.pack(">II", 4, len(header)) + header + b"i") == expected


def test_a_part_may_be_as_long_as_the_frame_and_no_longer() -> None:
    assert parse_binary(struct.pack(">II", 3, 2) + b"12") == NodeText(None, "12", "")
    with pytest.raises(ProtocolError):
        parse_binary(struct.pack(">II", 3, 3) + b"12")
    assert parse_binary(struct.pack(">II", 1, 7)) == Preview(None, None, None, "image/jpeg", b"")


def test_events_as_json() -> None:
    assert NodeProgress("p", "1", 2, 3).as_dict() == {
        "event": "progress", "prompt_id": "p", "node_id": "1", "value": 2, "max": 3
    }  # fmt: skip
    assert Preview("p", "1", "1", "image/png", b"abc").as_dict() == {
        "event": "preview", "prompt_id": "p", "node_id": "1", "display_node_id": "1", "mime": "image/png", "bytes": 3
    }  # fmt: skip
    assert FeatureFlags(None, {"a": 1}).as_dict() == {"event": "feature_flags", "prompt_id": None, "flags": {"a": 1}}
