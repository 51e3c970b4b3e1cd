"""Tiny Kandinsky 3 repositories with random weights, made by the reference implementation and saved as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler, Kandinsky3UNet
from transformers import T5Config, T5EncoderModel

from tests.parity.tiny import randomise, tiny_movq
from tests.support.spiece import PIECES, spiece_model

STATES, CONTEXT, TIME = 12, 20, 24


def tiny_unet3(**changes: Any) -> Kandinsky3UNet:
    config: dict[str, Any] = {
        "time_embedding_dim": TIME,
        "groups": 4,
        "attention_head_dim": 8,
        "layers_per_block": 2,
        "block_out_channels": (16, 16, 24, 32),
        "cross_attention_dim": CONTEXT,
        "encoder_hid_dim": STATES,
    }
    # A smaller gain: this network's many norms make differences of rounding grow.
    return randomise(Kandinsky3UNet(**(config | changes)), 6, gain=0.3)


def tiny_t5(layers: int = 3) -> T5EncoderModel:
    config = T5Config(
        d_model=STATES,
        d_kv=8,
        d_ff=32,
        num_heads=4,
        num_layers=layers,
        vocab_size=len(PIECES) + 4,  # as published: more embeddings than pieces
        feed_forward_proj="gated-silu",
    )
    return randomise(T5EncoderModel(config), 7)


def save_kandinsky3_folder(folder: Path, shard: str = "20KB", variant: str | None = "fp16", **changes: Any) -> Path:
    tiny_unet3(**changes).save_pretrained(folder / "unet", variant=variant)
    tiny_movq().save_pretrained(folder / "movq", variant=variant)
    ddpm3().save_pretrained(folder / "scheduler")
    tiny_t5().save_pretrained(folder / "text_encoder", max_shard_size=shard, variant=variant)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece_model(PIECES))
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    return folder


def ddpm3() -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", beta_start=0.00085, beta_end=0.012, steps_offset=1)
