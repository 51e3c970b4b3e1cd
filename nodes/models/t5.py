"""The T5 text encoder, in the gated-SiLU form of FLAN-UL2, which Kandinsky 3 reads prompts with.

Reference: transformers `T5EncoderModel`. Its weights are kept in one dtype and cast to the activations' as each layer
computes, so they may be stored in fp8; the stream between the layers is float32, which half precision would overflow.
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
    """Sizes of a T5 encoder; the defaults are FLAN-UL2's."""

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
    """A linear layer whose weight is brought to the input's device and dtype as it is used: it may be kept in fewer
    bits, and in a GPU's host memory. An fp8 weight has a scale for each of its rows, for T5's projections are too small
    for fp8 as they are."""

    scale: Tensor | None

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.register_buffer("scale", None, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        # Cast there and not here, where it would be slower and more to send.
        weight = self.weight.to(input.device).to(input.dtype)
        return F.linear(input, weight if self.scale is None else weight * self.scale.to(input), self.bias)


class CastOperations:
    """The layers a T5 encoder is made of where no host gives its own."""

    Linear = CastLinear
    Embedding = nn.Embedding


def to_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(fp8 weight [out, in], scale [out, 1] float32): weight ≈ fp8 · scale."""
    stored, scale = torch.empty(weight.shape, dtype=FP8), torch.empty(len(weight), 1)
    rows = max(1, 2**14 // weight.shape[1])
    for i in range(0, len(weight), rows):  # in pieces: a float32 copy of the whole would not be small
        piece = weight[i : i + rows].float()
        scale[i : i + rows] = piece.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / FP8_MAX
        stored[i : i + rows] = (piece / scale[i : i + rows]).to(FP8)
    return stored, scale


class T5Encoder(nn.Module):
    """The encoder half of T5. `compute` is the dtype its layers work in, whatever they are stored in."""

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
        # No sums of products are taken over these few; they stay as precise as the layers work.
        exact: Factory = {"dtype": self.compute, "device": device}
        self.shared = operations.Embedding(config.vocab_size, config.d_model, **exact)
        self.encoder = Stack(config, operations, factory, exact)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens [B, T] ids, mask [B, T] (1 = a token) → last hidden states [B, T, d_model] float32, after the last
        norm. Where there is no token they mean nothing."""
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
        first: Any = self.block[0]  # its table of relative positions serves all of them
        bias = first.layer[0].SelfAttention.positions(x.shape[1], self.config)
        bias = bias.to(x.device, compute).masked_fill(mask[:, None, None, :] == 0, torch.finfo(compute).min)
        for block in self.block:
            x = block(x, bias, compute)
        return self.final_layer_norm(x)


class Block(nn.Module):
    """Attention, then a feed-forward network, under the reference's keys `layer.0` and `layer.1`."""

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
    """x over its root mean square, in float32."""

    def __init__(self, config: T5Config, exact: Factory) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.d_model, **exact))
        self.eps = config.layer_norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight.to(x)


class Attention(nn.Module):
    """Multi-head attention without a scale; where a token stands is in the bias only."""

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

    def positions(self, length: int, config: T5Config) -> Tensor:
        """[1, heads, length, length]: what a query (row) adds to its score of a key (column) for their distance."""
        places = torch.arange(length, device=self.relative_attention_bias.weight.device)
        buckets = distance_buckets(
            places[None, :] - places[:, None],
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
        )
        return self.relative_attention_bias(buckets).permute(2, 0, 1)[None]


def distance_buckets(distances: Tensor, buckets: int, farthest: int) -> Tensor:
    """The bucket of each distance, key − query: half of them for keys that come after; in each half, half for single
    distances and the others for ever wider ranges, up to `farthest`."""
    half = buckets // 2
    exact = half // 2
    away = distances.abs()
    wide = (away.float().clamp(min=1) / exact).log() / math.log(farthest / exact) * (half - exact)
    wide = (exact + wide.long()).clamp(max=half - 1)
    return (distances > 0).long() * half + torch.where(away < exact, away, wide)


class GatedFeedForward(nn.Module):
    def __init__(self, config: T5Config, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.wi_0 = ops.Linear(config.d_model, config.d_ff, bias=False, **factory)
        self.wi_1 = ops.Linear(config.d_model, config.d_ff, bias=False, **factory)
        self.wo = ops.Linear(config.d_ff, config.d_model, bias=False, **factory)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.wi_0(x), self.wi_1(x)
        if x.dtype == torch.float16:  # their product, and what wo makes of it, go beyond 65504
            gate, value = gate.float(), value.float()
        return self.wo(F.silu(gate) * value)
