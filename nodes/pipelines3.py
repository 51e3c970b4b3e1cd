"""The recipe of Kandinsky 3: the conditioning of a text to latents, with the loops of sampling/kandinsky3.py."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import host
from .decoders import Decoder
from .images import fitted, for_soft_mask
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


def as_long(positive: Conditioning, negative: Conditioning | None) -> tuple[Conditioning, Conditioning]:
    """(positive, negative) with as many tokens in each negative entry as in the first positive one, cut or padded, as
    the reference has it: what the UNet says depends on that number. None becomes no text at all."""
    states, options = positive[0]
    if negative is None:
        nothing = torch.zeros_like(states), torch.zeros(states.shape[:2], dtype=torch.long)
        return positive, [[nothing[0], {**options, MASK: nothing[1]}]]
    fitted = []
    for tensor, extra in negative:
        more = states.shape[1] - tensor.shape[1]
        mask = extra.get(MASK)
        mask = torch.ones(tensor.shape[:2], dtype=torch.long) if mask is None else mask
        fitted.append([F.pad(tensor, (0, 0, 0, more)), {**extra, MASK: F.pad(mask, (0, more))}])
    return positive, fitted


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
    """(latents [B · batch_size, 4, H/8, W/8], the VAE they are for), drawn by a MODEL; `size` is (width, height) in
    pixels. With `start`, (IMAGE, strength), from that picture (img2img). With `repaint`, (IMAGE, MASK), what is masked
    of that one anew (inpainting). `vae` takes the place of the one that the MODEL was loaded with."""
    seam = host.current()
    decoder = seam.decoder(model, "Kandinsky 3 Decoder")
    network = decoder.network
    if not isinstance(network, UNet3Config):
        raise TypeError(f"The decoder {decoder.name} is of Kandinsky 2 and draws image embeds: use Kandinsky Decoder.")
    chosen = choose_sampling(decoder, sampling, repaint is not None)
    vae = require_vae(decoder, vae)
    width, height = size
    text = to_text(positive, network.encoder_hid_dim, "positive")
    if negative is None:
        without = Text3.no_text(text)
    else:
        without = to_text(negative, network.encoder_hid_dim, "negative").rows(len(text.states)).match_token_length(text)
    text, without = text.repeat(batch_size), without.repeat(batch_size)
    count = len(text.states)
    begin = None
    if start is not None:
        begin = for_every_picture(vae.encode(fitted(start[0], width, height)), count, "images")
    more: dict[str, Any] = {}
    if repaint is not None:
        picture, mask = fitted(repaint[0], width, height), for_soft_mask(repaint[1], width, height)
        for part, what in ((picture, "images"), (mask, "masks")):
            for_every_picture(part, count, what)
        more = for_inpainting3(vae, picture, mask)
        more |= {key: for_every_picture(more[key], count, "masks") for key in (KEEP, MASKED_LATENTS)}
    shape = (count, LATENT_CHANNELS, height // 8, width // 8)
    noise, strength = seeded_noise(row_seeds(seed, count)), 1.0 if start is None else start[1]

    def draw(predict: Predict, device: torch.device, on_step: OnStep) -> Tensor:
        if chosen == FLASH:
            return sample_flash(predict, decoder.scheduler, shape, device, noise, begin, strength, on_step)
        return sample(
            predict,
            decoder.scheduler,
            shape,
            device,
            noise,
            steps,
            guidance,
            begin,
            strength,
            inpaints=network.inpaints,
            original=chosen == ORIGINAL,
            on_step=on_step,
        )

    guided = guidance > 1 and chosen != FLASH
    given, away = ([[one.states, {MASK: one.mask, **more}]] for one in (text, without))
    latents = seam.sample(model, given, away if guided else None, shape, draw)
    return require_finite(latents.cpu(), f"The latents of {decoder.name}"), vae


def choose_sampling(decoder: Decoder, sampling: str, repaints: bool) -> str:
    """How `decoder` is sampled: what is asked for, or, for "auto", what it was made for. Raises ValueError where a mask
    and the model do not go together."""
    network, name = decoder.network, decoder.name
    assert isinstance(network, UNet3Config)
    if network.inpaints != repaints:
        if repaints:
            raise ValueError(
                f"{name} has not learned to inpaint: expected no mask, got one. Load an inpainting model, "
                "converted from kandinsky3_inpainting.pt, or leave the mask out."
            )
        raise ValueError(f"{name} inpaints: expected an image and a mask of what to repaint; none came.")
    if sampling != AUTO:
        if repaints and sampling != ORIGINAL:
            raise ValueError(f"Expected sampling {AUTO} or {ORIGINAL} with a mask, got {sampling}.")
        return sampling
    return FLASH if network.flash else ORIGINAL if repaints else REFERENCE
