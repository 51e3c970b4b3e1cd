"""A prompt as a graph, and the order in which its nodes run.

A prompt is {node id: {"class_type": …, "inputs": {name: constant or [node id, output index]}}}.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from kandiflux.lite.registry import NodeClass, input_info, is_output
from kandiflux.util.json_values import is_list

__all__ = ["GraphError", "Prompt", "PromptView", "Schedule", "is_link"]

Prompt = dict[str, Any]


class GraphError(ValueError):
    """A node needs an input that cannot be computed."""


@dataclass(frozen=True)
class PromptView:
    """The value of the hidden input DYNPROMPT: access to the prompt by node id."""

    original_prompt: Prompt

    def get_original_prompt(self) -> Prompt:
        """Returns the prompt as submitted."""
        return self.original_prompt

    def get_node(self, node_id: str) -> dict[str, Any]:
        """Returns one node. Raises KeyError if it does not exist."""
        node: dict[str, Any] = self.original_prompt[node_id]
        return node

    def has_node(self, node_id: str) -> bool:
        """Whether there is a node with this id."""
        return node_id in self.original_prompt

    def all_node_ids(self) -> set[str]:
        """Returns the ids of all nodes."""
        return set(self.original_prompt)

    # The lite host does not expand nodes, so these ids are trivial.
    def get_real_node_id(self, node_id: str) -> str:
        """Returns the node of the client's prompt that this one was expanded from: itself."""
        return node_id

    def get_display_node_id(self, node_id: str) -> str:
        """Returns the node as which the client displays this one: itself."""
        return node_id

    def get_parent_node_id(self, _: str) -> None:
        """Returns the node that expanded into this one: always None."""
        return None


def is_link(value: object) -> TypeGuard[list[Any]]:
    """Whether an input is a link [node id, output index] rather than a constant, by ComfyUI's rule."""
    return is_list(value) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], (int, float))


class Schedule:
    """The nodes that have not run yet. Uses ComfyUI's order, so that both hosts send the same frames.

    cached: returns whether a node's outputs are cached. Other nodes do not wait for such a node.
    """

    def __init__(
        self, prompt: Prompt, classes: Mapping[str, NodeClass], cached: Callable[[str], bool], outputs: list[str]
    ) -> None:
        self._prompt = prompt
        self._classes = classes
        self._cached = cached
        self._waits_for: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        # Among nodes of equal rank, the one added first runs first.
        self._position: dict[str, int] = {}
        self._added = itertools.count()
        self._ready: list[tuple[int, int, str]] = []
        self._lazy: dict[str, frozenset[str]] = {}
        for node_id in outputs:
            self._add(node_id)
        self._find_ready()

    def __bool__(self) -> bool:
        return bool(self._waits_for)

    def pick(self) -> str:
        """Returns the node to run next: output and async nodes first, then nodes one or two links before an output."""
        if not self._ready:
            raise GraphError("the prompt's nodes form a dependency cycle")
        return heapq.heappop(self._ready)[2]

    def _find_ready(self) -> None:
        self._ready = [self._ranked(node_id) for node_id, waits in self._waits_for.items() if not waits]
        heapq.heapify(self._ready)

    def _ranked(self, node_id: str) -> tuple[int, int, str]:
        """Returns a ready node with its sort key. The key depends on its users, which cannot finish before it."""
        users = self._users.get(node_id, ())
        if self._is_output(node_id) or self._is_async(node_id):
            rank = 0
        elif any(self._is_output(user) for user in users):
            rank = 1
        elif any(self._is_output(last) for user in users for last in self._users.get(user, ())):
            rank = 2
        else:
            rank = 3
        return rank, self._position[node_id], node_id

    def done(self, node_id: str) -> None:
        """Marks the picked node as finished; nodes that waited for it may become ready."""
        del self._waits_for[node_id]
        for user in self._users.pop(node_id, ()):
            self._waits_for[user].discard(node_id)
            if not self._waits_for[user]:
                heapq.heappush(self._ready, self._ranked(user))

    def require(self, node_id: str, input_name: str) -> None:
        """Schedules the source of a lazy input before `node_id`. Raises GraphError if the input is not a link."""
        inputs = self._prompt[node_id]["inputs"]
        if input_name not in inputs:
            raise GraphError(f"Node {node_id} needs its input {input_name}, but it has no value")
        if not is_link(inputs[input_name]):
            raise GraphError(f"Node {node_id} needs its input {input_name}, but it is a constant")
        self._wait(node_id, inputs[input_name][0])
        self._find_ready()  # new users can change ranks

    def _add(self, node_id: str) -> None:
        stack = [node_id]
        links: list[tuple[str, str]] = []
        while stack:
            current = stack.pop()
            if current in self._waits_for:
                continue
            self._waits_for[current] = set()
            self._position[current] = next(self._added)
            node = self._prompt[current]
            for name, value in node["inputs"].items():
                if not is_link(value) or value[0] not in self._prompt:
                    continue
                if not self._is_lazy(node["class_type"], name) and not self._cached(value[0]):
                    stack.append(value[0])
                    links.append((current, value[0]))
        for user, source in links:
            self._wait(user, source)

    def _wait(self, user: str, source: str) -> None:
        if not self._cached(source):
            self._add(source)
            self._waits_for[user].add(source)
            self._users.setdefault(source, set()).add(user)

    def _class(self, node_id: str) -> NodeClass:
        return self._classes[self._prompt[node_id]["class_type"]]

    def _is_output(self, node_id: str) -> bool:
        return is_output(self._class(node_id))

    def _is_async(self, node_id: str) -> bool:
        node_class = self._class(node_id)
        return inspect.iscoroutinefunction(getattr(node_class, node_class.FUNCTION))

    def _is_lazy(self, class_name: str, input_name: str) -> bool:
        if class_name not in self._lazy:  # called once per class: INPUT_TYPES may list folders
            declared = self._classes[class_name].INPUT_TYPES()
            names = {*declared.get("required", {}), *declared.get("optional", {})}
            infos = {name: input_info(self._classes[class_name], name, declared) for name in names}
            self._lazy[class_name] = frozenset(name for name, info in infos.items() if info and info[2].get("lazy"))
        return input_name in self._lazy[class_name]
