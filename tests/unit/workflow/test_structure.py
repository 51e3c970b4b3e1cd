"""Files that are a workflow by their form, and of which one part cannot be read: the message names the part."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.errors import WorkflowError
from kandiflux.workflow.structure import about_workflow, api_nodes
from kandiflux.workflow.workflow import Workflow

GOOD = {"class_type": "One", "inputs": {}}


@pytest.mark.parametrize(
    ("wrong", "where", "expected", "got"),
    [
        ({"class_type": 5}, "the class_type of node 7", "a node class name", "5"),
        ({"class_type": None}, "the class_type of node 7", "a node class name", "None"),
        ({"_meta": "x" * 200}, "the _meta of 'One' (node 7)", "an object", "'" + "x" * 119),
        ({"_meta": []}, "the _meta of 'One' (node 7)", "an object", "[]"),
        ({"_meta": 0}, "the _meta of 'One' (node 7)", "an object", "0"),
    ],
)
def test_a_node_in_the_api_format_that_is_of_no_use(wrong: dict[str, Any], where: str, expected: str, got: str) -> None:
    nodes = {"1": GOOD, "7": {**GOOD, **wrong}, "8": {**GOOD, "class_type": 8}}
    with pytest.raises(WorkflowError) as caught:
        Workflow.from_data(nodes, origin="a.json")
    assert caught.value.message == f"a.json cannot be read: {where} is malformed."
    assert (caught.value.expected, caught.value.got) == (expected, got)
    with pytest.raises(WorkflowError, match=r"b\.json cannot be read"):
        Workflow.from_data({"prompt": nodes, "workflow": None}, origin="b.json")


@pytest.mark.parametrize("more", [{}, {"_meta": None}, {"_meta": {}}, {"_meta": {"title": "T"}}])
def test_a_node_in_the_api_format_may_have_a_meta(more: dict[str, Any]) -> None:
    api_nodes({"1": {**GOOD, **more}}, "a.json")


def editor(about: Any) -> dict[str, Any]:
    return {"nodes": [], "links": [], "extra": {"kandiflux": about}}


@pytest.mark.parametrize(
    ("about", "where", "expected"),
    [
        (5, "", "an object"),
        ([], "", "an object"),
        ({"parameters": 5}, ".parameters", "an object"),
        ({"parameters": {"a": 5}}, ".parameters.a", "an object"),
        ({"presets": []}, ".presets", "an object"),
        ({"presets": {"fast": {}, "slow": None}}, ".presets.slow", "an object"),
        ({"needs": "x"}, ".needs", "an object"),
        ({"needs": {"a": ">=1", "comfyui": 3}}, ".needs.comfyui", "a string, as in >=0.3.60"),
    ],
)
def test_what_a_file_says_of_itself_that_cannot_be_read(about: Any, where: str, expected: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        Workflow.from_data(editor(about), origin="a.json")
    assert caught.value.message == f"a.json cannot be read: extra.kandiflux{where} is malformed."
    assert caught.value.expected == expected


def test_what_a_file_says_of_itself() -> None:
    about = {"parameters": None, "presets": {"fast": {"steps": 1}}, "needs": {"comfyui": ">=1"}, "other": 5}
    assert about_workflow(editor(about), "a.json") == about
    for nothing in ({}, {"extra": None}, {"extra": 5}, {"extra": {}}, editor(None)):
        assert about_workflow(nothing, "a.json") == {}
