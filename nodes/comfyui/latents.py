"""Latents of the sizes Kandinsky can draw, and what inpainting needs."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch.nn.functional as F
from torch import Tensor

from ..pipelines import SIZE_STEP
from ..sampling.decoder import keep_mask
from ..sampling.kandinsky3 import blank_out
from .model import KEEP, MASKED_LATENTS, PIXELS_PER_LATENT
from .sampling import INPAINTS


def round_size(*sides: int) -> list[int]:
    return [max(SIZE_STEP, round(side / SIZE_STEP) * SIZE_STEP) for side in sides]


def resized(image: Tensor, width: int, height: int) -> Tensor:
    """IMAGE [B, H, W, 3] at another size, cut in the middle to its proportions."""
    return comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)


def resized_mask(mask: Tensor, width: int, height: int) -> Tensor:
    """MASK [B, H, W] in the same way."""
    return comfy.utils.common_upscale(mask.reshape(-1, 1, *mask.shape[-2:]), width, height, "bilinear", "center")[:, 0]


def whole_latents(pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(pixels [B, H, W, 3], mask [B, 1, H, W]) with sides that are multiples of 8, cut in the middle: VAE Encode cuts
    the picture so, and the mask must stay beside it. A mask of another size is resized first."""
    height, width = pixels.shape[1:3]
    if mask.shape[-2:] != (height, width):
        mask = resized_mask(mask, width, height)
    mask = mask.reshape(-1, 1, height, width)
    (top, bottom), (left, right) = (_whole(side) for side in (height, width))
    return pixels[:, top:bottom, left:right, :3], mask[:, :, top:bottom, left:right]


def _whole(side: int) -> tuple[int, int]:
    rest = side % PIXELS_PER_LATENT
    return rest // 2, side - rest + rest // 2


def for_inpainting(vae: Any, pixels: Tensor, mask: Tensor, keep_rest: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(what goes into positive and negative, LATENT) to repaint `mask`, MASK 1 = repaint, of IMAGE `pixels`."""
    pixels, mask = whole_latents(pixels, mask)
    samples = vae.encode(pixels)
    keep = keep_mask(mask.cpu(), tuple(samples.shape[-2:]))
    latent = {"samples": samples}
    if keep_rest:
        latent["noise_mask"] = 1 - keep[:, 0]
    return {KEEP: keep, "concat_latent_image": samples, INPAINTS: True}, latent


def for_inpainting3(vae: Any, pixels: Tensor, mask: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The same for Kandinsky 3: what goes is blanked out of the picture, before encoding; the mask keeps its soft
    edge."""
    if not mask.any():
        raise ValueError("Expected a mask that says what to repaint (white); it is black everywhere.")
    pixels, mask = whole_latents(pixels, mask)
    repaint = mask.clamp(0, 1)
    blanked = blank_out(pixels.movedim(-1, 1) * 2 - 1, repaint)
    latents = vae.encode(((blanked + 1) / 2).movedim(1, -1))
    keep = F.interpolate(1 - repaint, size=latents.shape[-2:], mode="nearest")
    return {KEEP: keep, MASKED_LATENTS: latents, INPAINTS: True}, {"samples": vae.encode(pixels)}
