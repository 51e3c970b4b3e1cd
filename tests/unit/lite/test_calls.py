"""Calling a node: its inputs as lists, one call per item, and what it returned put together."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.lite.calls import call_over_lists, gather_inputs, merge_results
from kandiflux.lite.prompt_graph import PromptView

Json = dict[str, Any]
OUTPUTS = {"a": [[1, 2], ["x"]]}


class Asks:
    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {
            "required": {"value": ("INT",), "raw": ("INT", {"rawLink": True})},
            "optional": {"text": ("STRING", {"rawLink": False})},
            "hidden": {
                "p": "PROMPT",
                "d": "DYNPROMPT",
                "e": "EXTRA_PNGINFO",
                "i": "UNIQUE_ID",
                "t": "AUTH_TOKEN_COMFY_ORG",
                "k": "API_KEY_COMFY_ORG",
                "other": "SOMETHING",
            },
        }


NOTHING_HIDDEN = {"required": {"value": ("INT",), "raw": ("INT", {"rawLink": True})}}


def gathered(inputs: Json) -> tuple[Json, set[str]]:
    return gather_inputs(Asks, "n", inputs, OUTPUTS.get, declared=NOTHING_HIDDEN)


@pytest.mark.parametrize(
    ("inputs", "lists", "missing"),
    [
        ({"value": 5}, {"value": [5]}, set()),
        ({"value": [1, 2, 3]}, {"value": [[1, 2, 3]]}, set()),
        ({"value": ["a", 0]}, {"value": [1, 2]}, set()),
        ({"value": ["a", 1]}, {"value": ["x"]}, set()),
        ({"value": ["a", 2]}, {"value": (None,)}, {"value"}),
        ({"value": ["b", 0]}, {"value": (None,)}, {"value"}),
        ({"raw": ["a", 0]}, {"raw": [["a", 0]]}, set()),
        ({"unknown": ["a", 0]}, {"unknown": [1, 2]}, set()),
        ({"unknown": 5}, {}, set()),
    ],
    ids=str,
)
def test_inputs_as_lists(inputs: Json, lists: Json, missing: set[str]) -> None:
    assert gathered(inputs) == (lists, missing)


def test_without_outputs_every_link_is_missing() -> None:
    lists, missing = gather_inputs(Asks, "n", {"value": ["a", 0], "text": "x"}, declared=NOTHING_HIDDEN)
    assert (lists, missing) == ({"value": (None,)}, {"value"})


def test_hidden_inputs() -> None:
    prompt = {"n": {"class_type": "Asks"}}
    view = PromptView(prompt)
    lists, missing = gather_inputs(Asks, "n", {}, OUTPUTS.get, view, {"extra_pnginfo": {"w": 1}, "client_id": "c"})
    assert lists == {"p": [prompt], "d": [view], "e": [{"w": 1}], "i": ["n"], "t": [None], "k": [None]}
    assert missing == set()
    lists, _ = gather_inputs(Asks, "n", {})
    assert (lists["p"], lists["d"], lists["e"]) == ([{}], [None], [None])


class Node:
    def __init__(self) -> None:
        self.calls: list[Json] = []

    def run(self, **inputs: Any) -> int:
        self.calls.append(inputs)
        return len(self.calls)

    async def later(self, value: int) -> int:
        return value + 1


class TakesLists(Node):
    INPUT_IS_LIST = True


def test_one_call_per_item_the_last_of_a_shorter_list_repeated() -> None:
    called, before = Node(), []
    lists = {"a": [1, 2, 3], "b": ["x", "y"], "c": (None,)}
    assert call_over_lists(called, "run", lists, lambda: before.append(len(called.calls))) == [1, 2, 3]
    assert called.calls == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": "y", "c": None}, {"a": 3, "b": "y", "c": None}]
    assert before == [0, 1, 2], "before each call"


@pytest.mark.parametrize("lists", [{}, {"a": []}])
def test_without_items_it_is_called_once(lists: Json) -> None:
    called = Node()
    assert call_over_lists(called, "run", lists) == [1]
    assert called.calls == [{}]


def test_an_empty_list_beside_another_has_no_last_item() -> None:
    with pytest.raises(IndexError):
        call_over_lists(Node(), "run", {"a": [], "b": [1]})


def test_a_node_may_take_whole_lists() -> None:
    called = TakesLists()
    assert call_over_lists(called, "run", {"a": [1, 2], "b": []}) == [1]
    assert called.calls == [{"a": [1, 2], "b": []}]


def test_coroutines_are_awaited() -> None:
    assert call_over_lists(Node(), "later", {"value": [1, 2]}) == [2, 3]


class Plain:
    pass


class Lists:
    OUTPUT_IS_LIST = (True, False)


@pytest.mark.parametrize(
    ("kind", "returned", "outputs", "ui"),
    [
        (Plain, [(1, "a")], [[1], ["a"]], {}),
        (Plain, [(1, "a"), (2, "b")], [[1, 2], ["a", "b"]], {}),
        (Plain, [()], [], {}),
        (Lists, [([1, 2], [3])], [[1, 2], [[3]]], {}),
        (Lists, [([1, 2], 3), ([4], 5)], [[1, 2, 4], [3, 5]], {}),
        (Plain, [{"ui": {"text": ["x"]}}], [], {"text": ["x"]}),
        (Plain, [{"ui": {"text": ["x"]}, "result": (1,)}], [[1]], {"text": ["x"]}),
        (
            Plain,
            [{"ui": {"t": ["x", "y"], "u": [0]}}, {"ui": {"t": ["z"], "u": []}}],
            [],
            {"t": ["x", "y", "z"], "u": [0]},
        ),
        (Plain, [{"result": (1,)}, (2,)], [[1, 2]], {}),
        (Plain, [{"ui": {"t": ["x"]}}, {"ui": {"t": ["z"], "u": [1]}}], [], {"t": ["x", "z"]}),
        (Plain, [{}], [], {}),
    ],
)
def test_results_are_put_together(kind: type, returned: list[Any], outputs: list[Any], ui: Json) -> None:
    assert merge_results(kind, returned) == (outputs, ui)


def test_a_node_that_expands_into_others_is_refused() -> None:
    with pytest.raises(TypeError, match="start a ComfyUI"):
        merge_results(Plain, [{"expand": {}, "result": (1,)}])
