from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import Conversion, convert
from kandiflux.workflow.editor_format.virtual import is_getter, is_virtual, passes_on

from tests.support.conversion_cases import OBJECT_INFO, file, node


@pytest.mark.parametrize("setter", ["SetNode", "easy setNode", "Set_Node (some pack)"])
def test_pairs_of_any_pack_pass_a_value_on(setter: str) -> None:
    getter = setter.replace("Set", "Get").replace("set", "get")
    assert passes_on(setter)
    assert is_getter(getter)
    nodes = [
        node(1, "EmptyImage", [8, 8], [], [["IMAGE", 1]]),
        node(2, setter, ["pic"], [["IMAGE", "IMAGE", 1]], [["IMAGE"]]),
        node(3, getter, ["pic"], [], [["IMAGE", 2]]),
        node(4, "SaveImage", ["x"], [["images", "IMAGE", 2]]),
    ]
    workflow = file(nodes, [[1, 1, 0, 2, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"]])
    assert convert(workflow, OBJECT_INFO).prompt["4"]["inputs"]["images"] == ["1", 0]
    # A server's own class of that name is sent.
    info = {**OBJECT_INFO, getter: {"input": {"required": {}}, "output": ["IMAGE"]}}
    assert convert(workflow, info).prompt["4"]["inputs"]["images"] == ["3", 0]


@pytest.mark.parametrize("kind", ["NodeSetter", "ResetNode", "KSampler", "Seed Everywhere", "ShowText|pysssss"])
def test_other_nodes_are_sent(kind: str) -> None:
    assert not is_virtual(kind)
    assert not is_getter(kind)


def converted(*nodes: dict[str, Any], links: list[Any] | None = None) -> Conversion:
    return convert(file(list(nodes), links), OBJECT_INFO)


def test_an_unknown_node_without_links_is_left_out_with_a_note() -> None:
    image = node(1, "EmptyImage", [8, 8], [], [["IMAGE", 1]])
    save = node(2, "SaveImage", ["x"], [["images", "IMAGE", 1]])
    banners = [node(number, "Banner", ["Section"], title=f"Part {number}") for number in (3, 4, 5, 6, 7)]
    made = converted(image, save, *banners, links=[[1, 1, 0, 2, 0, "IMAGE"]])
    assert made.prompt.keys() == {"1", "2"}
    assert (made.unknown, made.left_out) == ({}, {"Banner": [f"Part {number}" for number in (3, 4, 5, 6, 7)]})
    assert made.notes == [
        "Left out: 'Part 3', 'Part 4', 'Part 5' and 2 more (Banner). The server lacks the class, and no other node is "
        "linked to it."
    ]


def test_an_unknown_node_alone_or_with_a_link_is_missing() -> None:
    assert converted(node(3, "AllInOne", ["a fox"])).unknown == {"AllInOne": ["AllInOne"]}
    image = node(1, "EmptyImage", [8, 8], [], [["IMAGE", 1]])
    saver = node(2, "TheirSaver", ["x"], [["images", "IMAGE", 1]])
    assert converted(image, saver, links=[[1, 1, 0, 2, 0, "IMAGE"]]).unknown == {"TheirSaver": ["TheirSaver"]}


@pytest.mark.parametrize(
    ("nodes", "note"),
    [
        ([], "Nothing runs: the workflow is empty."),
        (
            [node(1, "EmptyImage", [8, 8], mode=2), node(2, "Note", ["x"])],
            "Nothing runs: 1 of 2 nodes are muted or bypassed, the rest is not sent.",
        ),
        ([node(1, "EmptyImage", [8, 8], [], [["IMAGE"]])], "Nothing runs: no node that runs saves or shows a result."),
    ],
)
def test_it_is_told_that_nothing_runs(nodes: list[Any], note: str) -> None:
    assert converted(*nodes).notes == [note]
