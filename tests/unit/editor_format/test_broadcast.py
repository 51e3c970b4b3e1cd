from __future__ import annotations

from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import convert

from tests.support.conversion_cases import file, link, node, slot, subgraph

INFO: dict[str, Any] = {
    "Loader": {"input": {"required": {}}, "output": ["MODEL", "CLIP"]},
    "Other": {"input": {"required": {}}, "output": ["MODEL"]},
    "Encode": {"input": {"required": {"clip": ["CLIP"], "text": ["STRING"]}}, "output": ["CONDITIONING"]},
    "Sample": {
        "input": {
            "required": {
                "model": ["MODEL"], "positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "seed": ["INT"],
            }
        },
        "output": ["LATENT"],
        "output_node": True,
    },
    "Seed Everywhere": {"input": {"required": {"seed": ["INT"]}}, "output": ["INT"]},
}  # fmt: skip
LOADER = node(1, "Loader", [], [], [["MODEL", 1], ["CLIP", 2]])
SAMPLE = node(5, "Sample", [0, "fixed"], [["model", "MODEL", None], ["seed", "INT", None, True]], title="Main")
LINKS = [[1, 1, 0, 8, 0, "MODEL"], [2, 1, 1, 8, 1, "CLIP"]]


def everywhere(kind: str = "Anything Everywhere", *inputs: list[Any], **more: Any) -> dict[str, Any]:
    listed = list(inputs) or [["anything", "MODEL", 1], ["anything2", "CLIP", 2], ["anything3", "*", None]]
    return node(8, kind, more.pop("values", []), listed, **more)


def sent(nodes: list[Any], links: list[Any], **more: Any) -> dict[str, dict[str, Any]]:
    return {key: about["inputs"] for key, about in convert(file(nodes, links, **more), INFO).prompt.items()}


def test_inputs_without_a_link_are_linked_by_type() -> None:
    made = sent([LOADER, node(2, "Encode", ["x"]), SAMPLE, everywhere()], LINKS)
    assert made.keys() == {"1", "2", "5"}, "the node itself is not sent"
    assert made["2"]["clip"] == ["1", 1]
    assert made["5"] == {"model": ["1", 0], "seed": 0}


def test_the_links_in_the_file_count_where_there_are_any() -> None:
    listed = [
        {"downstream": 5, "downstream_slot": 0, "upstream": "3", "upstream_slot": 0, "type": "MODEL"},
        {"downstream": 9, "downstream_slot": 0, "upstream": "3", "upstream_slot": 0, "type": "MODEL"},
        {"downstream": 5, "downstream_slot": 7, "upstream": "3", "upstream_slot": 0, "type": "MODEL"},
        {"downstream": 5, "downstream_slot": "0"},
        None,
    ]
    nodes = [LOADER, node(3, "Other"), node(2, "Encode", ["x"], [["clip", "CLIP", None]]), SAMPLE, everywhere()]
    made = sent(nodes, LINKS, extra={"ue_links": listed})
    assert (made["5"]["model"], made["2"]) == (["3", 0], {"text": "x"})


@pytest.mark.parametrize(
    ("properties", "reached"),
    [
        ({"title_regex": "Mai"}, True),
        ({"title_regex": "Second"}, False),
        ({"input_regex": "^model$"}, True),
        ({"input_regex": "clip"}, False),
        ({"input_regex": "("}, True),
        ({"title_regex": ".*", "input_regex": ""}, True),
    ],
)
def test_patterns_restrict_it(properties: dict[str, Any], reached: bool) -> None:
    node8 = everywhere("Anything Everywhere", ["anything", "MODEL", 1], properties={"ue_properties": properties})
    assert ("model" in sent([LOADER, SAMPLE, node8], LINKS[:1])["5"]) is reached


def test_patterns_of_older_versions_are_widgets() -> None:
    node8 = everywhere("Anything Everywhere?", ["anything", "MODEL", 1], values=["Second", ".*", ".*"])
    assert "model" not in sent([LOADER, SAMPLE, node8], LINKS[:1])["5"]


def test_a_restricted_one_counts_more_and_equal_ones_not_at_all() -> None:
    second = node(9, "Anything Everywhere", [], [["anything", "MODEL", 3]])
    links = [LINKS[0], [3, 3, 0, 9, 0, "MODEL"]]
    first = everywhere("Anything Everywhere", ["anything", "MODEL", 1])
    assert "model" not in sent([LOADER, node(3, "Other"), SAMPLE, first, second], links)["5"]
    second["properties"] = {"ue_properties": {"title_regex": "Main"}}
    assert sent([LOADER, node(3, "Other"), SAMPLE, first, second], links)["5"]["model"] == ["3", 0]


def test_prompts_go_by_the_names_of_inputs() -> None:
    encoders = [node(number, "Encode", ["x"], [], [["CONDITIONING", number]]) for number in (2, 3)]
    node8 = everywhere("Prompts Everywhere", ["CONDITIONING", "CONDITIONING", 2], ["CONDITIONING", "CONDITIONING", 3])
    links = [[2, 2, 0, 8, 0, "CONDITIONING"], [3, 3, 0, 8, 1, "CONDITIONING"]]
    made = sent([*encoders, SAMPLE, node8], links)["5"]
    assert (made["positive"], made["negative"]) == (["2", 0], ["3", 0])


def test_the_same_type_twice_goes_by_name() -> None:
    encoders = [node(number, "Encode", ["x"], [], [["CONDITIONING", number]]) for number in (2, 3)]
    node8 = everywhere("Anything Everywhere", ["negative", "CONDITIONING", 2], ["other", "CONDITIONING", 3])
    links = [[2, 2, 0, 8, 0, "CONDITIONING"], [3, 3, 0, 8, 1, "CONDITIONING"]]
    made = sent([*encoders, SAMPLE, node8], links)["5"]
    assert made["negative"] == ["2", 0]
    assert "positive" not in made


@pytest.mark.parametrize("connectable", [True, False])
def test_a_seed_goes_to_inputs_of_that_name_if_they_may_be_linked(connectable: bool) -> None:
    sample = {**SAMPLE, "properties": {"widget_ue_connectable": {"seed": connectable}}}
    seed = node(8, "Seed Everywhere", [7, "fixed"], [], [["INT"]])
    assert sent([sample, seed], [])["5"]["seed"] == (["8", 0] if connectable else 0)


@pytest.mark.parametrize("mode", [2, 4])
def test_one_that_is_off_does_nothing(mode: int) -> None:
    assert "model" not in sent([LOADER, SAMPLE, everywhere(mode=mode)], LINKS)["5"]


def test_a_node_can_refuse_it() -> None:
    sample = {**SAMPLE, "properties": {"rejects_ue_links": True}}
    assert "model" not in sent([LOADER, sample, everywhere()], LINKS)["5"]


def test_it_works_within_a_subgraph_only() -> None:
    inner = subgraph(
        "inner",
        [node(5, "Sample", [0, "fixed"]), everywhere("Anything Everywhere", ["anything", "MODEL", 1])],
        [link(1, -10, 0, 8, 0, "MODEL")],
        [slot("model", "MODEL", [1])],
        [],
    )
    use = node(4, "inner", [], [["model", "MODEL", 1]])
    made = sent([LOADER, use, SAMPLE], [[1, 1, 0, 4, 0, "MODEL"]], definitions={"subgraphs": [inner]})
    assert made["4:5"]["model"] == ["1", 0]
    assert "model" not in made["5"]


def test_rules_that_are_not_followed_are_told() -> None:
    node8 = everywhere(
        "Anything Everywhere", ["anything", "MODEL", 1], properties={"ue_properties": {"group_regex": "A"}}
    )
    conversion = convert(file([LOADER, SAMPLE, node8], LINKS[:1]), INFO)
    assert "model" not in conversion.prompt["5"]["inputs"]
    assert conversion.notes[0].startswith("'Anything Everywhere' (node 8) broadcasts to a group or colour only")
