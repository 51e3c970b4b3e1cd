"""Prior of Kandinsky 2.x, a causal transformer that predicts a CLIP image embed from a prompt.

Reference: diffusers `PriorTransformer`; unCLIP (Ramesh et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import read_config
from .layers import Factory, Operations, TimestepMLP, ToOut, attend, timestep_embedding

MASKED = -10000.0
"""Added to the scores of masked tokens. Finite, as in the reference, so that a fully masked row does not become NaN."""

STEP_TOKENS = 3
"""The last tokens, which change at each step: time, noisy embed, learned query."""


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of a prior; the defaults are those of Kandinsky 2.2."""

    num_attention_heads: int = 32
    attention_head_dim: int = 64
    num_layers: int = 20
    embedding_dim: int = 1280
    num_embeddings: int = 77

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PriorConfig:
        return read_config(
            cls,
            values,
            expected={
                "additional_embeddings": 4,
                "time_embed_act_fn": "silu",
                "norm_in_type": None,
                "embedding_proj_norm_type": None,
                "encoder_hid_proj_type": "linear",
                "added_emb_type": "prd",
                "time_embed_dim": None,
                "embedding_proj_dim": None,
                "clip_embed_dim": None,
            },
        )


KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one attention layer, [B, tokens, width] each."""


@dataclass(frozen=True)
class Conditions:
    """The text's part of a run, computed once by `PriorTransformer.prepare`."""

    cache: tuple[KeysValues, ...]
    """KV cache of each layer for the T hidden states and the pooled embed."""
    bias: Tensor
    """[B, 1, STEP_TOKENS, T + 1 + STEP_TOKENS], added to the scores of the step tokens."""


class PriorTransformer(nn.Module):
    """Predicts the clean image embed.

    Tokens: text hidden states, pooled text embed, time, noisy embed, and a learned query, whose output is the
    prediction.
    """

    def __init__(
        self,
        config: PriorConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory: Factory = {"dtype": dtype, "device": device}
        width, tokens = config.width, config.num_embeddings + 4
        self.config = config
        self.proj_in = operations.Linear(config.embedding_dim, width, **factory)
        self.embedding_proj = operations.Linear(config.embedding_dim, width, **factory)
        self.encoder_hidden_states_proj = operations.Linear(config.embedding_dim, width, **factory)
        self.time_embedding = TimestepMLP(width, width, operations, factory)
        self.positional_embedding = nn.Parameter(torch.zeros(1, tokens, width, **factory))
        self.prd_embedding = nn.Parameter(torch.zeros(1, 1, width, **factory))
        self.transformer_blocks = nn.ModuleList(
            Block(width, config.num_attention_heads, operations, factory) for _ in range(config.num_layers)
        )
        self.norm_out = operations.LayerNorm(width, **factory)
        self.proj_to_clip_embeddings = operations.Linear(width, config.embedding_dim, **factory)
        # Used by to_image_embeds, outside forward.
        self.clip_mean = nn.Parameter(torch.zeros(1, config.embedding_dim, **factory))
        self.clip_std = nn.Parameter(torch.zeros(1, config.embedding_dim, **factory))

    def prepare(self, text_embeds: Tensor, text_states: Tensor, mask: Tensor) -> Conditions:
        """Compute the KV cache of the text once per run. Attention is causal and the text comes first, so it does not
        depend on the timestep or the noisy embed.

        text_embeds [B, D] pooled, text_states [B, T, D], mask [B, T] (1 = token, 0 = padding).
        """
        hidden = torch.cat([self.encoder_hidden_states_proj(text_states), self.embedding_proj(text_embeds)[:, None]], 1)
        hidden = hidden + self.positional_embedding[:, :-STEP_TOKENS].to(hidden)
        count = hidden.shape[1]
        bias = attention_bias(mask, count + STEP_TOKENS, hidden.dtype)
        cache = []
        for block in self.transformer_blocks:
            hidden, keys_values = block(hidden, bias[..., :count, :count])
            cache.append(keys_values)
        return Conditions(tuple(cache), bias[..., count:, :])

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text_embeds: Tensor | Conditions,
        text_states: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Noisy embed x [B, D] and timesteps [B] → predicted clean embed [B, D], normalised by clip_mean and clip_std.

        The text is the result of `prepare`, or its three arguments."""
        conditions = text_embeds
        if not isinstance(conditions, Conditions):
            if text_states is None or mask is None:
                raise ValueError("The prior expects text_states and a mask beside the text embeds.")
            conditions = self.prepare(conditions, text_states, mask)
        time = timestep_embedding(timesteps, self.config.width).to(x.dtype)
        query = self.prd_embedding.to(x).expand(len(x), -1, -1)
        hidden = torch.cat([self.time_embedding(time)[:, None], self.proj_in(x)[:, None], query], dim=1)
        hidden = hidden + self.positional_embedding[:, -STEP_TOKENS:].to(x)
        for block, cache in zip(self.transformer_blocks, conditions.cache, strict=True):
            hidden, _ = block(hidden, conditions.bias, cache)
        return self.proj_to_clip_embeddings(self.norm_out(hidden[:, -1]))

    def to_image_embeds(self, x: Tensor) -> Tensor:
        """Undo the normalisation by clip_mean and clip_std: [B, D] → CLIP image embeds [B, D]."""
        return x * self.clip_std.to(x) + self.clip_mean.to(x)


def attention_bias(mask: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
    """Padding mask [B, T] (1 = token) of the text, and the causal mask of all tokens → bias [B, 1, tokens, tokens]."""
    padding = F.pad((1 - mask.to(dtype)) * MASKED, (0, tokens - mask.shape[1]))
    causal = torch.full((tokens, tokens), MASKED, dtype=dtype, device=mask.device).triu(1)
    return padding[:, None, None, :] + causal


class Block(nn.Module):
    """Pre-norm self-attention, then pre-norm feed-forward (× 4, exact GELU)."""

    def __init__(self, width: int, heads: int, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.norm1 = ops.LayerNorm(width, **factory)
        self.attn1 = SelfAttention(width, heads, ops, factory)
        self.norm3 = ops.LayerNorm(width, **factory)
        self.ff = FeedForward(width, ops, factory)

    def forward(self, x: Tensor, bias: Tensor, cache: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """x [B, tokens, width] → (output of the same shape, keys and values of the tokens in `cache` and x)."""
        h, keys_values = self.attn1(self.norm1(x), bias, cache)
        x = x + h
        return x + self.ff(self.norm3(x)), keys_values


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = ops.Linear(width, width, **factory)
        self.to_k = ops.Linear(width, width, **factory)
        self.to_v = ops.Linear(width, width, **factory)
        self.to_out = ToOut(width, width, ops, factory)

    def forward(self, x: Tensor, bias: Tensor, cache: KeysValues | None) -> tuple[Tensor, KeysValues]:
        k, v = self.to_k(x), self.to_v(x)
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=1), torch.cat([cache[1], v], dim=1)
        return self.to_out(attend(self.to_q(x), k, v, self.heads, bias)), (k, v)


class FeedForward(nn.Module):
    def __init__(self, width: int, ops: Operations, factory: Factory) -> None:
        super().__init__()
        # Indices as in the reference: projection with activation, dropout, projection.
        self.net = nn.ModuleList(
            [Projection(width, ops, factory), nn.Identity(), ops.Linear(4 * width, width, **factory)]
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](F.gelu(self.net[0](x)))


class Projection(nn.Module):
    def __init__(self, width: int, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.proj = ops.Linear(width, 4 * width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)
