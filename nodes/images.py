"""Converts and resizes IMAGE [B, H, W, C] and MASK [B, H, W], float 0..1, for the networks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .models.loader import ImageProcessorConfig


def to_pil(image: Tensor) -> list[Image.Image]:
    """IMAGE [B, H, W, 3 or 4] → B RGB images, without alpha. Raises ValueError."""
    if image.ndim != 4 or image.shape[-1] not in (3, 4):
        raise ValueError(f"Expected an IMAGE of shape [batch, height, width, 3], got {list(image.shape)}.")
    pixels = (image[..., :3].detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(picture) for picture in pixels]


def _to_tensor(picture: Image.Image) -> Tensor:
    """[3, H, W] float 0..1."""
    return torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1) / 255


def for_image_encoder(image: Tensor, config: ImageProcessorConfig) -> Tensor:
    """IMAGE → [B, 3, S, S], as transformers' CLIPImageProcessor: shortest side resized to S (bicubic), centre crop,
    normalised."""
    side = config.size
    prepared = []
    for picture in to_pil(image):
        short = min(picture.size)
        width, height = (side if edge == short else int(side * edge / short) for edge in picture.size)
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        prepared.append(_to_tensor(resized.crop((left, top, left + side, top + side))))
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    return (torch.stack(prepared) - mean) / std


def center_crop(size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest centre crop of `size` (width, height) with the aspect ratio of
    width × height."""
    scale = min(size[0] / width, size[1] / height)
    crop = [min(side, max(1, round(target * scale))) for side, target in zip(size, (width, height), strict=True)]
    left, top = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    return left, top, left + crop[0], top + crop[1]


def crop_and_resize(image: Tensor, width: int, height: int) -> Tensor:
    """IMAGE → IMAGE [B, height, width, 3]: centre crop to the aspect ratio, then resized as in the reference, bicubic
    with reducing_gap 1. (The reference stretches instead of cropping.)"""
    crops = [picture.crop(center_crop(picture.size, width, height)) for picture in to_pil(image)]
    resized = [p.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=1) for p in crops]
    return torch.stack([_to_tensor(picture) for picture in resized]).movedim(1, -1)


def for_keep_mask(mask: Tensor, width: int, height: int) -> Tensor:
    """MASK [B, H, W] → [B, 1, height, width] in 0..1: centre crop as for its picture, then resized with Lanczos, as in
    the reference. Input of `keep_mask`."""
    mask = as_mask(mask)
    pixels = (mask.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    box = center_crop((mask.shape[2], mask.shape[1]), width, height)
    resized = [Image.fromarray(row).crop(box).resize((width, height), Image.Resampling.LANCZOS) for row in pixels]
    return torch.stack([torch.from_numpy(np.array(row, dtype=np.float32))[None] / 255 for row in resized])


def for_soft_mask(mask: Tensor, width: int, height: int) -> Tensor:
    """The same, but bilinear: Lanczos would overshoot outside the masked part."""
    mask = as_mask(mask)
    left, top, right, bottom = center_crop((mask.shape[2], mask.shape[1]), width, height)
    part = mask[:, None, top:bottom, left:right].float()
    return F.interpolate(part, size=(height, width), mode="bilinear").clamp(0, 1)


def as_mask(mask: Tensor) -> Tensor:
    """MASK [B, H, W] or [H, W] → [B, H, W]. Raises ValueError."""
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3:
        raise ValueError(f"Expected a MASK of shape [batch, height, width], got {list(mask.shape)}.")
    return mask


def pad_for_outpaint(
    image: Tensor, sides: tuple[int, int, int, int], feather: int, multiple: int
) -> tuple[Tensor, Tensor]:
    """Pad `image` by `sides` (left, top, right, bottom) pixels; returns (IMAGE, MASK [B, H, W], 1 = padding).

    The padded size is rounded up to `multiple`; the extra pixels go to the side with more padding, or right and bottom.
    The mask falls to 0 linearly over the first `feather` pixels of the picture. The padding repeats the picture's edge,
    because it affects the latents of the kept part beside it. Raises ValueError.
    """
    if min(*sides, feather) < 0:
        raise ValueError(f"Expected padding and feather of 0 or more; got {sides} and {feather}.")
    height, width = image.shape[1:3]
    left, right = _rounded(width, sides[0], sides[2], multiple)
    top, bottom = _rounded(height, sides[1], sides[3], multiple)
    padded = F.pad(image.movedim(-1, 1), (left, right, top, bottom), mode="replicate").movedim(1, -1)
    from_edge = [
        distance
        for added, distance in (
            (left, torch.arange(width).expand(height, width)),
            (right, torch.arange(width).flip(0).expand(height, width)),
            (top, torch.arange(height)[:, None].expand(height, width)),
            (bottom, torch.arange(height).flip(0)[:, None].expand(height, width)),
        )
        if added
    ]
    inside = torch.zeros(height, width)
    if from_edge and feather:
        inside = (1 - (torch.stack(from_edge).amin(0) + 0.5) / feather).clamp(min=0)
    mask = F.pad(inside, (left, right, top, bottom), value=1.0)
    return padded, mask.expand(len(image), -1, -1).clone()


def _rounded(side: int, before: int, after: int, multiple: int) -> tuple[int, int]:
    """`before` and `after` plus what their sum with `side` lacks to a multiple."""
    rest = -(side + before + after) % multiple
    return (before + rest, after) if before > after else (before, after + rest)


def from_movq(pixels: Tensor) -> Tensor:
    """[B, 3, H, W] in about −1..1 → IMAGE [B, H, W, 3], clamped."""
    return (pixels.float() * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().contiguous()
