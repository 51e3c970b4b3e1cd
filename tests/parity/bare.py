"""The reference loops on bare networks, for comparisons with diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nodes.decoders import Decoder, read_decoder, read_movq
from nodes.images import crop_and_resize
from nodes.keys import HINT, IMAGE_EMBEDS, KEEP, MASK, MASKED_LATENTS, PICTURE, POOLED, Conditioning
from nodes.models.movq import MOVQ
from nodes.models.unet2 import UNet2
from nodes.models.unet3 import UNet3
from nodes.networks import CLIP, Model, load_mclip, load_model, load_vae, predictor
from nodes.pipelines import embeds_to_latents, latents_to_image
from nodes.sampling import decoder as loops2
from nodes.sampling import kandinsky3 as loops3
from nodes.sampling.decoder import Inpaint
from nodes.sampling.kandinsky3 import Text3
from nodes.sampling.noise import Noise
from nodes.sampling.prior import TextStates
from nodes.sampling.schedulers import DecoderScheduler

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Bare:
    """A decoder folder's networks, and the MODEL they are in."""

    model: Model
    clip: CLIP | None

    @property
    def unet(self) -> Any:
        return self.model.unet

    @property
    def movq(self) -> MOVQ:
        return self.model.decoder.vae.movq

    @property
    def decoder(self) -> Decoder:
        return self.model.decoder

    @property
    def scheduler(self) -> DecoderScheduler:
        return self.decoder.scheduler

    def latents(self, *args: Any, **options: Any) -> Tensor:
        return embeds_to_latents(self.model, *args, **options)[0]

    def draw(self, *args: Any, **options: Any) -> Tensor:
        """Through the whole recipe, as the node does: IMAGE."""
        return latents_to_image(self.decoder.vae, self.latents(*args, **options))


def load_decoder(folder: Path, dtype: torch.dtype = torch.float32) -> Bare:
    """Of Kandinsky 2 or 3."""
    file, decoder = read_decoder(folder, folder.name)
    clip = load_mclip(folder, [], dtype) if getattr(decoder.network, "reads_text", False) else None
    vae = load_vae(*read_movq(folder), dtype)
    full = Decoder(decoder.name, decoder.network, decoder.scheduler, decoder.ddpm_scheduler, vae, clip)
    return Bare(load_model(file, full, dtype), clip)


def for_movq(image: Tensor, width: int, height: int) -> Tensor:
    """IMAGE -> [B, 3, H, W] in -1..1."""
    return crop_and_resize(image, width, height).movedim(-1, 1) * 2 - 1


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
    text: TextStates | None = None,
    negative_text: TextStates | None = None,
    inpaint: Inpaint | None = None,
) -> Tensor:
    count, config = len(image_embeds), unet.config
    more: dict[str, Any] = {} if hint is None else {HINT: hint}
    if inpaint is not None:
        more |= {KEEP: inpaint.keep, PICTURE: inpaint.latents}

    def conditioning(embeds: Tensor, text: TextStates | None) -> Conditioning:
        if text is None:
            return [[embeds[:, None], more]]
        return [[text.states, {POOLED: text.embeds, IMAGE_EMBEDS: embeds, **more}]]

    positive, negative = conditioning(image_embeds, text), conditioning(negative_image_embeds, negative_text or text)
    predict = predictor(unet, positive, negative if guidance > 1 else None, CPU)
    if config.inpaints and config.reads_text:
        inpaint = None
    shape = (count, 4, *size)
    return loops2.sample_latents(
        predict, scheduler, shape, CPU, noise, steps, guidance, start, strength, inpaint, config.reads_text
    )


@dataclass(frozen=True)
class Inpaint3:
    keep: Tensor
    masked_latents: Tensor


def sample(
    unet: UNet3,
    scheduler: DecoderScheduler,
    text: Text3,
    negative: Text3 | None,
    size: tuple[int, int],
    noise: Noise,
    steps: int,
    guidance: float,
    inpaint: Inpaint3 | None = None,
    **options: Any,
) -> Tensor:
    more = {} if inpaint is None else {KEEP: inpaint.keep, MASKED_LATENTS: inpaint.masked_latents}
    count = len(text.states)
    without = Text3.no_text(text) if negative is None else negative.rows(count).match_token_length(text)
    positive, away = ([[one.states, {MASK: one.mask, **more}]] for one in (text, without))
    predict = predictor(unet, positive, away if guidance > 1 else None, CPU)
    shape = (count, 4, *size)
    return loops3.sample(
        predict, scheduler, shape, CPU, noise, steps, guidance, inpaints=inpaint is not None, **options
    )


def sample_flash(
    unet: UNet3, scheduler: DecoderScheduler, text: Text3, size: tuple[int, int], noise: Noise, **options: Any
) -> Tensor:
    predict = predictor(unet, [[text.states, {MASK: text.mask}]], None, CPU)
    return loops3.sample_flash(predict, scheduler, (len(text.states), 4, *size), CPU, noise, **options)
