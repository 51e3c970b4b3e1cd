"""The shipped workflows in the real editor, in a browser: every node and file is known, and the editor makes the same
prompt of it as the runner."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from kandiflux import Workflow, open_client

from tests.editor.browser import APP, DIALOG, browse_templates, editor_at, find_template
from tests.support.hosts import RunningHost
from tests.support.placeholders import WORKFLOWS, models_of

OPEN = f"""async (workflow) => {{
    await {APP}.loadGraphData(workflow, true, false, null, {{
        showMissingNodesDialog: true, showMissingModelsDialog: true
    }})
    await new Promise((resolve) => setTimeout(resolve, 300))
    const graph = {APP}.graph
    const unknown = graph.nodes.map((node) => node.type).filter((type) => !LiteGraph.registered_node_types[type])
    return {{ unknown, prompt: (await {APP}.graphToPrompt()).output }}
}}"""

DETAILS = "View details"
"""Shown with the number of errors by editors that list what is missing at the side; older ones have a dialog."""


@pytest.fixture(scope="module")
def page(stocked_host: RunningHost) -> Iterator[Any]:
    with editor_at(stocked_host.url) as page:
        yield page


@pytest.fixture(scope="module")
def object_info(stocked_host: RunningHost) -> dict[str, Any]:
    with open_client(stocked_host.url) as client:
        return client.object_info()


@pytest.mark.parametrize("path", WORKFLOWS.values(), ids=lambda path: path.stem)
def test_opens_clean(page: Any, object_info: dict[str, Any], path: Path) -> None:
    opened = page.evaluate(OPEN, json.loads(path.read_text("utf-8")))
    assert page.locator(DIALOG).all_inner_texts() == [], "something is missing"
    assert page.get_by_text(DETAILS).count() == 0, "something is missing"  # newer editors list it at the side
    assert page.locator(".p-toast-message").all_inner_texts() == [], "the editor complains"
    virtual = {"MarkdownNote", "Note"}
    assert set(opened["unknown"]) <= virtual
    wanted = Workflow.load(path).prompt(object_info, {}).nodes
    assert without_titles(opened["prompt"]) == without_titles(wanted)


def without_titles(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """What a server runs of a prompt."""
    return {node: (value["class_type"], value["inputs"]) for node, value in prompt.items()}


@pytest.mark.parametrize("name", ["kandinsky22_text_to_image", "kandinsky21_inpaint", "kandinsky3_text_to_image"])
def test_workflows_saved_with_the_older_loaders_open_and_keep_their_links(
    page: Any, object_info: dict[str, Any], tmp_path: Path, name: str
) -> None:
    older = tmp_path / f"{name}.json"
    older.write_text(json.dumps(as_saved_before(json.loads(WORKFLOWS[name].read_text("utf-8")))))
    opened = page.evaluate(OPEN, json.loads(older.read_text("utf-8")))
    assert page.locator(DIALOG).all_inner_texts() == [], "something is missing"
    assert set(opened["unknown"]) <= {"MarkdownNote", "Note"}
    prompt = without_titles(opened["prompt"])
    assert prompt == without_titles(Workflow.load(older).prompt(object_info, {}).nodes)
    now = without_titles(Workflow.load(WORKFLOWS[name]).prompt(object_info, {}).nodes)
    decoders = [node for node, (kind, _) in now.items() if kind in ("KandinskyDecoder", "Kandinsky3Decoder")]
    assert decoders
    assert all(prompt[node] == now[node] for node in decoders)


def as_saved_before(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with the loaders and the types of links that there were before decoders became MODELs."""
    kinds = {node["id"]: node["type"] for node in workflow["nodes"]}
    three = "Kandinsky3Decoder" in kinds.values()
    decoder = "KANDINSKY3" if three else "KANDINSKY_DECODER"
    types = {"MODEL": decoder, "CLIP": "KANDINSKY3_TEXT_ENCODER"}
    older = {"KandinskyDecoderLoader": "Kandinsky3Loader", "KandinskyCLIPLoader": "Kandinsky3TextEncoderLoader"}
    for node in workflow["nodes"]:
        if node["type"] == "KandinskyDecoderLoader":
            node["outputs"] = [node["outputs"][0] | {"name": "decoder"}]
        if three and node["type"] in older:
            node["type"] = older[node["type"]]
        node["inputs"] = [slot for slot in node["inputs"] if slot["name"] not in ("vae", "clip")]
        for slot in (*node["inputs"], *node["outputs"]):
            slot["type"] = types.get(slot["type"], slot["type"])
    for link in workflow["links"]:
        link[5] = types.get(link[5], link[5])
    return workflow


@pytest.mark.parametrize("name", ["kandinsky22_ksampler", "flux_redux", "sd15_lora", "sd15_textual_inversion"])
def test_missing_models_are_offered_for_download(page: Any, name: str) -> None:
    workflow = json.loads(WORKFLOWS[name].read_text("utf-8"))
    for model in (model for node in workflow["nodes"] for model in node["properties"].get("models", [])):
        model["name"] = "not here " + model["name"]
    for model in workflow.get("models", []):
        model["name"] = "not here " + model["name"]
    for node in workflow["nodes"]:  # the editor asks only for what a widget names
        chosen = node.get("widgets_values", [])
        node["widgets_values"] = [f"not here {value}" if ".safetensors" in str(value) else value for value in chosen]
    page.evaluate(OPEN, workflow)
    models = models_of(workflow)
    listed, details = (page.get_by_text(text).filter(visible=True) for text in (models[0]["name"], DETAILS))
    listed.or_(details).first.wait_for(timeout=20_000)
    if details.count():
        details.first.click()
        # Newer editors do not look for what the whole workflow names, such as an embedding in a prompt.
        models = [model for model in models if model not in workflow.get("models", [])]
    for model in models:
        shows = "(texts) => texts.some((text) => document.body.innerText.includes(text))"
        page.wait_for_function(shows, arg=places(**model), timeout=20_000)
    # Neither dialog offers what is not from where the editor would load.
    assert page.get_by_text("Only allowed").count() == 0
    assert page.get_by_test_id("missing-model-import-not-supported-section").count() == 0
    page.keyboard.press("Escape")
    page.locator(DIALOG).first.wait_for(state="hidden", timeout=5_000)


def places(name: str, directory: str, **_: Any) -> list[str]:
    """How editors show where a model belongs: as a path, or below its name."""
    return [f"{directory} / {name}", f"{name}\n\n{directory}", f"{name}\n{directory}"]


def test_the_template_browser_shows_each_with_its_picture(page: Any, stocked_host: RunningHost) -> None:
    templates = requests.get(f"{stocked_host.url}/api/workflow_templates", timeout=10).json()
    (pack,) = (name for name, files in templates.items() if "flux_dev" in files)
    assert sorted(templates[pack]) == sorted(WORKFLOWS)
    for name in WORKFLOWS:
        picture = requests.get(f"{stocked_host.url}/api/workflow_templates/{pack}/{name}.jpg", timeout=10)
        assert picture.headers["Content-Type"] == "image/jpeg"
    dialog = browse_templates(page)
    dialog.get_by_text(pack, exact=True).first.click()
    for name in ("kandinsky22_pocket_mix", "sd15_text_to_image", "flux_dev"):
        card = find_template(page, dialog, name)
    card.click()
    dialog.wait_for(state="hidden", timeout=20_000)
    page.wait_for_function(f"{APP}.graph.nodes.some((node) => node.type === 'KandifluxFluxGuidance')", timeout=20_000)
