"""The output cache: keeps node outputs between prompts, under keys computed from everything that affects them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from kandiflux.lite.calls import call_over_lists, gather_inputs
from kandiflux.lite.guard import Failure, attempt
from kandiflux.lite.prompt_graph import Prompt, is_link
from kandiflux.lite.registry import NodeClass
from kandiflux.lite.seam import Interrupted
from kandiflux.util.json_values import is_object

__all__ = ["Cache", "Key", "Shown"]

log = logging.getLogger(__name__)

Key = int
Own = tuple[Any, ...]
"""What a node's key is computed from: its class, its constants, and the keys of its sources."""


@dataclass(frozen=True)
class Shown:
    """The `ui` output of a node: what it returned for the client."""

    node_id: str
    output: dict[str, Any]

    def meta(self) -> dict[str, Any]:
        """Returns the `meta` of the node in the history."""
        node_id = self.node_id
        return {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}


@dataclass
class Cache:
    """Outputs and `ui` by key, node objects by node id and class. `start` must be called for each prompt."""

    outputs_by_key: dict[Key, list[Any]] = field(default_factory=dict[Key, list[Any]])
    shown_by_key: dict[Key, Shown] = field(default_factory=dict[Key, Shown])
    objects: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    keys: dict[str, Key] = field(default_factory=dict[str, Key])
    known: dict[Own, Key] = field(default_factory=dict[Own, Key])

    def start(self, prompt: Prompt, classes: Mapping[str, NodeClass], check: Callable[[], None] = lambda: None) -> None:
        """Computes the keys of `prompt` and drops unused entries. Calls `check` before each node."""
        self.keys = {}  # if computing fails, the keys of the last prompt must not remain
        keys = _Keys(prompt, classes, self.known, check)
        self.keys = keys.all()
        self.known = keys.known
        used = set(self.keys.values())
        self.outputs_by_key = {key: value for key, value in self.outputs_by_key.items() if key in used}
        self.shown_by_key = {key: value for key, value in self.shown_by_key.items() if key in used}
        nodes = {(node_id, node["class_type"]) for node_id, node in prompt.items()}
        self.objects = {key: value for key, value in self.objects.items() if key in nodes}

    def outputs(self, node_id: str) -> list[Any] | None:
        """Returns the cached outputs of a node of the current prompt; None if it must run."""
        return self.outputs_by_key.get(self.keys[node_id]) if node_id in self.keys else None

    def shown(self, node_id: str) -> Shown | None:
        """Returns the cached `ui` output of a node; None if it returned none."""
        return self.shown_by_key.get(self.keys[node_id]) if node_id in self.keys else None

    def keep(self, node_id: str, outputs: list[Any]) -> None:
        """Stores a node's outputs."""
        self.outputs_by_key[self.keys[node_id]] = outputs

    def show(self, node_id: str, output: dict[str, Any]) -> None:
        """Stores a node's `ui` output."""
        self.shown_by_key[self.keys[node_id]] = Shown(node_id, output)

    def clear(self) -> None:
        """Removes all outputs and node objects."""
        self.outputs_by_key.clear()
        self.shown_by_key.clear()
        self.objects.clear()


class _Keys:
    """Computes the cache keys of one prompt's nodes: equal if class, constants, IS_CHANGED and sources are equal.

    A key is a number assigned to this combination. Sources are included by their own keys, so the cost of computing a
    key does not depend on the number of nodes before it. `known`: the numbers of the last prompt, then of this one.
    """

    def __init__(
        self, prompt: Prompt, classes: Mapping[str, NodeClass], known: dict[Own, Key], check: Callable[[], None]
    ) -> None:
        self._prompt = prompt
        self._classes = classes
        self._check = check
        self._previous = known
        self.known: dict[Own, Key] = {}
        self._next = max(known.values(), default=0) + 1
        self._keys: dict[str, Key] = {}
        self._visiting: set[str] = set()
        self._by_id: dict[str, bool] = {}

    def all(self) -> dict[str, Key]:
        for node_id in self._prompt:
            self._visit(node_id)
        return {node_id: self._keys[node_id] for node_id in self._prompt}

    def _visit(self, start: str) -> None:
        """Computes the keys of a node and all nodes before it, sources first. Not recursive: a chain may be long."""
        stack = [start]
        while stack:
            node_id = stack[-1]
            if node_id in self._keys:
                stack.pop()
            elif node_id in self._visiting:
                self._keys[stack.pop()] = self._key(node_id)
            else:
                self._visiting.add(node_id)
                links = (value for value in self._prompt[node_id]["inputs"].values() if is_link(value))
                # An input that the class does not declare is not validated, and may link to a node that does not exist.
                stack += [link[0] for link in links if link[0] in self._prompt and link[0] not in self._visiting]

    def _key(self, node_id: str) -> Key:
        self._check()
        node = self._prompt[node_id]
        own: list[Any] = [node["class_type"], _hashable(self._is_changed(node_id))]
        if self._depends_on_id(node["class_type"]):
            own.append(node_id)
        for name, value in sorted(node["inputs"].items()):
            # A link has one item more than a constant, so the two are never equal.
            own.append((name, self._source(value[0]), value[1]) if is_link(value) else (name, _hashable(value)))
        parts = tuple(own)
        key = self._previous.get(parts) or self.known.get(parts)
        if key is None:
            key, self._next = self._next, self._next + 1
        self.known[parts] = key
        return key

    def _source(self, node_id: str) -> Any:
        if node_id not in self._prompt:
            return None
        # A node in a cycle has no key yet. It never runs; a new object equals nothing.
        return self._keys.get(node_id, object())

    def _depends_on_id(self, class_name: str) -> bool:
        if class_name not in self._by_id:  # called once per class: INPUT_TYPES may list folders
            node_class = self._classes[class_name]
            hidden = node_class.INPUT_TYPES().get("hidden", {})
            self._by_id[class_name] = "UNIQUE_ID" in hidden.values() or getattr(node_class, "NOT_IDEMPOTENT", False)
        return self._by_id[class_name]

    def _is_changed(self, node_id: str) -> Any:
        node = self._prompt[node_id]
        node_class = self._classes[node["class_type"]]
        if not hasattr(node_class, "IS_CHANGED"):
            return False
        # As in ComfyUI, the result is stored in the prompt, and SaveImage writes it into the PNG. If a
        # submitted prompt contains a result, IS_CHANGED is not called.
        if "is_changed" not in node:
            answer = attempt(lambda: self._call_is_changed(node_id, node, node_class))
            if isinstance(answer, Failure):
                if isinstance(answer.error, Interrupted):
                    raise answer.error
                log.warning("IS_CHANGED of node %s (%s) failed: %s", node_id, node["class_type"], answer.message)
            node["is_changed"] = float("nan") if isinstance(answer, Failure) else answer.value
        return node["is_changed"]

    @staticmethod
    def _call_is_changed(node_id: str, node: Mapping[str, Any], node_class: NodeClass) -> list[Any]:
        return call_over_lists(node_class, "IS_CHANGED", gather_inputs(node_class, node_id, node["inputs"])[0])


def _hashable(value: Any) -> Any:
    """Returns `value` as part of a key. NaN and values that cannot be compared equal nothing: never cached."""
    made = attempt(partial(_as_key, value))
    return object() if isinstance(made, Failure) else made.value


def _as_key(value: Any) -> Any:
    if isinstance(value, (int, float, str, bool, type(None))):
        return value
    if is_object(value):
        return frozenset((name, _as_key(item)) for name, item in value.items())
    if isinstance(value, Sequence):
        return tuple(map(_as_key, cast("Sequence[object]", value)))
    return object()
