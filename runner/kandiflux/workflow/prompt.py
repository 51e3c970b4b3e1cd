"""What is submitted: nodes in ComfyUI's API format, and the editor's file they came from."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from kandiflux.errors import WorkflowError
from kandiflux.util.json_values import as_object, is_object

__all__ = ["Prompt", "is_api_format", "without_again"]

_AGAIN_INPUT = "kandiflux_again"
"""An input no node has. ComfyUI's cache compares all inputs of a node, and hands a node only those it declares: with
another value here a node runs again, and nothing else does. (POST /free would make everybody's nodes run again.)"""


def is_api_format(data: object) -> TypeGuard[Mapping[str, Mapping[str, Any]]]:
    """True for `{id: {"class_type": …, "inputs": {…}}, …}`."""
    return (
        is_object(data)
        and len(data) > 0
        and all(is_object(node) and "class_type" in node and is_object(node.get("inputs")) for node in data.values())
    )


@dataclass(frozen=True, repr=False)
class Prompt:
    """Nodes by id, each `{"class_type", "inputs", "_meta"}`, ready to be sent.

    `workflow` is the editor's file, sent along so that pictures carry it. `values` are the parameters that were
    set, as they were set (a random seed as the number it became).
    """

    nodes: Mapping[str, Mapping[str, Any]]
    workflow: Mapping[str, Any] | None = None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __repr__(self) -> str:
        return f"<Prompt: {len(self.nodes)} nodes, {len(self.values)} values set>"

    @classmethod
    def from_api(cls, data: Any, workflow: Mapping[str, Any] | None = None) -> Prompt:
        """Checks the outer form only; whether the nodes fit is for the server to say."""
        if not is_api_format(data):
            raise WorkflowError(
                "This is not a prompt in the API format.",
                expected='{"1": {"class_type": …, "inputs": {…}}, …}',
                got=str(data)[:100],
            )
        return cls({str(node_id): node for node_id, node in data.items()}, workflow)

    def class_type(self, node_id: str | None) -> str:
        """The node's class; empty for a node that is not there."""
        node = self._node(node_id)
        return str(node["class_type"]) if node else ""

    def title(self, node_id: str | None) -> str:
        """The title the user sees in the editor, else the class, else the id."""
        node = self._node(node_id)
        if node is None:
            return f"node {node_id}"
        return str(as_object(node.get("_meta")).get("title") or node["class_type"])

    def forced_again(self, node_ids: Iterable[str]) -> Prompt:
        """The same, with a value in the named nodes that keeps the server from answering for them from its cache."""
        nodes = dict(self.nodes)
        for node_id in node_ids:
            node = nodes[node_id]
            nodes[node_id] = {**node, "inputs": {**node["inputs"], _AGAIN_INPUT: uuid.uuid4().hex}}
        return replace(self, nodes=nodes)

    def _node(self, node_id: str | None) -> Mapping[str, Any] | None:
        if node_id is None:
            return None
        # Nodes that a node expanded into are called after it: "5.0.0.2".
        return self.nodes.get(node_id) or self.nodes.get(node_id.split(".", 1)[0])


def without_again(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Nodes as a picture carries them, without what `Prompt.forced_again` put in."""
    return {
        node_id: {**node, "inputs": {name: value for name, value in node["inputs"].items() if name != _AGAIN_INPUT}}
        for node_id, node in nodes.items()
    }
