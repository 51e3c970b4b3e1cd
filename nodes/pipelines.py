"""Pipelines of Kandinsky 2: prompts and pictures to image embeds, image embeds to latents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import host
from .decoders import Decoder
from .embeds import ImageEmbeds, require_width
from .images import crop_and_resize, for_image_encoder, for_keep_mask
from .inpainting import for_inpainting
from .keys import HINT, IMAGE_EMBEDS, KEEP, POOLED, Conditioning, with_values
from .models.loader import KandinskyPrior
from .models.memory import prior_memory
from .models.unet2 import LATENT_CHANNELS, UNet2Config
from .sampling.decoder import Inpaint, sample_latents
from .sampling.mixing import mix
from .sampling.noise import seeded_noise
from .sampling.prior import encode_image, encode_text, mean_grey_embeds, sample_image_embeds

log = logging.getLogger(__name__)

SIZE_STEP = 8
"""Width and height are multiples of this (latents are 8 times smaller). Multiples of 64 need no padding in the UNet."""


def require_size(width: int, height: int) -> None:
    for name, value in (("width", width), ("height", height)):
        if value < SIZE_STEP or value % SIZE_STEP:
            below = max(SIZE_STEP, value // SIZE_STEP * SIZE_STEP)
            raise ValueError(
                f"Expected a {name} that is a multiple of {SIZE_STEP}, got {value}: use {below} or {below + SIZE_STEP}."
            )


def row_seeds(seed: int, count: int) -> list[int]:
    """Seeds of the rows of a batch: seed, seed + 1, …"""
    return [(seed + i) % 2**64 for i in range(count)]


def text_to_embeds(
    prior: KandinskyPrior,
    prompt: str,
    negative_prompt: str,
    seed: int,
    steps: int,
    guidance: float,
    count: int = 1,
    start: tuple[ImageEmbeds | Tensor, float] | None = None,
) -> tuple[ImageEmbeds, ImageEmbeds]:
    """(image embeds, negative image embeds), `count` of each. start: (embeds [count, D], strength) for emb2emb. Without
    a negative prompt, the negative embeds are those of a mean grey picture."""
    if not prompt.strip():
        raise ValueError("Expected a prompt that says what the picture shows, got an empty one.")
    seam = host.current()
    negated = bool(negative_prompt.strip())
    # As in the reference, embeds of a negative prompt are sampled in the same run, as the second half of the batch.
    prompts = [prompt] * count + [negative_prompt] * (count if negated else 0)
    with seam.loaded(prior.text_encoder, prior_memory(prior.text_encoder, len(prompts))) as device:
        text = encode_text(prior.text_encoder, prior.tokenizer, prompts, device)
        unconditional = None
        if guidance > 1:
            negative_text = negative_prompt if negated else ""
            unconditional = encode_text(prior.text_encoder, prior.tokenizer, [negative_text], device).rows(len(text))
    seeds = row_seeds(seed, count)
    start_embeds = None
    if start is not None:
        values = start[0].values if isinstance(start[0], ImageEmbeds) else start[0]
        start_embeds = torch.cat([values, values]) if negated else values
    rows = len(prompts) * (1 if unconditional is None else 2)
    with seam.loaded(prior.prior, prior_memory(prior.prior, rows)):
        embeds = sample_image_embeds(
            prior.prior,
            prior.scheduler,
            text,
            unconditional,
            seeded_noise(seeds * 2 if negated else seeds),
            steps,
            guidance,
            start=start_embeds,
            strength=1.0 if start is None else start[1],
            on_step=lambda step, total, x0: seam.progress(step, total),
        ).cpu()
    origin = {"prior": prior.name, "prompt": prompt, "negative_prompt": negative_prompt, "seed": str(seed)}
    positive = ImageEmbeds(embeds[:count].contiguous(), origin)
    return positive, ImageEmbeds(embeds[count:].contiguous(), origin) if negated else grey(prior, count)


def grey(prior: KandinskyPrior, count: int = 1) -> ImageEmbeds:
    """Negative embeds without a negative prompt: those of a mean grey picture."""
    with host.current().loaded(prior.image_encoder, prior_memory(prior.image_encoder, 1)):
        return ImageEmbeds(mean_grey_embeds(prior.image_encoder, count).cpu().contiguous(), {"prior": prior.name})


def image_to_embeds(prior: KandinskyPrior, image: Tensor) -> tuple[ImageEmbeds, ImageEmbeds]:
    """IMAGE [B, H, W, 3] → (image embeds [B, D], negative image embeds [B, D] of a mean grey picture)."""
    with host.current().loaded(prior.image_encoder, prior_memory(prior.image_encoder, len(image))):
        values = encode_image(prior.image_encoder, for_image_encoder(image, prior.image_processor)).cpu()
    return ImageEmbeds(values, {"prior": prior.name, "from": "image"}), grey(prior, len(values))


def blend(
    prior: KandinskyPrior,
    prompts: Sequence[tuple[str, float]],
    images: Sequence[tuple[Tensor | None, float]],
    method: str,
    negative_prompt: str,
    seed: int,
    steps: int,
    guidance: float,
) -> tuple[ImageEmbeds, ImageEmbeds]:
    """(image embeds, negative image embeds) of weighted prompts and IMAGEs, mixed by `method`. Empty ones are skipped.
    Reference: diffusers `KandinskyV22PriorPipeline.interpolate` (method "sum")."""
    texts = [(prompt, weight) for prompt, weight in prompts if prompt.strip()]
    pictures = [(image, weight) for image, weight in images if image is not None]
    if not texts and not pictures:
        raise ValueError("Kandinsky Blend expected a prompt or an image to blend, but all of them are empty.")
    parts = [text_to_embeds(prior, prompt, "", seed, steps, guidance)[0] for prompt, _ in texts]
    parts += [image_to_embeds(prior, image)[0] for image, _ in pictures]
    weights = [weight for _, weight in (*texts, *pictures)]
    mixed = ImageEmbeds(
        mix([part.values for part in parts], weights, method), {"mixed": str(weights), "method": method}
    )
    if negative_prompt.strip():
        return mixed, text_to_embeds(prior, negative_prompt, "", seed, steps, guidance)[0]
    return mixed, grey(prior)


def embeds_to_latents(
    model: Any,
    image_embeds: ImageEmbeds,
    negative_image_embeds: ImageEmbeds,
    size: tuple[int, int],
    seed: int,
    steps: int,
    guidance: float,
    scheduler: str = "reference",
    batch_size: int = 1,
    start: tuple[Tensor, float] | None = None,
    mask: Tensor | None = None,
    hint: Tensor | None = None,
    prompt: str | None = None,
    negative_prompt: str | None = None,
    vae: Any = None,
    clip: Any = None,
) -> tuple[Tensor, Any]:
    """Sample (latents [B · batch_size, 4, H/8, W/8], the VAE to decode them with).

    size: (width, height) in pixels.
    start: (IMAGE, strength) to start from (img2img).
    mask: MASK of the part of the start IMAGE to repaint, 1 = repaint. Inpainting decoders start that part from noise
    and ignore strength, others start from the picture.
    hint: depth map as IMAGE, for depth decoders.
    prompt, negative_prompt: for 2.1. A prompt of None is the one the image embeds were made from, if any.
    vae, clip: replace those loaded with the MODEL.
    """
    seam = host.current()
    decoder = seam.decoder(model, "Kandinsky Decoder")
    network, what = decoder.network, f"The decoder {decoder.name}"
    if not isinstance(network, UNet2Config):
        raise TypeError(f"{what} is a Kandinsky 3 model, which takes text: use Kandinsky 3 Decoder.")
    require_width(image_embeds, network.image_width, what)
    require_width(negative_image_embeds, network.image_width, what)
    require_conditions(network, what, image=start is not None, mask=mask is not None, hint=hint is not None)
    vae = require_vae(decoder, vae)
    width, height = size
    embeds = image_embeds.values.repeat_interleave(batch_size, dim=0)
    count = len(embeds)
    negative = negative_image_embeds.rows(len(image_embeds.values)).repeat_interleave(batch_size, dim=0)
    prompts = (image_embeds.origin.get("prompt", "") if prompt is None else prompt, negative_prompt or "")
    conditions = [with_text(decoder, rows, text, clip) for rows, text in zip((embeds, negative), prompts, strict=True)]
    extra: dict[str, Any] = {}
    start_latents = inpaint = None
    if start is not None:
        start_latents = for_every_picture(vae.encode(crop_and_resize(start[0], width, height)), count, "start images")
        if mask is not None:
            keep, extra = for_inpainting(start_latents, for_keep_mask(mask, width, height))
            if keep.min() == 1:
                log.warning("The mask selects nothing to repaint (1, white, is repainted).")
            extra[KEEP] = for_every_picture(keep, count, "masks")
            # The reference of 2.1's inpainting decoder does not composite the kept latents after each step.
            if not (network.inpaints and network.reads_text):
                inpaint = Inpaint(start_latents, extra[KEEP])
            if network.inpaints:
                start_latents = None
    if hint is not None:
        extra[HINT] = for_every_picture(crop_and_resize(hint, width, height), count, "hints").movedim(-1, 1)
    positive, unconditional = (with_values(one, extra) for one in conditions)
    shape = (count, LATENT_CHANNELS, height // 8, width // 8)
    latents = seam.sample(
        model,
        positive,
        unconditional if guidance > 1 else None,
        shape,
        lambda predict, device, on_step: sample_latents(
            predict,
            decoder.scheduler_called(scheduler),
            shape,
            device,
            seeded_noise(row_seeds(seed, count)),
            steps,
            guidance,
            start_latents,
            1.0 if start is None else start[1],
            inpaint,
            network.reads_text,
            on_step,
        ),
    )
    return require_finite(latents.cpu(), f"{what}'s latents"), vae


def with_text(decoder: Decoder, embeds: Tensor, prompt: str, clip: Any) -> Conditioning:
    """CONDITIONING of image embeds [B, D] and, for 2.1, the prompt."""
    network = decoder.network
    assert isinstance(network, UNet2Config)
    if not network.reads_text:
        return [[embeds[:, None], {}]]
    clip = decoder.clip if clip is None else clip
    if clip is None:
        raise ValueError(
            f"The decoder {decoder.name} also takes text: expected the CLIP of Kandinsky 2.1, got none. Connect it "
            "from Kandinsky CLIP Loader, or load the whole folder with Kandinsky Decoder Loader."
        )
    states, options = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0]
    pooled = torch.zeros(1, 0) if options.get(POOLED) is None else options[POOLED]
    expected, got = (network.encoder_hid_dim, network.cross_attention_dim), (states.shape[-1], pooled.shape[-1])
    if got != expected:
        raise ValueError(
            f"The decoder {decoder.name} expected a text encoder with states and pooled embeds {list(expected)} wide, "
            f"got {list(got)}: use that of Kandinsky 2.1, M-CLIP."
        )
    count = len(embeds)
    return [[states.expand(count, -1, -1), {POOLED: pooled.expand(count, -1), IMAGE_EMBEDS: embeds}]]


def require_vae(decoder: Decoder, vae: Any) -> Any:
    """Return `vae`, or the one loaded with the decoder. Raises ValueError if there is none."""
    vae = decoder.vae if vae is None else vae
    if vae is None:
        raise ValueError(
            f"The decoder {decoder.name} was loaded without a VAE: connect one from Kandinsky VAE Loader to this node."
        )
    return vae


def require_finite(values: Tensor, what: str) -> Tensor:
    """Return `values`. Raises ValueError if any is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{what} became NaN or infinite, most likely because fp16 overflowed. Load the model with dtype bf16 or "
            "fp32."
        )
    return values


def require_conditions(network: UNet2Config, what: str, image: bool, mask: bool, hint: bool) -> None:
    """Raise ValueError if an input that the decoder needs is missing, or one that it cannot use is connected."""
    if mask and not image:
        raise ValueError("Expected an image to repaint, got only a mask.")
    if network.inpaints and not mask:
        raise ValueError(
            f"{what} is for inpainting: expected an image and a mask, got {'no mask' if image else 'neither'}. "
            "Connect both, or load a text-to-image decoder such as kandinsky-2-2-decoder."
        )
    if network.reads_hint and not hint:
        raise ValueError(
            f"{what} is a depth decoder: expected a hint, got none. Connect a depth map (near is bright), or load "
            "kandinsky-2-2-decoder."
        )
    if hint and not network.reads_hint:
        raise ValueError(
            f"{what} is not a depth decoder: expected no hint. Disconnect it, or load kandinsky-2-2-controlnet-depth."
        )


def for_every_picture(tensor: Tensor, count: int, what: str) -> Tensor:
    """Expand a batch of one to `count`. Raises ValueError if the batch is neither 1 nor `count`."""
    if len(tensor) not in (1, count):
        raise ValueError(f"Expected 1 or {count} {what} for {count} pictures, got {len(tensor)}.")
    return tensor.expand(count, *tensor.shape[1:])


def latents_to_image(vae: Any, latents: Tensor) -> Tensor:
    """Decode latents [B, 4, h, w] to IMAGE [B, 8h, 8w, 3]. Raises ValueError if the result is not finite."""
    return require_finite(vae.decode(latents), "The picture")
