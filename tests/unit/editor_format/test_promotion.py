"""Widgets that a subgraph's instance shows have the instance's values, in each of the dialects that files have."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import convert

from tests.support.conversion_cases import OBJECT_INFO, file, link, node, slot, subgraph


def sized(*extra_nodes: Any, inputs: list[Any] | None = None, links: list[Any] | None = None) -> dict[str, Any]:
    """A subgraph whose inputs `wide` and `tall` lead to the widgets of node 21, and whose `picture` to a socket."""
    picture = node(22, "Blur", [3], [["mask", "MASK", None], ["image", "IMAGE", 5]], [["IMAGE", 6]])
    image = node(21, "EmptyImage", [11, 22], [["width", "INT", 1, True], ["height", "INT", 3, True]], [["IMAGE", 2]])
    own = [
        link(1, -10, 0, 21, 0, "INT"), link(3, -10, 2, 21, 1, "INT"), link(5, -10, 1, 22, 1, "IMAGE"),
        link(2, 21, 0, -20, 0, "IMAGE"), *(links or []),
    ]  # fmt: skip
    shown = inputs or [slot("wide", "INT", [1]), slot("picture", "IMAGE", [5]), slot("tall", "INT", [3])]
    return subgraph("sized", [image, picture, *extra_nodes], own, shown, [slot("IMAGE", "IMAGE", [2])])


def sent(values: Any, *, proxies: Any = None, definition: Any = None, inputs: Any = None, **more: Any) -> Any:
    """(width, height, radius) inside the instance 5."""
    properties = {} if proxies is None else {"proxyWidgets": proxies}
    use = node(5, "sized", values, inputs or [], [["IMAGE", 9]], properties=properties, **more)
    save = node(9, "SaveImage", ["x"], [["images", "IMAGE", 9]])
    definitions = {"subgraphs": [definition or sized()]}
    prompt = convert(file([use, save], [[9, 5, 0, 9, 0, "IMAGE"]], definitions=definitions), OBJECT_INFO).prompt
    image = prompt["5:21"]["inputs"]
    return image["width"], image["height"], prompt["5:22"]["inputs"]["radius"]


@pytest.mark.parametrize(
    ("values", "proxies", "expected"),
    [
        # Without a list of what is shown, values follow the definition's inputs that lead to a widget.
        ([], None, (11, 22, 3)),
        (None, None, (11, 22, 3)),
        ([99], None, (99, 22, 3)),
        ([99, 88], None, (99, 88, 3)),
        ([99, 88, 77], None, (99, 88, 3)),
        ({"tall": 88}, None, (11, 88, 3)),
        ({"wide": None, "other": 1}, None, (None, 22, 3)),
        # With a list, they follow it; null is the inner node's own.
        ([88, 99], [["-1", "tall"], ["-1", "wide"]], (99, 88, 3)),
        ([88], [["-1", "tall"], ["-1", "wide"]], (11, 88, 3)),
        ([None, 99], [["-1", "tall"], ["-1", "wide"]], (99, 22, 3)),
        ([], [["-1", "tall"], ["-1", "wide"]], (11, 22, 3)),
        ([88, 7], [["21", "height"], ["22", "radius"]], (11, 88, 7)),
        ([7, 66], [["22", "radius"], ["22", "gone"]], (11, 22, 7)),
        ([7, 66], [["22", "radius"], ["-1", "gone"]], (11, 22, 7)),
        ([7, 66], [["22", "radius"], ["77", "radius"]], (11, 22, 7)),
        ([0, 0], [["22", "radius"], ["-1", "wide"]], (0, 22, 0)),
        # More values than the list has entries: the list is of another version, and does not count.
        ([99, 88], [["22", "radius"]], (99, 88, 3)),
    ],
)
def test_whose_the_values_of_an_instance_are(values: Any, proxies: Any, expected: tuple[Any, ...]) -> None:
    assert sent(values, proxies=proxies) == expected


def test_an_input_that_leads_to_several_widgets_sets_them_all_in_the_order_of_its_link_ids() -> None:
    """Without a value of its own, the instance shows that of the first, and the others take it."""
    links = [link(7, -10, 0, 23, 0, "INT")]
    other = node(23, "EmptyImage", [55, 66], [["width", "INT", 7, True]], [["IMAGE"]])
    for order, width in (([1, 7], 11), ([7, 1], 55), ([7], 55), ([], 11)):
        shown = [slot("wide", "INT", order), slot("picture", "IMAGE", [5]), slot("tall", "INT", [3])]
        definition = sized(other, inputs=shown, links=links)
        assert sent([], definition=definition) == (width, 22, 3), order
        assert sent([99], definition=definition) == (99, 22, 3)


def test_links_that_lead_nowhere_inside_do_not_count_as_the_first_widget() -> None:
    shown = [slot("wide", "INT", [40, 41, 42, 1]), slot("picture", "IMAGE", [5]), slot("tall", "INT", [3])]
    links = [link(40, -10, 0, 77, 0, "INT"), link(41, -10, 0, 22, 0, "INT"), link(42, -10, 0, 23, 0, "INT")]
    socket = node(23, "Blur", [4], [["mask", "MASK", 42]])
    definition = sized(socket, inputs=shown, links=links)
    assert sent([99, 88], definition=definition) == (99, 88, 3)
    assert sent([], definition=definition) == (11, 22, 3)


def test_a_value_is_what_the_inner_widget_makes_of_it() -> None:
    inner = node(21, "Text", ["old"], [["value", "STRING", 1, True]], [["STRING", 2]])
    definition = subgraph("t", [inner], [link(1, -10, 0, 21, 0, "STRING")], [slot("text", "STRING", [1])], [])
    around = subgraph("o", [node(7, "t", [], [["text", "STRING", 1, True]])], [link(1, -10, 0, 7, 0, "STRING")],
                      [slot("say", "STRING", [1])], [])  # fmt: skip
    for kind, node_id in (("t", "5:21"), ("o", "5:7:21")):
        use = node(5, kind, ["a\r\nb"], [], [])
        prompt = convert(file([use], definitions={"subgraphs": [definition, around]}), OBJECT_INFO).prompt
        assert prompt[node_id]["inputs"]["value"] == "a\nb"


def nested(outer: Any, inner: Any, outer_proxies: Any = None, *, linked: bool = True) -> Any:
    """The width in a subgraph within a subgraph: `outer` and `inner` are the values of their instances."""
    use = node(7, "sized", inner, [["wide", "INT", 1 if linked else None, True]], [["IMAGE", 2]])
    links = [link(2, 7, 0, -20, 0, "IMAGE"), *([link(1, -10, 0, 7, 0, "INT")] if linked else [])]
    around = subgraph("around", [use], links, [slot("across", "INT", [1])], [slot("IMAGE", "IMAGE", [2])])
    properties = {} if outer_proxies is None else {"proxyWidgets": outer_proxies}
    first = node(5, "around", outer, [], [["IMAGE", 9]], properties=properties)
    data = file([first], definitions={"subgraphs": [around, sized()]})
    return convert(data, OBJECT_INFO).prompt["5:7:21"]["inputs"]["width"]


@pytest.mark.parametrize(
    ("outer", "inner", "proxies", "linked", "width"),
    [
        ([99], [88], None, True, 99),
        ([], [88], None, True, 88),
        ([], [], None, True, 11),
        ([99], [88], None, False, 88),
        ([99], [88], [["7", "wide"]], True, 99),
        ([99], [88], [["7", "wide"]], False, 99),
        ([None], [88], [["7", "wide"]], False, 88),
        ([99], [88], [["-1", "across"]], True, 99),
        ([99], [88], [["7", "tall"]], False, 88),
    ],
)
def test_the_outermost_value_counts(outer: Any, inner: Any, proxies: Any, linked: bool, width: int) -> None:
    assert nested(outer, inner, proxies, linked=linked) == width


def test_a_value_for_the_primitive_inside() -> None:
    inner = [
        node(21, "PrimitiveNode", [33, "fixed"], [], [["INT", 40]]),
        node(22, "EmptyImage", [11, 22], [["width", "INT", 40, True]], [["IMAGE", 41]]),
    ]
    definition = subgraph("s", inner, [link(40, 21, 0, 22, 0, "INT")], [], [])
    use = node(5, "s", [44], [], [], properties={"proxyWidgets": [["21", "value"]]})
    conversion = convert(file([use], definitions={"subgraphs": [definition]}), OBJECT_INFO)
    assert conversion.prompt["5:22"]["inputs"] == {"width": 44, "height": 22}
    assert conversion.fed_by == {"5:21": [("5:22", "width")]}


def test_an_instance_finds_its_links_by_name_and_keeps_inputs_of_its_own() -> None:
    number = node(1, "PrimitiveInt", [33, "fixed"], [], [["INT", 4]])
    listed = [["gone", "INT", 4, True], ["tall", "INT", 4, True], ["wide", "INT", None, True]]
    use = node(5, "sized", [99, 88], listed, [])
    data = file([number, use], [[4, 1, 0, 5, 1, "INT"]], definitions={"subgraphs": [sized()]})
    inside = convert(data, OBJECT_INFO).prompt["5:21"]["inputs"]
    assert inside == {"width": 99, "height": ["1", 0]}


def test_a_shown_widget_that_is_gone_sets_nothing() -> None:
    """Its value must not go to another input, whatever the place of that."""
    inner = node(21, "EmptyImage", [11, 22], [["width", "INT", 1, True], ["height", "INT", 3, True]], [])
    ends = [slot("a", "INT", [1]), slot("b", "INT", [3])]
    definition = subgraph("two", [inner], [link(1, -10, 0, 21, 0, "INT"), link(3, -10, 1, 21, 1, "INT")], ends, [])
    for gone in (["-1", "gone"], ["21", "gone"], ["77", "width"]):
        use = node(5, "two", [66], [], [], properties={"proxyWidgets": [gone]})
        prompt = convert(file([use], definitions={"subgraphs": [definition]}), OBJECT_INFO).prompt
        assert prompt["5:21"]["inputs"] == {"width": 11, "height": 22}
