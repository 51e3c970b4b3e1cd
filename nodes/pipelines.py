"""The short way's recipes: prompts, pictures and embeds to embeds; embeds to latents; latents to pictures.

Each brings one network after another to the device, through the host, and runs the reference's loop from sampling/.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import host
from .embeds import ImageEmbeds, require_width
from .images import for_hint, for_image_encoder, for_keep_mask, for_movq, from_movq
from .models.loader import KandinskyDecoder, KandinskyPrior, is_decoder_folder, is_prior_folder
from .models.loader3 import Kandinsky3
from .models.movq import decode_memory, encode_memory
from .sampling.decoder import Inpaint, keep_mask, sample_latents
from .sampling.mixing import mix
from .sampling.noise import seeded_noise
from .sampling.prior import (
    TextStates,
    encode_decoder_text,
    encode_image,
    encode_text,
    mean_grey_embeds,
    sample_image_embeds,
)

log = logging.getLogger(__name__)

WEIGHTS_PAGE = "https://github.com/kandiflux/kandiflux/blob/main/docs/kandinsky-weights.md"

UNET_MEMORY = 2.0
"""ComfyUI's memory_usage_factor, as the MODEL has it."""

SIZE_STEP = 8
"""Picture sides are multiples of it, as latents are 8 times smaller. Multiples of 64 need no padding in the UNets."""


def folders(fits: Callable[[Path], bool]) -> dict[str, Path]:
    """Name → model folder, for every folder under the Kandinsky model folders that `fits`, at most two levels down
    (`kandinsky-2-2-prior`, `kandinsky-community/kandinsky-2-2-prior`)."""
    found: dict[str, Path] = {}
    for root in host.current().model_folders("kandinsky"):
        for pattern in ("*", "*/*"):
            for folder in sorted(root.glob(pattern)):
                if folder.is_dir() and fits(folder):
                    found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


def prior_folders() -> dict[str, Path]:
    return folders(is_prior_folder)


def decoder_folders() -> dict[str, Path]:
    return folders(is_decoder_folder)


def pick(found: dict[str, Path], name: str, kind: str, where: str = "models/kandinsky") -> Path:
    """The folder or file called `name`; FileNotFoundError, as `is_there` has it, if it has gone since it was listed."""
    if isinstance(why := is_there(found, name, kind, where), str):
        raise FileNotFoundError(why)
    return found[name]


def is_there(found: dict[str, Path], name: str, kind: str, where: str = "models/kandinsky") -> bool | str:
    """For VALIDATE_INPUTS: True if there is a folder or file called `name`; else what there is, and where to get it."""
    if name in found:
        return True
    listed = f"there are: {', '.join(found)}" if found else "there is nothing there"
    return (
        f"Expected a {kind} called {name!r} in {where}; {listed}. What to save where, and the pages to get it from: "
        f"{WEIGHTS_PAGE}"
    )


def tokenizer_folders(beside: Path) -> list[Path]:
    """Where the tokenizer for the text encoder in the file `beside` may be: a folder of the file's name beside it,
    the host's own, tokenizer/ of an official folder."""
    official = sorted(folders(lambda folder: (folder / "tokenizer").is_dir()).values())
    own = host.current().clip_tokenizer_folder()
    return [beside.with_suffix(""), *([own] if own else []), *(folder / "tokenizer" for folder in official)]


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
    decoder: KandinskyDecoder,
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
) -> Tensor:
    """Latents [B · batch_size, 4, H/8, W/8]; `size` is (width, height) in pixels.

    With `start`, (IMAGE, strength), from that picture (img2img); with `mask` too, a MASK that is 1 where to repaint,
    into it (inpainting): an inpainting decoder begins its part anew, whatever the strength; another one begins it
    from the picture. `hint`, an IMAGE, is a depth decoder's. The prompts are for 2.1, whose decoder reads them, too:
    where `prompt` is None it is the one the image embeds were made from, and empty for those of pictures and mixes.
    """
    what = f"The decoder {decoder.name}"
    require_width(image_embeds, decoder.width, what)
    require_width(negative_image_embeds, decoder.width, what)
    require_conditions(decoder, image=start is not None, mask=mask is not None, hint=hint is not None)
    seam = host.current()
    width, height = size
    latent_size = (height // 8, width // 8)
    embeds = image_embeds.values.repeat_interleave(batch_size, dim=0)
    count = len(embeds)
    negative = negative_image_embeds.rows(len(image_embeds.values)).repeat_interleave(batch_size, dim=0)
    text, negative_text = decoder_text(
        decoder, image_embeds.origin.get("prompt", "") if prompt is None else prompt, negative_prompt or "", count
    )
    begin = None if start is None else picture_latents(decoder, start[0], width, height, count)
    inpaint = None
    if mask is not None and begin is not None:
        keep = keep_mask(for_keep_mask(mask, width, height), latent_size)
        if keep.min() == 1:
            log.warning("The mask says to repaint nothing. (1, white, is repainted.)")
        inpaint = Inpaint(begin, for_every_picture(keep, count, "masks"))
        if decoder.unet.config.inpaints:
            begin = None
    if hint is not None:
        hint = for_every_picture(for_hint(hint, width, height), count, "hints")
    with seam.loaded(decoder.unet, unet_memory(2 * count, latent_size, decoder.unet.conv_in.weight.itemsize)) as device:
        latents = sample_latents(
            decoder.unet,
            decoder.scheduler_called(scheduler),
            embeds.to(device),
            negative.to(device),
            latent_size,
            seeded_noise(row_seeds(seed, count)),
            steps,
            guidance,
            start=begin,
            strength=1.0 if start is None else start[1],
            hint=hint,
            on_step=lambda step, total, x0: seam.progress(step, total),
            text=text,
            negative_text=negative_text,
            inpaint=inpaint,
        )
    return require_finite(latents.cpu(), f"{what}'s latents")


def unet_memory(rows: int, size: tuple[int, int], itemsize: int) -> int:
    """Bytes that a UNet takes beside its weights for `rows` latents of `size` (h, w), by ComfyUI's rule for its own.
    itemsize: of its dtype."""
    return round(rows * size[0] * size[1] * itemsize * 0.01 * UNET_MEMORY) << 20


def require_finite(values: Tensor, what: str) -> Tensor:
    """`values`; ValueError if one of them is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{what} became NaN or infinite: half precision overflowed, most likely. Load the model with dtype bf16 or "
            "fp32."
        )
    return values


def require_conditions(decoder: KandinskyDecoder, image: bool, mask: bool, hint: bool) -> None:
    """Raise ValueError where the decoder cannot do with what there is."""
    config, what = decoder.unet.config, f"The decoder {decoder.name}"
    if mask and not image:
        raise ValueError("Expected an image to repaint, beside the mask that says where; got only the mask.")
    if config.inpaints and not mask:
        raise ValueError(
            f"{what} is for inpainting: it expected an image and a mask, got {'no mask' if image else 'neither'}. "
            "Connect both, or load a decoder that draws whole pictures, such as kandinsky-2-2-decoder."
        )
    if config.reads_hint and not hint:
        raise ValueError(
            f"{what} follows depth: it expected a hint, got none. Connect a depth map's picture, near parts bright, or "
            "load kandinsky-2-2-decoder."
        )
    if hint and not config.reads_hint:
        raise ValueError(
            f"{what} does not follow depth: it expected no hint. Disconnect it, or load kandinsky-2-2-controlnet-depth."
        )


def decoder_text(
    decoder: KandinskyDecoder, prompt: str, negative_prompt: str, count: int
) -> tuple[TextStates | None, TextStates | None]:
    """What a 2.1 decoder reads, for `count` rows; (None, None) for one that does not read."""
    if decoder.text_encoder is None:
        return None, None
    with host.current().loaded(decoder.text_encoder) as device:
        both = encode_decoder_text(decoder.text_encoder, decoder.tokenizer, [prompt, negative_prompt], device)
    return both.row(0).rows(count), both.row(1).rows(count)


@torch.inference_mode()
def picture_latents(decoder: KandinskyDecoder, image: Tensor, width: int, height: int, count: int) -> Tensor:
    """Latents [count, 4, height/8, width/8], float32, of an IMAGE, resized."""
    dtype = decoder.movq.quant_conv.weight.dtype
    room = encode_memory(decoder.movq.config, height, width, dtype.itemsize)
    with host.current().loaded(decoder.movq, room) as device:
        pixels = for_movq(image, width, height).to(device, dtype)
        return for_every_picture(decoder.movq.encode(pixels).float(), count, "start images")


def for_every_picture(parts: Tensor, count: int, what: str) -> Tensor:
    """parts [B, …] as [count, …]: one serves every picture. Raises ValueError if there are others."""
    if len(parts) not in (1, count):
        raise ValueError(f"Expected 1 or {count} {what}, as many as pictures to draw; got {len(parts)}.")
    return parts.expand(count, *parts.shape[1:])


@torch.inference_mode()
def latents_to_image(decoder: KandinskyDecoder | Kandinsky3, latents: Tensor) -> Tensor:
    """IMAGE [B, 8h, 8w, 3] of latents [B, 4, h, w]."""
    seam = host.current()
    dtype = decoder.movq.quant_conv.weight.dtype
    height, width = (8 * side for side in latents.shape[-2:])
    with seam.loaded(decoder.movq, decode_memory(decoder.movq.config, height, width, dtype.itemsize)) as device:
        pictures = []
        for latent in latents.split(1):  # one at a time: MOVQ's memory is the run's peak
            seam.throw_if_interrupted()
            pixels = require_finite(decoder.movq.decode(latent.to(device, dtype)), f"The picture of {decoder.name}")
            pictures.append(from_movq(pixels))
    return torch.cat(pictures)
