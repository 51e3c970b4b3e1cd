"""Weights that are not what they should be: an error that names file and tensor, and ComfyUI goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pocket.captions import canonical
from pocket.judge import judge
from pocket.subjects import Triple
from safetensors.torch import load_file, save_file

from tests.support.hosts import RunningHost
from tests.support.places import ROOT
from tests.support.pocket_runs import Runner

POCKET = ROOT / "weights" / "pocket" / "kandinsky-2-2-pocket-decoder"
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"
WANTED = Triple("circle", "red", "white")


def truncated(folder: Path) -> None:
    file = folder / UNET
    file.write_bytes(file.read_bytes()[:-1000])


def foreign(folder: Path) -> None:
    save_file({"model.layers.0.weight": torch.zeros(2, 3)}, folder / UNET)


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / UNET)
    del tensors["conv_in.weight"]
    tensors["conv_out.bias"] = torch.zeros(3)
    save_file(tensors, folder / UNET)


def of_other_sizes(folder: Path) -> None:
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"block_out_channels": [64, 96, 96, 160]}))


def of_another_network(folder: Path) -> None:
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"act_fn": "gelu"}))


def no_json(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("{")


def without_weights(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")


BROKEN: dict[Callable[[Path], None], list[str]] = {
    truncated: [UNET.name, "is not a complete safetensors file", "Download it again"],
    foreign: [UNET.name, "unexpected model.layers.0.weight", "missing"],
    without_a_tensor: [UNET.name, "missing conv_in.weight", "conv_out.bias: expected [8], got [3]"],
    of_other_sizes: [UNET.name, "expected [160", "got [128"],
    of_another_network: ["config.json", "act_fn", "gelu"],
    no_json: ["config.json", "is not valid JSON"],
    without_weights: ["diffusion_pytorch_model.bin", "unpickling can run any code"],
}


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda breaking: breaking.__name__)
@pytest.mark.parametrize(
    ("workflow", "widget"), [("kandinsky22_pocket_ksampler", "3.unet"), ("kandinsky22_pocket_text_to_image", "2.model")]
)
def test_broken(
    comfy_host: RunningHost, tmp_path: Path, breaking: Callable[[Path], None], workflow: str, widget: str
) -> None:
    folder = comfy_host.base / "models" / "kandinsky" / f"broken {breaking.__name__} {workflow}"
    shutil.copytree(POCKET, folder)
    breaking(folder)
    command = [sys.executable, "-m", "kandiflux", "run", workflow, "--server", comfy_host.url, "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--set", f"{widget}={folder.name}"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "runner"), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    shutil.rmtree(folder)
    assert done.returncode == 1, done.stderr
    assert not done.stdout
    for part in BROKEN[breaking]:
        assert part in done.stderr


def test_the_next_job_works(comfy_host: RunningHost, tmp_path: Path) -> None:
    (picture,) = Runner(comfy_host.url, tmp_path).run(
        "kandinsky22_pocket_ksampler", prompt=canonical(*WANTED, "en"), seed=5
    )
    assert judge(picture).right(WANTED)
