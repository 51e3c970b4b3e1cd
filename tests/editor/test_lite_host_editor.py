"""`kandiflux host --editor`, in a browser: a template is opened, run with the button, and its picture is there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from pocket.judge import judge
from pocket.subjects import Triple

from tests.editor.browser import APP, DIALOG, browse_templates, editor_at, find_template
from tests.support.hosts import RunningHost, running_lite

EXPECTED_404 = ("user.css", "userdata")
"""What the editor looks for and does not need: a ComfyUI that was just installed does not have it either."""

ITS_OWN = "Cannot read properties of undefined (reading 'id')"
"""Raised by this version's colour palettes while it starts; on a ComfyUI, too."""

DRAWN = f"{APP}.graph.nodes.find((node) => node.type === 'SaveImage')?.imgs?.[0]?.src"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    pytest.importorskip("comfyui_frontend_package", reason="the graph editor's package is not installed")
    base = tmp_path_factory.mktemp("lite")
    with running_lite(base, "--editor", "--user", str(base / "user"), packs=()) as host:
        yield host


@pytest.fixture(scope="module")
def page(host: RunningHost) -> Iterator[Any]:
    # The graph that the editor begins with takes nodes that only a ComfyUI has.
    with editor_at(host.url, settings={"Comfy.Workflow.ShowMissingNodesWarning": False}) as page:
        page.problems = watch(page)
        page.reload()
        page.wait_for_function(f"{APP}?.graph?.nodes !== undefined", timeout=120_000)
        page.wait_for_timeout(2000)
        yield page


def watch(page: Any) -> list[str]:
    """Grows by what goes wrong in the page from now on."""
    problems: list[str] = []

    def failed(answer: Any) -> None:
        if answer.status >= 400 and not any(part in answer.url for part in EXPECTED_404):
            problems.append(f"{answer.status} {answer.url}")

    page.on("response", failed)

    def raised(error: Any) -> None:
        if ITS_OWN not in str(error):
            problems.append(str(error))

    page.on("pageerror", raised)
    return problems


def open_template(page: Any, name: str) -> None:
    dialog = browse_templates(page)
    find_template(page, dialog, name).click()
    dialog.wait_for(state="hidden", timeout=60_000)
    page.wait_for_function(f"{APP}.graph.nodes.some((node) => node.type === 'KandinskyPrior')", timeout=60_000)


def run(page: Any, host: RunningHost) -> Image.Image:
    """Press Run, and wait for the picture in the Save Image node."""
    before = page.evaluate(DRAWN)
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_function(f"{DRAWN} && {DRAWN} !== {before!r}".replace("None", "null"), timeout=120_000)
    source = page.evaluate(DRAWN)
    assert source.startswith(f"{host.url}/api/view?")
    return Image.open(io.BytesIO(requests.get(source, timeout=20).content)).convert("RGB")


def test_a_template_is_opened_and_run_with_the_button(page: Any, host: RunningHost) -> None:
    open_template(page, "kandinsky22_pocket_text_to_image")
    picture = run(page, host)
    assert judge(np.asarray(picture) / 255.0).right(Triple("circle", "red", "blue"))
    assert page.locator(DIALOG).all_inner_texts() == []
    assert page.problems == []


def test_another_prompt_another_picture(page: Any, host: RunningHost) -> None:
    open_template(page, "kandinsky22_pocket_text_to_image")
    page.evaluate(
        f"""() => {{
            const prompt = {APP}.graph.nodes.find((node) => node.type === 'KandinskyPrior')
            prompt.widgets.find((widget) => widget.name === 'prompt').value = 'a green square on a yellow background'
        }}"""
    )
    assert judge(np.asarray(run(page, host)) / 255.0).right(Triple("square", "green", "yellow"))
    assert page.problems == []


def test_a_picture_to_begin_with_is_there(page: Any, host: RunningHost) -> None:
    open_template(page, "kandinsky22_pocket_image_to_image")
    assert run(page, host).size == (128, 128)
    assert page.problems == []


def test_a_wrong_value_is_said_in_the_editor(page: Any, host: RunningHost) -> None:
    open_template(page, "kandinsky22_pocket_image_to_image")
    page.evaluate(
        f"""() => {{
            const picture = {APP}.graph.nodes.find((node) => node.type === 'LoadImage')
            picture.widgets.find((widget) => widget.name === 'image').value = 'gone.png'
        }}"""
    )
    page.get_by_role("button", name="Run", exact=True).click()
    dialog = page.locator(DIALOG).first
    dialog.wait_for(timeout=60_000)
    assert "gone.png" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden", timeout=60_000)


def test_what_is_saved_is_there_after_a_reload(page: Any, host: RunningHost) -> None:
    open_template(page, "kandinsky22_pocket_mix")
    saved = page.evaluate(
        f"""async () => {{
            const workflow = {APP}.extensionManager.workflow
            const active = workflow.activeWorkflow
            await workflow.saveAs(active, 'workflows/mine.json').save()
            return workflow.persistedWorkflows.map((one) => one.path)
        }}"""
    )
    assert "workflows/mine.json" in saved
    assert (host.base / "user" / "default" / "workflows" / "mine.json").is_file()
