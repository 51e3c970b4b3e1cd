"""Public bug reports become what the editor made of them, where these files lie beside the repository.

What the editor sends besides, and no server needs, is left out: nodes without a class, and labels of buttons.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from kandiflux.workflow.editor_format.convert import convert

from tests.support.places import shared, why_no_shared

CASES = [] if why_no_shared() else sorted(shared("cases").glob("*/*.editor.json"))
BUTTONS = {"PowerLoraLoaderHeaderWidget", "\u2795 Add Lora", "browse", "detect_range"}
APART = {
    "legacy_values.editor.json": "editor 1.58 uses the instance's values, the 1.35 that was recorded the inner ones",
    "easy_use.editor.json": "without the pack's extension the editor links to a node that no server has",
}
DRAWN = {("Seed (rgthree)", "seed"), ("CLIPTextEncode", "text")}
"""Inputs whose values are drawn anew for each run."""


@pytest.mark.skipif(not CASES, reason=why_no_shared() or "no cases")
@pytest.mark.parametrize("answer", CASES, ids=lambda path: f"{path.parent.name}/{path.name.partition('.')[0]}")
def test_the_editors_answer(answer: Path) -> None:
    if answer.name in APART:
        pytest.skip(APART[answer.name])
    info = read(answer.parents[1] / "object_info.json")
    workflow, theirs = read(answer.with_name(answer.name.replace(".editor", ""))), read(answer)
    ours = convert(workflow, info, draw=random.Random(1)).prompt
    theirs = {node_id: node for node_id, node in theirs.items() if node["class_type"]}
    assert ours.keys() == theirs.keys()
    for node_id, node in theirs.items():
        kind, expected = node["class_type"], node["inputs"]
        made = ours[node_id]["inputs"]
        varying = {name for name, value in expected.items() if (kind, name) in DRAWN and made[name] != value}
        assert all("|" not in str(made[name]) and made[name] != -1 for name in varying)
        left_out = BUTTONS | varying
        assert ours[node_id]["class_type"] == kind
        assert without(made, left_out) == without(expected, left_out)


def without(inputs: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in names}


def test_set_and_get_nodes_of_another_pack() -> None:
    workflow = read(shared("cases/07-set-get-over-bypass/easy_use.json"))
    sent = convert(workflow, read(shared("cases/object_info.json"))).prompt
    assert sent.keys() == {"1", "5"}
    assert sent["5"]["inputs"]["images"] == ["1", 0]


def test_inner_seeds_of_comfyui_0_33() -> None:
    info = read(shared("comfyui/object_info-0.33.0.json"))
    inputs = convert(read(shared("cases/33-dynamic-seed/workflow.json")), info).prompt["2"]["inputs"]
    assert (inputs["sampling_mode.seed"], inputs["sampling_mode.presence_penalty"]) == (7, 0.25)
    assert (inputs["thinking"], inputs["use_default_template"]) == (False, True)


def test_the_required_input_without_a_socket() -> None:
    info = read(shared("comfyui/object_info-0.33.0.json"))
    sent = convert(read(shared("cases/33-image-compare/workflow.json")), info).prompt
    (compare,) = (node for node in sent.values() if node["class_type"] == "ImageCompare")
    assert compare["inputs"]["compare_view"] == {"__value__": ["", ""]}


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
