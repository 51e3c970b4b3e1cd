"""Frames become typed events; what cannot be read is an error, what is new is not."""

from __future__ import annotations

import json
import struct

import pytest
from kandiflux.errors import ProtocolError
from kandiflux.events import (
    Event,
    ExecutionFailed,
    FeatureFlags,
    NodeExecuted,
    NodeProgress,
    NodeStarted,
    NodeText,
    Preview,
    ProgressState,
    ServerStatus,
    Unknown,
    parse_binary,
    parse_text,
)


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
