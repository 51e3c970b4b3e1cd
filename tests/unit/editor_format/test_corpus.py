"""Official templates become exactly what the editor made of them, where a corpus of that lies beside the repository."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import convert

from tests.support.hosts import comfyui_python
from tests.support.places import shared

CORPUS = "corpus/ui_to_api"


def templates() -> Path | None:
    """The folder of comfyui-workflow-templates 0.1.x, installed here or for a ComfyUI."""
    spec = importlib.util.find_spec("comfyui_workflow_templates")
    if spec is not None and spec.origin:
        return Path(spec.origin).parent / "templates"
    beside = comfyui_python().parents[1].glob("lib/python3*/site-packages/comfyui_workflow_templates/templates")
    return next(iter(beside), None)


@pytest.fixture(scope="module")
def object_info() -> dict[str, Any]:
    described = shared("comfyui/object_info-0.3.64.json")
    if templates() is None:
        pytest.skip("the package comfyui-workflow-templates is not installed")
    return json.loads(described.read_text("utf-8"))


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def bare(prompt: dict[str, Any]) -> dict[str, Any]:
    return {node_id: (about["class_type"], about["inputs"]) for node_id, about in prompt.items()}


def test_every_file_whose_nodes_are_known_becomes_what_the_editor_made(object_info: dict[str, Any]) -> None:
    compared = 0
    for expected in sorted(shared(CORPUS).glob("*.json")):
        template = (templates() or shared(CORPUS)) / expected.name
        if not template.is_file():
            continue
        conversion = convert(read(template), object_info)
        if not conversion.unknown:
            assert bare(conversion.prompt) == bare(read(expected)), expected.name
            compared += 1
    assert compared > 50


def test_every_template_converts_and_what_is_unknown_is_named(object_info: dict[str, Any]) -> None:
    converted = 0
    for template in sorted((templates() or shared(CORPUS)).glob("*.json")):
        workflow = read(template)
        if not isinstance(workflow, dict) or "nodes" not in workflow:
            continue  # an index of the templates
        conversion = convert(workflow, object_info)
        used = {about["class_type"] for about in conversion.prompt.values()}
        assert set(conversion.unknown) == used - object_info.keys(), template.name
        assert all(titles and all(titles) for titles in conversion.unknown.values())
        converted += 1
    assert converted > 100
