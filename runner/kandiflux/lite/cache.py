"""Outputs kept from one prompt to the next, under a key of all that went into them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from kandiflux.json_values import is_object
from kandiflux.lite.calls import call_over_lists, gather_inputs
from kandiflux.lite.graph import Prompt, is_link
from kandiflux.lite.guard import Failure, attempt
from kandiflux.lite.registry import NodeClass

__all__ = ["Cache", "Key", "Shown"]

log = logging.getLogger(__name__)

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Shown:
    """What a node returned for the client."""

    node_id: str
    output: dict[str, Any]

    def meta(self) -> dict[str, Any]:
        """History's `meta` of the node."""
        node_id = self.node_id
        return {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}


@dataclass
class Cache:
    """Outputs and `ui` by key, node objects by node id. `start` binds it to a prompt."""

    outputs_by_key: dict[Key, list[Any]] = field(default_factory=dict[Key, list[Any]])
    shown_by_key: dict[Key, Shown] = field(default_factory=dict[Key, Shown])
    objects: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    keys: dict[str, Key] = field(default_factory=dict[str, Key])

    def start(self, prompt: Prompt, classes: Mapping[str, NodeClass]) -> None:
        """Compute the keys of `prompt` and drop whatever it does not use."""
        self.keys = {}  # not those of the last prompt, should this one's fail
        self.keys = _Keys(prompt, classes).all()
        used = set(self.keys.values())
        self.outputs_by_key = {key: value for key, value in self.outputs_by_key.items() if key in used}
        self.shown_by_key = {key: value for key, value in self.shown_by_key.items() if key in used}
        nodes = {(node_id, node["class_type"]) for node_id, node in prompt.items()}
        self.objects = {key: value for key, value in self.objects.items() if key in nodes}

    def outputs(self, node_id: str) -> list[Any] | None:
        """What is kept of a node of the present prompt; None where it has to run."""
        return self.outputs_by_key.get(self.keys[node_id]) if node_id in self.keys else None

    def shown(self, node_id: str) -> Shown | None:
        """What it returned for the client when it ran; None where that was nothing."""
        return self.shown_by_key.get(self.keys[node_id]) if node_id in self.keys else None

    def keep(self, node_id: str, outputs: list[Any]) -> None:
        """Keep a node's outputs."""
        self.outputs_by_key[self.keys[node_id]] = outputs

    def show(self, node_id: str, output: dict[str, Any]) -> None:
        """Keep what a node returned for the client."""
        self.shown_by_key[self.keys[node_id]] = Shown(node_id, output)

    def clear(self) -> None:
        """Drop everything."""
        self.outputs_by_key.clear()
        self.shown_by_key.clear()
        self.objects.clear()


class _Keys:
    """The cache keys of one prompt's nodes: class, constants and IS_CHANGED of a node and all before it."""

    def __init__(self, prompt: Prompt, classes: Mapping[str, NodeClass]) -> None:
        self._prompt = prompt
        self._classes = classes
        self._changed: dict[str, Any] = {}
        self._by_id: dict[str, bool] = {}

    def all(self) -> dict[str, Key]:
        return {node_id: self._key(node_id) for node_id in self._prompt}

    def _key(self, node_id: str) -> Key:
        # Ancestors go by their place in this walk, not by their id: renumbering keeps the cache.
        places: dict[str, int] = {}
        self._walk(node_id, places)
        return tuple(self._own(one, places) for one in (node_id, *places))

    def _walk(self, node_id: str, places: dict[str, int]) -> None:
        inputs = self._prompt[node_id]["inputs"]
        for name in sorted(inputs):
            source = inputs[name][0] if is_link(inputs[name]) else None
            # An input the class does not declare is not validated, and may name a node that is not there.
            if source in self._prompt and source not in places:
                places[source] = len(places)
                self._walk(source, places)

    def _own(self, node_id: str, places: Mapping[str, int]) -> Key:
        node = self._prompt[node_id]
        own: list[Any] = [node["class_type"], _hashable(self._is_changed(node_id))]
        if self._depends_on_id(node["class_type"]):
            own.append(node_id)
        for name, value in sorted(node["inputs"].items()):
            own.append((name, ("link", places.get(value[0]), value[1]) if is_link(value) else _hashable(value)))
        return tuple(own)

    def _depends_on_id(self, class_name: str) -> bool:
        if class_name not in self._by_id:  # asked once a class: INPUT_TYPES may list folders
            node_class = self._classes[class_name]
            hidden = node_class.INPUT_TYPES().get("hidden", {})
            self._by_id[class_name] = "UNIQUE_ID" in hidden.values() or getattr(node_class, "NOT_IDEMPOTENT", False)
        return self._by_id[class_name]

    def _is_changed(self, node_id: str) -> Any:
        if node_id not in self._changed:
            self._changed[node_id] = self._ask(node_id)
        return self._changed[node_id]

    def _ask(self, node_id: str) -> Any:
        node = self._prompt[node_id]
        node_class = self._classes[node["class_type"]]
        if not hasattr(node_class, "IS_CHANGED"):
            return False
        # ComfyUI writes the answer into the prompt, where SaveImage finds it and puts it into the
        # PNG; a prompt that brings one along is not asked again.
        if "is_changed" not in node:
            answer = attempt(lambda: self._call_is_changed(node_id, node, node_class))
            if isinstance(answer, Failure):
                log.warning("IS_CHANGED of node %s (%s) failed: %s", node_id, node["class_type"], answer.error)
            node["is_changed"] = float("nan") if isinstance(answer, Failure) else answer.value
        return node["is_changed"]

    @staticmethod
    def _call_is_changed(node_id: str, node: Mapping[str, Any], node_class: NodeClass) -> list[Any]:
        return call_over_lists(node_class, "IS_CHANGED", gather_inputs(node_class, node_id, node["inputs"])[0])


def _hashable(value: Any) -> Any:
    """`value` as part of a key. NaN, and what cannot be compared, equals nothing: never cached."""
    if isinstance(value, (int, float, str, bool, type(None))):
        return value
    if is_object(value):
        return tuple((name, _hashable(item)) for name, item in sorted(value.items()))
    if isinstance(value, Sequence):
        return tuple(map(_hashable, cast("Sequence[object]", value)))
    return object()
