"""The model files, with random weights in fp8: under three gigabytes, in a few seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.clip_vision
import comfy.ldm.flux.model
import comfy.ldm.flux.redux
import comfy.ldm.models.autoencoder
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.ops
import comfy.sd1_clip
import comfy.text_encoders.flux
import comfy.text_encoders.t5
import folder_paths
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .depth import SIGLIP, T5

OPERATIONS = comfy.ops.disable_weight_init
UNMADE: dict[str, Any] = {"dtype": torch.float32, "device": "meta", "operations": OPERATIONS}
STORED = torch.float8_e4m3fn
PERIOD = 1_048_583
"""Random numbers repeat after so many; a prime, so that the rows of a matrix are not the same."""


def save_missing() -> None:
    """Write what is not there yet to ComfyUI's models folder, under the names of the published files."""
    models = Path(folder_paths.models_dir)
    for name, weights in FILES.items():
        path = models / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(weights(), path)


def random(network: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Weights for a network on the device meta: matrices that keep the variance, norms of 1, biases of 0."""
    numbers = torch.randn(PERIOD, generator=torch.Generator().manual_seed(0))
    return {prefix + name: _fill(name, tensor, numbers) for name, tensor in network.state_dict().items()}


def _fill(name: str, tensor: Tensor, numbers: Tensor) -> Tensor:
    if tensor.ndim < 2:
        return torch.full(tensor.shape, 0.0 if name.endswith("bias") else 1.0).to(STORED)
    few = (numbers * (tensor[0].numel() ** -0.5)).to(STORED).view(torch.uint8)
    count = tensor.numel()
    return few.repeat(-(-count // PERIOD))[:count].view(STORED).reshape(tensor.shape)


def flux(in_channels: int) -> dict[str, Tensor]:
    sizes = {"in_channels": in_channels, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096}
    sizes |= {"hidden_size": 3072, "num_heads": 24, "depth": 1, "depth_single_blocks": 1, "patch_size": 2}
    rest = {"mlp_ratio": 4.0, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "guidance_embed": True}
    return random(comfy.ldm.flux.model.Flux(**sizes, **rest, **UNMADE))


def t5() -> dict[str, Tensor]:
    config = Path(comfy.text_encoders.flux.__file__).with_name("t5_config_xxl.json")
    network = comfy.text_encoders.t5.T5({**json.loads(config.read_text()), **T5}, **UNMADE)
    return random(network)


def clip_l(prefix: str = "") -> dict[str, Tensor]:
    config = Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json")
    network = comfy.clip_model.CLIPTextModel(json.loads(config.read_text()), **UNMADE)
    return random(network, prefix)


def siglip() -> dict[str, Tensor]:
    config = Path(comfy.clip_vision.__file__).with_name("clip_vision_siglip_384.json")
    network = comfy.clip_model.CLIPVisionModelProjection({**json.loads(config.read_text()), **SIGLIP}, **UNMADE)
    # ComfyUI knows it by a layer that far up.
    return random(network) | {"vision_model.encoder.layers.22.layer_norm1.weight": torch.ones(1152).to(STORED)}


def redux() -> dict[str, Tensor]:
    with torch.device("meta"):
        network = comfy.ldm.flux.redux.ReduxImageEncoder()
    return random(network)


def vae(channels: int) -> dict[str, Any]:
    return {
        "double_z": True, "z_channels": channels, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
        "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip


def flux_vae() -> dict[str, Tensor]:
    parts = "comfy.ldm.modules.diffusionmodules.model"
    with torch.device("meta"):
        network = comfy.ldm.models.autoencoder.AutoencodingEngine(
            regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
            encoder_config={"target": f"{parts}.Encoder", "params": vae(16)},
            decoder_config={"target": f"{parts}.Decoder", "params": vae(16)},
        )
    return random(network)


def sd15() -> dict[str, Tensor]:
    unet = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=[1],
        transformer_depth=[1], transformer_depth_output=[1, 1], transformer_depth_middle=1, context_dim=768,
        num_heads=8, use_spatial_transformer=True, legacy=False, **UNMADE,
    )  # fmt: skip
    with torch.device("meta"):
        first_stage = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=vae(4), embed_dim=4)
    return {
        **random(unet, "model.diffusion_model."),
        **random(first_stage, "first_stage_model."),
        **clip_l("cond_stage_model.transformer."),
    }


FILES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "diffusion_models/flux1-dev.safetensors": lambda: flux(16),
    "diffusion_models/flux1-fill-dev.safetensors": lambda: flux(96),
    "text_encoders/clip_l.safetensors": clip_l,
    "text_encoders/t5xxl_fp16.safetensors": t5,
    "vae/ae.safetensors": flux_vae,
    "style_models/flux1-redux-dev.safetensors": redux,
    "clip_vision/sigclip_vision_patch14_384.safetensors": siglip,
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors": sd15,
}
