"""Shared by the networks: layer classes, timestep embedding, attention, padding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Operations = Any
"""A namespace with Linear, Conv2d, ConvTranspose2d, GroupNorm, LayerNorm and Embedding: `torch.nn`, SkipInit, or
`comfy.ops` classes, which cast and stream weights. It may also have an `attend`, used instead of the function below."""

Factory = dict[str, Any]
"""The `dtype` and `device` arguments of every layer."""


def _skip_init(kind: type[nn.Module]) -> Any:
    return type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})


class SkipInit:
    """torch.nn layers with reset_parameters() skipped, for networks whose weights are loaded from a file. It is slow
    even on the meta device."""

    Linear = _skip_init(nn.Linear)
    Conv2d = _skip_init(nn.Conv2d)
    ConvTranspose2d = _skip_init(nn.ConvTranspose2d)
    GroupNorm = _skip_init(nn.GroupNorm)
    LayerNorm = _skip_init(nn.LayerNorm)
    Embedding = _skip_init(nn.Embedding)


def timestep_embedding(
    timesteps: Tensor, width: int, flip_sin_to_cos: bool = True, downscale_freq_shift: int = 0
) -> Tensor:
    """Sinusoidal embedding, as diffusers' `get_timestep_embedding`.

    timesteps [B], any dtype, may be fractional → [B, width] float32; width must be even.
    """
    half = width // 2
    exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[:, None].float() * (exponents / (half - downscale_freq_shift)).exp()
    parts = [angles.cos(), angles.sin()] if flip_sin_to_cos else [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1)


def channels_last_on_cpu(x: Tensor) -> Tensor:
    """x [B, C, H, W] in channels_last memory format on the CPU, where norms, resizes and broadcasts are then faster;
    unchanged on other devices."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad the sides of x [B, C, h, w] to multiples of `multiple`, right and bottom, circular (as ComfyUI's
    `pad_to_patch_size`)."""
    for dim in (2, 3):
        side = x.shape[dim]
        if side % multiple:
            wanted = -(-side // multiple) * multiple
            x = x.index_select(dim, torch.arange(wanted, device=x.device) % side)
    return x


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Multi-head attention of q, k, v [B, tokens, heads·d], scale 1/√d → [B, query tokens, heads·d].

    bias: added to the scores, broadcastable to [B, heads, query tokens, key tokens]; not together with `causal`.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal).transpose(1, 2).flatten(2)


def attention_of(operations: Operations) -> Callable[..., Tensor]:
    """The `attend` of these operations, or the one above."""
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
    """Output projection with the key `0`, as in the reference, where a dropout has the key `1`."""

    def __init__(self, width_in: int, width: int, ops: Operations, factory: Factory) -> None:
        super().__init__([ops.Linear(width_in, width, **factory)])

    def forward(self, x: Tensor) -> Tensor:
        return self[0](x)
