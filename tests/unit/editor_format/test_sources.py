"""What feeds an input: links are followed past nodes that do not run, through setters, reroutes and subgraphs."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import convert

from tests.support.conversion_cases import file, link, node, slot, subgraph


def declared(*inputs: Any, outputs: Any = ()) -> dict[str, Any]:
    return {"input": {"required": {f"in{at}": [kind] for at, kind in enumerate(inputs)}}, "output": list(outputs)}


def source_of(kind: str, inputs: list[str], outputs: list[str], number: int = 0, *, known: bool = True) -> str | None:
    """Which of the nodes that feed a bypassed node feeds an input of `kind` behind its output `number`; `0`, `1`, …"""
    feeders = [node(at, "Feeder", [], [], [["x", at]]) for at in range(len(inputs))]
    slots = [[f"in{at}", kind, at] for at, kind in enumerate(inputs)]
    middle = node(50, "Middle", [], slots, [[kind] for kind in outputs], mode=4)
    last = node(60, "Last", [], [["in0", kind, 90]])
    links = [[at, at, 0, 50, at, "x"] for at in range(len(inputs))] + [[90, 50, number, 60, 0, "x"]]
    info = {"Feeder": declared(outputs=["x"]), "Last": declared(kind)}
    if known:
        info["Middle"] = declared(*inputs, outputs=outputs)
    found = convert(file([*feeders, middle, last], links), info).prompt["60"]["inputs"].get("in0")
    return None if found is None else found[0]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "number", "source"),
    [
        ("IMAGE", ["IMAGE", "MASK"], ["IMAGE", "MASK"], 0, "0"),
        ("MASK", ["IMAGE", "MASK"], ["IMAGE", "MASK"], 1, "1"),
        # The same place first, then the first of the very type, then the first that takes it.
        ("IMAGE", ["IMAGE", "IMAGE"], ["MASK", "IMAGE"], 1, "1"),
        ("IMAGE", ["MASK", "IMAGE", "IMAGE"], ["IMAGE"], 0, "1"),
        ("IMAGE", ["MASK", "*", "IMAGE"], ["IMAGE"], 0, "2"),
        ("IMAGE", ["MASK", "*", "LATENT"], ["IMAGE"], 0, "1"),
        ("IMAGE", ["MASK", "LATENT,IMAGE"], ["IMAGE"], 0, "1"),
        ("IMAGE", ["MASK", "LATENT,image"], ["IMAGE"], 0, "1"),
        ("IMAGE", ["MASK", "LATENT"], ["IMAGE"], 0, None),
        ("IMAGE", ["LATENT", "IMAGE"], ["*"], 0, "1"),
        ("IMAGE", ["*", "IMAGE"], ["IMAGE"], 0, "0"),
        ("IMAGE", ["MASK"], ["IMAGE"], 5, None),
        ("IMAGE,MASK", ["LATENT", "MASK"], ["MASK"], 0, "1"),
        ("LATENT", ["MASK", "IMAGE,LATENT"], ["IMAGE"], 0, "1"),
        ("LATENT", ["MASK", "IMAGE,MASK"], ["IMAGE"], 0, None),
        ("LATENT", ["MASK", "LATENT,MASK"], ["IMAGE"], 0, None),
        ("image", ["MASK", "IMAGE"], ["IMAGE"], 0, "1"),
        # An input of any type takes the same place, or else the first.
        ("*", ["IMAGE", "MASK"], ["LATENT", "LATENT"], 1, "1"),
        ("*", ["IMAGE", "MASK"], ["IMAGE", "MASK", "LATENT"], 2, "0"),
        ("*", [], ["IMAGE"], 0, None),
    ],
)
def test_what_a_bypassed_node_passes_on(
    kind: str, inputs: list[str], outputs: list[str], number: int, source: str | None, known: bool
) -> None:
    assert source_of(kind, inputs, outputs, number, known=known) == source


IMAGE = node(1, "EmptyImage", [1, 2], [], [["IMAGE", 1]])
INFO = {"EmptyImage": declared("INT", outputs=["IMAGE"]), "Save": {**declared("IMAGE"), "output_node": True}}


def saved(nodes: list[Any], links: list[Any], **more: Any) -> Any:
    """What feeds the node 9, which comes last."""
    last = node(9, "Save", [], [["in0", "IMAGE", 99]])
    prompt = convert(file([IMAGE, *nodes, last], links, **more), INFO).prompt
    assert set(prompt) >= {"1", "9"}
    return prompt["9"]["inputs"].get("in0")


def setter(name: Any, link_id: int | None = 1, node_id: int = 2, **more: Any) -> dict[str, Any]:
    return node(node_id, "SetNode", [name], [["IMAGE", "IMAGE", link_id]], [], **more)


@pytest.mark.parametrize(
    ("setters", "found"),
    [
        ([setter("a")], True),
        ([setter("b")], False),
        ([setter("b", None), setter("a", node_id=3)], True),
        ([node(2, "SetNode", ["a"], [], []), setter("a", node_id=3)], True),
        ([node(2, "Other", ["a"], [["IMAGE", "IMAGE", 1]], [], mode=2)], False),
        ([setter("a", mode=2)], True),
        ([], False),
    ],
    ids=["same", "another", "second", "without an input", "no setter", "muted", "none"],
)
def test_a_getter_gives_what_the_setter_of_its_name_gets(setters: list[Any], found: bool) -> None:
    getter = node(5, "GetNode", ["a"], [], [["IMAGE", 99]])
    links = [[1, 1, 0, setters[-1]["id"] if setters else 5, 0, "IMAGE"], [99, 5, 0, 9, 0, "IMAGE"]]
    assert saved([*setters, getter], links) == (["1", 0] if found else None)


def test_the_first_input_of_a_setter_counts() -> None:
    two = node(2, "SetNode", ["a"], [["IMAGE", "IMAGE", 1], ["more", "IMAGE", None]], [])
    getter = node(5, "GetNode", ["a"], [], [["IMAGE", 99]])
    assert saved([two, getter], [[1, 1, 0, 2, 0, "IMAGE"], [99, 5, 0, 9, 0, "IMAGE"]]) == ["1", 0]


def test_a_getter_in_a_subgraph_finds_the_setter_around_it() -> None:
    inner = subgraph(
        "inner", [node(5, "GetNode", ["a"], [], [["IMAGE", 4]])], [link(4, 5, 0, -20, 0, "IMAGE")], [],
        [slot("IMAGE", "IMAGE", [4])],
    )  # fmt: skip
    outer = subgraph(
        "outer", [node(6, "inner", [], [], [["IMAGE", 4]])], [link(4, 6, 0, -20, 0, "IMAGE")], [],
        [slot("IMAGE", "IMAGE", [4])],
    )  # fmt: skip
    links = [[1, 1, 0, 2, 0, "IMAGE"], [99, 7, 0, 9, 0, "IMAGE"]]
    nodes = [setter("a"), node(7, "outer", [], [], [["IMAGE", 99]])]
    assert saved(nodes, links, definitions={"subgraphs": [inner, outer]}) == ["1", 0]


@pytest.mark.parametrize("kind", ["Reroute", "Reroute (rgthree)", "SetNode"])
@pytest.mark.parametrize("mode", [0, 2])
def test_what_passes_on_its_input(kind: str, mode: int) -> None:
    middle = node(2, kind, ["a"], [["", "*", 1]], [["IMAGE", 99]], mode=mode)
    assert saved([middle], [[1, 1, 0, 2, 0, "IMAGE"], [99, 2, 0, 9, 0, "IMAGE"]]) == ["1", 0]
    assert saved([node(2, kind, ["a"], [], [["IMAGE", 99]])], [[99, 2, 0, 9, 0, "IMAGE"]]) is None


def test_a_class_of_the_server_is_a_node_even_if_the_editor_has_one_of_that_name() -> None:
    nodes = [node(2, "Note", ["x"]), node(3, "MarkdownNote", ["y"]), node(4, "Fast Muter (rgthree)")]
    assert list(convert(file(nodes), {"Note": declared("STRING")}).prompt) == ["2"]


# Subgraphs


def passing(*inputs: str) -> dict[str, Any]:
    """A subgraph that gives its inputs on as its outputs."""
    links = [link(at, -10, at, -20, at, "x") for at in range(len(inputs))]
    ends = [slot(f"s{at}", kind, [at]) for at, kind in enumerate(inputs)]
    return subgraph("passing", [], links, ends, ends)


@pytest.mark.parametrize(("number", "source"), [(0, ["1", 0]), (1, None), (2, ["1", 0]), (3, None), (-1, None)])
def test_a_subgraph_may_lead_straight_through(number: int, source: Any) -> None:
    definition = passing("IMAGE", "IMAGE", "IMAGE")
    use = node(5, "passing", [], [["s2", "IMAGE", 2], ["s0", "IMAGE", 1]], [["a"], ["b"], ["c"]])
    links = [[1, 1, 0, 5, 0, "IMAGE"], [2, 1, 0, 5, 2, "IMAGE"], [99, 5, number, 9, 0, "IMAGE"]]
    assert saved([use], links, definitions={"subgraphs": [definition]}) == source


@pytest.mark.parametrize(("mode", "source"), [(0, ["5:7", 0]), (2, None), (4, ["1", 0])])
def test_a_subgraph_that_is_muted_or_bypassed(mode: int, source: Any) -> None:
    inner = node(7, "EmptyImage", [1], [["in0", "IMAGE", 3]], [["IMAGE", 4]])
    definition = subgraph(
        "s", [inner], [link(3, -10, 0, 7, 0, "IMAGE"), link(4, 7, 0, -20, 0, "IMAGE")],
        [slot("a", "IMAGE", [3])], [slot("b", "IMAGE", [4])],
    )  # fmt: skip
    use = node(5, "s", [], [["a", "IMAGE", 1]], [["IMAGE", 99]], mode=mode)
    links = [[1, 1, 0, 5, 0, "IMAGE"], [99, 5, 0, 9, 0, "IMAGE"]]
    assert saved([use], links, definitions={"subgraphs": [definition]}) == source


# Primitives


def number_of(*values: Any, through: str | None = None, **more: Any) -> Any:
    primitive = node(1, "PrimitiveNode", list(values), [], [["INT", 5]], **more)
    middle = [node(2, through, [], [["", "*", 5]], [["INT", 6]])] if through else []
    last = node(3, "Some", [7], [["in0", "INT", 6 if through else 5, True]])
    links = [[5, 1, 0, 2 if through else 3, 0, "INT"], [6, 2, 0, 3, 0, "INT"]]
    return convert(file([primitive, *middle, last], links), {"Some": declared("INT")}).prompt["3"]["inputs"]["in0"]


def test_a_primitive_writes_its_value_into_the_widget_it_feeds() -> None:
    assert number_of(33, "fixed") == 33
    assert number_of(33, mode=4) == 33
    assert number_of() == 7, "it has none"
    assert number_of(33, through="Reroute") == 7, "it reaches no further"


def test_a_primitive_may_store_its_values_by_name() -> None:
    primitive = node(1, "PrimitiveNode", {"value": 33, "control": "fixed"}, [], [["INT", 5]])
    last = node(3, "Some", [7], [["in0", "INT", 5, True]])
    prompt = convert(file([primitive, last], [[5, 1, 0, 3, 0, "INT"]]), {"Some": declared("INT")}).prompt
    assert prompt["3"]["inputs"] == {"in0": 33}


INNER = {"key": 33, "inputs": {"required": {"inner": ["INT"]}}}


@pytest.mark.parametrize(
    ("kind", "name", "sent"),
    [
        (["INT"], "a", 33),
        (["INT", {"forceInput": True}], "a", 33),  # a number can be written even if it is always a socket
        (["IMAGE"], "a", None),
        (["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "one"}]}], "a", 33),
        (
            ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": 33, "inputs": {"required": {"inner": ["INT"]}}}]}],
            "a.inner",
            33,
        ),
        (["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "one"}]}], "a.inner", None),
        (["INT"], "gone", None),
    ],
)
def test_a_primitive_feeds_only_what_can_hold_a_value(kind: list[Any], name: str, sent: Any) -> None:
    primitive = node(1, "PrimitiveNode", [33], [], [["INT", 5]])
    last = node(3, "Some", [], [[name, "INT", 5, True]])
    info = {"Some": {"input": {"required": {"a": kind, "grows": ["COMFY_AUTOGROW_V3", {}]}}}}
    prompt = convert(file([primitive, last], [[5, 1, 0, 3, 0, "INT"]]), info).prompt
    assert prompt["3"]["inputs"].get(name) == sent


def test_a_setter_without_a_name_is_nobodys() -> None:
    getter = node(5, "GetNode", ["a"], [], [["IMAGE", 99]])
    odd = [
        node(2, "SetNode", [], [["IMAGE", "IMAGE", None]]),
        node(3, "SetNode", {"name": "a"}, [["IMAGE", "IMAGE", None]]),
    ]
    links = [[1, 1, 0, 4, 0, "IMAGE"], [99, 5, 0, 9, 0, "IMAGE"]]
    assert saved([*odd, setter("a", node_id=4), getter], links) == ["1", 0]


def test_an_inner_link_from_an_input_that_the_definition_does_not_have() -> None:
    inner = node(7, "EmptyImage", [1], [["in0", "INT", 3, True], ["in1", "IMAGE", 4]], [["IMAGE"]])
    links = [link(3, -10, 1, 7, 0, "INT"), link(4, -10, -1, 7, 1, "IMAGE")]
    definition = subgraph("s", [inner], links, [slot("a", "IMAGE", [])], [])
    use = node(5, "s", [], [["a", "IMAGE", 1], ["more", "IMAGE", 1]])
    data = file([IMAGE, use], [[1, 1, 0, 5, 0, "IMAGE"]], definitions={"subgraphs": [definition]})
    info = {**INFO, "EmptyImage": declared("INT", "IMAGE", outputs=["IMAGE"])}
    assert convert(data, info).prompt["5:7"]["inputs"] == {"in0": 1}
