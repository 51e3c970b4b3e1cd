"""Whole runs equal diffusers' to 1e-4 in fp32 with the same noise: every 2.1 and 2.2 pipeline.

Where diffusers has a bug, the test holds what is meant, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    KandinskyImg2ImgPipeline,
    KandinskyInpaintPipeline,
    KandinskyPipeline,
    KandinskyPriorPipeline,
    KandinskyV22ControlnetImg2ImgPipeline,
    KandinskyV22ControlnetPipeline,
    KandinskyV22Img2ImgPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorEmb2EmbPipeline,
    KandinskyV22PriorPipeline,
    UNet2DConditionModel,
    VQModel,
)
from diffusers import DDPMScheduler as ReferenceDDPM
from diffusers import PriorTransformer as ReferencePrior
from diffusers import UnCLIPScheduler as ReferenceUnCLIP
from diffusers.pipelines.kandinsky.pipeline_kandinsky_inpaint import prepare_mask
from diffusers.pipelines.kandinsky.text_encoder import MultilingualCLIP
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from nodes.embeds import ImageEmbeds
from nodes.images import for_image_encoder, from_movq
from nodes.models.loader import KandinskyPrior, load_prior
from nodes.models.mclip import Tokenizer as XLMRTokenizer
from nodes.pipelines import blend, image_to_embeds, text_to_embeds
from nodes.sampling.decoder import keep_mask
from nodes.sampling.mixing import mix
from nodes.sampling.noise import Noise, seeded_noise
from nodes.sampling.prior import TextStates, encode_decoder_text, encode_text, sample_image_embeds
from nodes.sampling.schedulers import DecoderScheduler, UnCLIPScheduler
from nodes.sampling.steps import steps_for_strength
from tests.parity.bare import Bare, for_movq, load_decoder, sample_latents
from tests.parity.tiny import ddim, ddpm, learned_ddpm

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
def decoder(decoder_folder: Path) -> Bare:
    return load_decoder(decoder_folder)


@pytest.fixture(scope="module")
def decoder21(decoder21_folder: Path) -> Bare:
    return load_decoder(decoder21_folder)


@pytest.fixture(scope="module", params=["2.1", "2.2"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def either_prior_folder(version: str, prior21_folder: Path, prior_folder: Path) -> Path:
    return prior21_folder if version == "2.1" else prior_folder


@pytest.fixture(scope="module")
def prior(either_prior_folder: Path) -> KandinskyPrior:
    return load_prior(either_prior_folder)


@pytest.fixture(scope="module")
def prior_parts(either_prior_folder: Path) -> dict[str, Any]:
    folder = either_prior_folder
    return {
        "prior": ReferencePrior.from_pretrained(folder / "prior"),
        "text_encoder": CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder"),
        "image_encoder": CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "image_processor": CLIPImageProcessor.from_pretrained(folder / "image_processor"),
        "scheduler": ReferenceUnCLIP.from_pretrained(folder / "scheduler"),
    }


@pytest.fixture(scope="module")
def prior_pipeline(version: str, prior_parts: dict[str, Any]) -> Any:
    return silent((KandinskyPriorPipeline if version == "2.1" else KandinskyV22PriorPipeline)(**prior_parts))


def decoder_parts(folder: Path, scheduler: type = ReferenceDDPM) -> dict[str, Any]:
    return {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "movq": VQModel.from_pretrained(folder / "movq"),
        "scheduler": scheduler.from_pretrained(folder / "scheduler"),
    }


def silent(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_timesteps_of_the_prior() -> None:
    reference = ReferenceUnCLIP(prediction_type="sample")
    for steps in range(2, 1001):
        reference.set_timesteps(steps)
        assert UnCLIPScheduler().timesteps(steps) == reference.timesteps.tolist(), steps


@pytest.mark.parametrize("steps", [2, 3, 7, 25, 999, 1000])
def test_timesteps_of_decoders(steps: int) -> None:
    offset = 0 if steps == 1000 else 1
    for reference in (ReferenceDDPM(steps_offset=offset), DDIMScheduler(steps_offset=offset)):
        reference.set_timesteps(steps)
        assert DecoderScheduler(steps_offset=offset).timesteps(steps) == reference.timesteps.tolist()


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(ddpm(), id="2.2"),
        pytest.param(ddpm(clip_sample=False), id="2.2-inpaint"),
        pytest.param(ddim(), id="2.1"),
        pytest.param(learned_ddpm(), id="2.1-ddpm"),
    ],
)
def test_steps_of_the_published_schedules(reference: Any) -> None:
    ours = DecoderScheduler.from_json({"_class_name": type(reference).__name__, **reference.config})
    reference.set_timesteps(8)
    assert ours.timesteps(8) == reference.timesteps.tolist()
    x, eps, share = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.rand(2, 4, 8, 8) * 2 - 1
    learned = reference.config.get("variance_type") == "learned_range"
    for t in ours.timesteps(8):
        noise = None if t == 0 or ours.kind == "DDIM" else torch.randn(x.shape, generator=generator())
        said = torch.cat([eps, share], dim=1) if learned else eps
        wanted = reference.step(said, t, x, generator=generator())
        got, x0 = ours.step(eps, t, t - 125, x, noise, share)
        torch.testing.assert_close(got, wanted.prev_sample, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(x0, wanted.pred_original_sample, atol=1e-6, rtol=1e-6)


def test_steps_out_of_range_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="expected 2 to 1000 steps, got 1"):
        UnCLIPScheduler().timesteps(1)
    with pytest.raises(ValueError, match="leaves no step to run"):
        steps_for_strength([9, 6, 3], 0.2)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_prior_run(prior: KandinskyPrior, prior_pipeline: Any, guidance: float) -> None:
    prompts = ["a red star", "blue"]
    wanted = prior_pipeline(prompts, num_inference_steps=6, guidance_scale=guidance, generator=generator())
    text = encode_text(prior.text_encoder, prior.tokenizer, prompts, CPU)
    empty = encode_text(prior.text_encoder, prior.tokenizer, ["", ""], CPU)
    got = sample_image_embeds(prior.prior, prior.scheduler, text, empty, one_stream(), 6, guidance)
    assert got.abs().max() > 0.1
    assert (got - wanted.image_embeds).abs().max() <= CLOSE


@pytest.mark.parametrize("negative", ["", "blue and green"])
def test_prior_node(prior: KandinskyPrior, prior_pipeline: Any, negative: str) -> None:
    seeds = [7, 8, 7, 8] if negative else [7, 8]
    wanted = prior_pipeline(
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


def test_interpolate(prior: KandinskyPrior, prior_pipeline: Any) -> None:
    source = picture(40)
    wanted = prior_pipeline.interpolate(
        ["a red star", source, "blue"], [0.3, 0.9, -0.4], num_inference_steps=4, generator=generator()
    ).image_embeds
    noise = one_stream()  # the reference's items share one generator, one after another

    def run(prompt: str) -> torch.Tensor:
        text = encode_text(prior.text_encoder, prior.tokenizer, [prompt], CPU)
        empty = encode_text(prior.text_encoder, prior.tokenizer, [""], CPU)
        return sample_image_embeds(prior.prior, prior.scheduler, text, empty, noise, 4, 4.0)

    parts = [run("a red star"), image_to_embeds(prior, as_image(source))[0].values, run("blue")]
    assert (mix(parts, [0.3, 0.9, -0.4]) - wanted).abs().max() <= CLOSE


@pytest.mark.parametrize("negative", ["", "blue"])
def test_blend_of_pictures(prior: KandinskyPrior, prior_pipeline: Any, negative: str) -> None:
    sources, weights = [picture(40), picture(48, 1)], [0.3, 0.9]
    wanted = prior_pipeline.interpolate(
        sources, weights, negative_prompt=negative, num_inference_steps=4, generator=generator()
    )
    images = [(as_image(source), weight) for source, weight in zip(sources, weights, strict=True)]
    positive, away = blend(prior, [("", 1.0)], images, "sum", negative, 7, 4, 4.0)
    assert (positive.values - wanted.image_embeds).abs().max() <= CLOSE
    assert (away.values - wanted.negative_image_embeds).abs().max() <= CLOSE


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (30, 71), (320, 200), (98, 49)])
def test_image_processor(prior: KandinskyPrior, prior_parts: dict[str, Any], size: tuple[int, int]) -> None:
    source = picture(64).resize(size, Image.Resampling.BICUBIC)
    wanted = prior_parts["image_processor"](source, return_tensors="pt").pixel_values
    assert (for_image_encoder(as_image(source), prior.image_processor) - wanted).abs().max() <= 1e-5


@pytest.fixture(scope="module")
def embeds() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 24, generator=generator(1)), torch.randn(2, 24, generator=generator(2))


GENTLE = 2.0
"""Guidance for DDIM runs: with more, a random network makes 1e-6 of the first step 1e-4 of the last."""


@pytest.mark.parametrize("kind", ["DDPM", "DDIM"])
@pytest.mark.parametrize("steps", [4, 7])
def test_decode(decoder: Bare, decoder_folder: Path, embeds: Pair, kind: str, steps: int) -> None:
    scheduler = ReferenceDDPM if kind == "DDPM" else DDIMScheduler
    pipeline = silent(KandinskyV22Pipeline(**decoder_parts(decoder_folder, scheduler)))
    positive, negative = embeds
    wanted = pipeline(
        positive,
        negative,
        height=64,
        width=128,
        num_inference_steps=steps,
        guidance_scale=GENTLE,
        generator=[generator(7), generator(8)],
        output_type="np",
    ).images
    # DDIM read from a DDPM config ends at ᾱ = 1, as diffusers does: the config says nothing else.
    ours = DecoderScheduler.from_json(pipeline.scheduler.config)
    latents = sample_latents(decoder.unet, ours, positive, negative, (8, 16), seeded_noise([7, 8]), steps, GENTLE)
    got = from_movq(decoder.movq.decode(latents)).numpy()
    assert got.std() > 0.01
    assert np.abs(got - wanted).max() <= CLOSE


def test_decode_without_guidance(decoder: Bare, decoder_folder: Path, embeds: Pair) -> None:
    pipeline = silent(KandinskyV22Pipeline(**decoder_parts(decoder_folder)))
    positive, negative = embeds
    options = {"height": 64, "width": 64, "num_inference_steps": 3, "guidance_scale": 1.0}
    wanted = pipeline(positive, negative, generator=generator(), output_type="latent", **options).images
    got = sample_latents(decoder.unet, decoder.scheduler, positive, negative, (8, 8), one_stream(), 3, 1.0)
    assert (got - wanted).abs().max() <= CLOSE


def test_img2img(decoder: Bare, decoder_folder: Path, embeds: Pair) -> None:
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


def decoder21_parts(folder: Path, scheduler: str = "scheduler") -> dict[str, Any]:
    kind = DDIMScheduler if scheduler == "scheduler" else ReferenceDDPM
    return {
        **decoder_parts(folder),
        "scheduler": kind.from_pretrained(folder / scheduler),
        "text_encoder": MultilingualCLIP.from_pretrained(folder / "text_encoder").eval(),
        "tokenizer": XLMRTokenizer.from_pretrained(folder / "tokenizer"),
    }


def as_embeds(pair: Pair, rows: int = 2, **origin: str) -> tuple[ImageEmbeds, ImageEmbeds]:
    return ImageEmbeds(pair[0][:rows], origin), ImageEmbeds(pair[1][:rows], {})


def draw(decoder: Bare, *args: Any, **options: Any) -> np.ndarray:
    """Through the whole recipe, as the node does: [B, H, W, 3]."""
    image = decoder.draw(*args, **options).numpy()
    assert image.std() > 0.01
    return image


SQUARE: dict[str, Any] = {"height": 64, "width": 64}


@pytest.mark.parametrize("scheduler", ["reference", "DDPM"])
@pytest.mark.parametrize("guidance", [1.0, GENTLE])
def test_decode_21(decoder21: Bare, decoder21_folder: Path, embeds: Pair, scheduler: str, guidance: float) -> None:
    """DDIM, and the learned_range DDPM that comes beside it."""
    folder = "scheduler" if scheduler == "reference" else "ddpm_scheduler"
    pipeline = silent(KandinskyPipeline(**decoder21_parts(decoder21_folder, folder)))
    wanted = pipeline(
        ["a red star"] * 2,
        *embeds,
        negative_prompt=["blue"] * 2,
        height=64,
        width=128,
        num_inference_steps=4,
        guidance_scale=guidance,
        generator=[generator(7), generator(8)],
        output_type="np",
    ).images
    prompts = {"prompt": "a red star", "negative_prompt": "blue"}
    got = draw(decoder21, *as_embeds(embeds), (128, 64), 7, 4, guidance, scheduler, **prompts)
    assert np.abs(got - wanted).max() <= CLOSE


def test_21_reads_the_prompt_the_embeds_were_made_from(decoder21: Bare, embeds: Pair) -> None:
    def latents(origin: dict[str, str], **options: Any) -> torch.Tensor:
        return decoder21.latents(*as_embeds(embeds, 1, **origin), (64, 64), 7, 2, GENTLE, **options)

    made_from = latents({"prompt": "a red star"})
    assert torch.equal(made_from, latents({}, prompt="a red star"))
    assert torch.equal(latents({}), latents({"prompt": "a red star"}, prompt=""))
    assert (made_from - latents({})).abs().max() > 0.01


def test_a_long_prompt_is_cut_to_77_tokens_for_21(decoder21: Bare, caplog: pytest.LogCaptureFixture) -> None:
    assert decoder21.clip is not None
    text = encode_decoder_text(decoder21.clip.encoder, decoder21.clip.tokenizer, ["red " * 40, "red"], CPU)
    assert text.states.shape[1] == 77
    assert text.mask.sum(1).tolist() == [77, 6]  # a word's beginning is a token, too
    assert "reads 77 tokens" in caplog.text


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_img2img_21(decoder21: Bare, decoder21_folder: Path, embeds: Pair, strength: float) -> None:
    pipeline = silent(KandinskyImg2ImgPipeline(**decoder21_parts(decoder21_folder)))
    source = picture(100)
    wanted = pipeline(
        "a red star",
        source,
        embeds[0][:1],
        embeds[1][:1],
        **SQUARE,
        num_inference_steps=6,
        strength=strength,
        guidance_scale=GENTLE,
        generator=[generator()],
        output_type="np",
    ).images
    start = (as_image(source), strength)
    got = draw(decoder21, *as_embeds(embeds, 1, prompt="a red star"), (64, 64), 7, 6, GENTLE, start=start)
    assert np.abs(got - wanted).max() <= CLOSE


def test_img2img_of_any_shape(decoder: Bare, decoder21: Bare, embeds: Pair) -> None:
    """diffusers' img2img pipelines hand width and height to the image processor the wrong way round: only square
    pictures come out as asked."""
    start = (as_image(picture(64)), 0.5)
    for either in (decoder, decoder21):
        latents = either.latents(*as_embeds(embeds, 1), (128, 64), 7, 4, GENTLE, start=start)
        assert latents.shape == (1, 4, 8, 16)


def hole(side: int, seed: int = 5) -> Image.Image:
    """A mask, white where to repaint, with soft edges and a part at the border."""
    mask = np.random.default_rng(seed).integers(0, 255, (4, 4), dtype=np.uint8)
    mask[0], mask[-1] = 255, 0
    return Image.fromarray(mask).resize((side, side), Image.Resampling.BICUBIC)


def as_mask(source: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(source, dtype=np.float32) / 255)[None]


def test_keep_mask() -> None:
    for seed in range(8):
        mask = (torch.rand(3, 1, 9, 12, generator=generator(seed)) < 0.07 * seed).float()
        assert torch.equal(keep_mask(mask, (9, 12)), prepare_mask(1 - mask))


@pytest.mark.parametrize("guidance", [1.0, GENTLE])
def test_inpaint(inpaint_folder: Path, embeds: Pair, guidance: float) -> None:
    pipeline = silent(KandinskyV22InpaintPipeline(**decoder_parts(inpaint_folder)))
    source, mask = picture(100), hole(100)
    wanted = pipeline(
        embeds[0][:1],
        source,
        mask,
        embeds[1][:1],
        **SQUARE,
        num_inference_steps=5,
        guidance_scale=guidance,
        generator=[generator()],
        output_type="np",
    ).images
    # The strength counts for nothing: an inpainting decoder begins anew where it paints.
    given = {"start": (as_image(source), 0.3), "mask": as_mask(mask)}
    got = draw(load_decoder(inpaint_folder), *as_embeds(embeds, 1), (64, 64), 7, 5, guidance, **given)
    assert np.abs(got - wanted).max() <= CLOSE


@pytest.mark.parametrize("guidance", [1.0, GENTLE])
def test_inpaint_21(inpaint21_folder: Path, embeds: Pair, guidance: float) -> None:
    pipeline = silent(KandinskyInpaintPipeline(**decoder21_parts(inpaint21_folder)))
    source, mask = picture(100), hole(100)
    wanted = pipeline(
        "a red star",
        source,
        mask,
        embeds[0][:1],
        embeds[1][:1],
        **SQUARE,
        num_inference_steps=4,
        guidance_scale=guidance,
        generator=[generator()],
        output_type="np",
    ).images
    given = {"start": (as_image(source), 0.3), "mask": as_mask(mask), "prompt": "a red star"}
    got = draw(load_decoder(inpaint21_folder), *as_embeds(embeds, 1), (64, 64), 7, 4, guidance, **given)
    assert np.abs(got - wanted).max() <= CLOSE


@pytest.mark.parametrize("which", ["2.1", "2.2"])
def test_a_batch_is_inpainted_each_into_its_own_picture(
    inpaint_folder: Path, inpaint21_folder: Path, embeds: Pair, which: str
) -> None:
    """diffusers' 2.2 puts the first picture back into all of them, and its 2.1 takes a batch of none but one size
    (huggingface/diffusers issue 13596): the rows here are what it draws alone."""
    decoder = load_decoder(inpaint21_folder if which == "2.1" else inpaint_folder)
    sources, masks = [picture(64, 1), picture(64, 2)], [hole(64, 3), hole(64, 4)]
    pictures, where = torch.cat([as_image(s) for s in sources]), torch.cat([as_mask(m) for m in masks])
    together = draw(decoder, *as_embeds(embeds), (64, 64), 7, 3, GENTLE, start=(pictures, 1.0), mask=where)
    for i in range(2):
        pair = (embeds[0][i : i + 1], embeds[1][i : i + 1])
        given = {"start": (pictures[i : i + 1], 1.0), "mask": where[i : i + 1]}
        alone = draw(decoder, *as_embeds(pair, 1), (64, 64), 7 + i, 3, GENTLE, **given)
        assert np.abs(together[i] - alone[0]).max() <= CLOSE
    one = draw(decoder, *as_embeds(embeds), (64, 64), 7, 3, GENTLE, start=(pictures[:1], 1.0), mask=where[:1])
    assert np.abs(one[0] - together[0]).max() <= CLOSE


@pytest.mark.parametrize("which", ["2.1", "2.2"])
def test_any_decoder_paints_into_a_picture(decoder: Bare, decoder21: Bare, embeds: Pair, which: str) -> None:
    """Not in the reference: what is kept comes out as MOVQ gives it back, however little or much the rest changes."""
    either = decoder21 if which == "2.1" else decoder
    source = as_image(picture(64))
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 40:] = 1
    pixels = for_movq(source, 64, 64)
    for strength in (0.5, 1.0):
        given = {"start": (source, strength), "mask": mask}
        latents = either.latents(*as_embeds(embeds, 1), (64, 64), 7, 4, GENTLE, **given)
        change = (latents - either.movq.encode(pixels)).abs().amax((0, 1, 2))
        assert change[:4].max() <= CLOSE
        assert change[5:].min() > 0.01


def test_guidance_off_draws_a_batch_with_hints(depth_folder: Path, embeds: Pair) -> None:
    """diffusers repeats embeds and hints for several pictures only where guidance is on."""
    decoder, hint = load_decoder(depth_folder), as_image(picture(64, 3))
    together = draw(decoder, *as_embeds(embeds, 1), (64, 64), 7, 2, 1.0, batch_size=2, hint=hint)
    alone = draw(decoder, *as_embeds(embeds, 1), (64, 64), 8, 2, 1.0, hint=hint)
    assert np.abs(together[1] - alone[0]).max() <= CLOSE


def test_depth_img2img(depth_folder: Path, embeds: Pair) -> None:
    pipeline = silent(KandinskyV22ControlnetImg2ImgPipeline(**decoder_parts(depth_folder)))
    source, hint = picture(100), as_image(picture(64, 3))
    wanted = pipeline(
        embeds[0][:1],
        source,
        embeds[1][:1],
        hint.movedim(-1, 1),
        **SQUARE,
        num_inference_steps=6,
        strength=0.5,
        guidance_scale=GENTLE,
        generator=generator(),
        output_type="np",
    ).images
    given = {"start": (as_image(source), 0.5), "hint": hint}
    got = draw(load_decoder(depth_folder), *as_embeds(embeds, 1), (64, 64), 7, 6, GENTLE, **given)
    assert np.abs(got - wanted).max() <= CLOSE


def test_rows_of_a_batch_are_their_own_seeds(decoder: Bare) -> None:
    positive = ImageEmbeds(torch.randn(1, 24, generator=generator(1)), {})
    negative = ImageEmbeds(torch.zeros(1, 24), {})
    both = decoder.latents(positive, negative, (64, 64), 5, 3, 4.0, batch_size=2)
    second = decoder.latents(positive, negative, (64, 64), 6, 3, 4.0)
    assert (both[1:] - second).abs().max() <= CLOSE
    assert (both[0] - both[1]).abs().max() > 0.1


def test_text_states_mask_the_padding(prior: KandinskyPrior) -> None:
    states = encode_text(prior.text_encoder, prior.tokenizer, ["red", "a red star"], CPU)
    assert isinstance(states, TextStates)
    assert states.mask.sum(1).tolist() == [5, 10]  # letters and the two marks
