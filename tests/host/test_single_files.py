"""Prior and decoder from single files in a real ComfyUI: the pictures of the folders they were cut from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.hosts import ROOT, RunningHost
from tests.parity.cut import WIDTH21, WIDTH22, cut, save_decoder, save_decoder21, save_prior

COMFYUI_WORDS = 49408


@pytest.fixture
def models(comfy_host: RunningHost) -> Iterator[Path]:
    """The running ComfyUI's models, with tiny repositories and the files cut from them."""
    models = comfy_host.base / "models"
    kandinsky = models / "kandinsky"
    folders = [
        save_prior(kandinsky / "cut-22-prior", WIDTH22),
        save_prior(kandinsky / "cut-21-prior", WIDTH21),
        save_decoder(kandinsky / "cut-22"),
        save_decoder21(kandinsky / "cut-21"),
    ]
    files = [file for folder in folders for file in cut(folder, models).values()]
    yield models
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


def encoding(name: str, text_encoder: str) -> dict[str, Any]:
    """An API prompt that saves what a 2.1 text encoder makes of a prompt."""
    return {
        f"{name}-clip": {"class_type": "KandinskyCLIPLoader", "inputs": {"text_encoder": text_encoder}},
        f"{name}-text": {"class_type": "CLIPTextEncode", "inputs": {"clip": [f"{name}-clip", 0], "text": "a red fox"}},
        f"{name}-save": {
            "class_type": "KandifluxSaveConditioning",
            "inputs": {"conditioning": [f"{name}-text", 0], "filename": f"cut-{name}"},
        },
    }


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


def test_single_files(comfy_host: RunningHost, models: Path, tmp_path: Path) -> None:
    ways = {
        f"{way}{version}": make(f"{way}{version}", version)
        for version in ("22", "21")
        for way, make in (("folders", from_folders), ("files", from_files))
    }
    done = run(comfy_host.url, tmp_path, {name: node for prompt in ways.values() for name, node in prompt.items()})
    assert done.returncode == 0, done.stderr
    pictures = {name: [Path(path) for path in done.stdout.split() if name in Path(path).name] for name in ways}
    pixels = {name: np.asarray(Image.open(path)) for name, (path,) in pictures.items()}
    for version in ("22", "21"):
        assert (pixels[f"files{version}"] == pixels[f"folders{version}"]).all()
        assert pixels[f"files{version}"].std() > 1

    texts = {"folder": "cut-21", "file": "cut-21-text-encoder.safetensors"}
    done = run(
        comfy_host.url, tmp_path, {k: v for name, clip in texts.items() for k, v in encoding(name, clip).items()}
    )
    assert done.returncode == 0, done.stderr
    folder, file = (load_file(comfy_host.output / "conditioning" / f"cut-{name}_00001.safetensors") for name in texts)
    assert folder.keys() == file.keys()
    assert all((folder[key] == file[key]).all() for key in folder)

    # Without a folder that has a tokenizer for it: ComfyUI's own, which is CLIP's; none for another vocabulary.
    shutil.rmtree(models / "kandinsky" / "cut-22-prior" / "tokenizer")
    shutil.rmtree(models / "kandinsky" / "cut-21-prior" / "tokenizer")
    done = run(comfy_host.url, tmp_path, from_files("lost", "22", dtype="bf16"))  # else ComfyUI has it still
    assert done.returncode == 1, done.stderr
    assert "expected CLIP's tokenizer, of 56 words, for it; got " in done.stderr
    assert "sd1_tokenizer (49408)" in done.stderr
    published = models / "text_encoders" / "cut-words.safetensors"
    state = load_file(models / "text_encoders" / "cut-22-prior-text-encoder.safetensors")
    words = "text_model.embeddings.token_embedding.weight"
    save_file(state | {words: state[words].repeat(COMFYUI_WORDS // 56 + 1, 1)[:COMFYUI_WORDS].clone()}, published)
    done = run(comfy_host.url, tmp_path, from_files("own", "22", text_encoder=published.name))
    published.unlink()
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 1
