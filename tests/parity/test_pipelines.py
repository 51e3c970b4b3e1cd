"""Whole runs equal diffusers' to 1e-4 in fp32 with the same noise: prior, emb2emb, mixing, decode, img2img, depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    KandinskyV22ControlnetPipeline,
    KandinskyV22Img2ImgPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorEmb2EmbPipeline,
    KandinskyV22PriorPipeline,
    UNet2DConditionModel,
    VQModel,
)
from diffusers import DDPMScheduler as ReferenceDDPM
from diffusers import PriorTransformer as ReferencePrior
from diffusers import UnCLIPScheduler as ReferenceUnCLIP
from PIL import Image
from transformers import CLIPImageProcessor, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from nodes.images import for_image_encoder, for_movq, from_movq
from nodes.models.loader import KandinskyDecoder, KandinskyPrior, load_decoder, load_prior
from nodes.pipelines import embeds_to_latents, image_to_embeds, text_to_embeds
from nodes.sampling.decoder import sample_latents
from nodes.sampling.mixing import mix
from nodes.sampling.noise import Noise, seeded_noise
from nodes.sampling.prior import TextStates, encode_text, sample_image_embeds
from nodes.sampling.schedulers import DecoderScheduler, UnCLIPScheduler
from nodes.sampling.steps import steps_for_strength

CLOSE = 1e-4
Pair = tuple[torch.Tensor, torch.Tensor]
CPU = torch.device("cpu")
WORDS = {"prompt": "a red star", "negative_prompt": "blue"}


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_stream(seed: int = 7) -> Noise:
    """All rows from one generator, as a reference pipeline with a single one draws them."""
    source = generator(seed)
    return lambda shape: torch.randn(tuple(shape), generator=source)


def picture(side: int = 64, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def as_image(source: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(source, dtype=np.float32) / 255)[None]


@pytest.fixture(scope="module")
def prior(prior_folder: Path) -> KandinskyPrior:
    return load_prior(prior_folder)


@pytest.fixture(scope="module")
def decoder(decoder_folder: Path) -> KandinskyDecoder:
    return load_decoder(decoder_folder)


@pytest.fixture(scope="module")
def prior_parts(prior_folder: Path) -> dict[str, Any]:
    return {
        "prior": ReferencePrior.from_pretrained(prior_folder / "prior"),
        "text_encoder": CLIPTextModelWithProjection.from_pretrained(prior_folder / "text_encoder"),
        "image_encoder": CLIPVisionModelWithProjection.from_pretrained(prior_folder / "image_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(prior_folder / "tokenizer"),
        "image_processor": CLIPImageProcessor.from_pretrained(prior_folder / "image_processor"),
        "scheduler": ReferenceUnCLIP.from_pretrained(prior_folder / "scheduler"),
    }


def decoder_parts(folder: Path, scheduler: type = ReferenceDDPM) -> dict[str, Any]:
    return {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "movq": VQModel.from_pretrained(folder / "movq"),
        "scheduler": scheduler.from_pretrained(folder / "scheduler"),
    }


def silent(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("steps", [2, 3, 7, 25, 999, 1000])
def test_timesteps(steps: int) -> None:
    reference = ReferenceUnCLIP(prediction_type="sample")
    reference.set_timesteps(steps)
    assert UnCLIPScheduler().timesteps(steps) == reference.timesteps.tolist()
    offset = 0 if steps == 1000 else 1
    for reference in (ReferenceDDPM(steps_offset=offset), DDIMScheduler(steps_offset=offset)):
        reference.set_timesteps(steps)
        assert DecoderScheduler(steps_offset=offset).timesteps(steps) == reference.timesteps.tolist()


def test_steps_out_of_range_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="expected 2 to 1000 steps, got 1"):
        UnCLIPScheduler().timesteps(1)
    with pytest.raises(ValueError, match="leaves no step to run"):
        steps_for_strength([9, 6, 3], 0.2)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_prior_run(prior: KandinskyPrior, prior_parts: dict[str, Any], guidance: float) -> None:
    pipeline = silent(KandinskyV22PriorPipeline(**prior_parts))
    prompts = ["a red star", "blue"]
    wanted = pipeline(prompts, num_inference_steps=6, guidance_scale=guidance, generator=generator())
    text = encode_text(prior.text_encoder, prior.tokenizer, prompts, CPU)
    empty = encode_text(prior.text_encoder, prior.tokenizer, ["", ""], CPU)
    got = sample_image_embeds(prior.prior, prior.scheduler, text, empty, one_stream(), 6, guidance)
    assert got.abs().max() > 0.1
    assert (got - wanted.image_embeds).abs().max() <= CLOSE


@pytest.mark.parametrize("negative", ["", "blue and green"])
def test_prior_node(prior: KandinskyPrior, prior_parts: dict[str, Any], negative: str) -> None:
    pipeline = silent(KandinskyV22PriorPipeline(**prior_parts))
    seeds = [7, 8, 7, 8] if negative else [7, 8]
    wanted = pipeline(
        ["a red star"] * 2,
        negative_prompt=[negative] * 2 if negative else None,
        num_inference_steps=5,
        generator=[generator(seed) for seed in seeds],
    )
    positive, away = text_to_embeds(prior, "a red star", negative, 7, 5, 4.0, count=2)
    assert (positive.values - wanted.image_embeds).abs().max() <= CLOSE
    assert (away.values - wanted.negative_image_embeds).abs().max() <= CLOSE


@pytest.mark.parametrize("negative", ["", "blue"])
def test_emb2emb(prior: KandinskyPrior, prior_parts: dict[str, Any], negative: str) -> None:
    pipeline = silent(KandinskyV22PriorEmb2EmbPipeline(**prior_parts))
    start = picture(48)
    wanted = pipeline(
        "a red star",
        image=[start],
        strength=0.5,
        negative_prompt=negative or None,
        num_inference_steps=8,
        generator=[generator()] if not negative else generator(),
    )
    embeds, _ = image_to_embeds(prior, as_image(start))
    if negative:  # the reference draws both halves from one stream; so does this
        text = encode_text(prior.text_encoder, prior.tokenizer, ["a red star", negative], CPU)
        without = encode_text(prior.text_encoder, prior.tokenizer, [negative] * 2, CPU)
        both = embeds.values.repeat(2, 1)
        got = sample_image_embeds(
            prior.prior, prior.scheduler, text, without, one_stream(), 8, 4.0, start=both, strength=0.5
        )
        assert (got[1:] - wanted.negative_image_embeds).abs().max() <= CLOSE
        assert (got[:1] - wanted.image_embeds).abs().max() <= CLOSE
    else:
        got, away = text_to_embeds(prior, "a red star", "", 7, 8, 4.0, start=(embeds, 0.5))
        assert (got.values - wanted.image_embeds).abs().max() <= CLOSE
        assert (away.values - wanted.negative_image_embeds).abs().max() <= CLOSE


def test_interpolate(prior: KandinskyPrior, prior_parts: dict[str, Any]) -> None:
    pipeline = silent(KandinskyV22PriorPipeline(**prior_parts))
    source = picture(40)
    wanted = pipeline.interpolate(
        ["a red star", source, "blue"], [0.3, 0.9, -0.4], num_inference_steps=4, generator=generator()
    ).image_embeds
    noise = one_stream()  # the reference's items share one generator, one after another

    def run(prompt: str) -> torch.Tensor:
        text = encode_text(prior.text_encoder, prior.tokenizer, [prompt], CPU)
        empty = encode_text(prior.text_encoder, prior.tokenizer, [""], CPU)
        return sample_image_embeds(prior.prior, prior.scheduler, text, empty, noise, 4, 4.0)

    parts = [run("a red star"), image_to_embeds(prior, as_image(source))[0].values, run("blue")]
    assert (mix(parts, [0.3, 0.9, -0.4]) - wanted).abs().max() <= CLOSE


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (30, 71), (320, 200)])
def test_image_processor(prior: KandinskyPrior, prior_parts: dict[str, Any], size: tuple[int, int]) -> None:
    source = picture(64).resize(size, Image.Resampling.BICUBIC)
    wanted = prior_parts["image_processor"](source, return_tensors="pt").pixel_values
    assert (for_image_encoder(as_image(source), prior.image_processor) - wanted).abs().max() <= 1e-5


@pytest.fixture(scope="module")
def embeds() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 24, generator=generator(1)), torch.randn(2, 24, generator=generator(2))


@pytest.mark.parametrize("kind", ["DDPM", "DDIM"])
@pytest.mark.parametrize("steps", [4, 7])
def test_decode(decoder: KandinskyDecoder, decoder_folder: Path, embeds: Pair, kind: str, steps: int) -> None:
    scheduler = ReferenceDDPM if kind == "DDPM" else DDIMScheduler
    pipeline = silent(KandinskyV22Pipeline(**decoder_parts(decoder_folder, scheduler)))
    positive, negative = embeds
    wanted = pipeline(
        positive,
        negative,
        height=64,
        width=128,
        num_inference_steps=steps,
        generator=[generator(7), generator(8)],
        output_type="np",
    ).images
    # DDIM read from a DDPM config ends at ᾱ = 1, as diffusers does: the config says nothing else.
    ours = DecoderScheduler.from_json(pipeline.scheduler.config)
    latents = sample_latents(decoder.unet, ours, positive, negative, (8, 16), seeded_noise([7, 8]), steps, 4.0)
    got = from_movq(decoder.movq.decode(latents)).numpy()
    assert got.std() > 0.01
    assert np.abs(got - wanted).max() <= CLOSE


def test_decode_without_guidance(decoder: KandinskyDecoder, decoder_folder: Path, embeds: Pair) -> None:
    pipeline = silent(KandinskyV22Pipeline(**decoder_parts(decoder_folder)))
    positive, negative = embeds
    options = {"height": 64, "width": 64, "num_inference_steps": 3, "guidance_scale": 1.0}
    wanted = pipeline(positive, negative, generator=generator(), output_type="latent", **options).images
    got = sample_latents(decoder.unet, decoder.scheduler, positive, negative, (8, 8), one_stream(), 3, 1.0)
    assert (got - wanted).abs().max() <= CLOSE


def test_img2img(decoder: KandinskyDecoder, decoder_folder: Path, embeds: Pair) -> None:
    pipeline = silent(KandinskyV22Img2ImgPipeline(**decoder_parts(decoder_folder)))
    positive, negative = embeds[0][:1], embeds[1][:1]
    source = picture(100)
    wanted = pipeline(
        positive,
        source,
        negative,
        height=64,
        width=64,
        num_inference_steps=6,
        strength=0.5,
        generator=generator(),
        output_type="np",
    ).images
    begin = decoder.movq.encode(for_movq(as_image(source), 64, 64))
    latents = sample_latents(
        decoder.unet, decoder.scheduler, positive, negative, (8, 8), seeded_noise([7]), 6, 4.0, begin, 0.5
    )
    assert np.abs(from_movq(decoder.movq.decode(latents)).numpy() - wanted).max() <= CLOSE


def test_depth(depth_folder: Path, embeds: Pair) -> None:
    pipeline = silent(KandinskyV22ControlnetPipeline(**decoder_parts(depth_folder)))
    decoder = load_decoder(depth_folder)
    positive, negative = embeds[0][:1], embeds[1][:1]
    hint = torch.rand(1, 3, 64, 64, generator=generator(3))
    latents = torch.randn(1, 4, 8, 8, generator=generator(4))
    wanted = pipeline(
        positive, negative, hint, 64, 64, 3, 4.0, generator=generator(), latents=latents, output_type="np"
    ).images
    rest = one_stream()
    first = iter([latents])
    got = sample_latents(
        decoder.unet,
        decoder.scheduler,
        positive,
        negative,
        (8, 8),
        lambda shape: _first_then(first, rest, shape),
        3,
        4.0,
        hint=hint,
    )
    assert np.abs(from_movq(decoder.movq.decode(got)).numpy() - wanted).max() <= CLOSE


def _first_then(first: Iterator[torch.Tensor], rest: Noise, shape: Sequence[int]) -> torch.Tensor:
    tensor = next(first, None)
    return rest(shape) if tensor is None else tensor


def test_rows_of_a_batch_are_their_own_seeds(decoder: KandinskyDecoder) -> None:
    from nodes.embeds import ImageEmbeds

    positive = ImageEmbeds(torch.randn(1, 24, generator=generator(1)), {})
    negative = ImageEmbeds(torch.zeros(1, 24), {})
    both = embeds_to_latents(decoder, positive, negative, (64, 64), 5, 3, 4.0, batch_size=2)
    second = embeds_to_latents(decoder, positive, negative, (64, 64), 6, 3, 4.0)
    assert (both[1:] - second).abs().max() <= CLOSE
    assert (both[0] - both[1]).abs().max() > 0.1


def test_text_states_mask_the_padding(prior: KandinskyPrior) -> None:
    states = encode_text(prior.text_encoder, prior.tokenizer, ["red", "a red star"], CPU)
    assert isinstance(states, TextStates)
    assert states.mask.sum(1).tolist() == [5, 10]  # letters and the two marks
