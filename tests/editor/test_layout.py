"""How the shipped workflows look in the real editors, in LiteGraph and in Nodes 2.0, on a ComfyUI without models; and
what they show in App Mode. `tools/lay_out.py` makes them so."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from tests.editor.browser import APP, editor_at
from tests.editor.drawing import Box, drawing, runs_behind
from tests.editor.lone_editor import LAYOUT_EDITORS, editor_package
from tests.support.hosts import RunningHost
from tests.support.placeholders import WORKFLOWS
from tests.support.places import ROOT

OPEN_AS_APP = f"""async (workflow) => {{
    workflow.extra.linearMode = true
    await {APP}.loadGraphData(workflow, true, false, null, {{
        showMissingNodesDialog: false, showMissingModelsDialog: false
    }})
}}"""
SHOWN = """() => [...document.querySelectorAll('[data-testid="app-mode-widget-item"]')].map((item) => [
    ...item.dataset.widgetKey.split(':').slice(1),
    item.querySelector('[data-testid="app-mode-widget-description"]')?.innerText,
])"""
OUTPUTS = """() => document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia.state.value
    .appMode.selectedOutputs.map(Number)"""


@pytest.fixture(scope="module", params=LAYOUT_EDITORS)
def page(request: pytest.FixtureRequest, comfy_host: RunningHost) -> Iterator[Any]:
    (comfy_host.input / "example.png").write_bytes((ROOT / "docs" / "demo.png").read_bytes())
    with editor_at(comfy_host.url, editor_package(request.param)) as page:
        yield page


def read(name: str) -> dict[str, Any]:
    return json.loads(WORKFLOWS[name].read_text("utf-8"))


@pytest.mark.parametrize("vue", [False, True], ids=["LiteGraph", "Nodes 2.0"])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_looks_tidy(page: Any, name: str, vue: bool) -> None:
    assert faults(drawing(page, read(name), vue)) == []


def faults(drawn: dict[str, Any]) -> list[str]:
    """What lies over, sticks out of or hides something else, and which text is cut."""
    nodes, groups = drawn["nodes"], drawn["groups"]
    found = [f"{a['title']} lies over {b['title']}" for a, b in combinations(nodes, 2) if meet(a["box"], b["box"])]
    found += [
        f"groups {a['title']} and {b['title']} meet" for a, b in combinations(groups, 2) if meet(a["box"], b["box"])
    ]
    for node in nodes:
        left, top, right, bottom = node["box"]
        homes = [
            group
            for group in groups
            for box in [group["box"]]
            if box[0] <= left and box[1] + group["head"] <= top and right <= box[2] and bottom <= box[3]
        ]
        if len(homes) != 1:
            found.append(f"{node['title']} is in {len(homes)} groups")
        if max(node["cut"]) > 0:
            found.append(f"the text of {node['title']} is cut")
    at = {node["id"]: node for node in nodes}
    for link in drawn["links"]:
        source, target = at[link["source"]], at[link["target"]]
        name = f"the link from {source['title']} to {target['title']}"
        if source["box"][2] > target["box"][0]:
            found.append(f"{name} leads back")
        for node in nodes:
            if node not in (source, target) and runs_behind(link["curves"], node["box"], 0):
                found.append(f"{name} runs behind {node['title']}")
    return found


def meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("vue", [False, True], ids=["LiteGraph", "Nodes 2.0"])
def test_untidiness_is_seen(page: Any, vue: bool) -> None:
    workflow = read("kandinsky22_text_to_image")
    prior, decoder_loader, note = (node for node in workflow["nodes"] if node["id"] in (1, 2, 6))
    prior["pos"][1] += 60
    note["size"] = [260, 40]
    note["widgets_values"] = ["A long text. " * 60 + "\n\n```\n" + "one long line " * 20 + "\n```"]
    decoder_loader["pos"][0] += 380
    workflow["groups"][2]["bounding"][2] -= 100
    del workflow["extra"]["reroutes"], workflow["extra"]["linkExtensions"]
    found = "; ".join(faults(drawing(page, workflow, vue)))
    for fault in ("lies over", "Save Image is in 0 groups", "runs behind Prompt", "the text of About is cut"):
        assert fault in found


@pytest.mark.parametrize("name", WORKFLOWS)
def test_opens_as_an_app(page: Any, name: str) -> None:
    workflow = read(name)
    page.set_viewport_size({"width": 1600, "height": 900})
    page.evaluate(OPEN_AS_APP, copy.deepcopy(workflow))
    shown = "document.querySelectorAll('[data-testid=\"app-mode-widget-item\"]').length"
    wanted = [
        [str(node), widget]
        for parameter in workflow["extra"]["kandiflux"]["parameters"].values()
        for node, widget in parameter.get("nodes") or [[parameter["node"], parameter["input"]]]
    ]
    page.wait_for_function(f"{shown} === {len(wanted)}", timeout=20_000)
    items = page.evaluate(SHOWN)
    assert [item[:2] for item in items] == wanted
    assert all(description for _, _, description in items)
    saves = [node["id"] for node in workflow["nodes"] if node["type"] == "SaveImage"]
    assert page.evaluate(OUTPUTS) == saves != []
