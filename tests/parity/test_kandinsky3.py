"""Kandinsky 3 equals the reference: its networks to 1e-5, whole runs of diffusers to 1e-4 in fp32 with the same
noise, and inpainting and flash the original repository's formulas, which diffusers does not have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler as ReferenceDDPM
from diffusers import Kandinsky3Img2ImgPipeline, Kandinsky3Pipeline, Kandinsky3UNet, VQModel
from transformers import T5Config as ReferenceT5Config
from transformers import T5EncoderModel

from nodes.models.loader3 import Kandinsky3TextEncoder, load_text_encoder, load_tokenizer
from nodes.models.movq import MOVQ, MOVQConfig
from nodes.models.t5 import FP8, T5Config, T5Encoder, to_fp8
from nodes.models.unet3 import UNet3, UNet3Config
from nodes.sampling.kandinsky3 import Text3, blank_out, encode_prompts
from tests.parity.bare import Bare, Inpaint3, for_movq, load_decoder, sample, sample_flash
from tests.parity.test_pipelines import as_image, generator, one_stream, picture, silent
from tests.parity.tiny3 import CONTEXT, STATES, save_kandinsky3_folder, tiny_t5, tiny_unet3

CLOSE, CLOSE_RUN = 1e-5, 1e-4
CPU = torch.device("cpu")
TIMES = torch.tensor([3, 977])
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
WORDS = {"prompt": "a red star", "negative_prompt": "blue"}


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.abs().max() > 0.01, "a network that says nothing would equal anything"
    return (a - b).abs().max().item()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_kandinsky3_folder(tmp_path_factory.mktemp("tiny") / "kandinsky-3")


@pytest.fixture(scope="module")
def model(folder: Path) -> Bare:
    return load_decoder(folder)


@pytest.fixture(scope="module")
def text_encoder(folder: Path) -> Kandinsky3TextEncoder:
    return load_text_encoder(folder)


@pytest.fixture(scope="module")
def parts(folder: Path) -> dict[str, Any]:
    return {
        "tokenizer": load_tokenizer(folder / "tokenizer"),
        "text_encoder": T5EncoderModel.from_pretrained(folder / "text_encoder", variant="fp16"),
        "unet": Kandinsky3UNet.from_pretrained(folder / "unet", variant="fp16"),
        "movq": VQModel.from_pretrained(folder / "movq", variant="fp16"),
        "scheduler": ReferenceDDPM.from_pretrained(folder / "scheduler"),
    }


# The networks


@pytest.mark.parametrize("size", [(8, 8), (8, 16)])
@pytest.mark.parametrize("mask", [MASK, torch.zeros(2, 5)], ids=["tokens", "nothing"])
@torch.no_grad()
def test_unet(size: tuple[int, int], mask: torch.Tensor) -> None:
    reference = tiny_unet3()
    ours = UNet3(UNet3Config.from_json(reference.config))
    ours.load_state_dict(reference.state_dict())
    x, states = torch.randn(2, 4, *size), torch.randn(2, 5, STATES) * mask[..., None]
    assert worst(ours(x, TIMES, states, mask), reference(x, TIMES, states, mask.bool())[0]) <= CLOSE
    # In double precision, so that nothing hides behind rounding.
    ours, reference, x, states = ours.double(), reference.double(), x.double(), states.double()
    assert worst(ours(x, TIMES, states, mask), reference(x, TIMES, states, mask.bool())[0]) <= 1e-11


@torch.no_grad()
def test_sides_that_do_not_halve_are_padded_with_the_beginning() -> None:
    ours = UNet3(UNet3Config.from_json(tiny_unet3().config))
    x, states = torch.randn(2, 4, 3, 9), torch.randn(2, 5, STATES)
    rows, columns = torch.arange(8) % 3, torch.arange(16) % 9
    wanted = ours(x[:, :, rows][..., columns], TIMES, states, MASK)[..., :3, :9]
    assert wanted.shape == x.shape
    assert worst(ours(x, TIMES, states, MASK), wanted) <= CLOSE


@torch.no_grad()
def test_t5() -> None:
    reference = tiny_t5()
    ours = T5Encoder(T5Config.from_json(reference.config.to_dict()))
    weights = reference.state_dict()
    del weights["encoder.embed_tokens.weight"]
    ours.load_state_dict(weights)
    tokens = torch.randint(0, 30, (2, 128))
    mask = torch.ones(2, 128, dtype=torch.long)
    mask[0, 7:] = 0
    wanted = reference(tokens, attention_mask=mask).last_hidden_state
    assert worst(ours(tokens, mask)[mask == 1], wanted[mask == 1]) <= CLOSE


UNET = {
    "in_channels": 4,
    "time_embedding_dim": 1536,
    "groups": 32,
    "attention_head_dim": 64,
    "layers_per_block": 3,
    "block_out_channels": (384, 768, 1536, 3072),
    "cross_attention_dim": 4096,
    "encoder_hid_dim": 4096,
}
VQ: dict[str, Any] = {
    "block_out_channels": (256, 512, 512, 1024),
    "layers_per_block": 2,
    "latent_channels": 4,
    "vq_embed_dim": 4,
    "num_vq_embeddings": 16384,
    "norm_type": "spatial",
    "down_block_types": ("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
    "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
}


@pytest.mark.parametrize(
    ("ours", "reference", "config", "parameters", "tensors"),
    [
        (lambda c: UNet3(UNet3Config.from_json(c)), Kandinsky3UNet, UNET, 3_055_348_228, 1071),
        (lambda c: MOVQ(MOVQConfig.from_json(c)), VQModel, VQ, 270_669_103, 431),
    ],
    ids=["unet", "movq"],
)
def test_full_size_has_the_published_tensors(
    ours: Callable[[Any], torch.nn.Module], reference: Any, config: dict[str, Any], parameters: int, tensors: int
) -> None:
    with torch.device("meta"):
        published, network = reference(**config), ours(config)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in published.state_dict().items()}
    assert len(shapes) == tensors
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert UNet3Config.from_json(UNET) == UNet3Config()


def test_full_size_t5_has_flan_ul2s_tensors() -> None:
    network = T5Encoder(T5Config(), device="meta")
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_721_797_632
    with torch.device("meta"):
        published = T5EncoderModel(ReferenceT5Config(feed_forward_proj="gated-silu", **vars(T5Config())))
    shapes = {key: value.shape for key, value in published.state_dict().items()}
    del shapes["encoder.embed_tokens.weight"]
    assert {key: value.shape for key, value in network.state_dict().items()} == shapes


# Whole runs


@torch.no_grad()
def test_prompts_become_the_references_states(text_encoder: Kandinsky3TextEncoder, parts: dict[str, Any]) -> None:
    pipeline = Kandinsky3Pipeline(**parts)
    prompts = ["a red star", "blue"]
    states, _, mask, _ = pipeline.encode_prompt(prompts, False, _cut_context=True, device=CPU)
    got = encode_prompts(text_encoder.encoder, text_encoder.tokenizer, prompts, CPU)
    assert got.mask.tolist() == mask.tolist()
    assert got.states.shape[1] == got.mask.sum(dim=1).max() + 1
    assert worst(got.states, states) <= CLOSE
    assert not got.states[got.mask == 0].any()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("negative", [None, "blue", "a red star on blue with much more to it"])
def test_text_to_image(
    model: Bare,
    text_encoder: Kandinsky3TextEncoder,
    parts: dict[str, Any],
    guidance: float,
    negative: str | None,
) -> None:
    pipeline = silent(Kandinsky3Pipeline(**parts))
    keywords = {"num_inference_steps": 6, "guidance_scale": guidance, "height": 64, "width": 128}
    wanted = pipeline("a red star", negative_prompt=negative, output_type="latent", generator=generator(), **keywords)
    got = sample(
        model.unet,
        model.scheduler,
        encoded(text_encoder, "a red star"),
        None if negative is None else encoded(text_encoder, negative),
        (8, 16),
        one_stream(),
        6,
        guidance,
    )
    assert worst(got, wanted.images) <= CLOSE_RUN
    pixels = pipeline("a red star", negative_prompt=negative, output_type="np", generator=generator(), **keywords)
    with torch.inference_mode():
        ours = (model.movq.decode(got) * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert worst(ours, torch.from_numpy(pixels.images)) <= CLOSE_RUN


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_image_to_image(
    model: Bare, text_encoder: Kandinsky3TextEncoder, parts: dict[str, Any], strength: float
) -> None:
    source = picture()
    pipeline = silent(Kandinsky3Img2ImgPipeline(**parts))
    wanted = pipeline(
        "a red star",
        source,
        negative_prompt="blue",
        strength=strength,
        num_inference_steps=10,
        output_type="latent",
        generator=generator(),
    )
    with torch.inference_mode():
        start = model.movq.encode(for_movq(as_image(source), 64, 64))
    got = sample(
        model.unet,
        model.scheduler,
        encoded(text_encoder, "a red star"),
        encoded(text_encoder, "blue"),
        (8, 8),
        one_stream(),
        10,
        3.0,
        start=start,
        strength=strength,
    )
    assert worst(got, wanted.images) <= CLOSE_RUN


def encoded(text_encoder: Kandinsky3TextEncoder, prompt: str) -> Text3:
    return encode_prompts(text_encoder.encoder, text_encoder.tokenizer, [prompt], CPU)


# The original repository: null embedding, thresholding, inpainting, flash


def signal(t: float) -> float:
    return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2


BETAS = [min(1 - signal(i + 1) / signal(i), 0.999) for i in range(1000)]
KEPT = torch.cumprod(1 - torch.tensor(BETAS), 0)


def original_unet(channels: int) -> UNet3:
    """A UNet with the original's learned context for no text."""
    base = tiny_unet3(in_channels=channels).state_dict()
    base["conv_out.weight"], base["conv_out.bias"] = base["conv_out.weight"][:4], base["conv_out.bias"][:4]
    config = UNet3Config.from_json(tiny_unet3(in_channels=channels).config | {"null_embedding": True})
    unet = UNet3(config)
    unet.load_state_dict(base | {"null_embedding": torch.randn(CONTEXT)})
    return unet


def original_call(unet: UNet3, x: torch.Tensor, t: int, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The original UNet's forward: its context is projected already, and its mask is all that attention sees."""
    plain = UNet3(UNet3Config.from_json(vars(unet.config) | {"null_embedding": False}))
    plain.load_state_dict({key: value for key, value in unet.state_dict().items() if key != "null_embedding"})
    plain.encoder_hid_proj = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return plain(x, torch.full((len(x),), t), context, mask)


def original_context(unet: UNet3, text: Text3) -> tuple[torch.Tensor, torch.Tensor]:
    """The original text encoder's: zeroed after the projection."""
    context = unet.encoder_hid_proj(text.states)
    context[text.mask == 0] = 0
    return context, text.mask


def original_nothing(unet: UNet3, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    nothing, mask = torch.zeros_like(context), torch.zeros(context.shape[:2])
    nothing[:, 0] = unet.null_embedding
    mask[:, 0] = 1
    return nothing, mask


def original_run(
    unet: UNet3,
    text: Text3,
    size: tuple[int, int],
    steps: int,
    guidance: float,
    percentile: float,
    beside: torch.Tensor | None = None,
) -> torch.Tensor:
    """BaseDiffusion.p_sample_loop of the original repository, eta 1."""
    noise = one_stream()
    x = noise((1, 4, *size))
    times = [*range(999, 0, -1000 // steps), 0]
    context, mask = original_context(unet, text)
    nothing, nothing_mask = original_nothing(unet, context)
    for t, before in itertools.pairwise(times):
        seen = x if beside is None else torch.cat([x, beside], dim=1)
        with_text = original_call(unet, seen, t, context, mask)
        without = original_call(unet, seen, t, nothing, nothing_mask)
        eps = (guidance + 1) * with_text - guidance * without
        x0 = (x - (1 - KEPT[t]).sqrt() * eps) / KEPT[t].sqrt()
        limit = torch.quantile(x0.abs().flatten(1), percentile, dim=-1).clip(min=1)[:, None, None, None]
        x0 = x0.clip(-limit, limit) / limit
        eps = (x - KEPT[t].sqrt() * x0) / (1 - KEPT[t]).sqrt()
        deviation = ((1 - KEPT[t] / KEPT[before]) * (1 - KEPT[before]) / (1 - KEPT[t])).sqrt()
        x = KEPT[before].sqrt() * x0 + (1 - KEPT[before] - deviation**2).sqrt() * eps
        if before != 0:
            x = x + deviation * noise(x.shape)
    return x


@torch.no_grad()
def test_original_sampling(text_encoder: Kandinsky3TextEncoder, model: Bare) -> None:
    unet, text = original_unet(4), encoded(text_encoder, "a red star")
    wanted = original_run(unet, text, (8, 8), 7, 3.0, 0.99)
    got = sample(unet, model.scheduler, text, None, (8, 8), one_stream(), 7, 3.0, original=True)
    assert worst(got, wanted) <= CLOSE_RUN


@torch.no_grad()
def test_inpainting(text_encoder: Kandinsky3TextEncoder, model: Bare) -> None:
    unet, text = original_unet(9), encoded(text_encoder, "a red star")
    pixels = for_movq(as_image(picture()), 64, 64)
    repaint = torch.zeros(1, 1, 64, 64)
    repaint[..., 16:40, 24:64] = 1
    keep = 1 - repaint
    masked = model.movq.encode(pixels.masked_fill((1 - keep).bool(), 0))
    small = torch.nn.functional.interpolate(keep, size=(8, 8))
    wanted = original_run(unet, text, (8, 8), 7, 4.0, 0.95, beside=torch.cat([small, masked], dim=1))
    condition = Inpaint3(small, model.movq.encode(blank_out(pixels, repaint)))
    got = sample(unet, model.scheduler, text, None, (8, 8), one_stream(), 7, 4.0, inpaint=condition)
    assert worst(got, wanted) <= CLOSE_RUN


@torch.no_grad()
def test_flash(text_encoder: Kandinsky3TextEncoder, model: Bare) -> None:
    unet, text = original_unet(4), encoded(text_encoder, "a red star")
    context, mask = original_context(unet, text)
    noise = one_stream()
    x0 = noise((1, 4, 8, 8))
    for t in range(979, 0, -250):
        x = KEPT[t].sqrt() * x0 + (1 - KEPT[t]).sqrt() * noise(x0.shape)
        x0 = (x - (1 - KEPT[t]).sqrt() * original_call(unet, x, t, context, mask)) / KEPT[t].sqrt()
    got = sample_flash(unet, model.scheduler, text, (8, 8), one_stream())
    assert worst(got, x0) <= CLOSE_RUN * x0.abs().max().item()  # without a clip these weights' x0 is in the thousands


@torch.no_grad()
def test_a_row_without_tokens_is_the_null_embedding() -> None:
    unet = original_unet(4)
    states, mask = torch.randn(2, 5, STATES), torch.tensor([[1, 1, 0, 0, 0], [0] * 5]).float()
    context, seen = unet.context(states * mask[..., None], mask)
    assert seen.tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert torch.equal(context[1, 0], unet.null_embedding)
    assert not context[0, 2:].any()
    assert not context[1, 1:].any()


# Storing in half precision and fp8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, FP8])
@torch.no_grad()
def test_t5_in_fewer_bits(folder: Path, text_encoder: Kandinsky3TextEncoder, dtype: torch.dtype) -> None:
    small = load_text_encoder(folder, dtype)
    linear = {p.dtype for n, p in small.encoder.named_parameters() if "SelfAttention.q" in n or "DenseReluDense" in n}
    assert linear == {dtype}
    exact, got = (encoded(encoder, "a red star").states for encoder in (text_encoder, small))
    assert got.dtype == torch.float32
    assert torch.cosine_similarity(exact.flatten(), got.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, FP8])
@torch.no_grad()
def test_t5_streams_to_where_its_input_is(folder: Path, dtype: torch.dtype) -> None:
    """On a device without memory of its own: everything has to be brought there, layer by layer, and nothing moved."""
    encoder = load_text_encoder(folder, dtype).encoder
    x, mask = torch.ones(1, 6, STATES, device="meta"), torch.ones(1, 6, device="meta")
    assert encoder.encoder(x, mask, encoder.compute).device.type == "meta"
    assert {tensor.device.type for tensor in (*encoder.parameters(), *encoder.buffers())} == {"cpu"}


def test_fp8_keeps_small_rows() -> None:
    weight = torch.randn(3, 64) * torch.tensor([[1.0], [1e-4], [0.0]])
    stored, scale = to_fp8(weight)
    assert stored.dtype == FP8
    assert (stored.float() * scale - weight).norm(dim=1).le(0.04 * weight.norm(dim=1)).all()


@torch.no_grad()
def test_half_precision_does_not_overflow_in_wo() -> None:
    reference = tiny_t5()
    for name, parameter in reference.named_parameters():
        if "DenseReluDense" in name:
            parameter.mul_(60)
    weights = reference.state_dict()
    del weights["encoder.embed_tokens.weight"]
    exact, half = (T5Encoder(T5Config.from_json(reference.config.to_dict()), dtype=d) for d in (None, torch.float16))
    exact.load_state_dict(weights)
    half.load_state_dict(weights)
    seen: list[float] = []
    half.encoder.block[0].layer[1].DenseReluDense.wo.register_forward_hook(  # pyright: ignore
        lambda module, args, out: seen.append(out.abs().max().item())
    )
    tokens, mask = torch.arange(1, 9)[None], torch.ones(1, 8)
    got = half(tokens, mask)
    assert seen[0] > 65504, "these weights would not overflow anyway"
    torch.testing.assert_close(got, exact(tokens, mask), atol=0.02, rtol=0.02)
