"""Random weights, and the networks both families have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.ldm.models.autoencoder
import comfy.ops
import comfy.sd1_clip
import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
UNMADE: dict[str, Any] = {"dtype": torch.float32, "device": "meta", "operations": comfy.ops.disable_weight_init}
STORED = torch.float8_e4m3fn
PERIOD = 1_048_583
"""Random numbers repeat after so many; a prime, so that the rows of a matrix are not the same."""


def random(network: nn.Module, prefix: str = "") -> Weights:
    """Weights in fp8 for a network on the device meta: matrices that keep the variance, norms of 1, biases of 0."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return {prefix + name: tensor for name, tensor in random_of(shapes).items()}


def random_of(shapes: dict[str, Any]) -> Weights:
    numbers = torch.randn(PERIOD, generator=torch.Generator().manual_seed(0))
    return {name: _fill(name, torch.Size(shape), numbers) for name, shape in shapes.items()}


def _fill(name: str, shape: torch.Size, numbers: Tensor) -> Tensor:
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0).to(STORED)
    few = (numbers * shape[1:].numel() ** -0.5).to(STORED).view(torch.uint8)
    count = shape.numel()
    return few.repeat(-(-count // PERIOD))[:count].view(STORED).reshape(shape)


def clip_l(prefix: str = "") -> Weights:
    config = Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json")
    return random(comfy.clip_model.CLIPTextModel(json.loads(config.read_text()), **UNMADE), prefix)


def vae_config(channels: int) -> dict[str, Any]:
    return {
        "double_z": True, "z_channels": channels, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
        "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip


def flux_vae() -> Weights:
    parts = "comfy.ldm.modules.diffusionmodules.model"
    with torch.device("meta"):
        network = comfy.ldm.models.autoencoder.AutoencodingEngine(
            regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
            encoder_config={"target": f"{parts}.Encoder", "params": vae_config(16)},
            decoder_config={"target": f"{parts}.Decoder", "params": vae_config(16)},
        )
    return random(network)


def sd15_vae(prefix: str = "") -> Weights:
    with torch.device("meta"):
        network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=vae_config(4), embed_dim=4)
    return random(network, prefix)
