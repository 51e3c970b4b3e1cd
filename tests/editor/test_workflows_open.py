"""The shipped workflows in the real editor, in a browser: every node is known, every wire and value is where the file
says, and the editor makes the same prompt of it as the runner."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Workflow, open_client

from tests.hosts import RunningHost, running_comfyui, why_no_comfyui
from tests.kandinsky_runs import save_repositories

playwright = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
OPEN = """async (workflow) => {
    const app = window.app ?? window.comfyAPI.app.app
    await app.loadGraphData(workflow, true, false, null, {
        showMissingNodesDialog: false, showMissingModelsDialog: false
    })
    const nodes = app.graph.nodes
    const unknown = nodes.filter(node => !window.LiteGraph.registered_node_types[node.type]).map(node => node.type)
    return { unknown, prompt: (await app.graphToPrompt()).output }
}"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """A ComfyUI that has all the models the workflows name, if tiny: else a widget would show no value."""
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("comfyui")
    (base / "models").mkdir()
    save_repositories(base / "models")
    with running_comfyui(base) as host:
        (host.input / "example.png").write_bytes((ROOT / "docs" / "demo.png").read_bytes())
        yield host


@pytest.fixture(scope="module")
def page(host: RunningHost) -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium to open the editor in")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page()
        page.goto(host.url)
        page.wait_for_function("(window.app ?? window.comfyAPI?.app?.app)?.graph?.nodes !== undefined", timeout=120_000)
        page.wait_for_function("window.LiteGraph?.registered_node_types?.KandinskyPrior !== undefined", timeout=120_000)
        yield page
        browser.close()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_opens_clean(page: Any, host: RunningHost, path: Path) -> None:
    opened = page.evaluate(OPEN, json.loads(path.read_text("utf-8")))
    page.wait_for_timeout(300)
    assert page.locator(".p-toast-message").all_inner_texts() == [], "the editor complains"
    virtual = {"MarkdownNote", "Note"}
    assert set(opened["unknown"]) <= virtual
    with open_client(host.url) as client:
        wanted = Workflow.load(path).prompt(client.object_info(), {}).nodes
    assert without_titles(opened["prompt"]) == without_titles(wanted)


def without_titles(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """What a server runs of a prompt."""
    return {node: (value["class_type"], value["inputs"]) for node, value in prompt.items()}


def test_missing_models_are_offered_for_download(page: Any) -> None:
    workflow = json.loads((ROOT / "workflows" / "kandinsky22_ksampler.json").read_text("utf-8"))
    named = [model for node in workflow["nodes"] for model in node["properties"].get("models", [])]
    assert {model["directory"] for model in named} == {"diffusion_models", "vae", "text_encoders", "clip_vision"}
    for model in named:
        model["name"] = "not here " + model["name"]
    for node in workflow["nodes"]:  # the editor asks only for what a widget names
        chosen = node.get("widgets_values", [])
        node["widgets_values"] = [f"not here {value}" if ".safetensors" in str(value) else value for value in chosen]
    page.keyboard.press("Escape")  # the templates, which a new editor offers first
    page.evaluate(OPEN.replace("showMissingModelsDialog: false", "showMissingModelsDialog: true"), workflow)
    for model in named:
        page.get_by_text(model["name"]).first.wait_for(timeout=10_000)
    page.keyboard.press("Escape")
