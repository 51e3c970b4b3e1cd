"""The graph editor in a headless browser, for tests."""

from __future__ import annotations

import contextlib
import mimetypes
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

playwright = pytest.importorskip("playwright.sync_api")

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
APP = "(window.app ?? window.comfyAPI?.app?.app)"
DIALOG = ".p-dialog, [role=dialog][data-state=open]"  # of older and newer editors
_PATIENCE = 120_000

RECORD_PATHS = """
for (const method of ['moveTo', 'lineTo', 'bezierCurveTo']) {
    const original = Path2D.prototype[method]
    Path2D.prototype[method] = function (...numbers) {
        (this.recorded ??= []).push(numbers)
        return original.apply(this, numbers)
    }
}
"""
"""Lets `DRAWING` read the curves back: a Path2D itself does not tell its points."""


@contextlib.contextmanager
def editor_at(url: str, package: Path | None = None, settings: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """A page with the editor of the host at `url`, loaded, with these settings; skips where there is no browser.

    `package`: the folder of another comfyui_frontend_package, whose files stand in for the host's own.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium to open the editor in")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.add_init_script(RECORD_PATHS)
        if package is not None:
            page.route("**/*", lambda route: _answer_from(package / "static", route))
        open_editor(page, url, settings or {})
        yield page
        browser.close()


def _answer_from(static: Path, route: Any) -> None:
    file = static / (urlsplit(route.request.url).path.lstrip("/") or "index.html")
    if file.is_file():
        route.fulfill(path=file, content_type=mimetypes.guess_type(file.name)[0])
    else:
        route.continue_()


def open_editor(page: Any, url: str, settings: Mapping[str, Any]) -> None:
    # A new user's first page opens the templates, at a time of its own.
    chosen = {"Comfy.TutorialCompleted": True, **settings}
    requests.post(f"{url}/api/settings", json=chosen, timeout=30).raise_for_status()
    page.goto(url)
    page.wait_for_function(f"{APP}?.graph?.nodes !== undefined", timeout=_PATIENCE)
    page.wait_for_function("window.LiteGraph?.registered_node_types?.KandinskyPrior !== undefined", timeout=_PATIENCE)
    page.wait_for_load_state("networkidle", timeout=_PATIENCE)  # it still reads lists of models


def browse_templates(page: Any) -> Any:
    """The dialog with the templates."""
    page.evaluate(f"{APP}.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.locator(DIALOG)
    dialog.first.wait_for(timeout=60_000)
    # When its opening animation ends, the dialog moves the focus to one of its buttons. Text that is typed before that
    # may go to the button and be lost.
    page.wait_for_function(
        "(dialog) => dialog.contains(document.activeElement)", arg=dialog.first.element_handle(), timeout=60_000
    )
    return dialog.first


def find_template(page: Any, dialog: Any, name: str) -> Any:
    """The picture of the template `name`, searched for and loaded."""
    dialog.get_by_placeholder("Search").first.fill(name)
    picture = dialog.locator(f'img[alt="{name}"]')
    picture.first.wait_for(timeout=60_000)
    loaded = "(image) => image.complete && image.naturalWidth === 400"
    page.wait_for_function(loaded, arg=picture.first.element_handle(), timeout=60_000)
    return picture.first
