"""Tiny repositories whose sizes are as published where no tensor's shape shows them (heads 64 wide, 32 groups in a
norm, activations), and the single files cut from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler, PriorTransformer, UnCLIPScheduler
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from .tiny import (
    TOKENS,
    ddim,
    ddpm,
    learned_ddpm,
    randomise,
    tiny_mclip_tokenizer,
    tiny_movq,
    tiny_tokenizer,
    tiny_unet,
    tiny_unet21,
)

WIDTH22, WIDTH21 = 128, 768
"""Of image embeds. 2.1's is the published one: the activation goes by it."""
STATES21 = 64
UNET: dict[str, Any] = {"attention_head_dim": 64, "norm_num_groups": 32, "block_out_channels": (64, 64, 128, 128)}


def save_prior(folder: Path, width: int) -> Path:
    """A prior folder; 2.1's for WIDTH21."""
    old = width == WIDTH21
    tokenizer = tiny_tokenizer(folder / "tokenizer")
    if old:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", pad_token="<|endoftext|>")
    tokenizer.model_max_length = TOKENS
    tokenizer.save_pretrained(folder / "tokenizer")
    marks = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes: dict[str, Any] = {
        "intermediate_size": 96,
        "projection_dim": width,
        "hidden_act": "quick_gelu" if old else "gelu",
    }
    text = CLIPTextConfig(
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=width // 64,
        vocab_size=len(tokenizer),
        max_position_embeddings=TOKENS,
        **marks,
        **sizes,
    )
    vision = CLIPVisionConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, **sizes
    )
    randomise(CLIPTextModelWithProjection(text), 4).save_pretrained(folder / "text_encoder")
    randomise(CLIPVisionModelWithProjection(vision), 5).save_pretrained(folder / "image_encoder")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder / "image_processor"
    )
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=64, num_layers=2, embedding_dim=width, num_embeddings=TOKENS
    )
    randomise(prior, 1)
    prior.clip_std.data.abs_().add_(0.5)
    prior.save_pretrained(folder / "prior")
    UnCLIPScheduler(clip_sample_range=10.0, prediction_type="sample").save_pretrained(folder / "scheduler")
    return folder


def save_decoder(folder: Path, scheduler: DDPMScheduler | None = None, **changes: Any) -> Path:
    """A 2.2 decoder folder."""
    tiny_unet(**UNET, encoder_hid_dim=WIDTH22, **changes).save_pretrained(folder / "unet")
    tiny_movq().save_pretrained(folder / "movq")
    save_scheduler(scheduler or ddpm(), folder / "scheduler")
    return folder


def save_decoder21(folder: Path) -> Path:
    """A 2.1 decoder folder."""
    unet = tiny_unet21(**UNET, encoder_hid_dim=STATES21, cross_attention_dim=WIDTH21)
    unet.save_pretrained(folder / "unet")
    tiny_movq().save_pretrained(folder / "movq")
    tokenizer = tiny_mclip_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    config = MCLIPConfig(
        vocab_size=len(tokenizer),
        hidden_size=STATES21,
        num_hidden_layers=2,
        num_attention_heads=STATES21 // 64,
        intermediate_size=48,
        max_position_embeddings=79,
        type_vocab_size=1,
        pad_token_id=1,
        layer_norm_eps=1e-5,
        transformerDimensions=STATES21,
        numDims=WIDTH21,
    )
    randomise(MultilingualCLIP(config), 6).save_pretrained(folder / "text_encoder")
    save_scheduler(ddim(), folder / "scheduler")
    save_scheduler(learned_ddpm(), folder / "ddpm_scheduler")
    return folder


def save_scheduler(scheduler: Any, folder: Path) -> None:
    """As published: with what only DDIM reads, for DDPM, too."""
    scheduler.save_pretrained(folder)
    file = folder / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"set_alpha_to_one": False}))


PLACES = {
    "prior": "diffusion_models",
    "unet": "diffusion_models",
    "movq": "vae",
    "text_encoder": "text_encoders",
    "image_encoder": "clip_vision",
}
"""Where a network's single file goes, in ComfyUI's folder of models."""


def cut(folder: Path, models: Path) -> dict[str, Path]:
    """Copy the networks' files of an official folder to where single files go: network → file."""
    files: dict[str, Path] = {}
    for network, kind in PLACES.items():
        for stem in ("diffusion_pytorch_model", "model"):
            if (source := folder / network / f"{stem}.safetensors").is_file():
                files[network] = models / kind / f"{folder.name}-{network.replace('_', '-')}.safetensors"
                files[network].parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, files[network])
    return files
