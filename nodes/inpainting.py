"""Conditioning for inpainting, shared by the all-in-one nodes and the nodes for samplers."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .images import for_keep_mask, for_soft_mask
from .keys import INPAINTS, KEEP, MASKED_LATENTS, PICTURE
from .models.movq import PIXELS_PER_LATENT
from .sampling.decoder import keep_mask
from .sampling.kandinsky3 import blank_out


def crop_to_latents(pixels: Tensor, mask: Tensor, soft: bool = False) -> tuple[Tensor, Tensor]:
    """Centre crop to multiples of 8: (IMAGE [B, H, W, 3], mask [B, 1, H, W]). VAE Encode crops the picture like this;
    the mask must match. A mask of another size is resized first."""
    height, width = pixels.shape[1:3]
    if mask.shape[-2:] != (height, width):
        mask = (for_soft_mask if soft else for_keep_mask)(mask, width, height)
    mask = mask.reshape(-1, 1, height, width)
    (top, bottom), (left, right) = (_crop(side) for side in (height, width))
    return pixels[:, top:bottom, left:right, :3], mask[:, :, top:bottom, left:right]


def _crop(side: int) -> tuple[int, int]:
    rest = side % PIXELS_PER_LATENT
    return rest // 2, side - rest + rest // 2


def for_inpainting(latents: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Conditioning of Kandinsky 2 to repaint `mask` [B, 1, H, W], 1 = repaint, of the picture with these latents.
    Returns (keep mask [B, 1, h, w], keys for positive and negative)."""
    keep = keep_mask(mask.cpu(), (latents.shape[-2], latents.shape[-1]))
    return keep, {KEEP: keep, PICTURE: latents, INPAINTS: True}


def for_inpainting3(vae: Any, pixels: Tensor, mask: Tensor) -> dict[str, Any]:
    """Conditioning of Kandinsky 3 to repaint `mask` [B, 1, H, W] of IMAGE `pixels`, as in the original repository:
    pixels with a mask above 0 are set to grey before encoding; the mask stays soft. Raises ValueError for an empty
    mask."""
    if not mask.any():
        raise ValueError("Expected a mask that says what to repaint (1, white), but it is 0 everywhere.")
    repaint = mask.clamp(0, 1)
    blanked = blank_out(pixels.movedim(-1, 1) * 2 - 1, repaint)
    latents = vae.encode(((blanked + 1) / 2).movedim(1, -1))
    keep = F.interpolate(1 - repaint, size=latents.shape[-2:], mode="nearest")
    return {KEEP: keep, MASKED_LATENTS: latents, INPAINTS: True}
