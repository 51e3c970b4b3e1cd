"""Detects a network and its sizes from tensor names and shapes, for weights without a config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

from .clip import CLIPTextConfig, CLIPVisionConfig
from .movq import MOVQConfig
from .prior import PriorConfig
from .unet2 import UNet2Config
from .unet3 import ATTENTION, UNet3Config

Shapes = Mapping[str, Sequence[int]]
"""Tensor name → shape."""


@dataclass(frozen=True)
class MCLIPSizes:
    """Sizes of M-CLIP, named as in its config.json: XLM-RoBERTa's, and the input and output width of the projection."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    type_vocab_size: int
    transformerDimensions: int
    numDims: int
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1


Sizes = UNet2Config | MOVQConfig | PriorConfig | CLIPTextConfig | CLIPVisionConfig | MCLIPSizes

NAMES: dict[type, str] = {
    UNet2Config: "a UNet2",
    MOVQConfig: "a MOVQ",
    PriorConfig: "a prior",
    CLIPTextConfig: "a CLIP text encoder",
    CLIPVisionConfig: "a CLIP image encoder",
    MCLIPSizes: "an M-CLIP text encoder",
}

CLIP_L_WIDTH = 768
"""Embed width of OpenAI's ViT-L/14 (Kandinsky 2.1), which uses quick_gelu; bigG (2.2) has 1280 and gelu."""
BIG_G_VISION_WIDTH, BIG_G_VISION_HEADS = 1664, 16
"""bigG's image encoder is the only one here with a head width other than 64."""
HEAD_WIDTH = 64


def config_from_tensors(shapes: Shapes) -> Sizes:
    """Config of the Kandinsky 2.x network with these tensors.

    What shapes don't show (attention heads, norm groups, activations) is as in the published models. Raises ValueError
    for other networks; does not check that the tensors are complete (the loader does).
    """
    kinds = {
        "encoder_hid_proj.image_embeds.weight": unet2_config,
        "quantize.embedding.weight": movq_config,
        "prd_embedding": prior_config,
        "text_model.embeddings.token_embedding.weight": clip_text_config,
        "vision_model.embeddings.patch_embedding.weight": clip_vision_config,
        "LinearTransformation.weight": mclip_sizes,
    }
    for key, read in kinds.items():
        if key in shapes:
            try:
                return read(shapes)
            except KeyError as error:
                raise ValueError(f"expected a tensor called {error.args[0]} beside {key}, got none.") from error
    first = ", ".join(list(shapes)[:3]) or "none"
    raise ValueError(
        "expected the tensors of a Kandinsky 2.x UNet, prior or MOVQ, or of one of its encoders, named as in the "
        f"official folders; got {len(shapes)} tensors: {first}, …. Use a file from an official repository, or put its "
        "config.json beside it. (For Kandinsky 5, use ComfyUI's Load Diffusion Model.)"
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


def is_unet3(shapes: Shapes) -> bool:
    """Return True for the tensors of a Kandinsky 3 UNet."""
    return "encoder_hid_proj.projection_linear.weight" in shapes


def unet3_config(shapes: Shapes) -> UNet3Config:
    """Config of a Kandinsky 3 UNet, without its variant, which the tensors don't show."""
    cross, encoder = shapes["encoder_hid_proj.projection_linear.weight"]
    return UNet3Config(
        in_channels=shapes["conv_in.weight"][1],
        out_channels=shapes["conv_out.weight"][0],
        time_embedding_dim=shapes["time_embedding.linear_2.weight"][0],
        layers_per_block=count(shapes, "down_blocks.0.resnets_in"),
        block_out_channels=tuple(
            shapes[f"down_blocks.{level}.resnets_in.0.resnet_blocks.3.projection.bias"][0]
            for level in range(len(ATTENTION))
        ),
        cross_attention_dim=cross,
        encoder_hid_dim=encoder,
        null_embedding="null_embedding" in shapes,
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


def clip_text_config(shapes: Shapes) -> CLIPTextConfig:
    vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
    embeds = shapes["text_projection.weight"][0]
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        projection_dim=embeds,
        num_hidden_layers=count(shapes, "text_model.encoder.layers"),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        max_position_embeddings=shapes["text_model.embeddings.position_embedding.weight"][0],
        hidden_act=clip_activation(embeds),
    )


def clip_vision_config(shapes: Shapes) -> CLIPVisionConfig:
    width, _, patch, _ = shapes["vision_model.embeddings.patch_embedding.weight"]
    patches = shapes["vision_model.embeddings.position_embedding.weight"][0] - 1  # one position is the class token's
    embeds = shapes["visual_projection.weight"][0]
    return CLIPVisionConfig(
        image_size=isqrt(patches) * patch,
        patch_size=patch,
        hidden_size=width,
        intermediate_size=shapes["vision_model.encoder.layers.0.mlp.fc1.weight"][0],
        projection_dim=embeds,
        num_hidden_layers=count(shapes, "vision_model.encoder.layers"),
        num_attention_heads=BIG_G_VISION_HEADS if width == BIG_G_VISION_WIDTH else max(1, width // HEAD_WIDTH),
        hidden_act=clip_activation(embeds),
    )


def clip_activation(embeds: int) -> str:
    return "quick_gelu" if embeds == CLIP_L_WIDTH else "gelu"


def mclip_sizes(shapes: Shapes) -> MCLIPSizes:
    vocabulary, width = shapes["transformer.embeddings.word_embeddings.weight"]
    embeds, states = shapes["LinearTransformation.weight"]
    return MCLIPSizes(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes["transformer.encoder.layer.0.intermediate.dense.weight"][0],
        num_hidden_layers=count(shapes, "transformer.encoder.layer"),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        max_position_embeddings=shapes["transformer.embeddings.position_embeddings.weight"][0],
        type_vocab_size=shapes["transformer.embeddings.token_type_embeddings.weight"][0],
        transformerDimensions=states,
        numDims=embeds,
    )


def count(shapes: Shapes, prefix: str) -> int:
    """Number of submodules `prefix`.0, `prefix`.1, …"""
    start = len(prefix) + 1
    return len({key[start:].split(".", 1)[0] for key in shapes if key.startswith(f"{prefix}.")})


def level_widths(shapes: Shapes, prefix: str) -> tuple[int, ...]:
    """Channels of each level, highest resolution first."""
    return tuple(shapes[f"{prefix}.{i}.resnets.0.conv1.weight"][0] for i in range(count(shapes, prefix)))
