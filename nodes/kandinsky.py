"""The short way: Prior → Decoder, in the reference's own loops. Thin nodes; the work is in sampling/ and models/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import host
from .embeds import EMBEDS, METHOD, ImageEmbeds, require_width
from .images import for_image_encoder, for_movq, from_movq
from .models.loader import (
    KandinskyDecoder,
    KandinskyPrior,
    is_decoder_folder,
    is_prior_folder,
    load_decoder,
    load_prior,
)
from .sampling.decoder import sample_latents
from .sampling.mixing import mix
from .sampling.noise import seeded_noise
from .sampling.prior import TextStates, encode_image, encode_text, mean_grey_embeds, sample_image_embeds

CATEGORY = "Kandinsky"
PRIOR, DECODER = "KANDINSKY_PRIOR", "KANDINSKY_DECODER"
SIZE_STEP = 64

DTYPE = (
    ["auto", *host.DTYPES],
    {
        "default": "auto",
        "tooltip": "auto: fp16 on a GPU that is fast in it, fp32 on a CPU. bf16 if fp16 gives black pictures.",
    },
)
SEED = (
    "INT",
    {
        "default": 0,
        "min": 0,
        "max": 2**64 - 1,
        "control_after_generate": True,
        "tooltip": "The same seed gives the same result.",
    },
)
PRIOR_INPUT = (PRIOR, {"tooltip": "From Kandinsky Prior Loader."})
PROMPT = (
    "STRING",
    {"multiline": True, "dynamicPrompts": True, "default": "", "tooltip": "What the picture shows, in plain words."},
)
NEGATIVE = (
    "STRING",
    {"multiline": True, "dynamicPrompts": True, "default": "", "tooltip": "What to move away from. May be empty."},
)
PRIOR_STEPS = ("INT", {"default": 25, "min": 2, "max": 1000, "tooltip": "25 is usual."})
PRIOR_GUIDANCE = (
    "FLOAT",
    {
        "default": 4.0,
        "min": 0.0,
        "max": 20.0,
        "step": 0.1,
        "tooltip": "How closely to follow the prompt; 1 or less: no guidance.",
    },
)
STRENGTH = {"min": 0.01, "max": 1.0, "step": 0.01}


def folders(fits: Any) -> dict[str, Path]:
    """Name → model folder, for every folder under the Kandinsky model folders that `fits`, at most two levels down
    (`kandinsky-2-2-prior`, `kandinsky-community/kandinsky-2-2-prior`)."""
    found: dict[str, Path] = {}
    for root in host.current().model_folders("kandinsky"):
        for pattern in ("*", "*/*"):
            for folder in sorted(root.glob(pattern)):
                if folder.is_dir() and fits(folder):
                    found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


def pick(fits: Any, name: str, kind: str) -> Path:
    found = folders(fits)
    if name not in found:
        raise FileNotFoundError(
            f"Expected a {kind} folder called {name!r} in models/kandinsky; there are: {', '.join(found) or 'none'}."
        )
    return found[name]


class KandinskyPriorLoader:
    DESCRIPTION = "Load a Kandinsky prior: the networks that turn prompts and pictures into image embeds."
    SEARCH_ALIASES = ["kandinsky checkpoint", "load prior", "unclip"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (PRIOR,)
    RETURN_NAMES = ("prior",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {"tooltip": "An official repository folder in models/kandinsky, such as kandinsky-2-2-prior."}
        return {"required": {"model": (list(folders(is_prior_folder)), names), "dtype": DTYPE}}

    def run(self, model: str, dtype: str) -> tuple[KandinskyPrior]:
        return (load_prior(pick(is_prior_folder, model, "prior"), host.current().dtype(dtype)),)


class KandinskyDecoderLoader:
    DESCRIPTION = "Load a Kandinsky decoder: the UNet that draws what image embeds mean, and its MOVQ."
    SEARCH_ALIASES = ["kandinsky checkpoint", "load decoder", "movq", "unet"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (DECODER,)
    RETURN_NAMES = ("decoder",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {"tooltip": "An official repository folder in models/kandinsky, such as kandinsky-2-2-decoder."}
        return {"required": {"model": (list(folders(is_decoder_folder)), names), "dtype": DTYPE}}

    def run(self, model: str, dtype: str) -> tuple[KandinskyDecoder]:
        return (load_decoder(pick(is_decoder_folder, model, "decoder"), host.current().dtype(dtype)),)


class KandinskyPriorNode:
    DESCRIPTION = (
        "Turn a prompt into image embeds. The negative embeds are a grey picture's, or those of a negative prompt."
    )
    SEARCH_ALIASES = ["prompt", "text to embeds", "kandinsky text encode", "clip text"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("What to draw, for the decoder.", "What to move away from, for the decoder.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prior": PRIOR_INPUT,
                "prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "seed": SEED,
                "steps": PRIOR_STEPS,
                "guidance_scale": PRIOR_GUIDANCE,
            },
            "optional": {
                "batch_size": (
                    "INT",
                    {"default": 1, "min": 1, "max": 256, "tooltip": "Embeds to make, with seeds one after another."},
                )
            },
        }

    def run(
        self,
        prior: KandinskyPrior,
        prompt: str,
        negative_prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        batch_size: int = 1,
    ) -> tuple[ImageEmbeds, ImageEmbeds]:
        return text_to_embeds(prior, prompt, negative_prompt, seed, steps, guidance_scale, batch_size)


class KandinskyImageEncode:
    DESCRIPTION = "Turn pictures into image embeds: the decoder draws variations of them; mix them with other embeds."
    SEARCH_ALIASES = ["clip vision encode", "image variation", "image to embeds"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("One embed for each picture.", "A grey picture's embed, for the decoder's negative.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"prior": PRIOR_INPUT, "image": ("IMAGE", {"tooltip": "Centre-cropped to a square."})}}

    def run(self, prior: KandinskyPrior, image: Tensor) -> tuple[ImageEmbeds, ImageEmbeds]:
        return image_to_embeds(prior, image)


class KandinskyEmb2Emb:
    DESCRIPTION = "Push image embeds towards a prompt: a picture's idea, changed by words."
    SEARCH_ALIASES = ["embeds to embeds", "edit embeds", "image and prompt"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("The changed embeds.", "What to move away from, for the decoder.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prior": PRIOR_INPUT,
                "image_embeds": (EMBEDS, {"tooltip": "Where to start: from Kandinsky Image Encode, as a rule."}),
                "prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "seed": SEED,
                "steps": PRIOR_STEPS,
                "guidance_scale": PRIOR_GUIDANCE,
                "strength": (
                    "FLOAT",
                    STRENGTH | {"default": 0.3, "tooltip": "How far from the start: 1 leaves little of it."},
                ),
            }
        }

    def run(
        self,
        prior: KandinskyPrior,
        image_embeds: ImageEmbeds,
        prompt: str,
        negative_prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        strength: float,
    ) -> tuple[ImageEmbeds, ImageEmbeds]:
        require_width(image_embeds, prior.width, f"The prior {prior.name}")
        count = len(image_embeds.values)
        start = (image_embeds.values, strength)
        return text_to_embeds(prior, prompt, negative_prompt, seed, steps, guidance_scale, count, start)


class KandinskyBlend:
    DESCRIPTION = (
        "A blend of prompts and pictures in one node, as the reference's interpolate: the weights are not normalised."
    )
    SEARCH_ALIASES = ["mix text and image", "interpolate", "fuse", "style mix"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        weight = {"default": 0.5, "min": -4.0, "max": 4.0, "step": 0.01}
        prompts: dict[str, Any] = {}
        for i in (1, 2):
            prompts[f"prompt_{i}"] = PROMPT
            prompts[f"prompt_weight_{i}"] = (
                "FLOAT",
                weight | {"tooltip": f"How much of prompt_{i}; an empty prompt is left out."},
            )
        images: dict[str, Any] = {}
        for i in (1, 2):
            images[f"image_{i}"] = ("IMAGE", {"tooltip": "A picture to blend in."})
            images[f"image_weight_{i}"] = ("FLOAT", weight | {"tooltip": f"How much of image_{i}."})
        common = {"negative_prompt": NEGATIVE, "seed": SEED, "steps": PRIOR_STEPS, "guidance_scale": PRIOR_GUIDANCE}
        return {"required": {"prior": PRIOR_INPUT, **prompts, "method": METHOD, **common}, "optional": images}

    def run(
        self,
        prior: KandinskyPrior,
        method: str,
        negative_prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        **items: Any,
    ) -> tuple[ImageEmbeds, ImageEmbeds]:
        parts: list[ImageEmbeds] = []
        weights: list[float] = []
        for i in (1, 2):
            if prompt := items[f"prompt_{i}"].strip():
                parts.append(text_to_embeds(prior, prompt, "", seed, steps, guidance_scale)[0])
                weights.append(items[f"prompt_weight_{i}"])
        for i in (1, 2):
            if (image := items.get(f"image_{i}")) is not None:
                parts.append(image_to_embeds(prior, image)[0])
                weights.append(items.get(f"image_weight_{i}", 0.5))
        if not parts:
            raise ValueError("Kandinsky Blend expected a prompt or a picture to blend; all of them are empty.")
        blend = ImageEmbeds(mix([part.values for part in parts], weights, method), {"mixed": str(weights)})
        if negative_prompt.strip():
            negative = text_to_embeds(prior, negative_prompt, "", seed, steps, guidance_scale)[0]
        else:
            negative = grey(prior)
        return blend, negative


class KandinskyDecoderNode:
    DESCRIPTION = "Draw pictures from image embeds. With an image, start from it instead of from noise."
    SEARCH_ALIASES = ["kandinsky sampler", "embeds to image", "img2img", "generate"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "LATENT")
    RETURN_NAMES = ("image", "latent")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 512, "min": SIZE_STEP, "max": 4096, "step": SIZE_STEP}
        return {
            "required": {
                "decoder": (DECODER, {"tooltip": "From Kandinsky Decoder Loader."}),
                "image_embeds": (EMBEDS, {"tooltip": "What to draw; a batch gives a batch."}),
                "negative_image_embeds": (EMBEDS, {"tooltip": "What to move away from."}),
                "width": ("INT", side | {"tooltip": "In pixels, a multiple of 64."}),
                "height": ("INT", side | {"tooltip": "In pixels, a multiple of 64."}),
                "seed": SEED,
                "steps": (
                    "INT",
                    {"default": 50, "min": 1, "max": 1000, "tooltip": "The reference takes 100; 50 is usually enough."},
                ),
                "guidance_scale": (
                    "FLOAT",
                    {
                        "default": 4.0,
                        "min": 0.0,
                        "max": 20.0,
                        "step": 0.1,
                        "tooltip": "How closely to follow the embeds; 1 or less: no guidance, twice as fast.",
                    },
                ),
                "scheduler": (
                    ["reference", "DDPM", "DDIM"],
                    {
                        "default": "reference",
                        "tooltip": "reference: the one the model came with. DDIM adds no noise between steps.",
                    },
                ),
                "batch_size": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 64,
                        "tooltip": "Pictures for each embed, with seeds one after another.",
                    },
                ),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "Start from this picture, resized to width × height."}),
                "strength": (
                    "FLOAT",
                    STRENGTH | {"default": 0.3, "tooltip": "With an image: how far from it. 1 leaves nothing of it."},
                ),
            },
        }

    def run(
        self,
        decoder: KandinskyDecoder,
        image_embeds: ImageEmbeds,
        negative_image_embeds: ImageEmbeds,
        width: int,
        height: int,
        seed: int,
        steps: int,
        guidance_scale: float,
        scheduler: str,
        batch_size: int,
        image: Tensor | None = None,
        strength: float = 0.3,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        require_size(width, height)
        start = None if image is None else (image, strength)
        latents = embeds_to_latents(
            decoder,
            image_embeds,
            negative_image_embeds,
            (width, height),
            seed,
            steps,
            guidance_scale,
            scheduler,
            batch_size,
            start,
        )
        return latents_to_image(decoder, latents), {"samples": latents}


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
            without = TextStates(
                *(t.expand(len(text), *t.shape[1:]) for t in (without.embeds, without.states, without.mask))
            )
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
) -> Tensor:
    """Latents [B · batch_size, 4, H/8, W/8]; `size` is (width, height) in pixels. With `start`, (IMAGE, strength),
    from that picture (img2img)."""
    what = f"The decoder {decoder.name}"
    require_width(image_embeds, decoder.width, what)
    require_width(negative_image_embeds, decoder.width, what)
    seam = host.current()
    width, height = size
    embeds = image_embeds.values.repeat_interleave(batch_size, dim=0)
    count = len(embeds)
    negative = negative_image_embeds.rows(len(image_embeds.values)).repeat_interleave(batch_size, dim=0)
    begin = None
    if start is not None:
        with seam.loaded(decoder.movq) as device, torch.inference_mode():
            pixels = for_movq(start[0], width, height)
            begin = decoder.movq.encode(pixels.to(device, decoder.movq.quant_conv.weight.dtype)).float()
        if len(begin) not in (1, count):
            raise ValueError(f"Expected 1 or {count} start images, as many as pictures to draw; got {len(begin)}.")
        begin = begin.expand(count, -1, -1, -1)
    chosen = (
        decoder.scheduler
        if scheduler == "reference"
        else decoder.scheduler.of_kind("DDIM" if scheduler == "DDIM" else "DDPM")
    )
    with seam.loaded(decoder.unet) as device:
        latents = sample_latents(
            decoder.unet,
            chosen,
            embeds.to(device),
            negative.to(device),
            (height // 8, width // 8),
            seeded_noise(row_seeds(seed, count)),
            steps,
            guidance,
            start=begin,
            strength=1.0 if start is None else start[1],
            on_step=lambda step, total, x0: seam.progress(step, total),
        )
    if not torch.isfinite(latents).all():
        raise ValueError(
            f"{what}'s latents became NaN or infinite: {str(decoder.unet.conv_in.weight.dtype).removeprefix('torch.')} "
            "overflowed, most likely. Load the decoder with dtype bf16 or fp32."
        )
    return latents.cpu()


@torch.inference_mode()
def latents_to_image(decoder: KandinskyDecoder, latents: Tensor) -> Tensor:
    """IMAGE [B, 8h, 8w, 3] of latents [B, 4, h, w]."""
    seam = host.current()
    with seam.loaded(decoder.movq) as device:
        dtype = decoder.movq.quant_conv.weight.dtype
        pictures = []
        for latent in latents.split(1):  # one at a time: MOVQ's memory is the run's peak
            seam.throw_if_interrupted()
            pictures.append(from_movq(decoder.movq.decode(latent.to(device, dtype))))
    return torch.cat(pictures)


NODES = {
    "KandinskyPriorLoader": (KandinskyPriorLoader, "Kandinsky Prior Loader"),
    "KandinskyDecoderLoader": (KandinskyDecoderLoader, "Kandinsky Decoder Loader"),
    "KandinskyPrior": (KandinskyPriorNode, "Kandinsky Prior"),
    "KandinskyImageEncode": (KandinskyImageEncode, "Kandinsky Image Encode"),
    "KandinskyEmb2Emb": (KandinskyEmb2Emb, "Kandinsky Emb2Emb"),
    "KandinskyBlend": (KandinskyBlend, "Kandinsky Blend"),
    "KandinskyDecoder": (KandinskyDecoderNode, "Kandinsky Decoder"),
}
