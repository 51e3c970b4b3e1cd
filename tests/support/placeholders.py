"""Model files a workflow names, as empty files: enough for lists, for validation, and for the editor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.places import ROOT

WORKFLOWS = {path.stem: path for path in sorted((ROOT / "workflows").glob("*.json"))}
"""All that ship, by name."""

FLUX_AND_SD15 = [name for name in WORKFLOWS if not name.startswith("kandinsky")]
"""Those of plain ComfyUI models, which are too large to have here."""


def models_of(workflow: dict[str, Any]) -> list[dict[str, str]]:
    """Every model file the workflow offers for download, once."""
    nodes = [model for node in workflow["nodes"] for model in node["properties"].get("models", [])]
    found = [*nodes, *workflow.get("models", [])]
    return list({(model["directory"], model["name"]): model for model in found}.values())


def save_placeholders(models: Path, names: Iterable[str] = FLUX_AND_SD15) -> None:
    """The files of the workflows `names`, empty, in the folders they belong in."""
    for name in names:
        for model in models_of(json.loads(WORKFLOWS[name].read_text("utf-8"))):
            file = models / model["directory"] / model["name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
