"""The recipes of Kandinsky 2: prompts, pictures and embeds to embeds; embeds to latents.

Each brings one network after another to the device, through the host, and runs the reference's loop from sampling/.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import host
from .decoders import Decoder
from .embeds import ImageEmbeds, require_width
from .images import fitted, for_image_encoder, for_keep_mask
from .inpainting import for_inpainting
from .keys import HINT, IMAGE_EMBEDS, KEEP, POOLED, Conditioning, with_values
from .models.loader import KandinskyPrior
from .models.unet2 import LATENT_CHANNELS, UNet2Config
from .sampling.decoder import Inpaint, sample_latents
from .sampling.mixing import mix
from .sampling.noise import seeded_noise
from .sampling.prior import encode_image, encode_text, mean_grey_embeds, sample_image_embeds

log = logging.getLogger(__name__)

SIZE_STEP = 8
"""Picture sides are multiples of it, as latents are 8 times smaller. Multiples of 64 need no padding in the UNets."""


def require_size(width: int, height: int) -> None:
    for name, value in (("width", width), ("height", height)):
        if value < SIZE_STEP or value % SIZE_STEP:
            below = max(SIZE_STEP, value // SIZE_STEP * SIZE_STEP)
            raise ValueError(
                f"Expected a {name} that is a multiple of {SIZE_STEP}, got {value}: use {below} or {below + SIZE_STEP}."
            )


def row_seeds(seed: int, count: int) -> list[int]:
    """Seeds for the rows of a batch: row i is what a batch of one gives with seed + i."""
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
    """(image embeds, negative image embeds), `count` of each. With `start`, (embeds [count, D], strength), from them
    (emb2emb). An empty negative prompt's negative embed is a mean grey picture's."""
    if not prompt.strip():
        raise ValueError("Expected a prompt that says what the picture shows; it is empty. (A negative prompt may be.)")
    seam = host.current()
    negated = bool(negative_prompt.strip())
    # As in the reference: with a negative prompt, its embeds are made in the same run, as a second half of the batch.
    prompts = [prompt] * count + [negative_prompt] * (count if negated else 0)
    with seam.loaded(prior.text_encoder) as device:
        text = encode_text(prior.text_encoder, prior.tokenizer, prompts, device)
        without = None
        if guidance > 1:
            without = encode_text(prior.text_encoder, prior.tokenizer, [negative_prompt if negated else ""], device)
            without = without.rows(len(text))
    seeds = row_seeds(seed, count)
    begin = None
    if start is not None:
        values = start[0].values if isinstance(start[0], ImageEmbeds) else start[0]
        begin = torch.cat([values, values]) if negated else values
    with seam.loaded(prior.prior):
        embeds = sample_image_embeds(
            prior.prior,
            prior.scheduler,
            text,
            without,
            seeded_noise(seeds * 2 if negated else seeds),
            steps,
            guidance,
            start=begin,
            strength=1.0 if start is None else start[1],
            on_step=lambda step, total, x0: seam.progress(step, total),
        ).cpu()
    origin = {"prior": prior.name, "prompt": prompt, "negative_prompt": negative_prompt, "seed": str(seed)}
    positive = ImageEmbeds(embeds[:count].contiguous(), origin)
    return positive, ImageEmbeds(embeds[count:].contiguous(), origin) if negated else grey(prior, count)


def grey(prior: KandinskyPrior, count: int = 1) -> ImageEmbeds:
    """Embeds of mean grey: the negative where there is no negative prompt."""
    with host.current().loaded(prior.image_encoder):
        return ImageEmbeds(mean_grey_embeds(prior.image_encoder, count).cpu().contiguous(), {"prior": prior.name})


def image_to_embeds(prior: KandinskyPrior, image: Tensor) -> tuple[ImageEmbeds, ImageEmbeds]:
    """(embeds [B, D] of IMAGE [B, H, W, 3], the same number of mean grey ones)."""
    with host.current().loaded(prior.image_encoder):
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
    """(image embeds, negative image embeds): prompts and IMAGEs, each with a weight, mixed by `method`. What is empty
    is left out. Reference: diffusers `KandinskyV22PriorPipeline.interpolate` (method "sum")."""
    said = [(prompt, weight) for prompt, weight in prompts if prompt.strip()]
    shown = [(image, weight) for image, weight in images if image is not None]
    if not said and not shown:
        raise ValueError("Kandinsky Blend expected a prompt or a picture to blend; all of them are empty.")
    parts = [text_to_embeds(prior, prompt, "", seed, steps, guidance)[0] for prompt, _ in said]
    parts += [image_to_embeds(prior, image)[0] for image, _ in shown]
    weights = [weight for _, weight in (*said, *shown)]
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
    """(latents [B · batch_size, 4, H/8, W/8], the VAE they are for), drawn by a MODEL; `size` is (width, height) in
    pixels.

    With `start`, (IMAGE, strength), from that picture (img2img); with `mask` too, a MASK that is 1 where to repaint,
    into it (inpainting): an inpainting decoder begins its part anew, whatever the strength; another one begins it
    from the picture. `hint`, an IMAGE, is a depth decoder's. The prompts are for 2.1, whose decoder reads them, too:
    where `prompt` is None it is the one the image embeds were made from, and empty for those of pictures and mixes.
    `vae` and `clip` take the place of those that the MODEL was loaded with.
    """
    seam = host.current()
    decoder = seam.decoder(model, "Kandinsky Decoder")
    network, what = decoder.network, f"The decoder {decoder.name}"
    if not isinstance(network, UNet2Config):
        raise TypeError(f"{what} is of Kandinsky 3 and reads text, no image embeds: use Kandinsky 3 Decoder.")
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
    more: dict[str, Any] = {}
    begin = inpaint = None
    if start is not None:
        begin = for_every_picture(vae.encode(fitted(start[0], width, height)), count, "start images")
        if mask is not None:
            keep, more = for_inpainting(begin, for_keep_mask(mask, width, height))
            if keep.min() == 1:
                log.warning("The mask says to repaint nothing. (1, white, is repainted.)")
            more[KEEP] = for_every_picture(keep, count, "masks")
            # 2.1's reference does not put back what is kept: its network sees it.
            if not (network.inpaints and network.reads_text):
                inpaint = Inpaint(begin, more[KEEP])
            if network.inpaints:
                begin = None
    if hint is not None:
        more[HINT] = for_every_picture(fitted(hint, width, height), count, "hints").movedim(-1, 1)
    positive, away = (with_values(one, more) for one in conditions)
    shape = (count, LATENT_CHANNELS, height // 8, width // 8)
    latents = seam.sample(
        model,
        positive,
        away if guidance > 1 else None,
        shape,
        lambda predict, device, on_step: sample_latents(
            predict,
            decoder.scheduler_called(scheduler),
            shape,
            device,
            seeded_noise(row_seeds(seed, count)),
            steps,
            guidance,
            begin,
            1.0 if start is None else start[1],
            inpaint,
            network.reads_text,
            on_step,
        ),
    )
    return require_finite(latents.cpu(), f"{what}'s latents"), vae


def with_text(decoder: Decoder, embeds: Tensor, prompt: str, clip: Any) -> Conditioning:
    """CONDITIONING of image embeds [B, D], and for 2.1 of the prompt, too."""
    network = decoder.network
    assert isinstance(network, UNet2Config)
    if not network.reads_text:
        return [[embeds[:, None], {}]]
    clip = decoder.clip if clip is None else clip
    if clip is None:
        raise ValueError(
            f"The decoder {decoder.name} reads words, too: expected the CLIP of Kandinsky 2.1, got none. Connect one "
            "from Kandinsky CLIP Loader, or load the whole folder with Kandinsky Decoder Loader."
        )
    states, options = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0]
    pooled = torch.zeros(1, 0) if options.get(POOLED) is None else options[POOLED]
    wanted, got = (network.encoder_hid_dim, network.cross_attention_dim), (states.shape[-1], pooled.shape[-1])
    if got != wanted:
        raise ValueError(
            f"The decoder {decoder.name} expected a text encoder of widths {list(wanted)}, got one of {list(got)}: use "
            "Kandinsky 2.1's, M-CLIP."
        )
    count = len(embeds)
    return [[states.expand(count, -1, -1), {POOLED: pooled.expand(count, -1), IMAGE_EMBEDS: embeds}]]


def require_vae(decoder: Decoder, vae: Any) -> Any:
    """`vae`, or the one that the decoder was loaded with; ValueError if there is none."""
    vae = decoder.vae if vae is None else vae
    if vae is None:
        raise ValueError(
            f"The decoder {decoder.name} was loaded without a VAE: connect one from Kandinsky VAE Loader to this node."
        )
    return vae


def require_finite(values: Tensor, what: str) -> Tensor:
    """`values`; ValueError if one of them is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{what} became NaN or infinite: half precision overflowed, most likely. Load the model with dtype bf16 or "
            "fp32."
        )
    return values


def require_conditions(network: UNet2Config, what: str, image: bool, mask: bool, hint: bool) -> None:
    """Raise ValueError where the decoder cannot do with what there is."""
    if mask and not image:
        raise ValueError("Expected an image to repaint, beside the mask that says where; got only the mask.")
    if network.inpaints and not mask:
        raise ValueError(
            f"{what} is for inpainting: it expected an image and a mask, got {'no mask' if image else 'neither'}. "
            "Connect both, or load a decoder that draws whole pictures, such as kandinsky-2-2-decoder."
        )
    if network.reads_hint and not hint:
        raise ValueError(
            f"{what} follows depth: it expected a hint, got none. Connect a depth map's picture, near parts bright, or "
            "load kandinsky-2-2-decoder."
        )
    if hint and not network.reads_hint:
        raise ValueError(
            f"{what} does not follow depth: it expected no hint. Disconnect it, or load kandinsky-2-2-controlnet-depth."
        )


def for_every_picture(parts: Tensor, count: int, what: str) -> Tensor:
    """parts [B, …] as [count, …]: one serves every picture. Raises ValueError if there are others."""
    if len(parts) not in (1, count):
        raise ValueError(f"Expected 1 or {count} {what}, as many as pictures to draw; got {len(parts)}.")
    return parts.expand(count, *parts.shape[1:])


def latents_to_image(vae: Any, latents: Tensor) -> Tensor:
    """IMAGE [B, 8h, 8w, 3] of latents [B, 4, h, w], by a VAE."""
    return require_finite(vae.decode(latents), "The picture")
