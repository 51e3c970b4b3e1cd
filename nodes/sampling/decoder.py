"""Sampling loop of the Kandinsky 2.x decoder: text to image, img2img and inpainting.

References: diffusers `KandinskyV22Pipeline` with its Img2Img, Inpaint, Controlnet and ControlnetImg2Img pipelines,
and `KandinskyPipeline` (2.1) with its Img2Img and Inpaint pipelines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .noise import Noise
from .schedulers import TRAIN_STEPS, DecoderScheduler, add_noise, linear_betas
from .steps import OnStep, no_callback, steps_for_strength


class Prediction(NamedTuple):
    """Output of the UNet at one step, float32 [B, 4, h, w] each."""

    noise: Tensor
    negative: Tensor | None
    """Predicted noise for the negative conditioning; None without guidance."""
    variance: Tensor | None
    """Predicted variance in −1..1, only from 2.1's UNet with a learned_range scheduler."""


Predict = Callable[[Tensor, int], Prediction]
"""Runs the UNet on x [B, 4, h, w], float32, at a timestep."""


def latent_side(pixels: int) -> int:
    """Latent side for a picture side: rounded up to 64 pixels, divided by 8."""
    return math.ceil(pixels / 64) * 8


@dataclass(frozen=True)
class Inpaint:
    """Latents [B, 4, h, w] of the picture to inpaint, and keep mask [B, 1, h, w], 1 = keep."""

    latents: Tensor
    keep: Tensor


def keep_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask [B, 1, H, W], 1 = repaint → keep mask [B, 1, h, w] for latents of `size` (h, w), 1 = keep.

    Binarises at 0.5, resizes to the nearest pixel, and dilates the repainted part by one latent, across edges and one
    diagonal, as diffusers' `prepare_mask` does.
    """
    repaint = F.interpolate((mask >= 0.5).float(), size, mode="nearest")
    kernel = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]], device=mask.device)
    return (F.conv2d(repaint, kernel[None, None], padding=1) == 0).float()


@torch.inference_mode()
def sample_latents(
    predict: Predict,
    scheduler: DecoderScheduler,
    shape: tuple[int, int, int, int],
    device: torch.device,
    noise: Noise,
    steps: int,
    guidance: float,
    start: Tensor | None = None,
    strength: float = 1.0,
    inpaint: Inpaint | None = None,
    reads_text: bool = False,
    on_step: OnStep = no_callback,
) -> Tensor:
    """Sample latents of `shape` [B, 4, h, w], float32.

    guidance: classifier-free guidance scale, used if `predict` returns a negative.
    start: latents to start from (img2img), noised to `strength` of the schedule.
    inpaint: composite its latents, noised to the next timestep, into the kept part after each step. This works with
    UNets that were not trained for inpainting too.
    reads_text: the decoder is 2.1's, whose img2img adds noise differently.
    """
    timesteps = scheduler.timesteps(steps)
    spacing = TRAIN_STEPS // steps
    first = x = noise(shape).to(device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        start = start.to(x).expand(shape)
        x = add_noise_21(start, x, strength) if reads_text else scheduler.add_noise(start, x, timesteps[0])
    if inpaint is not None:
        inpaint = Inpaint(*(t.to(x).expand(shape[0], -1, -1, -1) for t in (inpaint.latents, inpaint.keep)))

    for i, t in enumerate(timesteps):
        eps, negative, variance = predict(x, t)
        if negative is not None:
            eps = negative + guidance * (eps - negative)
        needs_noise = scheduler.kind == "DDPM" and t > 0
        x, x0 = scheduler.step(eps, t, t - spacing, x, noise(shape).to(x) if needs_noise else None, variance)
        if inpaint is not None:
            last = i + 1 == len(timesteps)
            known = inpaint.latents if last else scheduler.add_noise(inpaint.latents, first, timesteps[i + 1])
            x, x0 = torch.lerp(x, known, inpaint.keep), torch.lerp(x0, inpaint.latents, inpaint.keep)
        on_step(i + 1, len(timesteps), x0)
    return x


def add_noise_21(start: Tensor, noise: Tensor, strength: float) -> Tensor:
    """Noise the start latents of 2.1's img2img: as diffusers' `KandinskyImg2ImgPipeline`, which does not use its
    scheduler's betas here, nor the first timestep of the run."""
    alphas_cumprod = torch.cumprod(1 - linear_betas(0.0001, 0.02), 0)
    return add_noise(alphas_cumprod, start, noise, max(int(TRAIN_STEPS * strength) - 2, 0))
