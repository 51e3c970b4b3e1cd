"""What a decoder needs to repaint a part of a picture, the same for the all-in-one nodes and for samplers."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .images import for_keep_mask, for_soft_mask
from .keys import INPAINTS, KEEP, MASKED_LATENTS, PICTURE
from .sampling.decoder import keep_mask
from .sampling.kandinsky3 import blank_out

PIXELS_PER_LATENT = 8


def whole_latents(pixels: Tensor, mask: Tensor, soft: bool = False) -> tuple[Tensor, Tensor]:
    """(IMAGE [B, H, W, 3], mask [B, 1, H, W]) with sides that are multiples of 8, cut in the middle: VAE Encode cuts
    the picture so, and the mask must stay beside it. A mask of another size is resized first."""
    height, width = pixels.shape[1:3]
    if mask.shape[-2:] != (height, width):
        mask = (for_soft_mask if soft else for_keep_mask)(mask, width, height)
    mask = mask.reshape(-1, 1, height, width)
    (top, bottom), (left, right) = (_whole(side) for side in (height, width))
    return pixels[:, top:bottom, left:right, :3], mask[:, :, top:bottom, left:right]


def _whole(side: int) -> tuple[int, int]:
    rest = side % PIXELS_PER_LATENT
    return rest // 2, side - rest + rest // 2


def for_inpainting(latents: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """(keep mask [B, 1, h, w], what goes into positive and negative) to repaint `mask` [B, 1, H, W], 1 = repaint, of
    the picture with these latents."""
    keep = keep_mask(mask.cpu(), (latents.shape[-2], latents.shape[-1]))
    return keep, {KEEP: keep, PICTURE: latents, INPAINTS: True}


def for_inpainting3(vae: Any, pixels: Tensor, mask: Tensor) -> dict[str, Any]:
    """The same for Kandinsky 3, of IMAGE `pixels`: as in the original repository, a pixel that goes even partly is
    blanked out, before encoding; the mask keeps its soft edge. Raises ValueError if nothing goes."""
    if not mask.any():
        raise ValueError("Expected a mask that says what to repaint (1, white); it is 0 everywhere.")
    repaint = mask.clamp(0, 1)
    blanked = blank_out(pixels.movedim(-1, 1) * 2 - 1, repaint)
    latents = vae.encode(((blanked + 1) / 2).movedim(1, -1))
    keep = F.interpolate(1 - repaint, size=latents.shape[-2:], mode="nearest")
    return {KEEP: keep, MASKED_LATENTS: latents, INPAINTS: True}
