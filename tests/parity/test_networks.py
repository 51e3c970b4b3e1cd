"""Each network equals diffusers' to 1e-5, with every variant's own inputs, and has the published shape at full size."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PriorTransformer as ReferencePrior
from diffusers import UNet2DConditionModel, VQModel
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig as ReferenceMCLIPConfig
from diffusers.pipelines.kandinsky.text_encoder import MultilingualCLIP
from torch import nn
from transformers import CLIPTextConfig as ReferenceTextConfig
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection
from transformers import CLIPVisionConfig as ReferenceVisionConfig

from nodes.models.clip import CLIPImageEncoder, CLIPTextConfig, CLIPTextEncoder, CLIPVisionConfig
from nodes.models.loader import (
    WeightsError,
    load_network,
    load_prior,
    load_transformers,
    network_config,
    weights_file,
)
from nodes.models.mclip import MCLIP, MCLIPConfig
from nodes.models.movq import MOVQ, MOVQConfig
from nodes.models.prior import PriorConfig, PriorTransformer
from nodes.models.unet2 import UNet2, UNet2Config
from tests.parity.bare import load_decoder
from tests.parity.tiny import (
    MCLIP_TOKENS,
    MCLIP_WIDTH,
    TOKENS,
    WIDTH,
    randomise,
    tiny_movq,
    tiny_prior,
    tiny_unet,
    tiny_unet21,
)

CLOSE = 1e-5
TIMES = torch.tensor([3, 977])
CLIP_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 16,
}


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.abs().max() > 0.01, "a network that says nothing would equal anything"
    return (a - b).abs().max().item()


@torch.no_grad()
def test_prior() -> None:
    reference = tiny_prior()
    ours = PriorTransformer(PriorConfig.from_json(reference.config))
    ours.load_state_dict(reference.state_dict())
    mask = torch.ones(2, TOKENS)
    mask[0, 5:] = 0
    x, pooled, states = torch.randn(2, WIDTH), torch.randn(2, WIDTH), torch.randn(2, TOKENS, WIDTH)
    got = ours(x, TIMES, pooled, states, mask)
    assert worst(got, reference(x, TIMES, pooled, states, mask.bool())[0]) <= CLOSE
    assert worst(ours.to_image_embeds(x), reference.post_process_latents(x)) <= CLOSE


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
@torch.no_grad()
def test_unet(channels: int, size: tuple[int, int]) -> None:
    reference = tiny_unet(in_channels=channels)
    ours = UNet2(UNet2Config.from_json(reference.config))
    ours.load_state_dict(reference.state_dict())
    x, embeds = torch.randn(2, channels, *size), torch.randn(2, WIDTH)
    wanted = reference(x, TIMES, None, added_cond_kwargs={"image_embeds": embeds})[0]
    assert wanted.shape == (2, 8, *size)
    assert worst(ours(x, TIMES, embeds), wanted) <= CLOSE


@pytest.mark.parametrize("size", [(1, 2), (9, 15)])
@torch.no_grad()
def test_sides_that_do_not_halve_are_padded_with_the_beginning(size: tuple[int, int]) -> None:
    """As ComfyUI pads for networks that take patches; the result is cut."""
    reference = tiny_unet(in_channels=8, addition_embed_type="image_hint")
    ours = UNet2(UNet2Config.from_json(reference.config))
    ours.load_state_dict(reference.state_dict())
    least = 2 ** (len(ours.config.block_out_channels) - 1)
    rows, columns = (torch.arange(-(-side // least) * least) % side for side in size)
    x, embeds, hint = torch.randn(2, 4, *size), torch.randn(2, WIDTH), torch.rand(2, 3, 8 * size[0], 8 * size[1])
    seen = ours.prepare(embeds, hint).hint
    assert seen is not None
    latents = torch.cat([x, seen], dim=1)[:, :, rows][..., columns]
    padded = UNet2(dataclasses.replace(ours.config, addition_embed_type="image"))
    padded.load_state_dict(ours.state_dict(), strict=False)
    wanted = padded(latents, TIMES, embeds)[..., : size[0], : size[1]]
    assert wanted.shape == (2, 8, *size)
    assert worst(ours(x, TIMES, embeds, hint), wanted) <= CLOSE


@torch.no_grad()
def test_depth_unet() -> None:
    reference = tiny_unet(in_channels=8, addition_embed_type="image_hint")
    ours = UNet2(UNet2Config.from_json(reference.config))
    ours.load_state_dict(reference.state_dict())
    x, embeds, hint = torch.randn(2, 4, 8, 8), torch.randn(2, WIDTH), torch.rand(2, 3, 64, 64)
    wanted = reference(x, TIMES, None, added_cond_kwargs={"image_embeds": embeds, "hint": hint})[0]
    assert worst(ours(x, TIMES, embeds, hint), wanted) <= CLOSE
    with pytest.raises(ValueError, match="expects a hint"):
        ours(x, TIMES, embeds)


@pytest.mark.parametrize("channels", [4, 9])
@torch.no_grad()
def test_unet_21(channels: int) -> None:
    reference = tiny_unet21(in_channels=channels)
    ours = UNet2(UNet2Config.from_json(reference.config))
    ours.load_state_dict(reference.state_dict())
    assert ours.config.reads_text
    assert ours.config.image_width == WIDTH
    x, embeds, pooled = torch.randn(2, channels, 8, 16), torch.randn(2, WIDTH), torch.randn(2, WIDTH)
    states = torch.randn(2, MCLIP_TOKENS, MCLIP_WIDTH)
    conditions = {"image_embeds": embeds, "text_embeds": pooled}
    wanted = reference(x, TIMES, encoder_hidden_states=states, added_cond_kwargs=conditions)[0]
    assert worst(ours(x, TIMES, embeds, text_embeds=pooled, text_states=states), wanted) <= CLOSE
    with pytest.raises(ValueError, match="expects text_embeds and text_states"):
        ours(x, TIMES, embeds)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("end", [49, 2])
@torch.no_grad()
def test_clip_text_encoder(tmp_path: Path, activation: str, end: int) -> None:
    """Old files name 2 as their end mark, and mean the largest id."""
    sizes: dict[str, Any] = {**CLIP_SIZES, "hidden_act": activation, "vocab_size": 50, "max_position_embeddings": 9}
    reference = CLIPTextModelWithProjection(ReferenceTextConfig(**sizes, eos_token_id=end, bos_token_id=48)).eval()
    randomise(reference, 4).save_pretrained(tmp_path)
    config = network_config(CLIPTextConfig, tmp_path)
    ours = load_network(CLIPTextEncoder(config, device="meta"), weights_file(tmp_path), torch.float32)
    tokens = torch.tensor(
        [[48, 7, 8, 49, 49, 0, 0, 0, 0], [48, 9, 49, 3, 3, 3, 3, 3, 3], [48, 1, 1, 1, 1, 1, 1, 1, 49]]
    )
    embeds, states = ours(tokens)
    wanted = reference(tokens)
    assert worst(embeds, wanted.text_embeds) <= CLOSE
    assert worst(states, wanted.last_hidden_state) <= CLOSE


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@torch.no_grad()
def test_clip_image_encoder(tmp_path: Path, activation: str) -> None:
    sizes: dict[str, Any] = {**CLIP_SIZES, "hidden_act": activation, "image_size": 32, "patch_size": 8}
    reference = CLIPVisionModelWithProjection(ReferenceVisionConfig(**sizes)).eval()
    randomise(reference, 5).save_pretrained(tmp_path)
    config = network_config(CLIPVisionConfig, tmp_path)
    ours = load_network(CLIPImageEncoder(config, device="meta"), weights_file(tmp_path), torch.float32)
    pixels = torch.randn(2, 3, 32, 32)
    assert worst(ours(pixels), reference(pixels).image_embeds) <= CLOSE


def test_clip_files_of_old(tmp_path: Path) -> None:
    """They hold a row of numbers beside the weights; and a wrong config.json is named."""
    from safetensors.torch import load_file, save_file

    config = CLIPTextConfig(20, 8, 16, 4, 1, 2, 6)
    file = tmp_path / "model.safetensors"
    encoder = CLIPTextEncoder(config)
    numbers = {"text_model.embeddings.position_ids": torch.arange(6)[None]}
    save_file(encoder.state_dict() | numbers, file)
    assert len(load_file(file)) == len(encoder.state_dict()) + 1
    loaded = load_network(CLIPTextEncoder(config, device="meta"), file, torch.float32)
    assert loaded.state_dict().keys() == encoder.state_dict().keys()
    for wrong in ({"hidden_act": "relu"}, {"layer_norm_eps": 1e-6}, {"model_type": "siglip_text_model"}):
        (tmp_path / "config.json").write_text(json.dumps(wrong))
        key, value = next(iter(wrong.items()))
        with pytest.raises(WeightsError, match=rf"config\.json: CLIPTextConfig: expected {key} .*got {value!r}"):
            network_config(CLIPTextConfig, tmp_path)


@torch.no_grad()
def test_mclip(decoder21_folder: Path) -> None:
    reference = MultilingualCLIP.from_pretrained(decoder21_folder / "text_encoder").eval()
    ours = load_transformers(MCLIP, decoder21_folder / "text_encoder", torch.float32)
    assert ours.state_dict().keys() == reference.state_dict().keys()
    ids, mask = torch.randint(5, 30, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    ids[0, 4:], mask[0, 4:] = 1, 0  # 1 is the padding
    pooled, states = ours(ids, mask)
    assert (pooled.shape, states.shape) == ((2, WIDTH), (2, 9, MCLIP_WIDTH))
    for got, wanted in zip((pooled, states), reference(ids, mask), strict=True):
        assert worst(got, wanted) <= CLOSE


@torch.no_grad()
def test_movq() -> None:
    reference = tiny_movq()
    ours = MOVQ(MOVQConfig.from_json(reference.config))
    ours.load_state_dict(reference.state_dict())
    pixels = torch.rand(2, 3, 64, 96) * 2 - 1
    latents = reference.encode(pixels).latents
    assert latents.shape == (2, 4, 8, 12)
    assert worst(ours.encode(pixels), latents) <= CLOSE
    assert worst(ours.decode(latents), reference.decode(latents, force_not_quantize=True)[0]) <= CLOSE


UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 8,
    "addition_embed_type": "image",
    "attention_head_dim": 64,
    "block_out_channels": (384, 768, 1152, 1536),
    "cross_attention_dim": 768,
    "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
    "encoder_hid_dim": 1280,
    "encoder_hid_dim_type": "image_proj",
    "layers_per_block": 3,
    "resnet_time_scale_shift": "scale_shift",
}
VQ: dict[str, Any] = {
    "block_out_channels": (128, 256, 256, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "vq_embed_dim": 4,
    "num_vq_embeddings": 16384,
    "norm_type": "spatial",
    "down_block_types": ("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
    "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
}
UNET21 = UNET | {
    "addition_embed_type": "text_image",
    "encoder_hid_dim": 1024,
    "encoder_hid_dim_type": "text_image_proj",
}
XLMR: dict[str, Any] = {
    "vocab_size": 250002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "layer_norm_eps": 1e-5,
}
HINT: dict[str, Any] = {"in_channels": 8, "addition_embed_type": "image_hint"}


def unet(config: dict[str, Any]) -> nn.Module:
    return UNet2(UNet2Config.from_json(config))


def movq(config: dict[str, Any]) -> nn.Module:
    return MOVQ(MOVQConfig.from_json(config))


def prior(config: dict[str, Any]) -> nn.Module:
    return PriorTransformer(PriorConfig.from_json(config))


def mclip(config: dict[str, Any]) -> nn.Module:
    return MCLIP(MCLIPConfig(**config))


def reference_mclip(**config: Any) -> nn.Module:
    return MultilingualCLIP(ReferenceMCLIPConfig(**config))


@pytest.mark.parametrize(
    ("ours", "reference", "config", "parameters", "tensors"),
    [
        pytest.param(unet, UNet2DConditionModel, UNET21, 1_228_661_768, 726, id="unet-2.1"),
        pytest.param(unet, UNet2DConditionModel, UNET21 | {"in_channels": 9}, 1_228_679_048, 726, id="inpaint-2.1"),
        pytest.param(unet, UNet2DConditionModel, UNET, 1_253_057_288, 724, id="unet-2.2"),
        pytest.param(unet, UNet2DConditionModel, UNET | {"in_channels": 9}, 1_253_074_568, 724, id="inpaint-2.2"),
        pytest.param(unet, UNet2DConditionModel, UNET | HINT, 1_253_429_212, 740, id="depth-2.2"),
        pytest.param(movq, VQModel, VQ, 67_832_495, 431, id="movq"),
        pytest.param(prior, ReferencePrior, {"embedding_dim": 768}, 1_022_030_080, 338, id="prior-2.1"),
        pytest.param(prior, ReferencePrior, {"embedding_dim": 1280}, 1_026_225_920, 338, id="prior-2.2"),
        pytest.param(mclip, reference_mclip, XLMR, 560_677_632, 393, id="mclip"),
    ],
)
def test_full_size_has_the_published_tensors(
    ours: Callable[[dict[str, Any]], nn.Module],
    reference: Callable[..., nn.Module],
    config: dict[str, Any],
    parameters: int,
    tensors: int,
) -> None:
    with torch.device("meta"):
        published, network = reference(**config), ours(config)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in published.state_dict().items()}
    assert len(shapes) == tensors
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_defaults_are_kandinsky_22() -> None:
    assert UNet2Config.from_json(UNET) == UNet2Config()
    assert MOVQConfig.from_json(VQ) == MOVQConfig()


def test_layers_come_from_the_injected_operations(
    decoder_folder: Path, decoder21_folder: Path, prior_folder: Path
) -> None:
    class Operations:
        """Stands for a host's own layer classes."""

    for name in ("Linear", "Conv2d", "GroupNorm", "LayerNorm", "Embedding"):
        setattr(Operations, name, type(name, (getattr(torch.nn, name),), {"own": True}))
    prior = load_prior(prior_folder, operations=Operations)
    unets = [UNet2(load_decoder(folder).unet.config, Operations) for folder in (decoder_folder, decoder21_folder)]
    movq = MOVQ(load_decoder(decoder_folder).movq.config, Operations)
    for network in (*unets, movq, prior.prior):
        own = [module for module in network.modules() if getattr(module, "own", False)]
        held = sum(parameter.numel() for module in own for parameter in module.parameters(recurse=False))
        raw = sum(parameter.numel() for parameter in network.parameters()) - held
        # Only the prior has parameters outside layers: positions, the query, and the embeds' statistics.
        assert raw == (WIDTH * 2 + 32 * (TOKENS + 5) if network is prior.prior else 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_loading_casts_and_maps(
    decoder_folder: Path, decoder21_folder: Path, prior_folder: Path, dtype: torch.dtype
) -> None:
    decoder, prior = load_decoder(decoder_folder, dtype), load_prior(prior_folder, dtype)
    decoder21 = load_decoder(decoder21_folder, dtype)
    assert decoder21.clip is not None
    read = (decoder21.unet, decoder21.clip.encoder, prior.text_encoder, prior.image_encoder)
    for network in (decoder.unet, decoder.movq, prior.prior, *read):
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in network.parameters())
    reference = UNet2DConditionModel.from_pretrained(decoder_folder / "unet").state_dict()
    got = decoder.unet.state_dict()
    assert all(torch.equal(got[key], value.to(dtype)) for key, value in reference.items())


def test_loading_is_strict(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    config = PriorConfig(num_attention_heads=1, attention_head_dim=4, num_layers=1, embedding_dim=4, num_embeddings=3)
    good = PriorTransformer(config).state_dict()
    file = tmp_path / "prior.safetensors"

    def load(tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, file)
        load_network(PriorTransformer(config, device="meta"), file, torch.float32)

    load(good)
    with pytest.raises(WeightsError, match=r"missing proj_in\.bias"):
        load({key: value for key, value in good.items() if key != "proj_in.bias"})
    with pytest.raises(WeightsError, match="unexpected intruder"):
        load(good | {"intruder": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"proj_in\.weight: expected \[4, 4\], got \[4, 5\]"):
        load(good | {"proj_in.weight": torch.zeros(4, 5)})
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        load_network(PriorTransformer(config, device="meta"), file, torch.float32)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.bin, which is not read"):
        weights_file(tmp_path)


def test_a_config_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'text_proj' with 'image'"):
        UNet2Config.from_json(UNET | {"encoder_hid_dim_type": "text_proj"})
