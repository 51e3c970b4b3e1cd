"""Running the decoder: image embeds to latents, from noise, from a picture's latents, or into a part of them.

References: diffusers `KandinskyV22Pipeline` with its Img2Img, Inpaint, Controlnet and ControlnetImg2Img pipelines,
and `KandinskyPipeline` (2.1) with its Img2Img and Inpaint pipelines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.unet2 import LATENT_CHANNELS, UNet2
from .noise import Noise
from .prior import TextStates
from .schedulers import TRAIN_STEPS, DecoderScheduler, add_noise, linear_betas
from .steps import OnStep, quiet, steps_for_strength


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
    text: TextStates | None = None,
    negative_text: TextStates | None = None,
    inpaint: Inpaint | None = None,
) -> Tensor:
    """Latents [B, 4, h, w] for B image embeds [B, D]; `size` is (h, w) of the latents, multiples of 8.

    With guidance > 1 each step also predicts for `negative_image_embeds` and moves away from it. With `start`,
    latents of a picture like the result, the run begins from them with noise (img2img), `strength` of the way back.
    `hint` [B, 3, 8h, 8w] is for depth decoders; `text` and `negative_text`, B rows each, are M-CLIP's, for 2.1's.

    With `inpaint` only what is not kept is painted. A UNet that inpaints sees the rest. Except with 2.1's, the rest
    is also put back after each step, as noisy as that step leaves it, so that any UNet can paint into a picture.
    """
    like, config = unet.conv_in.weight, unet.config
    guided = guidance > 1
    shape = (len(image_embeds), LATENT_CHANNELS, *size)

    def rows(wanted: Tensor, unwanted: Tensor) -> Tensor:
        """A condition as the UNet takes it: with guidance, the unconditional half of the batch comes first."""
        return (torch.cat([unwanted, wanted]) if guided else wanted).to(like)

    texts: dict[str, Tensor] = {}
    if text is not None:
        unwanted = text if negative_text is None else negative_text
        texts["text_embeds"] = rows(text.embeds, unwanted.embeds)
        texts["text_states"] = rows(text.states, unwanted.states)
    hint = None if hint is None else rows(hint, hint)
    conditions = unet.prepare(rows(image_embeds, negative_image_embeds), hint, **texts)
    seen = None
    if inpaint is not None:
        inpaint = Inpaint(*(t.to(like.device).expand(shape[0], -1, -1, -1) for t in (inpaint.picture, inpaint.keep)))
        if config.inpaints:
            seen = torch.cat([inpaint.picture * inpaint.keep, inpaint.keep], dim=1)
            seen = rows(seen, seen)

    timesteps = scheduler.timesteps(steps)
    spacing = TRAIN_STEPS // steps
    first = x = noise(shape).to(like.device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        start = start.to(x).expand(shape)
        x = noised_21(start, x, strength) if config.reads_text else scheduler.add_noise(start, x, timesteps[0])

    for i, t in enumerate(timesteps):
        latents = (torch.cat([x, x]) if guided else x).to(like.dtype)
        latents = latents if seen is None else torch.cat([latents, seen], dim=1)
        t_rows = torch.full((len(latents),), t, device=x.device)
        eps, variance = unet(latents, t_rows, conditions).float().split(LATENT_CHANNELS, dim=1)
        if guided:
            without, with_embed = eps.chunk(2)
            eps = without + guidance * (with_embed - without)
            variance = variance.chunk(2)[1]
        needs_noise = scheduler.kind == "DDPM" and t > 0
        x, x0 = scheduler.step(eps, t, t - spacing, x, noise(shape).to(x) if needs_noise else None, variance)
        if inpaint is not None and not (config.inpaints and config.reads_text):
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
