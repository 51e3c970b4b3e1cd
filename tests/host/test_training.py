"""A LoRA trained by ComfyUI's Train LoRA changes what the pocket decoder draws, in the direction it was taught."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from kandiflux import open_client
from PIL import Image
from pocket.captions import canonical
from pocket.subjects import Triple

from tests.support.hosts import running_comfyui, why_no_comfyui
from tests.support.pocket_runs import drawn

TRAINING = {
    "batch_size": 4,
    "grad_accumulation_steps": 1,
    "steps": 60,
    "learning_rate": 0.002,
    "rank": 8,
    "optimizer": "AdamW",
    "loss_function": "MSE",
    "seed": 0,
    "training_dtype": "fp32",
    "lora_dtype": "fp32",
    "quantized_backward": False,
    "algorithm": "LoRA",
    "gradient_checkpointing": False,
    "checkpoint_depth": 1,
    "offloading": False,
    "existing_lora": "[None]",
    "bucket_mode": False,
    "bypass_mode": False,
}


def test_a_prompt_is_taught_another_picture(tmp_path: Path) -> None:
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    taught = drawn(tmp_path, Triple("star", "yellow", "purple"))
    target = np.asarray(Image.open(taught).convert("RGB")) / 255
    base = tmp_path / "comfyui"
    (base / "models").mkdir(parents=True)
    (base / "output" / "loras").mkdir(parents=True)
    (base / "models" / "loras").symlink_to(base / "output" / "loras")
    with running_comfyui(base) as host, open_client(host.url) as client:
        values = {"prompt": canonical("circle", "red", "blue", "en"), "image": taught, "seed": 2}
        made = client.prompt("kandinsky22_pocket_ksampler_inpaint", values=values)
        nodes = {name: dict(node) for name, node in made.nodes.items()}
        id_of = {node["class_type"]: name for name, node in nodes.items()}
        size, sampler = id_of["KandinskyLatentSize"], nodes[id_of["KSampler"]]
        model, positive = sampler["inputs"]["model"], sampler["inputs"]["positive"]
        with urlopen(f"{host.url}/object_info") as answer:
            known = json.load(answer)
        lora = known["TrainLoraNode"]["output"].index("LORA_MODEL")  # older versions give a MODEL first
        save_lora = "SaveLoRA" if "SaveLoRA" in known else "SaveLoRANode"
        # Four times the same picture, each with noise of its own in a step.
        training = {**TRAINING, "model": model, "latents": ["four", 0], "positive": positive}
        pixels = {"pixels": [size, 1], "vae": [id_of["KandinskyVAELoader"], 0]}
        added = {
            "latents": {"class_type": "VAEEncode", "inputs": pixels},
            "four": {"class_type": "RepeatLatentBatch", "inputs": {"samples": ["latents", 0], "amount": 4}},
            "train": {"class_type": "TrainLoraNode", "inputs": training},
            "keep": {"class_type": save_lora, "inputs": {"lora": ["train", lora], "prefix": "loras/taught"}},
        }
        client.run(nodes | added)

        load = {"model": model, "lora": "taught_00001_.safetensors"}
        sampled = {"model": ["taught", 0], "latent_image": [size, 0], "steps": 12, "denoise": 1.0}
        sampler["inputs"] = {**sampler["inputs"], **sampled}
        save = nodes[id_of["SaveImage"]]
        save["inputs"] = {**save["inputs"], "images": [id_of["VAEDecode"], 0]}  # as drawn, not put into the picture
        away = {}
        for strength in (0.0, 1.0):
            nodes["taught"] = {"class_type": "KandinskyLoraLoader", "inputs": {**load, "strength": strength}}
            picture = np.asarray(client.run(nodes).images[0].pil().convert("RGB")) / 255
            away[strength] = np.abs(picture - target).mean()
    assert away[0.0] > 0.2, away  # a red circle on blue
    assert away[1.0] < 2 / 3 * away[0.0], away
