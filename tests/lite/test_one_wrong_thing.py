"""One wrong thing in any workflow is one clear message, before anything is sent, and never a traceback.

With the lite host's nodes and those that a ComfyUI 0.33 with this pack has beside them: data/comfyui_nodes.json is what
it answered at /object_info, as far as shipped workflows use it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kandiflux import Client, Workflow
from kandiflux.workflow.workflow import shipped_workflows

from tests.support.hosts import RunningHost
from tests.support.one_wrong_thing import (
    breakages,
    require_one_message,
    require_one_message_on_setting,
    with_every_file,
)
from tests.support.places import DATA, ROOT


@pytest.fixture(scope="module")
def known(lite_host: RunningHost) -> dict[str, Any]:
    comfyui = json.loads((DATA / "comfyui_nodes.json").read_text("utf-8"))
    with Client(lite_host.url) as client:
        return comfyui | client.object_info()


@pytest.mark.parametrize("name", shipped_workflows())
def test_one_wrong_thing_is_said_once(known: dict[str, Any], name: str) -> None:
    workflow = Workflow.load(name)
    assert {node["class_type"] for node in workflow.nodes(known).values()} <= known.keys(), (
        "add it to comfyui_nodes.json"
    )
    full = with_every_file(workflow, known)
    assert workflow.prompt(full).nodes
    ways = [broken.how for broken in breakages(workflow, full) if require_one_message(broken, full) is None]
    assert {"too large", "too small", "no number", "no choice", "no link", "no class"} <= set(ways)
    require_one_message_on_setting(workflow, full)


def test_the_commands_say_it_and_end_with_exit_code_2(
    known: dict[str, Any], lite_host: RunningHost, tmp_path: Path
) -> None:
    workflow = Workflow.load("kandinsky22_pocket_text_to_image")
    for number, broken in enumerate(breakages(workflow, known)):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(broken.editor))
        for command in ("check", "run"):
            done = subprocess.run(
                [sys.executable, "-m", "kandiflux", command, str(file), "--server", lite_host.url],
                env=os.environ | {"PYTHONPATH": str(ROOT / "runner")}, cwd=tmp_path, capture_output=True, text=True,
                check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 2, (broken.how, done.stderr)
            said = done.stdout + done.stderr
            # check lists missing classes by their packs, with the ids of their nodes.
            assert ("NobodyHasThis" if (broken.how, command) == ("no class", "check") else broken.title) in said
            assert broken.input_name is None or broken.input_name in said
            assert "Traceback" not in said
