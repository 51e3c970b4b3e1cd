"""A prompt, ready to submit: nodes in ComfyUI's API format, and the editor-format workflow they came from."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from kandiflux.errors import WorkflowError
from kandiflux.util.json_values import as_object, is_object

__all__ = ["Prompt", "is_api_format", "without_again"]

_CACHE_BUSTER = "kandiflux_again"
"""An input that no node declares. ComfyUI's cache key contains all inputs, but a node gets only those it declares: with
a new value here it runs again, and nothing else changes. (POST /free would make all users' nodes run again.)"""


def is_api_format(data: object) -> TypeGuard[Mapping[str, Mapping[str, Any]]]:
    """Returns True for `{id: {"class_type": …, "inputs": {…}}, …}`."""
    return (
        is_object(data)
        and len(data) > 0
        and all(is_object(node) and "class_type" in node and is_object(node.get("inputs")) for node in data.values())
    )


@dataclass(frozen=True, repr=False)
class Prompt:
    """Nodes by id, each `{"class_type", "inputs", "_meta"}`.

    `workflow` is the editor's file; the server stores it in the metadata of pictures. `values` are the parameters that
    were set, with the values that were written (for a random seed, the number that was drawn). `notes` are what a
    person should know of the conversion, and of what the server takes differently, one sentence each.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    workflow: Mapping[str, Any] | None = None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Prompt: {len(self.nodes)} nodes, {len(self.values)} values set>"

    @classmethod
    def from_api(cls, data: Any, workflow: Mapping[str, Any] | None = None) -> Prompt:
        """Makes a prompt of data in the API format. Only the structure is checked; the server validates the nodes.

        Raises WorkflowError if the data is not in the API format.
        """
        if not is_api_format(data):
            raise WorkflowError(
                "This is not a prompt in the API format.",
                expected='{"1": {"class_type": …, "inputs": {…}}, …}',
                got=str(data)[:100],
            )
        return cls({str(node_id): node for node_id, node in data.items()}, workflow)

    def class_type(self, node_id: str | None) -> str:
        """Returns the node's class; empty if there is no such node."""
        node = self._node(node_id)
        return str(node["class_type"]) if node else ""

    def title(self, node_id: str | None) -> str:
        """Returns the node's title in the editor, else its class, else its id."""
        node = self._node(node_id)
        if node is None:
            return f"node {node_id}"
        return str(as_object(node.get("_meta")).get("title") or node["class_type"])

    def forced_again(self, node_ids: Iterable[str]) -> Prompt:
        """Returns a copy in which the named nodes run again, even if the server has their outputs in its cache."""
        nodes = dict(self.nodes)
        for node_id in node_ids:
            node = nodes[node_id]
            nodes[node_id] = {**node, "inputs": {**node["inputs"], _CACHE_BUSTER: uuid.uuid4().hex}}
        return replace(self, nodes=nodes)

    def _node(self, node_id: str | None) -> Mapping[str, Any] | None:
        if node_id is None:
            return None
        # The ids of nodes that a node expands into begin with its own: "5.0.0.2".
        return self.nodes.get(node_id) or self.nodes.get(node_id.split(".", 1)[0])


def without_again(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Returns nodes from a picture's metadata without the inputs that `Prompt.forced_again` added."""
    return {
        node_id: {**node, "inputs": {name: value for name, value in node["inputs"].items() if name != _CACHE_BUSTER}}
        for node_id, node in nodes.items()
    }
