"""Pipeline of Kandinsky 3: text conditioning to latents."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import host
from .decoders import Decoder
from .images import crop_and_resize, for_soft_mask
from .inpainting import for_inpainting3
from .keys import KEEP, MASK, MASKED_LATENTS, Conditioning
from .models.unet2 import LATENT_CHANNELS
from .models.unet3 import UNet3Config
from .pipelines import for_every_picture, require_finite, require_vae, row_seeds
from .sampling.decoder import Predict
from .sampling.kandinsky3 import Text3, sample, sample_flash
from .sampling.noise import seeded_noise
from .sampling.steps import OnStep

AUTO, REFERENCE, ORIGINAL, FLASH = "auto", "reference", "original", "flash"
SAMPLINGS = (AUTO, REFERENCE, ORIGINAL, FLASH)


def to_text(conditioning: Conditioning, width: int, name: str) -> Text3:
    """CONDITIONING → text states `width` wide. Raises ValueError for several entries, or another model's."""
    if len(conditioning) != 1:
        raise ValueError(
            f"Expected one entry in {name}, got {len(conditioning)}: use KSampler for combined conditioning."
        )
    states, extra = conditioning[0]
    if states.ndim != 3 or states.shape[-1] != width:
        raise ValueError(
            f"Expected {name} with text states [batch, tokens, {width}], got {list(states.shape)} from another model's "
            "text encoder. Use Kandinsky 3 Text Encode."
        )
    mask = extra.get(MASK)
    return Text3(states, torch.ones(states.shape[:2], dtype=torch.long) if mask is None else mask.to(torch.long))


def match_token_length(positive: Conditioning, negative: Conditioning | None) -> tuple[Conditioning, Conditioning]:
    """(positive, negative) with each negative entry truncated or padded to the tokens of the first positive one, as in
    the reference: the UNet's output depends on their number. None becomes zero states and mask (no text)."""
    states, options = positive[0]
    if negative is None:
        no_text = torch.zeros(states.shape[:2], dtype=torch.long)
        return positive, [[torch.zeros_like(states), {**options, MASK: no_text}]]
    matched = []
    for tensor, extra in negative:
        more = states.shape[1] - tensor.shape[1]
        mask = extra.get(MASK)
        mask = torch.ones(tensor.shape[:2], dtype=torch.long) if mask is None else mask
        matched.append([F.pad(tensor, (0, 0, 0, more)), {**extra, MASK: F.pad(mask, (0, more))}])
    return positive, matched


def conditioning_to_latents(
    model: Any,
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
    vae: Any = None,
) -> tuple[Tensor, Any]:
    """Sample (latents [B · batch_size, 4, H/8, W/8], the VAE to decode them with).

    size: (width, height) in pixels.
    start: (IMAGE, strength) to start from (img2img).
    repaint: (IMAGE, MASK) for inpainting, 1 = repaint.
    vae: replaces the one loaded with the MODEL.
    """
    seam = host.current()
    decoder = seam.decoder(model, "Kandinsky 3 Decoder")
    network = decoder.network
    if not isinstance(network, UNet3Config):
        raise TypeError(
            f"The decoder {decoder.name} is a Kandinsky 2 model, which takes image embeds: use Kandinsky Decoder."
        )
    chosen = choose_sampling(decoder, sampling, repaint is not None)
    vae = require_vae(decoder, vae)
    width, height = size
    text = to_text(positive, network.encoder_hid_dim, "positive")
    if negative is None:
        negative_text = Text3.no_text(text)
    else:
        negative_text = to_text(negative, network.encoder_hid_dim, "negative")
        negative_text = negative_text.rows(len(text.states)).match_token_length(text)
    text, negative_text = text.repeat(batch_size), negative_text.repeat(batch_size)
    count = len(text.states)
    start_latents = None
    if start is not None:
        start_latents = for_every_picture(vae.encode(crop_and_resize(start[0], width, height)), count, "images")
    extra: dict[str, Any] = {}
    if repaint is not None:
        picture, mask = crop_and_resize(repaint[0], width, height), for_soft_mask(repaint[1], width, height)
        for part, what in ((picture, "images"), (mask, "masks")):
            for_every_picture(part, count, what)
        extra = for_inpainting3(vae, picture, mask)
        extra |= {key: for_every_picture(extra[key], count, "masks") for key in (KEEP, MASKED_LATENTS)}
    shape = (count, LATENT_CHANNELS, height // 8, width // 8)
    noise, strength = seeded_noise(row_seeds(seed, count)), 1.0 if start is None else start[1]

    def draw(predict: Predict, device: torch.device, on_step: OnStep) -> Tensor:
        if chosen == FLASH:
            return sample_flash(predict, decoder.scheduler, shape, device, noise, start_latents, strength, on_step)
        return sample(
            predict,
            decoder.scheduler,
            shape,
            device,
            noise,
            steps,
            guidance,
            start_latents,
            strength,
            inpaints=network.inpaints,
            original=chosen == ORIGINAL,
            on_step=on_step,
        )

    guided = guidance > 1 and chosen != FLASH
    cond, uncond = ([[one.states, {MASK: one.mask, **extra}]] for one in (text, negative_text))
    latents = seam.sample(model, cond, uncond if guided else None, shape, draw)
    return require_finite(latents.cpu(), f"The latents of {decoder.name}"), vae


def choose_sampling(decoder: Decoder, sampling: str, repaints: bool) -> str:
    """Resolve "auto" for `decoder`. Raises ValueError for a mask without an inpainting model, or the reverse."""
    network, name = decoder.network, decoder.name
    assert isinstance(network, UNet3Config)
    if network.inpaints != repaints:
        if repaints:
            raise ValueError(
                f"{name} is not an inpainting model: expected no mask, got one. Disconnect the mask, or load an "
                "inpainting model, converted from kandinsky3_inpainting.pt."
            )
        raise ValueError(f"{name} is an inpainting model: expected an image and a mask of what to repaint, got none.")
    if sampling != AUTO:
        if repaints and sampling != ORIGINAL:
            raise ValueError(f"Expected sampling {AUTO} or {ORIGINAL} with a mask, got {sampling}.")
        return sampling
    return FLASH if network.flash else ORIGINAL if repaints else REFERENCE
