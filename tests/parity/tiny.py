"""Tiny Kandinsky 2.1 and 2.2 repositories with random weights, made by the reference implementation and saved as
published: what our loader then reads."""

from __future__ import annotations

import itertools
import json
import string
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from nodes.models.mclip import Tokenizer as XLMRTokenizer

WIDTH, TOKENS = 24, 20
MCLIP_WIDTH, MCLIP_TOKENS = 32, 77
Network = TypeVar("Network", bound=nn.Module)


def randomise(module: Network, seed: int, gain: float = 0.6) -> Network:
    """Every parameter from a normal, also those a constructor sets to 0 or 1: nothing may pass by being neutral."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan_in = parameter[0].numel()
            scale = gain / fan_in**0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if parameter.ndim == 1 and name.endswith("weight"):  # a norm's scale
                parameter.add_(1)
    return module.eval()


def tiny_prior() -> PriorTransformer:
    prior = PriorTransformer(
        num_attention_heads=4, attention_head_dim=8, num_layers=2, embedding_dim=WIDTH, num_embeddings=TOKENS
    )
    randomise(prior, 1)
    with torch.no_grad():
        prior.clip_std.abs_().add_(0.5)
    return prior


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 8,
        "addition_embed_type": "image",
        "attention_head_dim": 8,
        "block_out_channels": (16, 32, 48, 64),
        "cross_attention_dim": 40,
        "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
        "encoder_hid_dim": WIDTH,
        "encoder_hid_dim_type": "image_proj",
        "layers_per_block": 2,
        "resnet_time_scale_shift": "scale_shift",
        "norm_num_groups": 8,
    }
    unet = UNet2DConditionModel(**(config | changes))
    randomise(unet, 2)
    return unet


def tiny_unet21(**changes: Any) -> UNet2DConditionModel:
    """As published: image embeds as wide as the cross attention, the text's hidden states wider."""
    return tiny_unet(
        **{
            "addition_embed_type": "text_image",
            "encoder_hid_dim_type": "text_image_proj",
            "encoder_hid_dim": MCLIP_WIDTH,
            "cross_attention_dim": WIDTH,
        }
        | changes
    )


def tiny_movq() -> VQModel:
    movq = VQModel(
        block_out_channels=(64, 64, 128, 128),  # 32 groups: fewer channels would make the norms divide by nothing
        layers_per_block=1,
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=16,
        norm_type="spatial",
        down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
    )
    randomise(movq, 3)
    return movq


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """Letters, word-final letters, and the two marks: enough to spell anything in lower case."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = ["!", *string.ascii_lowercase]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps(dict(zip(vocabulary, itertools.count()))))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="!", model_max_length=TOKENS)


def tiny_mclip() -> MultilingualCLIP:
    config = MCLIPConfig(
        vocab_size=64,
        hidden_size=MCLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=MCLIP_TOKENS + 2,
        type_vocab_size=1,
        pad_token_id=1,
        transformerDimensions=MCLIP_WIDTH,
        numDims=WIDTH,
    )
    return randomise(MultilingualCLIP(config), 6)


def tiny_mclip_tokenizer() -> Any:
    """Letters, with XLM-RoBERTa's marks around them."""
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(piece, 0.0) for piece in marks] + [(letter, -1.0) for letter in "▁" + string.ascii_lowercase + ","]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRTokenizer(tokenizer_object=tokenizer, model_max_length=512)


def save_prior_folder(folder: Path, hidden_act: str = "gelu") -> Path:
    tokenizer = tiny_tokenizer(folder / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
        "hidden_act": hidden_act,
    }
    marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    text = CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=TOKENS, **marks, **sizes)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **sizes)
    randomise(CLIPTextModelWithProjection(text), 4).save_pretrained(folder / "text_encoder")
    randomise(CLIPVisionModelWithProjection(vision), 5).save_pretrained(folder / "image_encoder")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder / "image_processor"
    )
    tiny_prior().save_pretrained(folder / "prior")
    UnCLIPScheduler(clip_sample_range=10.0, prediction_type="sample").save_pretrained(folder / "scheduler")
    return folder


GENTLE: dict[str, Any] = {"beta_end": 0.004}
"""For whole runs without clipping: x0 is then never far off. With the published betas a random network's first x0 is
some 15 times too large, and so are the rounding errors that the rest of the run works with."""


def ddpm(**changes: Any) -> DDPMScheduler:
    config: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear", "steps_offset": 1}
    return DDPMScheduler(**(config | changes))


def learned_ddpm(**changes: Any) -> DDPMScheduler:
    """2.1's ddpm_scheduler: learned variance, dynamic thresholding, no offset."""
    learned: dict[str, Any] = {
        "steps_offset": 0,
        "variance_type": "learned_range",
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 2.0,
    }
    return ddpm(**(learned | changes))


def ddim(**changes: Any) -> DDIMScheduler:
    """2.1's scheduler."""
    config: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": "epsilon",
        "thresholding": False,
    }
    return DDIMScheduler(**(config | changes))


def save_decoder_folder(folder: Path, scheduler: DDPMScheduler | DDIMScheduler | None = None, **changes: Any) -> Path:
    tiny_unet(**changes).save_pretrained(folder / "unet")
    tiny_movq().save_pretrained(folder / "movq")
    (scheduler or ddpm()).save_pretrained(folder / "scheduler")
    return folder


def save_decoder21_folder(folder: Path, **changes: Any) -> Path:
    tiny_unet21(**changes).save_pretrained(folder / "unet")
    tiny_movq().save_pretrained(folder / "movq")
    tiny_mclip().save_pretrained(folder / "text_encoder")
    tiny_mclip_tokenizer().save_pretrained(folder / "tokenizer")
    ddim(**GENTLE).save_pretrained(folder / "scheduler")
    if not changes:  # the published inpainting folder has none
        learned_ddpm().save_pretrained(folder / "ddpm_scheduler")
    return folder
