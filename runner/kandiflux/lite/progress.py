"""The state of a prompt's nodes, and the frames that report it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from PIL.Image import Image

__all__ = ["Outbox", "Preview", "Progress"]

Preview = tuple[str, Image, int | None]
"""ComfyUI's preview tuple: "JPEG" or "PNG", the image, and its maximum side in pixels or None."""


class Outbox(Protocol):
    """Sends frames to one client, or to all clients if `client_id` is None."""

    def send(self, event: str, data: dict[str, Any], client_id: str | None) -> None:
        """Sends a text frame."""
        ...

    def takes_preview_metadata(self, client_id: str | None) -> bool:
        """Whether the client requested previews with node and prompt ids."""
        ...

    def send_preview(self, preview: Preview, metadata: dict[str, Any] | None, client_id: str | None) -> None:
        """Sends a preview image. `metadata`: None if the client does not support it."""
        ...


_MOST_NODES = 100
"""Maximum number of nodes in a progress_state frame; the nodes that finished first are left out. ComfyUI sends all
nodes that have started with every change: gigabytes in total for a prompt with thousands of nodes."""


_LEAST_SECONDS = 0.1
_LEAST_SHARE = 0.005
"""Minimum time and share of the work between two progress frames of a node, as in ComfyUI."""


class Progress:
    """Progress of one prompt's nodes. Sends the state of all started nodes with each change.

    clock: returns seconds, like time.monotonic.
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
        """The last value sent, and its time, by node id."""

    def start(self, node_id: str) -> None:
        """Reports that the node has started."""
        self._set(node_id, 0.0, 1.0, "running")

    def update(self, node_id: str, value: float, total: float, preview: Preview | None) -> None:
        """Reports that the node has done `value` of `total` steps. Sends the preview, if any, to the job's client.

        The first and last step, and steps with a preview, are always sent. Others are sent only if enough time and
        enough of the work has passed since the last one.
        """
        value, now = min(value, total), self._clock()
        last, when = self._sent.get(node_id, (-1.0, 0.0))
        # A value lower than the last one is the first step of a new operation.
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
        """Reports that the node has finished or was cached."""
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
            finished = (one for one, info in self._nodes.items() if info["state"] == "finished" and one != node_id)
            self._nodes.pop(next(finished, ""), None)
        self._outbox.send("progress_state", {"prompt_id": self._prompt_id, "nodes": dict(self._nodes)}, self._client_id)


def _no_expansion(node_id: str) -> dict[str, Any]:
    """Returns the ids that differ from the node's own id only if nodes are expanded."""
    return {"display_node_id": node_id, "parent_node_id": None, "real_node_id": node_id}
