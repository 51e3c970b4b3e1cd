"""MOVQ as ComfyUI's VAE, and the factors for latent previews."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ..models.layers import SkipInit
from ..models.loader import load_network
from ..models.memory import decode_memory, encode_memory
from ..models.movq import MOVQ, PIXELS_PER_LATENT, MOVQConfig
from ..models.unet2 import LATENT_CHANNELS


class MOVQAutoencoder(MOVQ):
    """MOVQ with the interface of ComfyUI's autoencoders; options are ignored."""

    def encode(self, pixels: Tensor, **_: Any) -> Tensor:
        return super().encode(pixels)

    def decode(self, latents: Tensor, **_: Any) -> Tensor:
        return super().decode(latents)


class MOVQVAE(comfy.sd.VAE):
    """MOVQ as a ComfyUI VAE.

    ComfyUI's constructor detects autoencoders from their tensors and would mistake MOVQ for another one. So this
    creates its simplest one, to get the attributes of a VAE in this version, and then replaces it with MOVQ.
    """

    def __init__(self, state: dict[str, Tensor], config: MOVQConfig, dtype: torch.dtype | None = None) -> None:
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # hide the messages about the other autoencoder
        try:
            super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})
        finally:
            root.setLevel(level)
        self.memory_used_encode = lambda shape, dtype: encode_memory(config, shape[2], shape[3], dtype.itemsize)
        self.memory_used_decode = lambda shape, dtype: decode_memory(
            config, shape[2] * PIXELS_PER_LATENT, shape[3] * PIXELS_PER_LATENT, dtype.itemsize
        )
        self.downscale_ratio = self.upscale_ratio = PIXELS_PER_LATENT
        self.latent_channels, self.latent_dim, self.output_channels = LATENT_CHANNELS, 2, 3
        self.process_input = lambda image: image * 2 - 1
        self.process_output = to_image
        self.working_dtypes = [torch.bfloat16, torch.float32]
        self.device = management.vae_device()
        self.vae_dtype = dtype or management.vae_dtype(self.device, self.working_dtypes)
        movq = MOVQAutoencoder(config, comfy.ops.manual_cast, device="meta")
        movq.load_state_dict({key: value.to(self.vae_dtype) for key, value in state.items()}, assign=True)
        self.first_stage_model = movq.eval().requires_grad_(False)
        self.size = None  # newer versions have set it to the size of the other autoencoder
        self.output_device = management.intermediate_device()
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=management.vae_offload_device()
        )


def to_image(pixels: Tensor) -> Tensor:
    """−1..1 → 0..1, in place: newer versions of ComfyUI use the argument, older ones the return value."""
    return pixels.add_(1).div_(2).clamp_(0, 1)


def load_vae(file: Path, config: MOVQConfig) -> MOVQVAE:
    """Load the MOVQ in `file` as a ComfyUI VAE. Raises WeightsError naming missing, unexpected and mismatched
    tensors."""
    return MOVQVAE(load_network(MOVQ(config, SkipInit, device="meta"), file, torch.float32).state_dict(), config)


def preview_factors(vae: MOVQVAE) -> tuple[list[list[float]], list[float]]:
    """(factors [4][3], bias [3]): linear map from latents to RGB in −1..1, fitted to this MOVQ by least squares on
    encoded colour gradients. Takes a fraction of a second."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand((8, 3, 3, 3), generator=generator)
    pictures = nn.functional.interpolate(colours, size=64, mode="bilinear", align_corners=True)
    latents = vae.encode(pictures.movedim(1, -1)).cpu().float()
    expected = nn.functional.avg_pool2d(pictures, PIXELS_PER_LATENT) * 2 - 1
    rows = latents.movedim(1, -1).reshape(-1, LATENT_CHANNELS)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    solution = torch.linalg.lstsq(rows, expected.movedim(1, -1).reshape(-1, 3)).solution
    return solution[:-1].tolist(), solution[-1].tolist()


def show_previews(model: comfy.model_patcher.ModelPatcher, vae: Any) -> None:
    """Set the preview factors of `model` for this MOVQ. Raises TypeError for another model's VAE."""
    if not isinstance(vae, MOVQVAE):
        raise TypeError(
            f"Kandinsky Model Loader expected a vae from Kandinsky VAE Loader, got a {type(vae).__name__} of another "
            "model."
        )
    factors, bias = preview_factors(vae)
    latents = model.model.latent_format
    latents.latent_rgb_factors, latents.latent_rgb_factors_bias = factors, bias
