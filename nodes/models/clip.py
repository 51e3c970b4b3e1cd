"""CLIP text and image encoders with projection.

References: transformers `CLIPTextModelWithProjection` and `CLIPVisionModelWithProjection`, with the same parameter
names; Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import read_config
from .layers import Factory, Operations, attend

LEGACY_EOS = 2
"""Wrong eos_token_id in old config files. There the EOS token has the largest id in the vocabulary."""


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


@dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of a text encoder, named as in transformers; the defaults are those of ViT-L/14 (Kandinsky 2.1)."""

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    eos_token_id: int = LEGACY_EOS

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CLIPTextConfig:
        return _checked(read_config(cls, values, expected={"model_type": "clip_text_model", "layer_norm_eps": 1e-5}))


@dataclass(frozen=True)
class CLIPVisionConfig:
    """Sizes of an image encoder, named as in transformers; the defaults are those of ViT-L/14 (Kandinsky 2.1)."""

    image_size: int = 224
    patch_size: int = 14
    hidden_size: int = 1024
    intermediate_size: int = 4096
    projection_dim: int = 768
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    hidden_act: str = "quick_gelu"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CLIPVisionConfig:
        expected = {"model_type": "clip_vision_model", "layer_norm_eps": 1e-5, "num_channels": 3}
        return _checked(read_config(cls, values, expected))


def _checked(config: Any) -> Any:
    if config.hidden_act not in ACTIVATIONS:
        known = " or ".join(ACTIVATIONS)
        raise ValueError(f"{type(config).__name__}: expected hidden_act {known}, got {config.hidden_act!r}.")
    return config


class CLIPTextEncoder(nn.Module):
    """CLIP text encoder with projection."""

    def __init__(
        self,
        config: CLIPTextConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory: Factory = {"dtype": dtype, "device": device}
        self.config = config
        self.text_model = TextTransformer(config, operations, factory)
        self.text_projection = operations.Linear(config.hidden_size, config.projection_dim, bias=False, **factory)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids [B, T] → pooled text embeds [B, D], last hidden states [B, T, W] including padding."""
        states = self.text_model(tokens)
        pooled = states[torch.arange(len(tokens), device=tokens.device), self._eos_positions(tokens)]
        return self.text_projection(pooled), states

    def _eos_positions(self, tokens: Tensor) -> Tensor:
        """[B]: position of the first EOS token of each prompt."""
        eos = self.config.eos_token_id
        return (tokens if eos == LEGACY_EOS else (tokens == eos).int()).argmax(dim=1)


class CLIPImageEncoder(nn.Module):
    """CLIP image encoder with projection."""

    def __init__(
        self,
        config: CLIPVisionConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory: Factory = {"dtype": dtype, "device": device}
        self.config = config
        self.vision_model = VisionTransformer(config, operations, factory)
        self.visual_projection = operations.Linear(config.hidden_size, config.projection_dim, bias=False, **factory)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] from the image processor → image embeds [B, D], not normalised."""
        return self.visual_projection(self.vision_model(pixels))


class TextTransformer(nn.Module):
    def __init__(self, config: CLIPTextConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config, ops, factory)
        self.encoder = Layers(config, ops, factory)
        self.final_layer_norm = ops.LayerNorm(config.hidden_size, **factory)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.final_layer_norm(self.encoder(self.embeddings(tokens), causal=True))


class TextEmbeddings(nn.Module):
    def __init__(self, config: CLIPTextConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.token_embedding = ops.Embedding(config.vocab_size, config.hidden_size, **factory)
        self.position_embedding = ops.Embedding(config.max_position_embeddings, config.hidden_size, **factory)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.token_embedding(tokens) + self.position_embedding(positions)


class VisionTransformer(nn.Module):
    def __init__(self, config: CLIPVisionConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config, ops, factory)
        self.pre_layrnorm = ops.LayerNorm(config.hidden_size, **factory)  # spelled like this in published weights
        self.encoder = Layers(config, ops, factory)
        self.post_layernorm = ops.LayerNorm(config.hidden_size, **factory)

    def forward(self, pixels: Tensor) -> Tensor:
        states = self.encoder(self.pre_layrnorm(self.embeddings(pixels)), causal=False)
        return self.post_layernorm(states[:, 0])


class VisionEmbeddings(nn.Module):
    def __init__(self, config: CLIPVisionConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width, **factory))
        self.patch_embedding = ops.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False, **factory)
        self.position_embedding = ops.Embedding((config.image_size // patch) ** 2 + 1, width, **factory)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        class_token = self.class_embedding.to(patches).expand(len(patches), 1, -1)
        tokens = torch.cat([class_token, patches], dim=1)
        return tokens + self.position_embedding(torch.arange(tokens.shape[1], device=tokens.device))


class Layers(nn.Module):
    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, ops, factory) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        for layer in self.layers:
            x = layer(x, causal)
        return x


class Layer(nn.Module):
    """Pre-norm self-attention, then a pre-norm feed-forward network."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.layer_norm1 = ops.LayerNorm(config.hidden_size, **factory)
        self.self_attn = SelfAttention(config, ops, factory)
        self.layer_norm2 = ops.LayerNorm(config.hidden_size, **factory)
        self.mlp = FeedForward(config, ops, factory)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class SelfAttention(nn.Module):
    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = ops.Linear(width, width, **factory)
        self.k_proj = ops.Linear(width, width, **factory)
        self.v_proj = ops.Linear(width, width, **factory)
        self.out_proj = ops.Linear(width, width, **factory)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        return self.out_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads, causal=causal))


class FeedForward(nn.Module):
    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = ops.Linear(config.hidden_size, config.intermediate_size, **factory)
        self.fc2 = ops.Linear(config.intermediate_size, config.hidden_size, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))
