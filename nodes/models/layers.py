"""What the networks share: injected layer classes, the timestep embedding, attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Operations = Any
"""A namespace with Linear, Conv2d, ConvTranspose2d, GroupNorm, LayerNorm and Embedding: `torch.nn`, or a host's own
classes (ComfyUI's cast, stream and quantise weights). Only these are used, always through this seam; a host's
may have an `attend`, too, in the place of the function below."""

Factory = dict[str, Any]
"""The `dtype` and `device` keywords every layer of a network is made with."""


def _unfilled(kind: type[nn.Module]) -> Any:
    return type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})


class Unfilled:
    """`torch.nn`'s layers without the random numbers they begin with, for networks whose weights come from a file: on
    the meta device those are slow to not make."""

    Linear = _unfilled(nn.Linear)
    Conv2d = _unfilled(nn.Conv2d)
    ConvTranspose2d = _unfilled(nn.ConvTranspose2d)
    GroupNorm = _unfilled(nn.GroupNorm)
    LayerNorm = _unfilled(nn.LayerNorm)
    Embedding = _unfilled(nn.Embedding)


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding, cosines first (diffusers: flip_sin_to_cos=True, downscale_freq_shift=0).

    timesteps [B], any dtype, may be fractional → [B, width] float32; width is even.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    angles = timesteps[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def fast_layout(x: Tensor) -> Tensor:
    """x [B, C, H, W] as the device is fastest with it: on the CPU channels last, in which group norms, nearest resizes
    and what is broadcast over places run along memory. Layers keep the layout they are given."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def padded(x: Tensor, multiple: int) -> Tensor:
    """x [B, C, h, w] with sides that are multiples of `multiple`: at the right and the bottom it begins anew, as
    ComfyUI pads what it gives to a network that takes patches. x itself if it fits."""
    for dim in (2, 3):
        side = x.shape[dim]
        if side % multiple:
            wanted = -(-side // multiple) * multiple
            x = x.index_select(dim, torch.arange(wanted, device=x.device) % side)
    return x


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Multi-head attention on [B, tokens, heads·d] projections, scale 1/√d → [B, query tokens, heads·d].

    `bias` is added to the scores: broadcastable to [B, heads, query tokens, key tokens]. `causal`, in its place: none
    sees what comes after it.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal).transpose(1, 2).flatten(2)


def attention_of(operations: Operations) -> Callable[..., Tensor]:
    """How networks made of these operations attend: by their own `attend`, or else the one here."""
    return getattr(operations, "attend", attend)


class TimestepMLP(nn.Module):
    """Linear → SiLU → Linear on a timestep embedding; keys `linear_1`, `linear_2`."""

    def __init__(self, width_in: int, width: int, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.linear_1 = ops.Linear(width_in, width, **factory)
        self.linear_2 = ops.Linear(width, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class ToOut(nn.ModuleList):
    """An output projection under the key `0`: the reference keeps a dropout beside it, under `1`."""

    def __init__(self, width_in: int, width: int, ops: Operations, factory: Factory) -> None:
        super().__init__([ops.Linear(width_in, width, **factory)])

    def forward(self, x: Tensor) -> Tensor:
        return self[0](x)
