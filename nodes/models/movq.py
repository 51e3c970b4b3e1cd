"""MOVQ, the image autoencoder of Kandinsky. Latents are 8 times smaller on each side.

Reference: diffusers `VQModel` with norm_type "spatial"; MoVQ (Zheng et al., 2022). Kandinsky does not quantise the
latents; they also modulate the decoder's norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import read_config
from .layers import Factory, Operations, ToOut, attend, channels_last_on_cpu

PIXELS_PER_LATENT = 8
EPS = 1e-6
SPATIAL_GROUPS = 32
"""Groups of the spatial norms; the reference ignores norm_num_groups here."""


@dataclass(frozen=True)
class MOVQConfig:
    """Sizes of a MOVQ; the defaults are those of Kandinsky 2.x."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    num_vq_embeddings: int = 16384
    vq_embed_dim: int = 4
    norm_num_groups: int = 32

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MOVQConfig:
        plain = len(values.get("block_out_channels", cls.block_out_channels)) - 1
        return read_config(
            cls,
            values,
            expected={
                "norm_type": "spatial",
                "act_fn": "silu",
                "mid_block_add_attention": True,
                "down_block_types": ("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",),
                "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * plain,
            },
        )


class MOVQ(nn.Module):
    """MOVQ autoencoder. Pixels are in −1..1; height and width must be multiples of 8."""

    def __init__(
        self,
        config: MOVQConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        factory: Factory = {"dtype": dtype, "device": device}
        self.config = config
        self.encoder = Encoder(config, operations, factory)
        self.quant_conv = operations.Conv2d(config.latent_channels, config.vq_embed_dim, 1, **factory)
        self.quantize = Codebook(config, operations, factory)
        self.post_quant_conv = operations.Conv2d(config.vq_embed_dim, config.latent_channels, 1, **factory)
        self.decoder = Decoder(config, operations, factory)

    def encode(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] in −1..1 → latents [B, 4, H/8, W/8], not quantised."""
        return self.quant_conv(self.encoder(channels_last_on_cpu(pixels)))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, 4, h, w] → [B, 3, 8h, 8w], about −1..1, not clamped."""
        latents = channels_last_on_cpu(latents)
        return self.decoder(self.post_quant_conv(latents), latents)


class Codebook(nn.Module):
    """Part of the published weights, but not used."""

    def __init__(self, config: MOVQConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.embedding = ops.Embedding(config.num_vq_embeddings, config.vq_embed_dim, **factory)


class Encoder(nn.Module):
    def __init__(self, config: MOVQConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        build = _Builder(ops, factory, config.norm_num_groups, latent_channels=None)
        widths = config.block_out_channels
        self.conv_in = build.conv(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList(
            Level(
                build,
                widths[max(i - 1, 0)],
                width,
                config.layers_per_block,
                attention=i == len(widths) - 1,
                change=None if i == len(widths) - 1 else "down",
            )
            for i, width in enumerate(widths)
        )
        self.mid_block = Mid(build, widths[-1])
        self.conv_norm_out = build.norm(widths[-1])
        self.conv_out = build.conv(widths[-1], config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for block in self.down_blocks:
            h = block(h, None)
        h = self.mid_block(h, None)
        return self.conv_out(F.silu(self.conv_norm_out(h), inplace=True))


class Decoder(nn.Module):
    def __init__(self, config: MOVQConfig, ops: Operations, factory: Factory) -> None:
        super().__init__()
        build = _Builder(ops, factory, config.norm_num_groups, latent_channels=config.latent_channels)
        widths = config.block_out_channels[::-1]
        self.conv_in = build.conv(config.latent_channels, widths[0])
        self.mid_block = Mid(build, widths[0])
        self.up_blocks = nn.ModuleList(
            Level(
                build,
                widths[max(i - 1, 0)],
                width,
                config.layers_per_block + 1,
                attention=i == 0,
                change=None if i == len(widths) - 1 else "up",
            )
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = build.norm(widths[-1])
        self.conv_out = build.conv(widths[-1], config.out_channels)

    def forward(self, z: Tensor, zq: Tensor) -> Tensor:
        h = self.mid_block(self.conv_in(z), zq)
        for block in self.up_blocks:
            h = block(h, zq)
        return self.conv_out(F.silu(self.conv_norm_out(h, zq), inplace=True))


class _Builder:
    """Makes convolutions, and norms: group norms in the encoder, spatial norms in the decoder."""

    def __init__(self, ops: Operations, factory: Factory, groups: int, latent_channels: int | None) -> None:
        self.ops, self.factory, self.groups, self.latent_channels = ops, factory, groups, latent_channels

    @property
    def spatial(self) -> bool:
        return self.latent_channels is not None

    def conv(self, width_in: int, width: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
        return self.ops.Conv2d(width_in, width, kernel, stride=stride, padding=padding, **self.factory)

    def norm(self, width: int) -> nn.Module:
        if self.latent_channels is None:
            return self.ops.GroupNorm(self.groups, width, EPS, **self.factory)
        return SpatialNorm(width, self.latent_channels, self.ops, self.factory)


def normalise(norm: nn.Module, x: Tensor, zq: Tensor | None) -> Tensor:
    """Apply a group norm, or a spatial norm with the latents zq."""
    return norm(x, zq) if isinstance(norm, SpatialNorm) else norm(x)


class SpatialNorm(nn.Module):
    """Group norm whose scale and shift are computed from the latents at each position."""

    def __init__(self, width: int, latent_channels: int, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.norm_layer = ops.GroupNorm(SPATIAL_GROUPS, width, EPS, **factory)
        self.conv_y = ops.Conv2d(latent_channels, width, 1, **factory)
        self.conv_b = ops.Conv2d(latent_channels, width, 1, **factory)

    def forward(self, x: Tensor, zq: Tensor) -> Tensor:
        """x [B, C, k·h, l·w], zq [B, 4, h, w]. The reference resizes zq to the size of x (nearest). Broadcasting scale
        and shift over k × l blocks gives the same and allocates nothing of that size."""
        h = self.norm_layer(x)
        (height, width), (rows, columns) = h.shape[2:], zq.shape[2:]
        blocks = h.unflatten(3, (columns, width // columns)).unflatten(2, (rows, height // rows))  # [B, C, h, k, w, l]
        scale, shift = (conv(zq)[:, :, :, None, :, None] for conv in (self.conv_y, self.conv_b))
        blocks.mul_(scale).add_(shift)
        return h


class Level(nn.Module):
    """Resnets of one resolution, each followed by attention if `attention`, then down- or upsampling."""

    def __init__(
        self, build: _Builder, width_in: int, width: int, layers: int, attention: bool, change: str | None
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(build, width_in if i == 0 else width, width) for i in range(layers))
        if attention:
            self.attentions = nn.ModuleList(Attention(build, width) for _ in range(layers))
        if change:
            self.add_module(f"{change}samplers", nn.ModuleList([Resample(build, width, change)]))
        self.has_attention, self.change = attention, change

    def forward(self, h: Tensor, zq: Tensor | None) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            h = resnet(h, zq)
            if self.has_attention:
                h = self.attentions[i](h, zq)
        if self.change:
            h = self.get_submodule(f"{self.change}samplers")[0](h)  # pyright: ignore[reportIndexIssue]
        return h


class Mid(nn.Module):
    def __init__(self, build: _Builder, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(build, width, width) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(build, width)])

    def forward(self, h: Tensor, zq: Tensor | None) -> Tensor:
        h = self.resnets[0](h, zq)
        return self.resnets[1](self.attentions[0](h, zq), zq)


class Resample(nn.Module):
    """Halve or double the resolution with a convolution."""

    def __init__(self, build: _Builder, width: int, change: str) -> None:
        super().__init__()
        down = change == "down"
        self.conv = build.conv(width, width, stride=2 if down else 1, padding=0 if down else 1)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            return self.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Resnet(nn.Module):
    def __init__(self, build: _Builder, width_in: int, width: int) -> None:
        super().__init__()
        self.norm1 = build.norm(width_in)
        self.conv1 = build.conv(width_in, width)
        self.norm2 = build.norm(width)
        self.conv2 = build.conv(width, width)
        self.conv_shortcut = build.conv(width_in, width, kernel=1, padding=0) if width_in != width else None

    def forward(self, x: Tensor, zq: Tensor | None) -> Tensor:
        # In place: at these sizes, allocating memory takes longer than the arithmetic.
        h = self.conv1(F.silu(normalise(self.norm1, x, zq), inplace=True))
        h = self.conv2(F.silu(normalise(self.norm2, h, zq), inplace=True))
        return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, build: _Builder, width: int) -> None:
        super().__init__()
        self.norm_name = "spatial_norm" if build.spatial else "group_norm"
        self.add_module(self.norm_name, build.norm(width))
        self.to_q = build.ops.Linear(width, width, **build.factory)
        self.to_k = build.ops.Linear(width, width, **build.factory)
        self.to_v = build.ops.Linear(width, width, **build.factory)
        self.to_out = ToOut(width, width, build.ops, build.factory)

    def forward(self, x: Tensor, zq: Tensor | None) -> Tensor:
        h = normalise(self.get_submodule(self.norm_name), x, zq).flatten(2).transpose(1, 2)  # [B, h·w, C]
        h = self.to_out(attend(self.to_q(h), self.to_k(h), self.to_v(h), heads=1))
        return x + h.transpose(1, 2).reshape(x.shape)
