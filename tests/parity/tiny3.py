"""Tiny Kandinsky 3 repositories with random weights, made by the reference implementation and saved as published."""

from __future__ import annotations

import json
import string
import struct
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler, Kandinsky3UNet
from transformers import T5Config, T5EncoderModel

from tests.parity.tiny import randomise, tiny_movq

STATES, CONTEXT, TIME = 12, 20, 24
PIECES = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase, "▁red", "▁star", "▁blue", "ed"]


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


def spiece_model(pieces: list[str]) -> bytes:
    """A SentencePiece vocabulary as protobuf; longer pieces are likelier."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    made = b""
    for i, piece in enumerate(pieces):
        kind = {0: 3, 1: 3, 2: 2}.get(i, 1)  # control, control, unknown, normal
        score = b"\x15" + struct.pack("<f", -8.0 / len(piece))
        made += field(1, field(1, piece.encode()) + score + bytes([3 << 3, kind]))
    return made + field(2, bytes([3 << 3, 1]))  # a trainer spec, which is passed over


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
