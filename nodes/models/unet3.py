"""UNet of Kandinsky 3: predicts noise in MOVQ latents from text states.

References: diffusers `Kandinsky3UNet`; ai-forever/Kandinsky-3, whose weights `kandiflux models convert` renames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import read_config
from .layers import Factory, Operations, TimestepMLP, attention_of, pad_to_multiple, timestep_embedding

ATTENTION = (False, True, True, True)
"""Levels with self- and cross-attention, highest resolution first."""

KERNELS = (1, 3, 3, 1)
EXPANSION, COMPRESSION = 4, 2


@dataclass(frozen=True)
class UNet3Config:
    """Sizes of a Kandinsky 3 UNet; the defaults are those of the text-to-image model.

    in_channels: 4, or 9 for inpainting (latents, keep mask, masked latents). null_embedding: the weights have a learned
    context for "no text", as in the original repository. variant: "flash" for the distilled four-step model.
    """

    in_channels: int = 4
    out_channels: int = 4
    time_embedding_dim: int = 1536
    groups: int = 32
    attention_head_dim: int = 64
    layers_per_block: int = 3
    block_out_channels: tuple[int, ...] = (384, 768, 1536, 3072)
    cross_attention_dim: int = 4096
    encoder_hid_dim: int = 4096
    null_embedding: bool = False
    variant: str = ""

    @property
    def init_width(self) -> int:
        return self.block_out_channels[0] // 2

    @property
    def flash(self) -> bool:
        """True for the distilled model, which takes four steps without guidance."""
        return self.variant == "flash"

    @property
    def inpaints(self) -> bool:
        """True if masked latents and a mask are part of the input."""
        return self.in_channels > self.out_channels

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UNet3Config:
        config = read_config(cls, values, expected={"_class_name": "Kandinsky3UNet"})
        if len(config.block_out_channels) != len(ATTENTION) or config.layers_per_block < 2:
            raise ValueError(
                f"UNet3Config: expected {len(ATTENTION)} block_out_channels and layers_per_block of 2 or more, got "
                f"{config.block_out_channels} and {config.layers_per_block} in config.json."
            )
        return config


class UNet3(nn.Module):
    """UNet of Kandinsky 3."""

    def __init__(
        self,
        config: UNet3Config,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        build = _Builder(config, operations, {"dtype": dtype, "device": device})
        widths = (config.init_width, *config.block_out_channels)
        self.time_embedding = TimestepMLP(widths[0], config.time_embedding_dim, operations, build.factory)
        self.add_time_condition = TextPooling(build)
        self.conv_in = build.conv(config.in_channels, widths[0], 3)
        self.encoder_hid_proj = TextProjection(build)
        if config.null_embedding:
            self.null_embedding = nn.Parameter(torch.empty(config.cross_attention_dim, **build.factory))

        last, layers = len(ATTENTION) - 1, config.layers_per_block
        self.down_blocks = nn.ModuleList()
        for level, attention in enumerate(ATTENTION):
            n_in, width = widths[level], widths[level + 1]
            triples = [(n_in, width, width)] + [(width, width, width)] * (layers - 1)
            self.down_blocks.append(Level(build, triples, n_in, attention, "down", change=level != last))
        self.up_blocks = nn.ModuleList()
        for level, attention in reversed(list(enumerate(ATTENTION))):
            width, n_out = widths[level + 1], widths[level]
            n_in = width if level == last else 2 * width  # with the skip connection, except at the lowest level
            triples = [(n_in, n_in, width)] + [(width, width, width)] * (layers - 2) + [(width, width, n_out)]
            self.up_blocks.append(Level(build, triples, n_out, attention, "up", change=level != last))
        self.conv_norm_out = operations.GroupNorm(config.groups, widths[0], **build.factory)
        self.conv_out = build.conv(widths[0], config.out_channels, 3)

    def forward(self, x: Tensor, timesteps: Tensor, text_states: Tensor, mask: Tensor) -> Tensor:
        """x [B, C, h, w], 4 latent channels and C − 4 for inpainting; timesteps [B]; text_states [B, T, D], zero at
        padding; mask [B, T], 1 = token, all 0 = no text → predicted noise [B, 4, h, w]. Sides that are not multiples of
        8 are padded, and the output is cropped."""
        width = self.config.init_width
        time = timestep_embedding(timesteps, width, flip_sin_to_cos=False, downscale_freq_shift=1)
        emb = self.time_embedding(time.to(x.dtype))
        context, mask = self.context(text_states.to(x.dtype), mask.to(x.dtype))
        # Finite, so that a fully masked row (no text) attends equally to all tokens instead of becoming NaN.
        bias = (1 - mask)[:, None, None, :] * -10000.0
        emb = self.add_time_condition(emb, context, bias)

        height, width = x.shape[-2:]
        h = self.conv_in(pad_to_multiple(x, 2 ** (len(ATTENTION) - 1)))
        skips: list[Tensor] = []
        for block in self.down_blocks:
            h = block(h, emb, context, bias)
            skips.append(h)
        skips.pop()  # the lowest level has no skip connection
        for level, block in enumerate(self.up_blocks):
            h = block(torch.cat([h, skips.pop()], dim=1) if level else h, emb, context, bias)
        return self.conv_out(F.silu(self.conv_norm_out(h)))[..., :height, :width]

    def context(self, text_states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Project text states [B, T, D] to (context [B, T, cross_attention_dim], mask [B, T]).

        With null_embedding, as in the original repository: padding is zeroed after the projection, and the null
        embedding is the only token of a row without text.
        """
        context = self.encoder_hid_proj(text_states)
        if not self.config.null_embedding:
            return context, mask
        null = torch.zeros_like(mask)
        null[:, 0] = (mask.amax(dim=1) == 0).to(mask)
        return context * mask[..., None] + null[..., None] * self.null_embedding.to(context), mask + null


class _Builder:
    """Makes convolutions and linear layers."""

    def __init__(self, config: UNet3Config, ops: Operations, factory: Factory) -> None:
        self.config, self.ops, self.factory = config, ops, factory

    def conv(self, width_in: int, width: int, kernel: int, bias: bool = True) -> Any:
        return self.ops.Conv2d(width_in, width, kernel, padding=kernel // 2, bias=bias, **self.factory)

    def halve(self, width: int) -> Any:
        return self.ops.Conv2d(width, width, 2, stride=2, **self.factory)

    def double(self, width: int) -> Any:
        return self.ops.ConvTranspose2d(width, width, 2, stride=2, **self.factory)

    def linear(self, width_in: int, width: int) -> Any:
        return self.ops.Linear(width_in, width, bias=False, **self.factory)


class TextProjection(nn.Module):
    """Projects text states to the context (in the original repository, a part of the text encoder)."""

    def __init__(self, build: _Builder) -> None:
        super().__init__()
        width = build.config.cross_attention_dim
        self.projection_linear = build.linear(build.config.encoder_hid_dim, width)
        self.projection_norm = build.ops.LayerNorm(width, **build.factory)

    def forward(self, text_states: Tensor) -> Tensor:
        return self.projection_norm(self.projection_linear(text_states))


class Attention(nn.Module):
    """Multi-head attention without biases."""

    def __init__(self, build: _Builder, query_width: int, context_width: int, width: int) -> None:
        super().__init__()
        self.heads = width // build.config.attention_head_dim
        self.attend = attention_of(build.ops)
        self.to_q = build.linear(query_width, width)
        self.to_k = build.linear(context_width, width)
        self.to_v = build.linear(context_width, width)
        self.to_out = nn.ModuleList([build.linear(width, width)])  # in the reference, a dropout has the key `1`

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.to_out[0](self.attend(q, k, v, self.heads, bias))


class TextPooling(nn.Module):
    """Adds attention-pooled text to the time embedding."""

    def __init__(self, build: _Builder) -> None:
        super().__init__()
        text = build.config.cross_attention_dim
        self.attention = Attention(build, text, text, build.config.time_embedding_dim)

    def forward(self, emb: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        # The mean includes padding, as in the reference, so the output depends on the padded length.
        return emb + self.attention(context.mean(dim=1, keepdim=True), context, bias).squeeze(1)


class Level(nn.Module):
    """Triples (resnet, cross-attention, resnet) of one resolution, with self-attention before ("down") or after ("up")
    them. The last resnet of "down" halves the resolution, the first of "up" doubles it."""

    def __init__(
        self,
        build: _Builder,
        triples: list[tuple[int, int, int]],
        own_width: int,
        attention: bool,
        direction: str,
        change: bool,
    ) -> None:
        """triples: (width in, width between, width out) of each; own_width: width of the self-attention."""
        super().__init__()
        self.direction = direction
        text = build.config.cross_attention_dim
        last = len(triples) - 1
        down, up = change and direction == "down", change and direction == "up"
        self.resnets_in = nn.ModuleList(
            Resnet(build, n_in, between, "up" if up and i == 0 else None)
            for i, (n_in, between, _) in enumerate(triples)
        )
        self.resnets_out = nn.ModuleList(
            Resnet(build, between, n_out, "down" if down and i == last else None)
            for i, (_, between, n_out) in enumerate(triples)
        )
        self.attentions = nn.ModuleList()
        if attention:
            self.attentions.append(AttentionBlock(build, own_width, own_width))
            self.attentions.extend(AttentionBlock(build, between, text) for _, between, _ in triples)

    def forward(self, h: Tensor, emb: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        if self.attentions and self.direction == "down":
            h = self.attentions[0](h, emb)
        for i, (resnet_in, resnet_out) in enumerate(zip(self.resnets_in, self.resnets_out, strict=True), start=1):
            h = resnet_in(h, emb)
            if self.attentions:
                h = self.attentions[i](h, emb, context, bias)
            h = resnet_out(h, emb)
        if self.attentions and self.direction == "up":
            h = self.attentions[0](h, emb)
        return h


class ConditionalNorm(nn.Module):
    """Group norm with scale and shift from the time embedding."""

    def __init__(self, build: _Builder, width: int) -> None:
        super().__init__()
        self.groups = build.config.groups
        linear = build.ops.Linear(build.config.time_embedding_dim, 2 * width, **build.factory)
        self.context_mlp = nn.Sequential(nn.SiLU(), linear)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.context_mlp(emb)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, F.group_norm(x, self.groups), scale + 1)


class Block(nn.Module):
    """Conditional norm → SiLU → (upsample) → convolution → (downsample)."""

    def __init__(self, build: _Builder, width_in: int, width: int, kernel: int, change: str | None) -> None:
        super().__init__()
        self.group_norm = ConditionalNorm(build, width_in)
        self.up_sample = build.double(width_in) if change == "up" else nn.Identity()
        self.projection = build.conv(width_in, width, kernel)
        self.down_sample = build.halve(width) if change == "down" else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.down_sample(self.projection(self.up_sample(F.silu(self.group_norm(x, emb)))))


class Resnet(nn.Module):
    """Bottleneck of four blocks with kernels 1, 3, 3, 1, plus a shortcut."""

    def __init__(self, build: _Builder, width_in: int, width: int, change: str | None) -> None:
        super().__init__()
        between = max(width_in, width) // COMPRESSION
        ins, outs = (width_in, between, between, between), (between, between, between, width)
        # Upsampling before the first 3×3 convolution, downsampling after the second.
        changes = (None, "up" if change == "up" else None, "down" if change == "down" else None, None)
        self.resnet_blocks = nn.ModuleList(
            Block(build, *sizes) for sizes in zip(ins, outs, KERNELS, changes, strict=True)
        )
        self.shortcut_up_sample = build.double(width_in) if change == "up" else nn.Identity()
        self.shortcut_projection = build.conv(width_in, width, 1) if width_in != width else nn.Identity()
        self.shortcut_down_sample = build.halve(width) if change == "down" else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = x
        for block in self.resnet_blocks:
            h = block(h, emb)
        return h + self.shortcut_down_sample(self.shortcut_projection(self.shortcut_up_sample(x)))


class AttentionBlock(nn.Module):
    """Cross-attention to `context`, or self-attention without one, then a feed-forward network."""

    def __init__(self, build: _Builder, width: int, context_width: int) -> None:
        super().__init__()
        self.in_norm = ConditionalNorm(build, width)
        self.attention = Attention(build, width, context_width, width)
        self.out_norm = ConditionalNorm(build, width)
        hidden = EXPANSION * width
        self.feed_forward = nn.Sequential(
            build.conv(width, hidden, 1, bias=False), nn.SiLU(), build.conv(hidden, width, 1, bias=False)
        )

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        h = self.in_norm(x, emb).flatten(2).transpose(1, 2)  # [B, h·w, C]
        h = self.attention(h, h if context is None else context, bias)
        x = x + h.transpose(1, 2).reshape(x.shape)
        return x + self.feed_forward(self.out_norm(x, emb))
