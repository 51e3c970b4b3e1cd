"""The pocket weights' sizes, and how long each part trains: change these and the pocket weights change.

The networks are Kandinsky 2.2's, only narrower. Everything here is found by trying; the measured result of these
values stands in the README.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodes.models.movq import MOVQConfig
from nodes.models.prior import PriorConfig
from nodes.models.unet2 import UNet2Config

PICTURE_SIDE = 128
"""Pixels. The decoder works for other multiples of 64 too, less well."""
EMBED = 128
"""Width of image embeds, text embeds and text hidden states (1280 in Kandinsky 2.2)."""
TEXT_TOKENS = 32
"""Longest prompt, start and end tokens included (77 in Kandinsky 2.2): captions have at most 24."""

MOVQ = MOVQConfig(block_out_channels=(32, 32, 64, 64), layers_per_block=1, num_vq_embeddings=256)
PRIOR = PriorConfig(
    num_attention_heads=4, attention_head_dim=40, num_layers=6, embedding_dim=EMBED, num_embeddings=TEXT_TOKENS
)
DECODER = UNet2Config(
    block_out_channels=(64, 96, 96, 128),
    layers_per_block=1,
    attention_head_dim=32,
    cross_attention_dim=64,
    encoder_hid_dim=EMBED,
    norm_num_groups=16,
)
TEXT_ENCODER = {
    "hidden_size": EMBED,
    "intermediate_size": 4 * EMBED,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "projection_dim": EMBED,
    "max_position_embeddings": TEXT_TOKENS,
    "hidden_act": "gelu",
}
IMAGE_ENCODER = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "projection_dim": EMBED,
    "image_size": 64,
    "patch_size": 8,
    "hidden_act": "gelu",
}


@dataclass(frozen=True)
class Stage:
    """How one part trains: AdamW, a linear warm-up over the first 3 %, then a cosine down to nothing."""

    steps: int
    batch: int
    lr: float
    weight_decay: float = 0.01
    average: float = 0.998
    """Decay of the exponential moving average of the weights, which is what is kept."""


STAGES = {
    "movq": Stage(steps=3000, batch=16, lr=1e-3, average=0.995),
    "movq_polish": Stage(steps=1200, batch=16, lr=5e-4, average=0.995),
    "encoders": Stage(steps=2000, batch=96, lr=1e-3, weight_decay=0.05),
    "encoders_polish": Stage(steps=900, batch=128, lr=6e-4, weight_decay=0.05),
    "prior": Stage(steps=1800, batch=96, lr=1e-3, weight_decay=0.1),
    "prior_polish": Stage(steps=900, batch=96, lr=5e-4, weight_decay=0.1, average=0.995),
    "decoder": Stage(steps=7500, batch=32, lr=8e-4, average=0.9995),
    "decoder_polish": Stage(steps=7000, batch=32, lr=6e-4, average=0.9995),
    "decoder_finish": Stage(steps=2200, batch=32, lr=3e-4, average=0.998),
}
BANK = 12_000
"""Pictures whose latents and embeds the prior and the decoder train on."""
TOLD = 6_000
"""Embeds the prior makes of captions, which the decoder trains on at last."""
