"""Official templates of ComfyUI 0.33 and its blueprints: the editor beside ComfyUI makes of each what the runner makes.

What is not compared, since the editor's own answer is no good there, or cannot be had without it:

- ids of nodes, which the editor changes where two subgraphs have the same;
- the nodes whose values the file has by name, if a class has other widgets now: the editor goes by position;
- values that are null in the editor;
- the pictures of 3D viewers, which the editor draws.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kandiflux.util.json_values import is_object
from kandiflux.workflow.editor_format.convert import convert

from tests.editor.lone_editor import editor_packages, lone_editor, version_of
from tests.editor.test_conversion_in_editor import bare, unnumbered
from tests.support.hosts import comfyui_python
from tests.support.places import shared

_DRAWN = ("Load3D", "viewport_state")
_AT_LEAST = 0.97
_EACH_PAGE = 60
"""A page keeps what it has loaded: it is opened anew after this many files."""


def templates() -> list[Path]:
    comfyui = comfyui_python().parents[2]
    packages = comfyui_python().parents[1].glob("lib/python3*/site-packages/comfyui_workflow_templates_json/templates")
    found = [path for folder in packages for path in folder.glob("*.json") if not path.name.startswith("index")]
    return sorted([*found, *(comfyui / "blueprints").glob("*.json")])


@pytest.mark.slow
@pytest.mark.skipif(not templates(), reason="no comfyui-workflow-templates-json beside ComfyUI")
def test_templates_are_converted_as_the_editor_does() -> None:
    info = json.loads(shared("comfyui/object_info-0.33.0.json").read_text("utf-8"))
    package = next((one for one in editor_packages() if version_of(one) != "1.27.10"), None)
    known = [path for path in templates() if _is_known(path, info)]
    different: list[str] = []
    for first in range(0, len(known), _EACH_PAGE):
        with lone_editor(info, package) as editor:
            for path in known[first : first + _EACH_PAGE]:
                workflow = json.loads(path.read_text("utf-8"))
                if not _is_same(bare(convert(workflow, info).prompt), bare(editor.prompt(workflow)), workflow):
                    different.append(path.name)
    assert len(different) <= (1 - _AT_LEAST) * len(known), different


def _is_known(path: Path, info: dict[str, Any]) -> bool:
    workflow = json.loads(path.read_text("utf-8"))
    if not is_object(workflow) or "nodes" not in workflow:
        return False
    conversion = convert(workflow, info)
    return not conversion.unknown and not conversion.left_out


def _is_same(ours: dict[str, Any], theirs: dict[str, Any], workflow: dict[str, Any]) -> bool:
    if ours == theirs or unnumbered(ours) == unnumbered(theirs):
        return True
    levels = [workflow, *(workflow.get("definitions") or {}).get("subgraphs", [])]
    by_name = {str(node["id"]) for level in levels for node in level["nodes"] if node.get("widgets_values_named")}
    if ours.keys() != theirs.keys():
        return False
    for node_id, (kind, inputs) in ours.items():
        other = theirs[node_id][1]
        different = {name for name in {*inputs, *other} if inputs.get(name) != other.get(name)}
        drawn = {name for name in different if kind in _DRAWN or name in _DRAWN}
        nulls = {name for name in different if name in other and other[name] is None}
        if different - drawn - nulls and node_id.rpartition(":")[2] not in by_name:
            return False
    return True
