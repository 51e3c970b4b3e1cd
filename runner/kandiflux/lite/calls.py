"""Calls a node: collects its inputs as lists, calls it once per list item, and merges the results."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kandiflux.lite.prompt_graph import PromptView, is_link
from kandiflux.lite.registry import NodeClass, input_info
from kandiflux.util.json_values import is_dict

__all__ = ["Lists", "call_over_lists", "gather_inputs", "merge_results"]

Lists = dict[str, Any]
"""Input values by name: for each input, a list with one value per call."""


def gather_inputs(
    node_class: NodeClass,
    node_id: str,
    inputs: Mapping[str, Any],
    outputs_of: Callable[[str], list[Any] | None] | None = None,
    view: PromptView | None = None,
    extra_data: Mapping[str, Any] | None = None,
    declared: Any = None,
) -> tuple[Lists, set[str]]:
    """Returns all arguments of a node's function, including hidden ones, and the names of inputs without a value yet.

    Without `outputs_of`, all linked inputs are missing, as for VALIDATE_INPUTS and IS_CHANGED.
    declared: the result of the class's INPUT_TYPES(), if already known.
    """
    declared = node_class.INPUT_TYPES() if declared is None else declared
    lists: Lists = {}
    missing: set[str] = set()
    for name, value in inputs.items():
        info = input_info(node_class, name, declared)
        if is_link(value) and not (info and info[2].get("rawLink")):
            source = outputs_of(value[0]) if outputs_of else None
            if source is None or value[1] >= len(source):
                missing.add(name)
                lists[name] = (None,)
            else:
                lists[name] = source[value[1]]
        elif info:
            lists[name] = [value]
    hidden = {
        "PROMPT": view.get_original_prompt() if view else {},
        "DYNPROMPT": view,
        "EXTRA_PNGINFO": (extra_data or {}).get("extra_pnginfo"),
        "UNIQUE_ID": node_id,
        "AUTH_TOKEN_COMFY_ORG": None,
        "API_KEY_COMFY_ORG": None,
    }
    for name, kind in declared.get("hidden", {}).items():
        if kind in hidden:
            lists[name] = [hidden[kind]]
    return lists, missing


def call_over_lists(node: Any, function: str, lists: Lists, before: Callable[[], None] = lambda: None) -> list[Any]:
    """Calls `node.function` once per list item and returns the results. Repeats the last item of shorter lists.

    A node with INPUT_IS_LIST is called once, with the complete lists. `before` is called before each call.
    """
    if getattr(node, "INPUT_IS_LIST", False):
        calls = [lists]
    else:
        length = max((len(values) for values in lists.values()), default=0)
        # A node without inputs, or with empty lists only, is called once.
        calls = [
            {name: values[index if index < len(values) else -1] for name, values in lists.items()}
            for index in range(length)
        ] or [{}]
    results: list[Any] = []
    for arguments in calls:
        before()
        results.append(_call(getattr(node, function), arguments))
    return results


def _call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return asyncio.run(function(**arguments))
    return function(**arguments)


def merge_results(node_class: NodeClass, returned: list[Any]) -> tuple[list[list[Any]], dict[str, list[Any]]]:
    """Returns a node's outputs, each as a list with one item per call, and its merged "ui" output."""
    results: list[Any] = []
    ui_each: list[Mapping[str, list[Any]]] = []
    for value in returned:
        if not is_dict(value):
            results.append(value)
            continue
        if "expand" in value:
            raise TypeError("this node expands into other nodes, which the lite host cannot do: start a ComfyUI")
        if "ui" in value:
            ui_each.append(value["ui"])
        if "result" in value:
            results.append(value["result"])
    ui = {name: [item for one in ui_each for item in one[name]] for name in ui_each[0]} if ui_each else {}
    if not results:
        return [], ui
    is_list = getattr(node_class, "OUTPUT_IS_LIST", None) or [False] * len(results[0])
    outputs = [
        [item for one in results for item in one[index]] if many else [one[index] for one in results]
        for index, many in zip(range(len(results[0])), is_list, strict=False)
    ]
    return outputs, ui
