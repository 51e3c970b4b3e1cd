"""How many bytes networks take beside their weights, by shape: what a host keeps free before it runs one.

The figures are upper bounds on what tools/measure_memory.py counts: the tensors that live at once, and while a
convolution runs a copy of what goes in and of what comes out, which cuDNN makes in half precision. Attention never
holds its scores.
"""

from __future__ import annotations

from .clip import CLIPImageEncoder, CLIPTextConfig, CLIPTextEncoder
from .movq import MOVQConfig
from .prior import STEP_TOKENS, PriorConfig, PriorTransformer
from .unet2 import UNet2Config
from .unet3 import UNet3Config

MCLIP_TOKENS = 77
"""Tokens of a 2.1 text, padding included."""
UL2_TOKENS = 128
"""Tokens of a Kandinsky 3 text, at most."""


def unet_memory(config: UNet2Config | UNet3Config, batch: int, height: int, width: int, itemsize: int) -> int:
    """Bytes of one pass over latents [batch, C, height, width]; the halves of a guided step count twice in `batch`.
    itemsize: of the dtype it computes in."""
    widths = config.block_out_channels
    step = 2 ** (len(widths) - 1)  # sides are padded to multiples of it
    places = -(-height // step) * -(-width // step) * step**2
    if isinstance(config, UNet2Config):
        # The first level's skips, and a resnet that has just come up to it, with the width of the second level.
        live = (config.layers_per_block + 1) * widths[0] + 7 * widths[1]
        attended = sum(widths[1:]) * (2 * config.layers_per_block + 1) + widths[-1]
        tokens = config.image_tokens + (MCLIP_TOKENS if config.reads_text else 0)
        text = 2 * tokens * attended  # keys and values of every attention
    else:
        # The feed-forward network in the second level on the way up; with narrow second levels, the first level.
        live = max(8 * widths[1], 11 * widths[0])
        text = 3 * UL2_TOKENS * config.cross_attention_dim
    return batch * itemsize * (places * live + text)


def encode_memory(config: MOVQConfig, height: int, width: int, itemsize: int) -> int:
    """Bytes of encoding one picture, sides in pixels."""
    return 8 * config.block_out_channels[0] * height * width * itemsize


def decode_memory(config: MOVQConfig, height: int, width: int, itemsize: int) -> int:
    """Bytes of decoding to one picture, sides in pixels."""
    first, second = config.block_out_channels[:2]
    return max(5 * second, 8 * first) * height * width * itemsize


def prior_memory(network: PriorTransformer | CLIPTextEncoder | CLIPImageEncoder, rows: int) -> int:
    """Bytes of a run of one of a prior's networks: for so many prompts, negative ones among them, or pictures."""
    config, itemsize = network.config, next(network.parameters()).dtype.itemsize
    if isinstance(config, PriorConfig):
        tokens = config.num_embeddings + 1 + STEP_TOKENS
        live = config.width * (2 * config.num_layers + 12)  # the text's keys and values in all layers, and one layer
    else:
        tokens = (
            config.max_position_embeddings
            if isinstance(config, CLIPTextConfig)
            else (config.image_size // config.patch_size) ** 2 + 1
        )
        hidden = 3 if config.hidden_act == "quick_gelu" else 2
        live = 4 * config.hidden_size + hidden * config.intermediate_size
    return rows * tokens * live * itemsize
