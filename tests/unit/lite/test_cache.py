"""What is answered from the cache: nodes of equal class, constants and sources, under whatever id."""

from __future__ import annotations

import math
from typing import Any

import pytest
from kandiflux.lite.cache import Cache, Shown
from kandiflux.lite.seam import Interrupted

from tests.conversations.common import node

Json = dict[str, Any]


class Plain:
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"required": {"value": ("INT",)}, "hidden": {"prompt": "PROMPT"}}


class Other(Plain):
    pass


class KnowsItsId(Plain):
    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"hidden": {"prompt": "PROMPT", "me": "UNIQUE_ID"}}


class NotIdempotent(Plain):
    NOT_IDEMPOTENT = True


class NamesItsNeed(Plain):
    """An input that is only called UNIQUE_ID."""

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        return {"hidden": {"UNIQUE_ID": "PROMPT"}}


class SameText:
    """Equal to nothing, and always of the same text."""

    def __str__(self) -> str:
        return "same"


class Changed(Plain):
    """IS_CHANGED returns, or raises, what `answers` says next, and notes what it was asked with."""

    answers: list[Any] = []
    asked: list[Json] = []

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> Any:
        cls.asked.append(inputs)
        answer = cls.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


CLASSES = {each.__name__: each for each in (Plain, Other, KnowsItsId, NotIdempotent, NamesItsNeed, Changed)}


def cached(*prompts: Json) -> list[str]:
    """The nodes of the last prompt that are cached if all nodes of those before it ran."""
    cache = Cache()
    found: list[str] = []
    for prompt in prompts:
        cache.start(prompt, CLASSES)
        found = [node_id for node_id in prompt if cache.outputs(node_id) is not None]
        for node_id in prompt:
            cache.keep(node_id, [[node_id]])
    return found


A = {"a": node("Plain", value=1, more="x"), "b": node("Plain", value=["a", 0])}

SAME: dict[str, tuple[Json, Json]] = {
    "the same": (A, A),
    "other ids": (A, {"x": A["a"], "y": node("Plain", value=["x", 0])}),
    "inputs in another order": (A, {"a": node("Plain", more="x", value=1), "b": A["b"]}),
    "members in another order": (
        {"a": node("Plain", v={"x": 1, "y": [2]})},
        {"a": node("Plain", v={"y": [2], "x": 1})},
    ),
    "the prompt as a hidden input": ({"a": node("NamesItsNeed")}, {"x": node("NamesItsNeed")}),
    "its own id, which is the same": ({"a": node("KnowsItsId")}, {"a": node("KnowsItsId")}),
    "a link to nothing": ({"a": node("Plain", value=["no", 0])}, {"a": node("Plain", value=["nobody", 0])}),
    "what came with the prompt": (
        {"a": {**node("Changed"), "is_changed": [1]}},
        {"a": {**node("Changed"), "is_changed": [1]}},
    ),
}
OTHER: dict[str, tuple[Json, Json]] = {
    "another class": ({"a": node("Plain", value=1)}, {"a": node("Other", value=1)}),
    "another constant": ({"a": node("Plain", value=1)}, {"a": node("Plain", value=2)}),
    "another name": ({"a": node("Plain", value=1)}, {"a": node("Plain", valu=1)}),
    "an input less": ({"a": node("Plain", value=1)}, {"a": node("Plain")}),
    "a longer list": ({"a": node("Plain", value=[1, 2, 3])}, {"a": node("Plain", value=[1, 2, 3, 4])}),
    "an object instead of a list": ({"a": node("Plain", value={"x": 1})}, {"a": node("Plain", value=[["x", 1]])}),
    "a list that looks like a key": (
        {"a": node("Plain"), "b": node("Plain", value=["a", 0])},
        {"b": node("Plain", value=["link", 1, 0])},
    ),
    "another member": ({"a": node("Plain", value={"x": 1})}, {"a": node("Plain", value={"y": 1})}),
    "its own id": ({"a": node("KnowsItsId")}, {"b": node("KnowsItsId")}),
    "not idempotent": ({"a": node("NotIdempotent")}, {"b": node("NotIdempotent")}),
    "another IS_CHANGED of the prompt": (
        {"a": {**node("Changed"), "is_changed": [1]}},
        {"a": {**node("Changed"), "is_changed": [2]}},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_equal_nodes_are_cached(case: str) -> None:
    first, second = SAME[case]
    assert cached(first, second) == list(second)


@pytest.mark.parametrize("case", OTHER)
def test_a_node_that_differs_is_not(case: str) -> None:
    first, second = OTHER[case]
    assert cached(first, second) == []


def test_what_depends_on_a_change_is_not_cached() -> None:
    changed = {"a": node("Plain", value=2), "b": node("Plain", value=["a", 0]), "c": A["a"]}
    assert cached(A, changed) == ["c"]
    other_output = {"a": A["a"], "b": node("Plain", value=["a", 1])}
    assert cached(A, other_output) == ["a"]


def test_only_the_last_prompt_is_kept() -> None:
    other = {"z": node("Other", value=9)}
    assert cached(A, other, A) == []
    assert cached(A, {**A, **other}, A) == ["a", "b"]
    assert cached(A, {"b": node("Plain", value=3), **other}, A) == []


def test_new_keys_are_nobodys() -> None:
    """Prompt after prompt of new nodes: none gets what is kept of another."""
    prompts = [{str(n): node("Plain", value=n), "a": node("Plain", value=-1)} for n in range(5)]
    for number in range(1, 5):
        assert cached(*prompts[: number + 1]) == ["a"]


def test_outputs_and_shown_are_those_of_the_equal_node() -> None:
    cache = Cache()
    cache.start(A, CLASSES)
    cache.keep("a", [[1]])
    cache.show("a", {"text": ["x"]})
    assert (cache.outputs("a"), cache.outputs("b"), cache.shown("b")) == ([[1]], None, None)
    cache.start({"x": A["a"], "b": node("Other")}, CLASSES)
    assert cache.outputs("x") == [[1]]
    assert cache.outputs("a") is cache.shown("a") is None, "of a node that is not in this prompt"
    shown = cache.shown("x")
    assert shown == Shown("a", {"text": ["x"]})
    assert Shown("a", {}).meta() == {"node_id": "a", "display_node": "a", "parent_node": None, "real_node_id": "a"}
    cache.start({"b": node("Other")}, CLASSES)
    cache.start({"x": A["a"]}, CLASSES)
    assert cache.outputs("x") is cache.shown("x") is None


def test_objects_are_kept_for_a_node_of_the_same_id_and_class() -> None:
    cache = Cache()
    kept = {("a", "Plain"): 1, ("a", "Other"): 2, ("b", "Plain"): 3}
    cache.start(A, CLASSES)
    cache.objects.update(kept)
    cache.start({"a": node("Plain", value=99)}, CLASSES)
    assert cache.objects == {("a", "Plain"): 1}


def test_clear_drops_everything() -> None:
    cache = Cache()
    cache.start(A, CLASSES)
    cache.keep("a", [])
    cache.show("a", {})
    cache.objects["a", "Plain"] = 1
    cache.clear()
    assert (cache.outputs("a"), cache.shown("a"), cache.objects) == (None, None, {})
    cache.start(A, CLASSES)
    assert cache.outputs("a") is None


# IS_CHANGED


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("x", "x", True),
        ("x", "y", False),
        ([1, {"b": 2}], [1, {"b": 2}], True),
        (math.nan, math.nan, True),
        (float("nan"), float("nan"), False),
        (None, None, True),
        ({1, 2}, {1, 2}, False),
        (SameText(), SameText(), False),
        ({"a": 1, 2: 3}, {2: 3, "a": 1}, True),
        (ValueError("no"), ValueError("no"), False),
        (SystemExit(), SystemExit(), False),
    ],
    ids=str,
)
def test_what_is_changed_answers_is_part_of_the_key(first: Any, second: Any, same: bool) -> None:
    Changed.answers[:] = [first, second]
    prompts = [{"a": node("Changed", value=1)} for _ in range(2)]
    assert cached(*prompts) == (["a"] if same else [])


def test_is_changed_is_asked_once_with_the_inputs_and_written_into_the_prompt(caplog: pytest.LogCaptureFixture) -> None:
    Changed.asked.clear()
    Changed.answers[:] = ["x", RuntimeError("no answer")]
    prompt = {"a": node("Changed", value=1), "b": node("Changed", value=["a", 0]), "c": node("Plain", value=["b", 0])}
    prompt["d"] = {**node("Changed"), "is_changed": ["told"]}
    cached(prompt)
    assert [asked["value"] for asked in Changed.asked] == [1, None]
    assert prompt["a"]["is_changed"] == ["x"]
    assert math.isnan(prompt["b"]["is_changed"])
    assert "is_changed" not in prompt["c"]
    assert prompt["d"]["is_changed"] == ["told"]
    assert caplog.messages == ["IS_CHANGED of node b (Changed) failed: no answer"]


# Odd prompts


def test_a_long_chain_is_no_problem() -> None:
    chain = {str(number): node("Plain", value=[str(number - 1), 0]) for number in range(3000)}
    backwards = dict(reversed(chain.items()))
    assert len(cached(chain, backwards)) == 3000


def test_nodes_of_a_cycle_are_never_cached() -> None:
    cycle = {"a": node("Plain", value=["b", 0]), "b": node("Plain", value=["a", 0]), "c": node("Plain", value=1)}
    assert cached(cycle, cycle) == ["c"]


def test_an_interrupt_between_two_nodes_ends_it_without_keys() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Interrupted

    cache = Cache()
    cache.start(A, CLASSES)
    cache.keep("a", [[1]])
    with pytest.raises(Interrupted):
        cache.start(A, CLASSES, check)
    assert len(asked) == 2
    assert cache.outputs("a") is None
    cache.start(A, CLASSES)
    assert cache.outputs("a") == [[1]], "what was kept is still there"


def test_an_interrupt_in_is_changed_passes() -> None:
    Changed.answers[:] = [Interrupted()]
    with pytest.raises(Interrupted):
        Cache().start({"a": node("Changed", value=1)}, CLASSES)
