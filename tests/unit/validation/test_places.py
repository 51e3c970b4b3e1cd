"""Where a node of the prompt stands in the editor's file: its titles, and what the file links to it."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.validation.places import Place, Places

from tests.support.conversion_cases import file, link, node, subgraph

INFO = {"Blur": {"display_name": "Soft"}}
DEEP = node(7, "Blur", [], [["mask", "MASK", None], ["image", "IMAGE", 4]], title="Deep")
INNER = subgraph("inner", [DEEP, node(8, "Blur", mode=2)], [link(4, 8, 0, 7, 1, "IMAGE")], [], [])
OUTER = subgraph("outer", [node(3, "inner"), node(4, "inner", title="Second", mode=4)], [], [], [])
OUTER["name"] = "Outside"
NODES = [
    node(1, "Blur", [], [["mask", "MASK", None], ["image", "IMAGE", 2], ["radius", "INT", 99]]),
    node(2, "Nobody", title="Mine", mode=4),
    node(5, "outer", title="Mid"),
    node(6, "outer", mode=2),
]
PLACES = Places(file(NODES, [[2, 2, 0, 1, 1, "IMAGE"]], definitions={"subgraphs": [INNER, OUTER]}), INFO)


def title(place: Place | None) -> str | None:
    return None if place is None else place.title


@pytest.mark.parametrize(
    ("node_id", "expected"),
    [
        ("1", "Soft"),
        ("2", "Mine"),
        ("5", "Mid"),
        ("5:3", "Mid / inner"),
        ("5:3:7", "Mid / inne / Deep"),
        ("5:3:8", "Mid / inne / Soft"),
        ("5:4:8", "Mid / Second / Soft"),
        ("6:3:7", "Outside / inne / Deep"),
        ("9", None),
        ("5:9", None),
        ("5:9:7", None),
        ("1:7", None),
        ("5:3:7:1", None),
    ],
)
def test_a_node_has_the_titles_around_it(node_id: str, expected: str | None) -> None:
    assert title(PLACES.find(node_id)) == expected


def test_a_subgraph_without_a_name_is_called_by_its_id() -> None:
    nameless = {**subgraph("s", [node(7, "Blur")], [], [], []), "name": None}
    places = Places(file([node(5, "s")], definitions={"subgraphs": [nameless]}), {})
    assert title(places.find("5:7")) == "5 / Blur"
    assert [place.title for place in places.running()] == ["5 / Blur"]


@pytest.mark.parametrize(
    ("node_id", "name", "expected"),
    [("1", "image", "Mine"), ("1", "mask", None), ("1", "radius", None), ("1", "gone", None), ("9", "image", None),
     ("5:3:7", "image", "Mid / inne / Soft"), ("5:9:7", "image", None)],
)  # fmt: skip
def test_what_the_file_links_to_an_input(node_id: str, name: str, expected: str | None) -> None:
    assert title(PLACES.source(node_id, name)) == expected


def test_the_nodes_that_run() -> None:
    running = [(place.title, place.node["id"], [outer["id"] for outer in place.around]) for place in PLACES.running()]
    assert running == [("Soft", 1, []), ("Mid / inne / Deep", 7, [5, 3])]


@pytest.mark.parametrize("method", ["find", "source", "running"])
def test_without_a_file_nothing_is_found(method: str) -> None:
    places = Places(None, {})
    arguments: dict[str, Any] = {"find": ["1"], "source": ["1", "image"], "running": []}
    found = getattr(places, method)(*arguments[method])
    assert (list(found) if method == "running" else found) == ([] if method == "running" else None)
