"""Prior, decoder and CLIP from single files in a real ComfyUI: as from the folders they were cut from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.support.hosts import RunningHost
from tests.support.single_files import cut_files, draw_the_same, from_files, run

COMFYUI_WORDS = 49408


@pytest.fixture
def models(comfy_host: RunningHost) -> Iterator[Path]:
    with cut_files(comfy_host.base / "models"):
        yield comfy_host.base / "models"


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


def test_single_files(comfy_host: RunningHost, models: Path, tmp_path: Path) -> None:
    draw_the_same(comfy_host.url, tmp_path)

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
    assert "expected the CLIP tokenizer with 56 tokens, got " in done.stderr
    assert "sd1_tokenizer (49408)" in done.stderr
    published = models / "text_encoders" / "cut-words.safetensors"
    state = load_file(models / "text_encoders" / "cut-22-prior-text-encoder.safetensors")
    words = "text_model.embeddings.token_embedding.weight"
    save_file(state | {words: state[words].repeat(COMFYUI_WORDS // 56 + 1, 1)[:COMFYUI_WORDS].clone()}, published)
    done = run(comfy_host.url, tmp_path, from_files("own", "22", text_encoder=published.name))
    published.unlink()
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 1
