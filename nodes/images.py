"""Pictures between ComfyUI's form, IMAGE [B, H, W, C] float 0..1, and what the networks take."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .models.loader import ImageProcessorConfig


def to_pil(image: Tensor) -> list[Image.Image]:
    """IMAGE [B, H, W, 3] → B RGB pictures. An alpha channel is dropped."""
    if image.ndim != 4 or image.shape[-1] not in (3, 4):
        raise ValueError(f"Expected an IMAGE of shape [batch, height, width, 3], got {list(image.shape)}.")
    pixels = (image[..., :3].detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(picture) for picture in pixels]


def _to_tensor(picture: Image.Image) -> Tensor:
    """[3, H, W] float 0..1."""
    return torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1) / 255


def for_image_encoder(image: Tensor, config: ImageProcessorConfig) -> Tensor:
    """IMAGE → [B, 3, S, S], as transformers' CLIPImageProcessor makes it: shortest side to S, bicubic, centre crop,
    normalised."""
    side = config.size
    prepared = []
    for picture in to_pil(image):
        scale = side / min(picture.size)
        width, height = (side if edge == min(picture.size) else int(edge * scale) for edge in picture.size)
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        prepared.append(_to_tensor(resized.crop((left, top, left + side, top + side))))
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    return (torch.stack(prepared) - mean) / std


def for_movq(image: Tensor, width: int, height: int) -> Tensor:
    """IMAGE → [B, 3, height, width] in −1..1, resized as the reference does: bicubic with reducing_gap 1."""
    resized = [p.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=1) for p in to_pil(image)]
    return torch.stack([_to_tensor(picture) for picture in resized]) * 2 - 1


def from_movq(pixels: Tensor) -> Tensor:
    """[B, 3, H, W] in about −1..1 → IMAGE."""
    return (pixels.float() * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().contiguous()
