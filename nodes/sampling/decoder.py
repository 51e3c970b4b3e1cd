"""Running the decoder: image embeds to latents, from noise, from a picture's latents, or into a part of them.

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
from .steps import OnStep, quiet, steps_for_strength


class Prediction(NamedTuple):
    """What a UNet predicts at one step, float32 [B, 4, h, w] each."""

    noise: Tensor
    negative: Tensor | None
    """The noise for the negative conditioning; None: there is no guidance."""
    variance: Tensor | None
    """The learned share of the variance, where the UNet of 2.1 is asked for it."""


Predict = Callable[[Tensor, int], Prediction]
"""(x [B, 4, h, w] float32, timestep) → what the UNet predicts there."""


def latent_side(pixels: int) -> int:
    """Latent side for a picture side: 8 for each 64 pixels begun."""
    return math.ceil(pixels / 64) * 8


@dataclass(frozen=True)
class Inpaint:
    """A picture to repaint a part of: its latents [B, 4, h, w], and keep [B, 1, h, w], 1 where it stays as it is."""

    picture: Tensor
    keep: Tensor


def keep_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask [B, 1, H, W], 1 = repaint → [B, 1, h, w] for latents of `size` (h, w), 1 = keep.

    Binarised at 0.5 and sampled at the nearest pixels; then what is kept loses the places next to what goes, whose
    latents have seen something of it. As the reference's `prepare_mask`, next to is across edges and one diagonal.
    """
    repaint = F.interpolate((mask >= 0.5).float(), size, mode="nearest")
    reach = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]], device=mask.device)
    return (F.conv2d(repaint, reach[None, None], padding=1) == 0).float()


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
    on_step: OnStep = quiet,
) -> Tensor:
    """Latents of `shape`, [B, 4, h, w], float32, from what `predict` says of them.

    With guidance > 1 each step moves away from what is predicted for the negative conditioning. With `start`, latents
    of a picture like the result, the run begins from them with noise (img2img), `strength` of the way back. With
    `inpaint` what is kept of its picture is put back after each step, as noisy as that step leaves it, so that any UNet
    can paint into a picture. `reads_text`: the decoder is 2.1's, whose img2img begins elsewhere.
    """
    timesteps = scheduler.timesteps(steps)
    spacing = TRAIN_STEPS // steps
    first = x = noise(shape).to(device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        start = start.to(x).expand(shape)
        x = noised_21(start, x, strength) if reads_text else scheduler.add_noise(start, x, timesteps[0])
    if inpaint is not None:
        inpaint = Inpaint(*(t.to(x).expand(shape[0], -1, -1, -1) for t in (inpaint.picture, inpaint.keep)))

    for i, t in enumerate(timesteps):
        eps, without, variance = predict(x, t)
        if without is not None:
            eps = without + guidance * (eps - without)
        needs_noise = scheduler.kind == "DDPM" and t > 0
        x, x0 = scheduler.step(eps, t, t - spacing, x, noise(shape).to(x) if needs_noise else None, variance)
        if inpaint is not None:
            after = timesteps[i + 1] if i + 1 < len(timesteps) else None
            rest = inpaint.picture if after is None else scheduler.add_noise(inpaint.picture, first, after)
            x, x0 = torch.lerp(x, rest, inpaint.keep), torch.lerp(x0, inpaint.picture, inpaint.keep)
        on_step(i + 1, len(timesteps), x0)
    return x


def noised_21(start: Tensor, noise: Tensor, strength: float) -> Tensor:
    """Where 2.1's img2img begins: the reference takes betas for this that are not its scheduler's, and the timestep
    that `strength` is of the whole, not the first one that is run."""
    kept = torch.cumprod(1 - linear_betas(0.0001, 0.02), 0)
    return add_noise(kept, start, noise, max(int(TRAIN_STEPS * strength) - 2, 0))
