"""Running the decoder: image embeds to latents, from noise or from a picture's latents.

Reference: diffusers `KandinskyV22Pipeline`, `KandinskyV22Img2ImgPipeline` and `KandinskyV22ControlnetPipeline`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..models.unet2 import UNet2
from .noise import Noise
from .schedulers import TRAIN_STEPS, DecoderScheduler
from .steps import OnStep, quiet, steps_for_strength

LATENT_CHANNELS = 4


def latent_side(pixels: int) -> int:
    """Latent side for a picture side: 8 for each 64 pixels begun."""
    return math.ceil(pixels / 64) * 8


@torch.inference_mode()
def sample_latents(
    unet: UNet2,
    scheduler: DecoderScheduler,
    image_embeds: Tensor,
    negative_image_embeds: Tensor,
    size: tuple[int, int],
    noise: Noise,
    steps: int,
    guidance: float,
    start: Tensor | None = None,
    strength: float = 1.0,
    hint: Tensor | None = None,
    on_step: OnStep = quiet,
) -> Tensor:
    """Latents [B, 4, h, w] for B image embeds [B, D]; `size` is (h, w) of the latents, multiples of 8.

    With guidance > 1 each step also predicts for `negative_image_embeds` and moves away from it. With `start`,
    latents of a picture like the result, the run begins from them with noise (img2img), `strength` of the way back.
    `hint` [B, 3, 8h, 8w] is for depth decoders.
    """
    like = unet.conv_in.weight
    guided = guidance > 1
    embeds = torch.cat([negative_image_embeds, image_embeds]) if guided else image_embeds
    embeds = embeds.to(like)
    if hint is not None:
        hint = (torch.cat([hint, hint]) if guided else hint).to(like)
    shape = (len(image_embeds), LATENT_CHANNELS, *size)
    timesteps = scheduler.timesteps(steps)
    spacing = TRAIN_STEPS // steps
    x = noise(shape).to(like.device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        x = scheduler.add_noise(start.to(x).expand(shape), x, timesteps[0])

    for i, t in enumerate(timesteps):
        rows = torch.cat([x, x]) if guided else x
        t_rows = torch.full((len(rows),), t, device=x.device)
        eps, variance = unet(rows.to(like.dtype), t_rows, embeds, hint).float().split(LATENT_CHANNELS, dim=1)
        if guided:
            without, with_embed = eps.chunk(2)
            eps = without + guidance * (with_embed - without)
            variance = variance.chunk(2)[1]
        needs_noise = scheduler.kind == "DDPM" and t > 0
        x, x0 = scheduler.step(eps, t, t - spacing, x, noise(shape).to(x) if needs_noise else None, variance)
        on_step(i + 1, len(timesteps), x0)
    return x
