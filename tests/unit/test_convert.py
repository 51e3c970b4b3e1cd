"""Each rule by which the editor turns its own format into what it sends."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from kandiflux.convert import convert
from kandiflux.errors import ConversionError, WorkflowError

ROOT = Path(__file__).resolve().parents[2]
OBJECT_INFO = json.loads((ROOT / "tests" / "data" / "object_info.json").read_text("utf-8"))
SHARED = Path(os.environ.get("KANDIFLUX_SHARED") or ROOT.parent / "shared")


def node(node_id: int, kind: str, values: Any = None, inputs: Any = (), mode: int = 0, **more: Any) -> dict[str, Any]:
    """`inputs`: (name, type, link id or None), and True as a fourth where it is a widget turned input."""
    declared = [
        {"name": name, "type": kind, "link": link, **({"widget": {"name": name}} if widget else {})}
        for name, kind, link, *widget in inputs
    ]
    return {"id": node_id, "type": kind, "mode": mode, "widgets_values": values, "inputs": declared, **more}


def api(nodes: list[dict[str, Any]], links: list[Any] = (), **more: Any) -> dict[str, Any]:  # type: ignore[assignment]
    """{id: inputs} of the converted file."""
    prompt = convert({"nodes": nodes, "links": list(links), **more}, OBJECT_INFO).prompt
    return {node_id: about["inputs"] for node_id, about in prompt.items()}


def sampler(values: list[Any]) -> dict[str, Any]:
    return node(1, "KSampler", values)


def test_widgets_follow_object_info_and_the_control_is_skipped() -> None:
    inputs = api([sampler([7, "randomize", 12, 3.5, "euler", "karras", 0.5])])["1"]
    assert inputs == {
        "seed": 7, "steps": 12, "cfg": 3.5, "sampler_name": "euler", "scheduler": "karras", "denoise": 0.5,
    }  # fmt: skip


def test_a_legacy_boolean_fills_the_control_slot() -> None:
    assert api([sampler([7, True, 12, 3.5, "euler", "karras", 0.5])])["1"]["steps"] == 12


def test_missing_values_take_their_defaults() -> None:
    inputs = api([sampler([7, "fixed"])])["1"]
    assert (inputs["steps"], inputs["cfg"], inputs["sampler_name"], inputs["scheduler"]) == (20, 8.0, "euler", "simple")


def test_a_choice_with_control_skips_two_and_the_upload_button_comes_before_the_optional_inputs() -> None:
    inputs = api([node(1, "Chooser", ["b", "fixed", "", "p.png", "image", "tail", ["x"]])])["1"]
    assert inputs == {"first": "b", "picture": "p.png", "last": "tail", "many": {"__value__": ["x"]}}


def test_values_may_be_given_by_name() -> None:
    assert api([node(1, "EmptyImage", {"width": 8, "unheard_of": 1})])["1"]["width"] == 8


def test_a_linked_widget_keeps_its_slot_and_the_link_wins() -> None:
    nodes = [
        node(1, "Loader", [True]),
        node(2, "EmptyImage", [10, 20, 1, 0], [("width", "INT", 5, True)]),
    ]
    inputs = api(nodes, [[5, 1, 0, 2, 0, "INT"]])["2"]
    assert (inputs["width"], inputs["height"]) == (["1", 0], 20)


def test_an_input_that_became_a_socket_loses_its_slot_only_when_the_file_still_has_it() -> None:
    assert api([node(1, "Late", ["old", 5])])["1"] == {"kept": 5}
    assert api([node(1, "Late", [5])])["1"] == {"kept": 5}


def test_a_primitive_is_written_into_what_it_feeds() -> None:
    nodes = [
        node(9, "PrimitiveNode", [33, "fixed"]),
        node(2, "EmptyImage", [10, 20, 1, 0], [("width", "INT", 5, True)]),
    ]
    conversion = convert({"nodes": nodes, "links": [[5, 9, 0, 2, 0, "INT"]]}, OBJECT_INFO)
    assert conversion.prompt["2"]["inputs"]["width"] == 33
    assert list(conversion.prompt) == ["2"]
    assert conversion.fed_by == {"9": [("2", "width")]}


def test_reroutes_and_notes_are_not_nodes() -> None:
    nodes = [
        node(1, "EmptyImage", [1, 1, 1, 0]),
        node(2, "Reroute", None, [("", "*", 1)]),
        node(3, "Reroute", None, [("", "*", 2)]),
        node(4, "SaveImage", ["x"], [("images", "IMAGE", 3)]),
        node(5, "MarkdownNote", ["read me"]),
        node(6, "Note", ["me too"]),
    ]
    links = [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"], [3, 3, 0, 4, 0, "IMAGE"]]
    prompt = api(nodes, links)
    assert prompt.keys() == {"1", "4"}
    assert prompt["4"]["images"] == ["1", 0]


def blur_chain(mode: int) -> dict[str, Any]:
    nodes = [
        node(1, "EmptyImage", [1, 1, 1, 0]),
        node(2, "Blur", [3], [("mask", "MASK", None), ("image", "IMAGE", 1)], mode),
        node(3, "SaveImage", ["x"], [("images", "IMAGE", 2)]),
    ]
    return api(nodes, [[1, 1, 0, 2, 1, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]])


def test_a_muted_node_is_dropped_with_the_inputs_that_came_from_it() -> None:
    prompt = blur_chain(2)
    assert prompt.keys() == {"1", "3"}
    assert prompt["3"] == {"filename_prefix": "x"}


def test_a_bypassed_node_passes_on_the_first_input_of_the_type() -> None:
    assert blur_chain(4)["3"]["images"] == ["1", 0]


def test_a_bypassed_node_without_a_fitting_input_passes_on_nothing() -> None:
    nodes = [
        node(1, "Loader", [True], mode=4),
        node(2, "SaveImage", ["x"], [("images", "IMAGE", 1)]),
    ]
    assert api(nodes, [[1, 1, 0, 2, 0, "IMAGE"]])["2"] == {"filename_prefix": "x"}


def test_links_as_objects() -> None:
    nodes = [node(1, "EmptyImage", [1, 1, 1, 0]), node(2, "SaveImage", ["x"], [("images", "IMAGE", 4)])]
    link = {"id": 4, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "IMAGE"}
    assert api(nodes, [link], version=1)["2"]["images"] == ["1", 0]


def subgraph_file(instance_values: list[Any], outer_link: int | None = None) -> dict[str, Any]:
    inner = {
        "id": "aaaa-bbbb",
        "inputs": [{"name": "width", "type": "INT"}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        "nodes": [node(1, "EmptyImage", [11, 22, 1, 0], [("width", "INT", 1, True)])],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0, "type": "INT"},
            {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"},
        ],
    }
    return {
        "nodes": [
            node(5, "aaaa-bbbb", instance_values, [("width", "INT", outer_link)]),
            node(6, "SaveImage", ["x"], [("images", "IMAGE", 3)]),
            node(7, "Loader", [True]),
        ],
        "links": [[3, 5, 0, 6, 0, "IMAGE"], [4, 7, 0, 5, 0, "INT"]],
        "definitions": {"subgraphs": [inner]},
    }


@pytest.mark.parametrize(
    ("values", "link", "width"), [([99], None, 99), ([], None, 11), ([99], 4, ["7", 0])], ids=["host", "inner", "link"]
)
def test_subgraphs_are_expanded(values: list[Any], link: int | None, width: Any) -> None:
    prompt = convert(subgraph_file(values, link), OBJECT_INFO).prompt
    assert prompt.keys() == {"5:1", "6", "7"}
    assert prompt["6"]["inputs"]["images"] == ["5:1", 0]
    assert prompt["5:1"]["inputs"]["width"] == width


def test_unknown_classes_are_named_and_do_not_stop_it() -> None:
    conversion = convert({"nodes": [node(1, "Mystery", [1], title="Riddle")], "links": []}, OBJECT_INFO)
    assert conversion.unknown == {"Mystery": ["Riddle"]}
    assert conversion.prompt["1"]["inputs"] == {}


def test_a_circle_of_reroutes_is_refused() -> None:
    nodes = [
        node(1, "Reroute", None, [("", "*", 2)]),
        node(2, "Reroute", None, [("", "*", 1)]),
        node(3, "SaveImage", ["x"], [("images", "IMAGE", 3)]),
    ]
    with pytest.raises(ConversionError, match="circle"):
        api(nodes, [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 2, 0, 3, 0, "IMAGE"]])


def test_what_is_no_workflow_is_refused() -> None:
    with pytest.raises(WorkflowError):
        convert({"1": {"class_type": "X", "inputs": {}}}, OBJECT_INFO)
    with pytest.raises(WorkflowError):
        convert({"nodes": [{"type": "X"}], "links": []}, OBJECT_INFO)


def _templates() -> Path | None:
    spec = importlib.util.find_spec("comfyui_workflow_templates")
    return Path(spec.origin).parent / "templates" if spec is not None and spec.origin else None


def test_official_templates_convert_as_in_the_editor() -> None:
    corpus, templates = SHARED / "corpus" / "ui_to_api", _templates()
    known = SHARED / "comfyui" / "object_info-0.3.64.json"
    if templates is None or not corpus.is_dir() or not known.is_file():
        pytest.skip("needs the package comfyui-workflow-templates and the corpus of what the editor made of it")
    object_info = json.loads(known.read_text("utf-8"))
    compared = 0
    for expected_file in sorted(corpus.glob("*.json")):
        template = templates / expected_file.name
        if not template.is_file():
            continue
        conversion = convert(json.loads(template.read_text("utf-8")), object_info)
        if conversion.unknown:
            continue
        assert _bare(conversion.prompt) == _bare(json.loads(expected_file.read_text("utf-8"))), expected_file.name
        compared += 1
    assert compared > 50


def _bare(prompt: dict[str, Any]) -> dict[str, Any]:
    return {node_id: (about["class_type"], about["inputs"]) for node_id, about in prompt.items()}
