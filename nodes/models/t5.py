"""T5 text encoder with gated SiLU (FLAN-UL2), the text encoder of Kandinsky 3.

Reference: transformers `T5EncoderModel`. Weights are cast to the dtype of the activations in each layer, so they may be
stored in fp8. The residual stream is float32; it would overflow fp16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import read_config
from .layers import Factory, Operations

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max


@dataclass(frozen=True)
class T5Config:
    """Sizes of a T5 encoder; the defaults are those of FLAN-UL2."""

    d_model: int = 4096
    d_kv: int = 256
    d_ff: int = 16384
    num_heads: int = 16
    num_layers: int = 32
    vocab_size: int = 32128
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> T5Config:
        return read_config(cls, values, expected={"model_type": "t5", "feed_forward_proj": "gated-silu"})


class CastLinear(nn.Linear):
    """Linear layer whose weight is moved to the input's device and cast to its dtype on each call. An fp8 weight has a
    scale per row: T5's projections are too small for fp8 without one."""

    scale: Tensor | None

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.register_buffer("scale", None, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        # Move, then cast: fewer bytes to transfer, and the GPU casts faster.
        weight = self.weight.to(input.device).to(input.dtype)
        return F.linear(input, weight if self.scale is None else weight * self.scale.to(input), self.bias)


class CastOperations:
    """Default layers of a T5 encoder."""

    Linear = CastLinear
    Embedding = nn.Embedding


def to_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(fp8 weight [out, in], scale [out, 1] float32): weight ≈ fp8 · scale."""
    stored, scale = torch.empty(weight.shape, dtype=FP8), torch.empty(len(weight), 1)
    rows = max(1, 2**14 // weight.shape[1])
    for i in range(0, len(weight), rows):  # in chunks, to avoid a float32 copy of the whole weight
        chunk = weight[i : i + rows].float()
        scale[i : i + rows] = chunk.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / FP8_MAX
        stored[i : i + rows] = (chunk / scale[i : i + rows]).to(FP8)
    return stored, scale


class T5Encoder(nn.Module):
    """T5 encoder with weights stored in `dtype` and layers computing in `compute`."""

    def __init__(
        self,
        config: T5Config,
        operations: Operations = CastOperations,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        compute: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.compute = compute or dtype or torch.float32
        factory: Factory = {"dtype": dtype, "device": device}
        # Embeddings and norms are small and stay in the compute dtype.
        exact: Factory = {"dtype": self.compute, "device": device}
        self.shared = operations.Embedding(config.vocab_size, config.d_model, **exact)
        self.encoder = Stack(config, operations, factory, exact)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Token ids [B, T], mask [B, T] (1 = token) → last hidden states [B, T, d_model] float32, after the final norm.
        At padding they are undefined."""
        x = self.shared(tokens.to(self.shared.weight.device)).to(tokens.device)
        return self.encoder(x.float(), mask, self.compute)


class Stack(nn.Module):
    def __init__(self, config: T5Config, ops: Operations, factory: Factory, exact: Factory) -> None:
        super().__init__()
        self.config = config
        self.block = nn.ModuleList(
            Block(config, ops, factory, exact, with_positions=i == 0) for i in range(config.num_layers)
        )
        self.final_layer_norm = Norm(config, exact)

    def forward(self, x: Tensor, mask: Tensor, compute: torch.dtype) -> Tensor:
        first: Any = self.block[0]  # all blocks use its position bias
        bias = first.layer[0].SelfAttention.position_bias(x.shape[1], self.config)
        bias = bias.to(x.device, compute).masked_fill(mask[:, None, None, :] == 0, torch.finfo(compute).min)
        for block in self.block:
            x = block(x, bias, compute)
        return self.final_layer_norm(x)


class Block(nn.Module):
    """Attention, then a feed-forward network."""

    def __init__(
        self, config: T5Config, ops: Operations, factory: Factory, exact: Factory, with_positions: bool
    ) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            [AttentionLayer(config, ops, factory, exact, with_positions), FeedForwardLayer(config, ops, factory, exact)]
        )

    def forward(self, x: Tensor, bias: Tensor, compute: torch.dtype) -> Tensor:
        return self.layer[1](self.layer[0](x, bias, compute), compute)


class AttentionLayer(nn.Module):
    def __init__(
        self, config: T5Config, ops: Operations, factory: Factory, exact: Factory, with_positions: bool
    ) -> None:
        super().__init__()
        self.SelfAttention = Attention(config, ops, factory, exact, with_positions)
        self.layer_norm = Norm(config, exact)

    def forward(self, x: Tensor, bias: Tensor, compute: torch.dtype) -> Tensor:
        return x + self.SelfAttention(self.layer_norm(x).to(compute), bias)


class FeedForwardLayer(nn.Module):
    def __init__(self, config: T5Config, ops: Operations, factory: Factory, exact: Factory) -> None:
        super().__init__()
        self.DenseReluDense = GatedFeedForward(config, ops, factory)
        self.layer_norm = Norm(config, exact)

    def forward(self, x: Tensor, compute: torch.dtype) -> Tensor:
        return x + self.DenseReluDense(self.layer_norm(x).to(compute))


class Norm(nn.Module):
    """RMS norm."""

    def __init__(self, config: T5Config, exact: Factory) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.d_model, **exact))
        self.eps = config.layer_norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight.to(x)


class Attention(nn.Module):
    """Multi-head attention with scale 1; positions enter only through the bias."""

    def __init__(
        self, config: T5Config, ops: Operations, factory: Factory, exact: Factory, with_positions: bool
    ) -> None:
        super().__init__()
        self.heads = config.num_heads
        width = config.num_heads * config.d_kv
        self.q = ops.Linear(config.d_model, width, bias=False, **factory)
        self.k = ops.Linear(config.d_model, width, bias=False, **factory)
        self.v = ops.Linear(config.d_model, width, bias=False, **factory)
        self.o = ops.Linear(width, config.d_model, bias=False, **factory)
        if with_positions:
            buckets = config.relative_attention_num_buckets
            self.relative_attention_bias = ops.Embedding(buckets, config.num_heads, **exact)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.q(x), self.k(x), self.v(x)))
        return self.o(F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).transpose(1, 2).flatten(2))

    def position_bias(self, length: int, config: T5Config) -> Tensor:
        """Relative position bias [1, heads, queries, keys], with `length` queries and keys."""
        positions = torch.arange(length, device=self.relative_attention_bias.weight.device)
        buckets = relative_position_bucket(
            positions[None, :] - positions[:, None],
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
        )
        return self.relative_attention_bias(buckets).permute(2, 0, 1)[None]


def relative_position_bucket(relative_position: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of each relative position (key − query), as transformers' `_relative_position_bucket`, bidirectional: one
    bucket per small distance, then logarithmically larger ranges up to max_distance."""
    half = num_buckets // 2
    max_exact = half // 2
    distance = relative_position.abs()
    large = (distance.float().clamp(min=1) / max_exact).log() / math.log(max_distance / max_exact) * (half - max_exact)
    large = (max_exact + large.long()).clamp(max=half - 1)
    return (relative_position > 0).long() * half + torch.where(distance < max_exact, distance, large)


class GatedFeedForward(nn.Module):
    def __init__(self, config: T5Config, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.wi_0 = ops.Linear(config.d_model, config.d_ff, bias=False, **factory)
        self.wi_1 = ops.Linear(config.d_model, config.d_ff, bias=False, **factory)
        self.wo = ops.Linear(config.d_ff, config.d_model, bias=False, **factory)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.wi_0(x), self.wi_1(x)
        if x.dtype == torch.float16:  # their product and the output of wo exceed 65504
            gate, value = gate.float(), value.float()
        return self.wo(F.silu(gate) * value)
