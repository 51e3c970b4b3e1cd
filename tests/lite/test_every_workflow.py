"""Every shipped workflow that needs no ComfyUI runs on the lite host; the others say what they need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kandiflux import Client, Workflow
from kandiflux.errors import InvalidPrompt

from tests.support.hosts import RunningHost, running_lite
from tests.support.kandinsky_runs import NATIVE, WORKFLOWS, run, save_repositories
from tests.support.placeholders import FLUX_AND_SD15
from tests.support.pocket_runs import ROOT, Runner


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    base = tmp_path_factory.mktemp("lite")
    (base / "models").mkdir()
    save_repositories(base / "models")
    with running_lite(base) as host:
        yield host


@pytest.mark.parametrize("name", sorted(WORKFLOWS.keys() - NATIVE))
def test_workflow(host: RunningHost, tmp_path: Path, name: str) -> None:
    run(Runner(host.url, tmp_path), name)


@pytest.mark.parametrize("name", FLUX_AND_SD15)
def test_others_name_the_nodes_that_are_missing(host: RunningHost, name: str) -> None:
    with Client(host.url) as client, pytest.raises(InvalidPrompt) as refused:
        Workflow.load(name).prompt(client.object_info())
    assert "Start a ComfyUI" in str(refused.value)
    missing = {problem.class_type for problem in refused.value.problems}
    assert missing
    assert not missing & client.object_info().keys()


def test_the_command_line_says_so_too(host: RunningHost) -> None:
    command = [sys.executable, "-m", "kandiflux", "run", "flux_dev", "--server", host.url]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runner")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "UNETLoader" in done.stderr
    assert "Start a ComfyUI" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
