"""Where newer versions of ComfyUI do otherwise than the one the pack was made on, it gets along with both."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.test_pipelines import generator
from tests.parity.tiny import WIDTH, save_decoder21_folder, save_decoder_folder
from tests.parity.tiny3 import save_kandinsky3_folder
from tests.support.hosts import comfyui_folder, comfyui_python, why_no_comfyui
from tests.support.places import ROOT

CASE: dict[str, Any] = {
    "seed": 7,
    "positive": "positive",
    "negative": "negative",
    "noise": "noise",
    "sampler": "euler",
    "steps": 2,
    "cfg": 2.0,
}
CASES = [
    {"name": "2.2", "model": "plain"},
    {"name": "2.2 fp8", "model": "plain", "weight_dtype": "fp8_e4m3fn"},
    {"name": "2.1", "model": "old", "text": "a red star", "negative_text": "blue"},
    {"name": "3", "model": "three", "prompt": "a red star", "negative_prompt": "blue"},
    {"name": "3 text in fp8", "model": "three", "prompt": "a red star", "text_dtype": "fp8_e4m3fn"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("newer")
    models = folder / "models" / "kandinsky"
    save_decoder_folder(models / "plain")
    save_decoder21_folder(models / "old")
    save_kandinsky3_folder(models / "three")
    made = generator(1)
    embeds = {name: torch.randn(1, WIDTH, generator=made) for name in ("positive", "negative")}
    save_file(embeds | {"noise": torch.randn(1, 4, 8, 8, generator=made)}, folder / "in.safetensors")
    (folder / "cases.json").write_text(json.dumps([CASE | case for case in CASES]))
    return folder


def pictures(folder: Path, script: str) -> dict[str, torch.Tensor]:
    out = folder / f"{script}.safetensors"
    done = subprocess.run(
        [
            comfyui_python(),
            Path(__file__).with_name(script),
            comfyui_folder(),
            ROOT,
            folder,
            folder / "cases.json",
            folder / "in.safetensors",
            out,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return load_file(out)


def test_the_same_pictures(folder: Path) -> None:
    here, newer = pictures(folder, "inside.py"), pictures(folder, "newer.py")
    assert set(here) == {case["name"] for case in CASES}
    for name, picture in here.items():
        assert picture.std() > 0.01, name
        torch.testing.assert_close(
            newer[name], picture, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
