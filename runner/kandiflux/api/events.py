"""Parses the frames of ComfyUI's websocket into typed events.

Text frames are `{"type": …, "data": {…}}`. Binary frames begin with a big-endian u32 type:

    1   u32 format (1 JPEG, 2 PNG), image                       Preview without prompt and node ids
    3   u32 length, node id, text                               NodeText
    4   u32 length, JSON, image                                 Preview with prompt and node ids

Other types become `Unknown`: a newer server must not break an older runner.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from kandiflux.errors import ProtocolError
from kandiflux.util.json_values import as_float, as_list, as_object, is_object, parse_json

__all__ = [
    "Event",
    "ExecutionFailed",
    "ExecutionInterrupted",
    "ExecutionStarted",
    "ExecutionSucceeded",
    "FeatureFlags",
    "JobFinished",
    "JobQueued",
    "NodeExecuted",
    "NodeProgress",
    "NodeStarted",
    "NodeState",
    "NodeText",
    "NodesCached",
    "Preview",
    "ProgressState",
    "ServerStatus",
    "Unknown",
    "execution_failed",
    "execution_interrupted",
    "parse_binary",
    "parse_text",
]


@dataclass(frozen=True)
class Event:
    """Base of all events. `prompt_id` is None if the server did not send one."""

    kind: ClassVar[str] = "event"
    prompt_id: str | None

    def as_dict(self) -> dict[str, Any]:
        """Returns the event as JSON: `event` and the fields; for an image only its length."""
        values: dict[str, Any] = {"event": self.kind}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bytes):
                values["bytes"] = len(value)
            elif field.name == "nodes" and is_object(value):
                values[field.name] = {key: vars(state) for key, state in value.items()}
            else:
                values[field.name] = value
        return values


@dataclass(frozen=True)
class ServerStatus(Event):
    """Sent to all clients after every change of the queue."""

    kind = "status"
    queue_remaining: int | None
    """The number of waiting and running jobs of all clients."""


@dataclass(frozen=True)
class FeatureFlags(Event):
    """The server's features: its answer to the flags that the client sent."""

    kind = "feature_flags"
    flags: Mapping[str, Any]


@dataclass(frozen=True)
class JobQueued(Event):
    """Made by the runner: the job waits behind `position` others (0 = next); None if that is not known."""

    kind = "queued"
    position: int | None


@dataclass(frozen=True)
class JobFinished(Event):
    """Made by the runner as the last event of every job. `state` is done, failed, interrupted or lost."""

    kind = "finished"
    state: str


@dataclass(frozen=True)
class ExecutionStarted(Event):
    """The server has started to run the prompt."""

    kind = "execution_start"


@dataclass(frozen=True)
class NodesCached(Event):
    """The nodes whose outputs the server takes from its cache."""

    kind = "execution_cached"
    node_ids: tuple[str, ...]


@dataclass(frozen=True)
class NodeStarted(Event):
    """A node has started to run. If `node_id` is None, no node of this prompt runs any more."""

    kind = "executing"
    node_id: str | None
    display_node_id: str | None


@dataclass(frozen=True)
class NodeProgress(Event):
    """The progress of one node, from older servers."""

    kind = "progress"
    node_id: str | None
    value: float
    max: float


@dataclass(frozen=True)
class NodeState:
    """The progress of one node in a `ProgressState`."""

    value: float
    max: float
    state: str
    """running, finished or error"""
    display_node_id: str
    """The node of the submitted prompt that this node was expanded from, or its own id."""


@dataclass(frozen=True)
class ProgressState(Event):
    """The states of all nodes that have started, by id."""

    kind = "progress_state"
    nodes: Mapping[str, NodeState]


@dataclass(frozen=True)
class NodeExecuted(Event):
    """A node has run. `output` is what it shows (`{"images": [{filename, subfolder, type}]}` …), or None."""

    kind = "executed"
    node_id: str
    display_node_id: str
    output: Mapping[str, Any] | None


@dataclass(frozen=True)
class ExecutionSucceeded(Event):
    """All nodes are done; the history entry follows shortly after."""

    kind = "execution_success"


@dataclass(frozen=True)
class ExecutionInterrupted(Event):
    """The prompt was interrupted while this node ran."""

    kind = "execution_interrupted"
    node_id: str | None
    node_type: str | None


@dataclass(frozen=True)
class ExecutionFailed(Event):
    """A node raised an exception. If `terminal`, this is the last event of the prompt."""

    kind = "execution_error"
    node_id: str | None
    node_type: str | None
    exception_type: str
    exception_message: str
    traceback: tuple[str, ...] = ()
    inputs: Mapping[str, Any] | None = None

    @property
    def terminal(self) -> bool:
        """False for a blocked branch: ComfyUI reports it as an error, but the other nodes run on."""
        return self.exception_type != "ExecutionBlocked"


@dataclass(frozen=True)
class Preview(Event):
    """A preview image, or an image from SaveImageWebsocket."""

    kind = "preview"
    node_id: str | None
    display_node_id: str | None
    mime: str
    image: bytes


@dataclass(frozen=True)
class NodeText(Event):
    """Text that a node shows while it runs."""

    kind = "progress_text"
    node_id: str
    text: str


@dataclass(frozen=True)
class Unknown(Event):
    """A frame of a type that this module does not know."""

    kind = "unknown"
    type: str
    data: Any


def parse_text(frame: str) -> Event:
    """Parses a text frame. ProtocolError if it is not an object with a `type`, or lacks a required field."""
    try:
        message: Any = parse_json(frame)
        kind = message["type"]
        data: Any = message.get("data") or {}
        reader = _READERS.get(kind)
        if reader is None:
            return Unknown(_prompt_id(as_object(data)), type=str(kind), data=data)
        return reader(data)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ProtocolError(
            "A websocket text frame cannot be read.",
            expected='{"type": …, "data": {…}} as ComfyUI sends it',
            got=frame[:200],
        ) from error


def parse_binary(frame: bytes) -> Event:
    """Parses a binary frame. ProtocolError if it is malformed, or shorter than the lengths in it say."""
    try:
        (kind,) = struct.unpack_from(">I", frame)
        if kind == 1:
            (image_format,) = struct.unpack_from(">I", frame, 4)
            mime = "image/png" if image_format == 2 else "image/jpeg"
            return Preview(None, node_id=None, display_node_id=None, mime=mime, image=bytes(frame[8:]))
        if kind == 3:
            node_id, rest = _sized(frame, 4)
            return NodeText(None, node_id=node_id.decode(), text=rest.decode())
        if kind == 4:
            header, image = _sized(frame, 4)
            metadata: Mapping[str, Any] = parse_json(header)
            return Preview(
                _text(metadata.get("prompt_id")),  # AttributeError if it is not an object
                node_id=_text(metadata.get("node_id")),
                display_node_id=_text(metadata.get("display_node_id") or metadata.get("node_id")),
                mime=_text(metadata.get("image_type")) or "image/jpeg",
                image=image,
            )
        return Unknown(None, type=f"binary {kind}", data=len(frame))
    except (struct.error, ValueError, AttributeError) as error:
        raise ProtocolError(
            "A websocket binary frame cannot be read.",
            expected="a big-endian type (1, 3 or 4), and as many bytes as its lengths say",
            got=f"{len(frame)} bytes beginning {frame[:16].hex()}",
        ) from error


def _sized(frame: bytes, at: int) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from(">I", frame, at)
    start = at + 4
    if start + length > len(frame):
        raise ValueError(f"expected {length} bytes, got {len(frame) - start}")
    return bytes(frame[start : start + length]), bytes(frame[start + length :])


def _progress_state(data: Mapping[str, Any]) -> ProgressState:
    nodes = {
        str(node_id): NodeState(
            value=_number(state.get("value"), 0.0),
            max=_number(state.get("max"), 1.0),
            state=str(state.get("state", "")),
            display_node_id=str(state.get("display_node_id") or state.get("real_node_id") or node_id),
        )
        for node_id, state in ((node_id, as_object(state)) for node_id, state in data["nodes"].items())
    }
    return ProgressState(_prompt_id(data), nodes=nodes)


def _status(data: Mapping[str, Any]) -> ServerStatus:
    remaining = as_object(as_object(data.get("status")).get("exec_info")).get("queue_remaining")
    return ServerStatus(None, queue_remaining=remaining if isinstance(remaining, int) else None)


def _executing(data: Mapping[str, Any]) -> NodeStarted:
    node = _text(data.get("node"))
    return NodeStarted(_prompt_id(data), node_id=node, display_node_id=_text(data.get("display_node")) or node)


def _executed(data: Mapping[str, Any]) -> NodeExecuted:
    node = str(data["node"])
    return NodeExecuted(
        _prompt_id(data),
        node_id=node,
        display_node_id=_text(data.get("display_node")) or node,
        output=data["output"] if is_object(data.get("output")) else None,
    )


def execution_failed(data: Mapping[str, Any]) -> ExecutionFailed:
    """Parses the data of an `execution_error` message, from a frame or from the history."""
    return ExecutionFailed(
        _prompt_id(data),
        node_id=_text(data.get("node_id")),
        node_type=_text(data.get("node_type")),
        exception_type=str(data.get("exception_type") or "unknown"),
        exception_message=str(data.get("exception_message") or ""),
        traceback=tuple(str(line) for line in as_list(data.get("traceback"))),
        inputs=data["current_inputs"] if is_object(data.get("current_inputs")) else None,
    )


def execution_interrupted(data: Mapping[str, Any]) -> ExecutionInterrupted:
    """Parses the data of an `execution_interrupted` message, from a frame or from the history."""
    return ExecutionInterrupted(
        _prompt_id(data), node_id=_text(data.get("node_id")), node_type=_text(data.get("node_type"))
    )


def _prompt_id(data: Mapping[str, Any]) -> str | None:
    return _text(data.get("prompt_id"))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: object, default: float) -> float:
    if value is None:
        return default
    number = as_float(value)
    if number is None:
        raise ValueError("expected a finite number")
    return number


_READERS: dict[str, Callable[[Mapping[str, Any]], Event]] = {
    "status": _status,
    "feature_flags": lambda data: FeatureFlags(None, flags=dict(data)),
    "execution_start": lambda data: ExecutionStarted(str(data["prompt_id"])),
    "execution_cached": lambda data: NodesCached(
        str(data["prompt_id"]), node_ids=tuple(str(node) for node in as_list(data.get("nodes")))
    ),
    "executing": _executing,
    "progress": lambda data: NodeProgress(
        _prompt_id(data),
        node_id=_text(data.get("node")),
        value=_number(data.get("value"), 0.0),
        max=_number(data.get("max"), 1.0),
    ),
    "progress_state": _progress_state,
    "executed": _executed,
    "execution_success": lambda data: ExecutionSucceeded(str(data["prompt_id"])),
    "execution_interrupted": execution_interrupted,
    "execution_error": execution_failed,
}
