"""Kandinsky 3's recipes: prompts to conditioning, conditioning to latents, latents to pictures.

Each brings one network after another to the device, through the host, and runs the loops of sampling/kandinsky3.py.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import host
from .images import for_movq, middle
from .models.loader3 import (
    Kandinsky3,
    Kandinsky3TextEncoder,
    is_kandinsky3_folder,
    is_kandinsky3_text_folder,
)
from .models.movq import encode_memory
from .pipelines import folders, for_every_picture, require_finite, row_seeds, unet_memory
from .sampling.kandinsky3 import Inpaint3, Text3, blank_out, encode_prompts, sample, sample_flash
from .sampling.noise import seeded_noise

MASK = "attention_mask"
"""Where ComfyUI's conditioning keeps a text encoder's mask."""

AUTO, REFERENCE, ORIGINAL, FLASH = "auto", "reference", "original", "flash"
SAMPLINGS = (AUTO, REFERENCE, ORIGINAL, FLASH)
Conditioning = list[Any]


def kandinsky3_folders() -> dict[str, Path]:
    return folders(is_kandinsky3_folder)


def text_encoder_folders() -> dict[str, Path]:
    return folders(is_kandinsky3_text_folder)


def prompt_to_conditioning(text_encoder: Kandinsky3TextEncoder, prompt: str) -> Conditioning:
    """CONDITIONING of one prompt: [[states [1, T, D], {"attention_mask": [1, T], 1 = a token}]]."""
    seam = host.current()
    if text_encoder.place == "device":
        place = seam.loaded(text_encoder.encoder)
    else:
        place = nullcontext(seam.device() if text_encoder.place == "stream" else torch.device("cpu"))
    with place as device:
        text = encode_prompts(text_encoder.encoder, text_encoder.tokenizer, [prompt], device)
    states = require_finite(text.states.cpu().clone(), "The text states")
    return [[states, {MASK: text.mask.cpu().clone()}]]


def to_text(conditioning: Conditioning, width: int, name: str) -> Text3:
    """The text states in a CONDITIONING. Raises ValueError where it is not one text's, or another model's."""
    if len(conditioning) != 1:
        raise ValueError(
            f"Expected one text in {name}, got {len(conditioning)}: several combined are for KSampler, which weighs "
            "them against each other."
        )
    states, extra = conditioning[0]
    if states.ndim != 3 or states.shape[-1] != width:
        raise ValueError(
            f"Expected {name} with text states [batch, tokens, {width}], got {list(states.shape)}: another model's "
            "text encoder made it. Use Kandinsky 3 Text Encode."
        )
    mask = extra.get(MASK)
    return Text3(states, torch.ones(states.shape[:2], dtype=torch.long) if mask is None else mask.to(torch.long))


def conditioning_to_latents(
    model: Kandinsky3,
    positive: Conditioning,
    negative: Conditioning | None,
    size: tuple[int, int],
    seed: int,
    steps: int,
    guidance: float,
    sampling: str = AUTO,
    batch_size: int = 1,
    start: tuple[Tensor, float] | None = None,
    repaint: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Latents [B · batch_size, 4, H/8, W/8]; `size` is (width, height) in pixels. With `start`, (IMAGE, strength),
    from that picture (img2img). With `repaint`, (IMAGE, MASK), what is masked of that one anew (inpainting)."""
    chosen = choose_sampling(model, sampling, repaint is not None)
    seam = host.current()
    width, height = size
    text = to_text(positive, model.width, "positive")
    without = None
    if negative is not None:
        without = to_text(negative, model.width, "negative").rows(len(text.states)).repeat(batch_size)
    text = text.repeat(batch_size)
    count = len(text.states)
    begin = None if start is None else encode_picture(model, for_movq(start[0], width, height), count)
    inpaint = None if repaint is None else encode_inpaint(model, *repaint, width, height, count)
    noise = seeded_noise(row_seeds(seed, count))
    latent_size = (height // 8, width // 8)
    strength = 1.0 if start is None else start[1]

    def on_step(step: int, total: int, x0: Tensor | None) -> None:
        seam.progress(step, total)

    with seam.loaded(model.unet, unet_memory(2 * count, latent_size, model.unet.conv_in.weight.itemsize)) as device:
        text = text.to(device)
        if chosen == FLASH:
            latents = sample_flash(model.unet, model.scheduler, text, latent_size, noise, begin, strength, on_step)
        else:
            latents = sample(
                model.unet,
                model.scheduler,
                text,
                None if without is None else without.to(device),
                latent_size,
                noise,
                steps,
                guidance,
                start=begin,
                strength=strength,
                inpaint=inpaint,
                original=chosen == ORIGINAL,
                on_step=on_step,
            )
    return require_finite(latents.cpu(), f"The latents of {model.name}")


def choose_sampling(model: Kandinsky3, sampling: str, repaints: bool) -> str:
    """How `model` is sampled: what is asked for, or, for "auto", what it was made for. Raises ValueError where a mask
    and the model do not go together."""
    if model.inpaints != repaints:
        if repaints:
            raise ValueError(
                f"{model.name} has not learned to inpaint: expected no mask, got one. Load an inpainting model, "
                "converted from kandinsky3_inpainting.pt, or leave the mask out."
            )
        raise ValueError(f"{model.name} inpaints: expected an image and a mask of what to repaint; none came.")
    if sampling != AUTO:
        if repaints and sampling != ORIGINAL:
            raise ValueError(f"Expected sampling {AUTO} or {ORIGINAL} with a mask, got {sampling}.")
        return sampling
    return FLASH if model.flash else ORIGINAL if repaints else REFERENCE


def encode_picture(model: Kandinsky3, pixels: Tensor, count: int) -> Tensor:
    """Latents [count, 4, H/8, W/8] of pixels [1 or count, 3, H, W] in −1..1."""
    dtype = model.movq.quant_conv.weight.dtype
    room = encode_memory(model.movq.config, pixels.shape[2], pixels.shape[3], dtype.itemsize)
    with host.current().loaded(model.movq, room) as device, torch.inference_mode():
        latents = model.movq.encode(pixels.to(device, dtype)).float()
    return for_every_picture(latents, count, "images")


def encode_inpaint(model: Kandinsky3, image: Tensor, mask: Tensor, width: int, height: int, count: int) -> Inpaint3:
    """What the UNet sees of IMAGE [B, H, W, 3] and MASK [B, H, W], 1 = repaint. As in the original repository, a
    pixel that goes even partly is blanked out, before encoding; the mask keeps its soft edge."""
    mask = mask if mask.ndim == 3 else mask.reshape(-1, *mask.shape[-2:])
    left, top, right, bottom = middle((mask.shape[2], mask.shape[1]), width, height)
    part = mask[:, None, top:bottom, left:right].float()
    repaint = F.interpolate(part, size=(height, width), mode="bilinear").clamp(0, 1)
    repaint = repaint if len(repaint) == 1 else for_every_picture(repaint, count, "masks")
    if not repaint.any():
        raise ValueError("Expected a mask that says what to repaint (1, white); it is 0 everywhere.")
    pixels = for_movq(image, width, height)
    latents = encode_picture(model, blank_out(pixels, repaint), count)
    keep = F.interpolate(1 - repaint, size=latents.shape[-2:], mode="nearest")
    return Inpaint3(keep.expand(count, -1, -1, -1), latents)
