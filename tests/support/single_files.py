"""Prior and decoder from single files, on whichever host: the pictures of the folders they were cut from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.parity.cut import WIDTH21, WIDTH22, cut, save_decoder, save_decoder21, save_prior
from tests.support.places import ROOT


@contextmanager
def cut_files(models: Path) -> Iterator[None]:
    """Tiny repositories in a running host's folder of models, and the files cut from them."""
    kandinsky = models / "kandinsky"
    folders = [
        save_prior(kandinsky / "cut-22-prior", WIDTH22),
        save_prior(kandinsky / "cut-21-prior", WIDTH21),
        save_decoder(kandinsky / "cut-22"),
        save_decoder21(kandinsky / "cut-21"),
    ]
    files = [file for folder in folders for file in cut(folder, models).values()]
    yield
    for folder in folders:
        shutil.rmtree(folder)
    for file in files:
        file.unlink()


def drawing(prefix: str, prior: dict[str, Any], decoder: dict[str, Any]) -> dict[str, Any]:
    """An API prompt that draws with these loaders; its nodes' ids begin with `prefix`."""
    prompt = {
        "prior": prior,
        "decoder": decoder,
        "embeds": {
            "class_type": "KandinskyPrior",
            "inputs": {
                "prior": [f"{prefix}-prior", 0],
                "prompt": "a red fox",
                "negative_prompt": "a dog",
                "seed": 3,
                "steps": 3,
                "guidance_scale": 4.0,
            },
        },
        "draw": {
            "class_type": "KandinskyDecoder",
            "inputs": {
                "decoder": [f"{prefix}-decoder", 0],
                "image_embeds": [f"{prefix}-embeds", 0],
                "negative_image_embeds": [f"{prefix}-embeds", 1],
                "width": 64,
                "height": 64,
                "seed": 5,
                "steps": 3,
                "guidance_scale": 4.0,
                "scheduler": "reference",
                "batch_size": 1,
            },
        },
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": [f"{prefix}-draw", 0], "filename_prefix": prefix},
        },
    }
    return {f"{prefix}-{name}": node for name, node in prompt.items()}


def from_folders(prefix: str, version: str) -> dict[str, Any]:
    return drawing(
        prefix,
        {"class_type": "KandinskyPriorLoader", "inputs": {"model": f"cut-{version}-prior", "dtype": "fp32"}},
        {"class_type": "KandinskyDecoderLoader", "inputs": {"model": f"cut-{version}", "dtype": "fp32"}},
    )


def from_files(prefix: str, version: str, **changes: str) -> dict[str, Any]:
    prior = f"cut-{version}-prior"
    parts = {
        "prior": f"{prior}-prior.safetensors",
        "text_encoder": f"{prior}-text-encoder.safetensors",
        "image_encoder": f"{prior}-image-encoder.safetensors",
        "dtype": "fp32",
    }
    decoder = {
        "unet": f"cut-{version}-unet.safetensors",
        "movq": f"cut-{version}-movq.safetensors",
        "dtype": "fp32",
        "text_encoder": f"cut-{version}-text-encoder.safetensors" if version == "21" else "none",
    }
    return drawing(
        prefix,
        {"class_type": "KandinskyPriorFilesLoader", "inputs": parts | changes},
        {"class_type": "KandinskyDecoderFilesLoader", "inputs": decoder},
    )


def run(server: str, folder: Path, prompt: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    file = folder / "prompt.json"
    file.write_text(json.dumps(prompt))
    return subprocess.run(
        [sys.executable, "-m", "kandiflux", "run", str(file), "--server", server, "--out", str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "runner"), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def draw_the_same(server: str, folder: Path) -> None:
    ways = {
        f"{way}{version}": make(f"{way}{version}", version)
        for version in ("22", "21")
        for way, make in (("folders", from_folders), ("files", from_files))
    }
    done = run(server, folder, {name: node for prompt in ways.values() for name, node in prompt.items()})
    assert done.returncode == 0, done.stderr
    pictures = {name: [Path(path) for path in done.stdout.split() if name in Path(path).name] for name in ways}
    pixels = {name: np.asarray(Image.open(path)) for name, (path,) in pictures.items()}
    for version in ("22", "21"):
        assert (pixels[f"files{version}"] == pixels[f"folders{version}"]).all()
        assert pixels[f"files{version}"].std() > 1
