"""What all Kandinsky decoders have in common as ComfyUI's MODEL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ..models.unet2 import LATENT_CHANNELS, UNet2Config
from ..models.unet3 import UNet3Config
from ..sampling.schedulers import DecoderScheduler
from .sampling import Sampling

PIXELS_PER_LATENT = 8

# Keys of CONDITIONING, for inpainting.
KEEP = "kandinsky_keep"
"""[B, 1, h, w], 1 = keep."""
MASKED_LATENTS = "kandinsky_masked_latents"
"""[B, 4, h, w]: of a picture that was blanked out where it goes, for Kandinsky 3. (2.x masks latents itself, those of
the whole picture, in ComfyUI's own "concat_latent_image".)"""


class Latents(comfy.latent_formats.LatentFormat):
    """MOVQ latents as they are. Previews need factors that are fitted to a MOVQ: see vae.py."""

    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS
    latent_rgb_factors: list[list[float]] | None
    latent_rgb_factors_bias: list[float] | None


class Config(comfy.supported_models_base.BASE):
    """What ComfyUI asks of a model before there is one."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}
    latent_format = Latents
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]
    memory_usage_factor = 2.0

    def __init__(
        self, model: type[Kandinsky], network: UNet2Config | UNet3Config, scheduler: DecoderScheduler, name: str
    ) -> None:
        super().__init__({"kandinsky": network})
        self.model, self.network, self.scheduler, self.name = model, network, scheduler, name

    def inpaint_model(self) -> bool:
        return False  # ComfyUI would set up SD's order of channels; our concat_cond knows Kandinsky's

    def get_model(self, state_dict: Mapping[str, Tensor], prefix: str = "", device: Any = None) -> Kandinsky:
        return self.model(self, device=device)


class Kandinsky(comfy.model_base.BaseModel):
    """A Kandinsky decoder in ComfyUI's frame; its kinds say what their UNet is and what it wants."""

    unet: type[nn.Module]
    model_config: Config

    def __init__(self, model_config: Config, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.EPS, device=device, unet_model=self.unet)
        self.model_sampling = Sampling(model_config.scheduler)
