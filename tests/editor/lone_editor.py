"""The graph editor without a server, for tests: its files from the package, its questions answered here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.hosts import comfyui_python

playwright = pytest.importorskip("playwright.sync_api")

_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
_PATIENCE = 120_000
EDITORS = "KANDIFLUX_EDITORS"
LAYOUT_EDITORS = ("1.49.", "1.58.1")
"""Versions in which the shipped workflows are laid out well: ComfyUI 0.33's, and the newest known."""
_PROMPT = """async (workflow) => {
    const app = window.app ?? window.comfyAPI.app.app
    await app.loadGraphData(workflow, true, false, null, {
        showMissingNodesDialog: false, showMissingModelsDialog: false
    })
    return (await app.graphToPrompt()).output
}"""
_ANSWERS: dict[str, Any] = {
    "users": {"storage": "server", "migrated": True},
    "settings": {"Comfy.TutorialCompleted": True},
    "system_stats": {"system": {"os": "", "comfyui_version": "", "argv": []}, "devices": []},
    "queue": {"queue_running": [], "queue_pending": []},
    "prompt": {"exec_info": {"queue_remaining": 0}},
    "userdata": [],
    "extensions": [],
    "embeddings": [],
    "experiment/models": [],
}


class LoneEditor:
    """`version` of the editor, and what it makes of files."""

    def __init__(self, page: Any, version: str) -> None:
        self._page = page
        self.version = version

    def prompt(self, workflow: Mapping[str, Any]) -> dict[str, Any]:
        """In the API format, as the editor would queue it."""
        return self._page.evaluate(_PROMPT, workflow)


@contextlib.contextmanager
def lone_editor(object_info: Mapping[str, Any], package: Path | None) -> Iterator[LoneEditor]:
    """The editor of a comfyui-frontend-package (see `editor_packages`), with these node classes. Skips without."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium to open the editor in")
    if package is None:
        pytest.skip("no comfyui-frontend-package, here or in a ComfyUI")
    answers = {**_ANSWERS, "object_info": object_info}
    with _served(package / "static", answers) as url, playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=_OPTIONS)
        page = browser.new_page()
        page.goto(url)
        last = list(object_info)[-1]
        page.wait_for_function(
            "(window.app ?? window.comfyAPI?.app?.app)?.graph?.nodes !== undefined", timeout=_PATIENCE
        )
        page.wait_for_function(f"window.LiteGraph?.registered_node_types?.{last} !== undefined", timeout=_PATIENCE)
        # It opens its first graph after this, at a time of its own.
        page.wait_for_load_state("networkidle", timeout=_PATIENCE)
        yield LoneEditor(page, version_of(package))
        browser.close()


@contextlib.contextmanager
def _served(static: Path, answers: Mapping[str, Any]) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(static))

        def do_GET(self) -> None:
            question = self.path.partition("?")[0].removeprefix("/api/")
            if not self.path.startswith("/api/"):
                super().do_GET()
            elif question.startswith("userdata/"):
                self.send_error(404)
            else:
                self._answer(answers.get(question, {}))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer({})

        def _answer(self, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def editor_packages() -> list[Path]:
    """The installed comfyui-frontend-package, ComfyUI's, and those in the folders that $KANDIFLUX_EDITORS names, as
    `pip install --no-deps --target FOLDER` makes them; one of each version."""
    spec = importlib.util.find_spec("comfyui_frontend_package")
    installed = [Path(spec.origin).parent] if spec is not None and spec.origin else []
    beside = comfyui_python().parents[1].glob("lib/python3*/site-packages/comfyui_frontend_package")
    named = [Path(folder) for folder in os.environ.get(EDITORS, "").split(os.pathsep) if folder]
    others = [folder.expanduser() / "comfyui_frontend_package" for folder in named]
    return list({version_of(package): package for package in (*installed, *beside, *others)}.values())


def editor_package(version: str) -> Path:
    """The comfyui-frontend-package whose version begins with `version`; skips where it is not at hand."""
    found = [package for package in editor_packages() if version_of(package).startswith(version)]
    if not found:
        pytest.skip(f"no comfyui-frontend-package {version} (name a folder that contains it in {EDITORS})")
    return found[0]


def version_of(package: Path) -> str:
    about = next(iter(package.parent.glob("comfyui_frontend_package-*.dist-info")), None)
    return about.name.removeprefix("comfyui_frontend_package-").removesuffix(".dist-info") if about else "unknown"
