"""Reading a network's sizes off its tensors' shapes, for weights that come without a config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .movq import MOVQConfig
from .prior import PriorConfig
from .unet2 import UNet2Config

Shapes = Mapping[str, Sequence[int]]
"""Tensor name → shape."""


def config_from_tensors(shapes: Shapes) -> UNet2Config | MOVQConfig | PriorConfig:
    """The sizes of the Kandinsky 2.x network, or the MOVQ, whose tensors have these names and shapes.

    What no shape shows (attention heads, norm groups) is as published. Raises ValueError where the names are those
    of no such network; whether every tensor is there, and fits, is for the loader to see.
    """
    kinds = {
        "encoder_hid_proj.image_embeds.weight": unet2_config,
        "quantize.embedding.weight": movq_config,
        "prd_embedding": prior_config,
    }
    for key, read in kinds.items():
        if key in shapes:
            try:
                return read(shapes)
            except KeyError as error:
                raise ValueError(f"expected a tensor called {error.args[0]}, for there is {key}; got none.") from error
    first = ", ".join(list(shapes)[:3]) or "none"
    raise ValueError(
        "expected the tensors of a Kandinsky 2.x UNet, prior or MOVQ, named as in the official folders; "
        f"got {len(shapes)} tensors: {first}, …. Use a file from an official repository, or put its config.json beside."
    )


def unet2_config(shapes: Shapes) -> UNet2Config:
    reads_text = "encoder_hid_proj.text_proj.weight" in shapes
    reads_hint = "add_embedding.input_hint_block.0.weight" in shapes
    image = "image_hint" if reads_hint else "image"
    text_or_image = "encoder_hid_proj.text_proj.weight" if reads_text else "encoder_hid_proj.image_embeds.weight"
    return UNet2Config(
        in_channels=shapes["conv_in.weight"][1],
        out_channels=shapes["conv_out.weight"][0],
        block_out_channels=level_widths(shapes, "down_blocks"),
        layers_per_block=count(shapes, "down_blocks.0.resnets"),
        cross_attention_dim=shapes["mid_block.attentions.0.add_k_proj.weight"][1],
        encoder_hid_dim=shapes[text_or_image][1],
        encoder_hid_dim_type="text_image_proj" if reads_text else "image_proj",
        addition_embed_type="text_image" if reads_text else image,
    )


def movq_config(shapes: Shapes) -> MOVQConfig:
    codes, code_width = shapes["quantize.embedding.weight"]
    return MOVQConfig(
        in_channels=shapes["encoder.conv_in.weight"][1],
        out_channels=shapes["decoder.conv_out.weight"][0],
        block_out_channels=level_widths(shapes, "encoder.down_blocks"),
        layers_per_block=count(shapes, "encoder.down_blocks.0.resnets"),
        latent_channels=shapes["decoder.conv_in.weight"][1],
        num_vq_embeddings=codes,
        vq_embed_dim=code_width,
    )


def prior_config(shapes: Shapes) -> PriorConfig:
    width, embedding_dim = shapes["proj_in.weight"]
    return PriorConfig(
        num_attention_heads=width // PriorConfig.attention_head_dim,
        num_layers=count(shapes, "transformer_blocks"),
        embedding_dim=embedding_dim,
        num_embeddings=shapes["positional_embedding"][1] - 4,  # pooled text, time, noisy embed, query
    )


def count(shapes: Shapes, prefix: str) -> int:
    """How many numbered parts stand under `prefix`."""
    start = len(prefix) + 1
    return len({key[start:].split(".", 1)[0] for key in shapes if key.startswith(f"{prefix}.")})


def level_widths(shapes: Shapes, prefix: str) -> tuple[int, ...]:
    """Channels of each level, from the top."""
    return tuple(shapes[f"{prefix}.{i}.resnets.0.conv1.weight"][0] for i in range(count(shapes, prefix)))
