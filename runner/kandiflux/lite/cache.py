"""The cache of outputs: they are kept from one prompt to the next, under a key of all that went into them."""

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
"""What makes a node's key: its class, its constants, and the keys of its sources."""


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
    known: dict[Own, Key] = field(default_factory=dict[Own, Key])

    def start(self, prompt: Prompt, classes: Mapping[str, NodeClass], check: Callable[[], None] = lambda: None) -> None:
        """Compute the keys of `prompt` and drop whatever it does not use. `check` is called before each node."""
        self.keys = {}  # not those of the last prompt, if this one's fail
        keys = _Keys(prompt, classes, self.known, check)
        self.keys = keys.all()
        self.known = keys.known
        used = set(self.keys.values())
        self.outputs_by_key = {key: value for key, value in self.outputs_by_key.items() if key in used}
        self.shown_by_key = {key: value for key, value in self.shown_by_key.items() if key in used}
        nodes = {(node_id, node["class_type"]) for node_id, node in prompt.items()}
        self.objects = {key: value for key, value in self.objects.items() if key in nodes}

    def outputs(self, node_id: str) -> list[Any] | None:
        """What is kept of a node of the present prompt; None if it has to run."""
        return self.outputs_by_key.get(self.keys[node_id]) if node_id in self.keys else None

    def shown(self, node_id: str) -> Shown | None:
        """What it returned for the client when it ran; None if it returned nothing."""
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
    """The cache keys of one prompt's nodes: equal for equal class, constants, IS_CHANGED and sources.

    A key is a number that stands for all of these, the sources by their own keys: computing one costs the same however
    long the chain before the node is. `known` are the numbers of the last prompt, and then those of this one.
    """

    def __init__(
        self, prompt: Prompt, classes: Mapping[str, NodeClass], known: dict[Own, Key], check: Callable[[], None]
    ) -> None:
        self._prompt = prompt
        self._classes = classes
        self._check = check
        self._before = known
        self.known: dict[Own, Key] = {}
        self._next = max(known.values(), default=0) + 1
        self._keys: dict[str, Key] = {}
        self._open: set[str] = set()
        self._by_id: dict[str, bool] = {}

    def all(self) -> dict[str, Key]:
        for node_id in self._prompt:
            self._visit(node_id)
        return {node_id: self._keys[node_id] for node_id in self._prompt}

    def _visit(self, start: str) -> None:
        """Compute the keys of a node and all before it, sources first; without recursion, as a chain may be long."""
        stack = [start]
        while stack:
            node_id = stack[-1]
            if node_id in self._keys:
                stack.pop()
            elif node_id in self._open:
                self._keys[stack.pop()] = self._key(node_id)
            else:
                self._open.add(node_id)
                links = (value for value in self._prompt[node_id]["inputs"].values() if is_link(value))
                # An input the class does not declare is not validated, and may name a node that is not there.
                stack += [link[0] for link in links if link[0] in self._prompt and link[0] not in self._open]

    def _key(self, node_id: str) -> Key:
        self._check()
        node = self._prompt[node_id]
        own: list[Any] = [node["class_type"], _hashable(self._is_changed(node_id))]
        if self._depends_on_id(node["class_type"]):
            own.append(node_id)
        for name, value in sorted(node["inputs"].items()):
            # A link has one part more than a constant, so that none equals the other.
            own.append((name, self._source(value[0]), value[1]) if is_link(value) else (name, _hashable(value)))
        whole = tuple(own)
        key = self._before.get(whole) or self.known.get(whole)
        if key is None:
            key, self._next = self._next, self._next + 1
        self.known[whole] = key
        return key

    def _source(self, node_id: str) -> Any:
        if node_id not in self._prompt:
            return None
        # A node of a cycle, which never runs, has no key yet: it equals nothing.
        return self._keys.get(node_id, object())

    def _depends_on_id(self, class_name: str) -> bool:
        if class_name not in self._by_id:  # asked once a class: INPUT_TYPES may list folders
            node_class = self._classes[class_name]
            hidden = node_class.INPUT_TYPES().get("hidden", {})
            self._by_id[class_name] = "UNIQUE_ID" in hidden.values() or getattr(node_class, "NOT_IDEMPOTENT", False)
        return self._by_id[class_name]

    def _is_changed(self, node_id: str) -> Any:
        node = self._prompt[node_id]
        node_class = self._classes[node["class_type"]]
        if not hasattr(node_class, "IS_CHANGED"):
            return False
        # ComfyUI writes the answer into the prompt, where SaveImage finds it and puts it into the
        # PNG; a prompt that brings one along is not asked again.
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
    """`value` as part of a key. NaN, and what cannot be compared, equals nothing: never cached."""
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
