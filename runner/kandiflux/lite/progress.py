"""The state of a prompt's nodes, and the frames that tell of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from PIL.Image import Image

__all__ = ["Outbox", "Preview", "Progress"]

Preview = tuple[str, Image, int | None]
"""ComfyUI's triple: "JPEG" or "PNG", the picture, its longest side or None."""


class Outbox(Protocol):
    """Where frames go: one client, or all if `client_id` is None."""

    def send(self, event: str, data: dict[str, Any], client_id: str | None) -> None:
        """Send a frame of text."""
        ...

    def takes_preview_metadata(self, client_id: str | None) -> bool:
        """Whether the client asked for previews that carry node and prompt ids."""
        ...

    def send_preview(self, preview: Preview, metadata: dict[str, Any] | None, client_id: str | None) -> None:
        """Send a preview picture; `metadata` only to a client that takes it."""
        ...


_MOST_NODES = 100
"""Nodes in a progress_state frame. ComfyUI sends all that have begun with every change: for a prompt of thousands of
nodes that is gigabytes. Beyond this number, the nodes that finished first are left out."""


_LEAST_SECONDS = 0.1
_LEAST_SHARE = 0.005
"""Between two steps of a node that are sent, as in ComfyUI."""


class Progress:
    """Progress of one prompt's nodes. Each change sends the state of those that have begun.

    clock: seconds, as time.monotonic returns them.
    """

    def __init__(
        self, prompt_id: str, outbox: Outbox, client_id: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._prompt_id = prompt_id
        self._outbox = outbox
        self._client_id = client_id
        self._clock = clock
        self._nodes: dict[str, dict[str, Any]] = {}
        self._sent: dict[str, tuple[float, float]] = {}
        """By node: the last step that was sent, and when."""

    def start(self, node_id: str) -> None:
        """The node has begun."""
        self._set(node_id, 0.0, 1.0, "running")

    def update(self, node_id: str, value: float, total: float, preview: Preview | None) -> None:
        """The node has done `value` steps of `total`; with a preview, that goes to its client.

        The first and the last step, and those with a preview, are always sent; others if enough time and enough of the
        work has passed since.
        """
        value, now = min(value, total), self._clock()
        last, when = self._sent.get(node_id, (-1.0, 0.0))
        # A lower value than the last is the first step of something else.
        between = 0 <= last <= value < total and preview is None
        if between and (now - when < _LEAST_SECONDS or (value - last) / total < _LEAST_SHARE):
            return
        self._sent[node_id] = value, now
        self._set(node_id, value, total, "running")
        with_metadata = self._outbox.takes_preview_metadata(self._client_id)
        if preview and with_metadata:
            ids = {"node_id": node_id, "prompt_id": self._prompt_id, **_no_expansion(node_id)}
            self._outbox.send_preview(preview, ids, self._client_id)
        step = {"value": value, "max": total, "prompt_id": self._prompt_id, "node": node_id}
        self._outbox.send("progress", step, self._client_id)
        if preview and not with_metadata:
            self._outbox.send_preview(preview, None, self._client_id)

    def finish(self, node_id: str) -> None:
        """The node is done, or was cached."""
        total = self._nodes[node_id]["max"] if node_id in self._nodes else 1
        self._set(node_id, total, total, "finished")

    def _set(self, node_id: str, value: float, total: float, state: str) -> None:
        self._nodes[node_id] = {
            "value": value,
            "max": total,
            "state": state,
            "node_id": node_id,
            "prompt_id": self._prompt_id,
            **_no_expansion(node_id),
        }
        if len(self._nodes) > _MOST_NODES:
            finished = (one for one, about in self._nodes.items() if about["state"] == "finished" and one != node_id)
            self._nodes.pop(next(finished, ""), None)
        self._outbox.send("progress_state", {"prompt_id": self._prompt_id, "nodes": dict(self._nodes)}, self._client_id)


def _no_expansion(node_id: str) -> dict[str, Any]:
    """The ids that differ from a node's own only where nodes expand into others."""
    return {"display_node_id": node_id, "parent_node_id": None, "real_node_id": node_id}
