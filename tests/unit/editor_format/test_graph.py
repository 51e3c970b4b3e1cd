"""A file's nodes, links and subgraphs are read from each of the formats that there were."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.errors import ConversionError, WorkflowError
from kandiflux.workflow.editor_format.graph import Graph, Node, Scope, definitions_of, is_editor_format, slot_type

from tests.support.conversion_cases import link, node, slot, subgraph


@pytest.mark.parametrize(
    ("data", "is_one"),
    [
        ({"nodes": [], "links": []}, True),
        ({"nodes": [], "version": 1}, True),
        ({"nodes": []}, False),
        ({"nodes": {}, "links": []}, False),
        ({"links": [], "version": 1}, False),
        ([], False),
        (None, False),
    ],
)
def test_which_files_are_in_the_editors_format(data: Any, is_one: bool) -> None:
    assert is_editor_format(data) is is_one


def test_a_node_with_all_that_conversion_needs_of_it() -> None:
    inputs = [
        {"name": "a", "type": "INT", "link": 7.0, "widget": {"name": "b"}, "label": "shown"},
        {"name": "c", "type": 0},
        {"type": ["x", "y"], "link": None, "widget": 5, "label": ""},
    ]
    about = {
        "id": 5.0, "type": "T2IAdapterLoader", "title": "Mine", "mode": 4, "order": 2.5, "inputs": inputs,
        "outputs": [{"name": "OUT", "type": "IMAGE"}], "widgets_values": [1], "widgets_values_named": {"b": 1},
        "properties": {"proxyWidgets": [["-1", "w"], [27, 5, "more"], ["short"], 5]},
    }  # fmt: skip
    read = Node.read(about)
    assert (read.id, read.type, read.title, read.mode, read.order) == ("5", "ControlNetLoader", "Mine", 4, 2.5)
    assert [(one.name, one.type, one.link, one.widget, one.label) for one in read.inputs] == [
        ("a", "INT", "7", "b", "shown"), ("c", "*", None, None, None), ("", "COMBO", None, None, None),
    ]  # fmt: skip
    assert [(one.name, one.type) for one in read.outputs] == [("OUT", "IMAGE")]
    assert (read.stored, read.named) == ([1], {"b": 1})
    assert read.proxies == [("-1", "w"), ("27", "5")]
    assert (read["title"], dict(read), len(read)) == ("Mine", about, 10)


@pytest.mark.parametrize("odd", [None, "x", [], {}])
def test_what_a_node_says_in_another_form_counts_as_not_said(odd: Any) -> None:
    read = Node.read({"id": 1, "type": "X", "mode": odd, "order": odd, "widgets_values_named": odd or None})
    assert (read.mode, read.order, read.named) == (0, 0, None)
    assert Node.read({"id": 1, "type": "X", "title": ""}).title is None
    assert Node.read({"id": 1, "type": "X", "widgets_values": "ab"}).stored == ()
    assert Node.read({"id": 1, "type": "X", "widgets_values": {"a": 1}}).stored == {"a": 1}
    assert Node.read({"id": 1, "type": "X", "properties": []}).properties == {}


@pytest.mark.parametrize("broken", [{"id": 1}, {"type": "X"}, {"id": None, "type": "X"}, {"id": 1, "type": None}, []])
def test_a_node_needs_an_id_and_a_type(broken: Any) -> None:
    with pytest.raises(WorkflowError, match="a node is malformed") as caught:
        Node.read(broken)
    assert caught.value.expected == "an object with `id` and `type`"
    assert caught.value.got == repr(broken)


def test_an_error_shows_the_beginning_of_what_is_wrong() -> None:
    with pytest.raises(WorkflowError) as caught:
        Graph.read({"nodes": "x" * 1000})
    assert caught.value.got == "'" + "x" * 119
    with pytest.raises(WorkflowError, match="the workflow is malformed"):
        Graph.read(5)


@pytest.mark.parametrize(
    "links",
    [
        [[3, 1, 0, 2, 4, "IMAGE"]],
        [[3.0, "1", 0.0, 2, "4", "IMAGE", "more"]],
        [None, [3, 1, 0, 2, 4, "IMAGE"]],
        [link(3, 1, 0, 2, 4, "IMAGE")],
        {"3": link(3, 1, 0, 2, 4, "IMAGE")},
    ],
    ids=["list", "numbers in other forms", "a hole", "object", "by id"],
)
def test_links_in_each_format(links: Any) -> None:
    (read,) = Graph.read({"nodes": [], "links": links}).links.values()
    ends = (read.id, read.origin_id, read.origin_slot, read.target_id, read.target_slot, read.type)
    assert ends == ("3", "1", 0, "2", 4, "IMAGE")


def test_a_link_may_have_no_type() -> None:
    without = {key: value for key, value in link(3, 1, 0, 2, 4, "").items() if key != "type"}
    for one in ([3, 1, 0, 2, 4], [3, 1, 0, 2, 4, None], without):
        assert Graph.read({"nodes": [], "links": [one]}).links["3"].type == "*"


@pytest.mark.parametrize(
    "broken", [[3, 1, 0, 2], 5, "abcd", [3, 1, None, 2, 4], [3, 1, "x", 2, 4], [3, 1, float("inf"), 2, 4], {"id": 3}]
)
def test_a_link_that_cannot_be_read(broken: Any) -> None:
    with pytest.raises(WorkflowError, match="a link is malformed"):
        Graph.read({"nodes": [], "links": [broken]})


@pytest.mark.parametrize(
    ("declared", "kind"), [("IMAGE", "IMAGE"), (["a"], "COMBO"), (("a",), "COMBO"), (0, "*"), (None, "*"), (-1, "-1")]
)
def test_types_of_slots(declared: Any, kind: str) -> None:
    assert slot_type(declared) == kind


def test_what_feeds_an_input() -> None:
    nodes = [node(2, "Blur", [], [["image", "IMAGE", 3], ["mask", "MASK", None], ["gone", "IMAGE", 77]])]
    graph = Graph.read({"nodes": nodes, "links": [[3, 1, 0, 2, 0, "IMAGE"]]})
    blur = graph.nodes["2"]
    found = [graph.input_link(blur, number) for number in (-1, 0, 1, 2, 3)]
    assert [one and one.id for one in found] == [None, "3", None, None, None]
    assert graph.input_link(Graph.read({"nodes": [node(1, "X")]}).nodes["1"], 0) is None


def _definition(order: list[int], outputs: list[int] | None = None) -> Graph:
    links = [link(number, -10, 0, number, 0, "INT") for number in (1, 2, 3)]
    links += [link(4, -10, 1, 4, 0, "INT"), link(5, 1, 0, -20, 0, "INT"), link(6, 2, 0, -20, 0, "INT")]
    links += [link(7, 2, 0, -20, 1, "INT"), link(8, 1, 0, 2, 0, "INT")]
    ends = [slot("a", "INT", order), slot("b", "INT", [4])], [slot("c", "INT", outputs or []), slot("d", "INT", [7])]
    return Graph.read(subgraph("s", [], links, *ends))


@pytest.mark.parametrize(
    ("listed", "order"),
    [([1, 2, 3], "123"), ([3, 1, 2], "312"), ([3], "312"), ([], "123"), ([3, 3, 2], "321"), ([99, 2], "213")],
)
def test_the_links_of_a_subgraphs_input_are_asked_in_the_order_of_its_link_ids(listed: list[int], order: str) -> None:
    graph = _definition(listed)
    assert "".join(one.id for one in graph.from_input(0)) == order
    assert [one.id for one in graph.from_input(1)] == ["4"]
    assert graph.from_input(2) == graph.from_input(-1) == []


@pytest.mark.parametrize(("listed", "first"), [([5, 6], "5"), ([6, 5], "6"), ([], "5"), ([6], "6")])
def test_the_first_link_of_a_subgraphs_output_counts(listed: list[int], first: str) -> None:
    graph = _definition([], listed)
    found = [graph.to_output(number) for number in (0, 1, 2)]
    assert [one and one.id for one in found] == [first, "7", None]


def test_definitions_in_definitions_are_found_and_the_outer_of_one_id_counts() -> None:
    inner = {**subgraph("in", [], [], [], []), "name": "inner"}
    outer = {**subgraph("out", [], [], [], []), "definitions": {"subgraphs": [inner, {**inner, "id": "again"}]}}
    again = {**subgraph("again", [], [], [], []), "name": "outer"}
    found = definitions_of({"definitions": {"subgraphs": [outer, again]}})
    assert {key: graph.data["name"] for key, graph in found.items()} == {"out": "out", "in": "inner", "again": "outer"}
    assert definitions_of({"definitions": []}) == definitions_of({}) == {}


@pytest.mark.parametrize(
    ("definitions", "said"),
    [({"subgraphs": 5}, "`subgraphs` of the workflow's definitions"), (5, "`definitions` of the workflow"),
     ({"subgraphs": [{"id": "a", "name": "Mine", "nodes": 5}]}, "`nodes` of the subgraph Mine"),
     ({"subgraphs": [{"id": "a", "nodes": 5}]}, "`nodes` of the subgraph a"),
     ({"subgraphs": [{"id": "a", "inputs": [5]}]}, "an input or output of the subgraph a")],
)  # fmt: skip
def test_definitions_that_cannot_be_read(definitions: Any, said: str) -> None:
    with pytest.raises(WorkflowError, match=said):
        definitions_of({"definitions": definitions})


def test_the_ids_of_nodes_in_subgraphs() -> None:
    inner = subgraph("in", [node(7, "X")], [], [], [])
    outer = subgraph("out", [node(3, "in")], [], [], [])
    scope = Scope.of_file({"nodes": [node(5, "out"), node(6, "out")], "definitions": {"subgraphs": [inner, outer]}})
    assert scope.execution_id("5") == "5"
    first, second = (scope.enter(scope.graph.nodes[key]) for key in ("5", "6"))
    assert first.execution_id("3") == "5:3"
    deep = second.enter(second.graph.nodes["3"])
    assert (deep.execution_id("7"), deep.parent, deep.instance) == ("6:3:7", second, second.graph.nodes["3"])
    assert scope.enter(scope.graph.nodes["5"]) is first
    assert [scope.is_instance(scope.graph.nodes["5"]), deep.is_instance(deep.graph.nodes["7"])] == [True, False]


def test_fifty_levels_of_subgraphs_are_entered_and_no_more() -> None:
    scope = Scope.of_file(
        {"nodes": [node(1, "s")], "definitions": {"subgraphs": [subgraph("s", [node(1, "s")], [], [], [])]}}
    )
    for _ in range(50):
        scope = scope.enter(scope.graph.nodes["1"])
    with pytest.raises(ConversionError, match="contain each other"):
        scope.enter(scope.graph.nodes["1"])
