"""A prompt as a graph: what is a link, and the order in which nodes run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from kandiflux.lite.prompt_graph import GraphError, PromptView, Schedule, is_link

from tests.conversations.common import node

Json = dict[str, Any]


class Step:
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> Json:
        lazy = {"lazy": True}
        return {"required": {"a": ("X",), "b": ("X", {})}, "optional": {"late": ("X", lazy)}, "hidden": {"h": "PROMPT"}}

    def run(self) -> Any: ...


class Async(Step):
    async def run(self) -> None: ...


class Out(Step):
    OUTPUT_NODE = True


CLASSES = {each.__name__: each for each in (Step, Async, Out)}


def step(*sources: str, kind: str = "Step", **more: Any) -> Json:
    return node(kind, **{letter: [source, 0] for letter, source in zip("abcdef", sources, strict=False)}, **more)


def out(*sources: str) -> Json:
    return step(*sources, kind="Out")


def schedule(prompt: Json, outputs: Iterable[str], cached: Collection[str] = ()) -> Schedule:
    return Schedule(prompt, CLASSES, lambda node_id: node_id in cached, list(outputs))


def order(prompt: Json, outputs: Iterable[str], cached: Collection[str] = ()) -> str:
    left, ran = schedule(prompt, outputs, cached), ""
    while left:
        picked = left.pick()
        left.done(picked)
        ran += picked
    return ran


ORDERS: dict[str, tuple[Json, str, str]] = {
    "sources first": ({"x": out("c"), "a": step(), "b": step("a"), "c": step("b")}, "x", "abcx"),
    "only what an output needs": ({"a": step(), "b": step("a"), "x": out("a"), "z": step("a")}, "x", "ax"),
    "of equals, what was added first": ({"a": step(), "b": step(), "x": out("a", "b")}, "x", "bax"),
    "an output as soon as it can": (
        {"a": step(), "b": step("a"), "c": step("b"), "x": out("c"), "y": out("a")}, "xy", "aybcx",
    ),
    "a coroutine before others": ({"a": step(), "b": step(kind="Async"), "x": out("b", "a")}, "x", "bax"),
    "what is next to an output": (
        {"a": step(), "b": step("a"), "c": step("b"), "d": step(), "x": out("c"), "y": out("d")}, "xy", "dyabcx",
    ),
    "what is next to that": (
        {"a": step(), "b": step("a"), "c": step("b"), "d": step(), "e": step("d"), "x": out("c", "e")}, "x", "deabcx",
    ),
    "one output before another": ({"a": step(), "x": out("a"), "b": step("x"), "y": out("b")}, "y", "axby"),
    "a diamond once": ({"a": step(), "b": step("a"), "c": step("a"), "x": out("b", "c")}, "x", "acbx"),
    "a constant that looks like a link": ({"a": step(), "x": {**out("a"), "inputs": {"a": ["a"]}}}, "x", "x"),
    "a link to nothing": ({"x": out("nobody")}, "x", "x"),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDERS)
def test_the_order(case: str) -> None:
    prompt, outputs, ran = ORDERS[case]
    assert order(prompt, outputs) == ran


def test_nobody_waits_for_what_is_cached() -> None:
    prompt = {"a": step(), "b": step("a"), "c": step(), "x": out("b", "c")}
    assert order(prompt, "x", "b") == "cx"
    assert order(prompt, "x", "bc") == "x"
    assert order(prompt, "x", "x") == "cabx", "an output is told of, cached or not"


def test_a_long_chain_is_no_problem() -> None:
    chain: Json = {"0": step()} | {str(number): step(str(number - 1)) for number in range(1, 3000)}
    left = schedule({**chain, "x": out("2999")}, ["x"])
    ran: list[str] = []
    while left:
        ran.append(left.pick())
        left.done(ran[-1])
    assert ran == [*chain, "x"]


def test_a_cycle_is_an_error() -> None:
    left = schedule({"a": step("b"), "b": step("a"), "x": out("b")}, "x")
    assert left
    with pytest.raises(GraphError, match="the prompt's nodes form a dependency cycle"):
        left.pick()


# Lazy inputs


LAZY = {"a": step(), "b": step("a"), "s": step("a", late=["b", 0], none=[5]), "x": out("s")}


def test_a_lazy_input_is_computed_only_if_it_is_asked_for() -> None:
    assert order(LAZY, "x") == "asx"
    ran: set[str] = set()
    left = schedule(LAZY, "x", ran)
    left.done(left.pick())
    ran.add("a")
    assert left.pick() == "s"
    left.require("s", "late")
    assert left.pick() == "b"
    left.done("b")
    assert left.pick() == "s"
    left.done("s")
    assert left.pick() == "x"
    left.done("x")
    assert not left


def test_a_lazy_input_that_is_cached_needs_no_wait() -> None:
    left = schedule(LAZY, "x", "b")
    left.done(left.pick())
    assert left.pick() == "s"
    left.require("s", "late")
    assert left.pick() == "s"


def test_an_input_that_was_asked_for_changes_the_order() -> None:
    """The source that a node next to an output asks for goes before what else is ready."""
    prompt = {"s": step(late=["b", 0]), "a": step(), "b": step(), "c": step("a"), "d": step("c"), "e": step("d"),
              "x": out("s"), "y": out("e")}  # fmt: skip
    left = schedule(prompt, "yx")
    assert left.pick() == "s"
    left.require("s", "late")
    assert left.pick() == "b"


@pytest.mark.parametrize(("name", "why"), [("nothing", "it has no value"), ("none", "it is a constant")])
def test_an_input_that_cannot_be_asked_for(name: str, why: str) -> None:
    with pytest.raises(GraphError, match=f"Node s needs its input {name}, .*{why}"):
        schedule(LAZY, "x").require("s", name)


# Links and views


@pytest.mark.parametrize("value", [["a", 0], ["a", 1.5], ["", True]], ids=str)
def test_links(value: Any) -> None:
    assert is_link(value)


@pytest.mark.parametrize("value", ["a0", ("a", 0), [], ["a"], ["a", "0"], [1, 0], ["a", 0, 0], ["a", None], None, {}])
def test_constants(value: Any) -> None:
    assert not is_link(value)


def test_what_a_node_sees_of_the_prompt() -> None:
    view = PromptView(LAZY)
    assert view.get_original_prompt() is LAZY
    assert view.get_node("b") is LAZY["b"]
    with pytest.raises(KeyError):
        view.get_node("none")
    assert (view.has_node("b"), view.has_node("none")) == (True, False)
    assert view.all_node_ids() == set("absx")
    ids = view.get_real_node_id("b"), view.get_display_node_id("b"), view.get_parent_node_id("b")
    assert ids == ("b", "b", None)
