"""FLUX.1's files: one double block, one single block, and its encoders as shallow as depth.py makes them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.clip_vision
import comfy.ldm.flux.model
import comfy.ldm.flux.redux
import comfy.text_encoders.flux
import comfy.text_encoders.t5
import torch

from .depth import SIGLIP, T5
from .shared import STORED, UNMADE, Weights, clip_l, flux_vae, random


def flux(in_channels: int) -> Weights:
    sizes = {"in_channels": in_channels, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096}
    sizes |= {"hidden_size": 3072, "num_heads": 24, "depth": 1, "depth_single_blocks": 1, "patch_size": 2}
    rest: dict[str, Any] = {
        "mlp_ratio": 4.0,
        "axes_dim": [16, 56, 56],
        "theta": 10000,
        "qkv_bias": True,
        "guidance_embed": True,
    }
    if "txt_ids_dims" in (field.name for field in dataclasses.fields(comfy.ldm.flux.model.FluxParams)):
        rest["txt_ids_dims"] = []  # required by ComfyUI since FLUX.2; FLUX.1 has none
    return random(comfy.ldm.flux.model.Flux(**sizes, **rest, **UNMADE))


def t5() -> Weights:
    config = Path(comfy.text_encoders.flux.__file__).with_name("t5_config_xxl.json")
    return random(comfy.text_encoders.t5.T5({**json.loads(config.read_text()), **T5}, **UNMADE))


def siglip() -> Weights:
    config = Path(comfy.clip_vision.__file__).with_name("clip_vision_siglip_384.json")
    network = comfy.clip_model.CLIPVisionModelProjection({**json.loads(config.read_text()), **SIGLIP}, **UNMADE)
    # ComfyUI knows it by a layer that far up.
    return random(network) | {"vision_model.encoder.layers.22.layer_norm1.weight": torch.ones(1152).to(STORED)}


def redux() -> Weights:
    with torch.device("meta"):
        network = comfy.ldm.flux.redux.ReduxImageEncoder()
    return random(network)


FILES: dict[str, Callable[[], Weights]] = {
    "diffusion_models/flux1-dev.safetensors": lambda: flux(16),
    "diffusion_models/flux1-fill-dev.safetensors": lambda: flux(96),
    "text_encoders/clip_l.safetensors": clip_l,
    "text_encoders/t5xxl_fp16.safetensors": t5,
    "vae/ae.safetensors": flux_vae,
    "style_models/flux1-redux-dev.safetensors": redux,
    "clip_vision/sigclip_vision_patch14_384.safetensors": siglip,
}
