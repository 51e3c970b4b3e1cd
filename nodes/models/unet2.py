"""Decoder UNet of Kandinsky 2.x: predicts noise in MOVQ latents from image embeds and, in 2.1, text.

Reference: diffusers `UNet2DConditionModel` with ResnetDownsample, SimpleCrossAttn and ResnetUpsample blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import read_config
from .layers import Factory, Operations, TimestepMLP, ToOut, attention_of, pad_to_multiple, timestep_embedding

LATENT_CHANNELS = 4
INPAINT_CHANNELS = 9
"""4 latents, 4 masked latents, 1 mask."""

IMAGE_TOKENS = {"image_proj": 32, "text_image_proj": 10}
"""Number of context tokens from an image embed, by encoder_hid_dim_type (2.2, 2.1)."""

ADDITIONS = {"image_proj": ("image", "image_hint"), "text_image_proj": ("text_image",)}
"""Valid addition_embed_type for each encoder_hid_dim_type."""


@dataclass(frozen=True)
class UNet2Config:
    """Sizes of a 2.x UNet, named as in diffusers; the defaults are those of the 2.2 text-to-image decoder.

    in_channels: 4, 9 (inpainting: latents, masked latents, mask) or 8 (depth: latents, hint).
    2.2: encoder_hid_dim_type "image_proj", addition_embed_type "image" or "image_hint" (depth); encoder_hid_dim is the
    width of the image embeds.
    2.1: "text_image_proj" and "text_image"; encoder_hid_dim (1024) is the width of the text states, cross_attention_dim
    (768) also the width of the image embeds and the pooled text embeds.
    """

    in_channels: int = 4
    out_channels: int = 8
    block_out_channels: tuple[int, ...] = (384, 768, 1152, 1536)
    layers_per_block: int = 3
    attention_head_dim: int = 64
    cross_attention_dim: int = 768
    encoder_hid_dim: int = 1280
    encoder_hid_dim_type: str = "image_proj"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    addition_embed_type: str = "image"

    @property
    def time_width(self) -> int:
        return 4 * self.block_out_channels[0]

    @property
    def reads_text(self) -> bool:
        """True for 2.1, which takes text beside the image embed."""
        return self.encoder_hid_dim_type == "text_image_proj"

    @property
    def image_width(self) -> int:
        """Width D of the image embeds."""
        return self.cross_attention_dim if self.reads_text else self.encoder_hid_dim

    @property
    def inpaints(self) -> bool:
        """True if masked latents and a mask are part of the input."""
        return self.in_channels == INPAINT_CHANNELS

    @property
    def reads_hint(self) -> bool:
        """True for depth UNets."""
        return self.addition_embed_type == "image_hint"

    @property
    def image_tokens(self) -> int:
        return IMAGE_TOKENS[self.encoder_hid_dim_type]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UNet2Config:
        levels = len(values.get("block_out_channels", cls.block_out_channels))
        config = read_config(
            cls,
            values,
            expected={
                "resnet_time_scale_shift": "scale_shift",
                "act_fn": "silu",
                "flip_sin_to_cos": True,
                "freq_shift": 0,
                "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
                "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * (levels - 1),
                "up_block_types": ("SimpleCrossAttnUpBlock2D",) * (levels - 1) + ("ResnetUpsampleBlock2D",),
            },
        )
        if config.addition_embed_type not in ADDITIONS.get(config.encoder_hid_dim_type, ()):
            raise ValueError(
                "UNet2Config: expected encoder_hid_dim_type 'image_proj' with addition_embed_type 'image' or "
                "'image_hint' (Kandinsky 2.2), or 'text_image_proj' with 'text_image' (2.1); got "
                f"{config.encoder_hid_dim_type!r} with {config.addition_embed_type!r} in config.json."
            )
        return config


KeysValues = tuple[Tensor, Tensor]
"""Keys and values of the context in one attention, [B, context tokens, width] each."""


@dataclass(frozen=True)
class Conditions:
    """The part of the UNet that does not depend on latents and timestep, computed once by `UNet2.prepare`."""

    addition: Tensor
    """[B, time width], added to the time embedding."""
    context: tuple[KeysValues, ...]
    """For each attention, in execution order."""
    hint: Tensor | None
    """[B, 4, h, w] for depth UNets."""


class UNet2(nn.Module):
    """Decoder UNet of Kandinsky 2.1 or 2.2."""

    def __init__(
        self,
        config: UNet2Config,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        build = _Builder(config, operations, {"dtype": dtype, "device": device})
        widths, layers = config.block_out_channels, config.layers_per_block
        self.conv_in = operations.Conv2d(config.in_channels, widths[0], 3, padding=1, **build.factory)
        self.time_embedding = TimestepMLP(widths[0], config.time_width, operations, build.factory)
        self.encoder_hid_proj = Context(config, operations, build.factory)
        self.add_embedding = Addition(config, operations, build.factory)

        skips = [widths[0]]
        self.down_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            self.down_blocks.append(
                Level(build, skips[-1], width, layers, attention=level > 0, change=None if last else "down")
            )
            skips += [width] * (layers if last else layers + 1)
        self.mid_block = Mid(build, widths[-1])
        self.up_blocks = nn.ModuleList()
        width = widths[-1]
        for level in reversed(range(len(widths))):
            previous, width = width, widths[level]
            ins = [(previous if i == 0 else width) + skips.pop() for i in range(layers + 1)]
            self.up_blocks.append(
                Level(build, ins, width, layers + 1, attention=level > 0, change="up" if level else None)
            )
        self.conv_norm_out = operations.GroupNorm(config.norm_num_groups, widths[0], config.norm_eps, **build.factory)
        self.conv_out = operations.Conv2d(widths[0], config.out_channels, 3, padding=1, **build.factory)

    def prepare(
        self,
        image_embeds: Tensor,
        hint: Tensor | None = None,
        text_embeds: Tensor | None = None,
        text_states: Tensor | None = None,
    ) -> Conditions:
        """Compute what does not depend on latents and timestep, once per run.

        image_embeds [B, D]; hint [B, 3, 8h, 8w] in 0..1 for depth UNets; M-CLIP's text_embeds [B, D] and text_states
        [B, T, W], padding included, for 2.1. Raises ValueError if one is missing.
        """
        if self.config.reads_text and (text_embeds is None or text_states is None):
            raise ValueError("A Kandinsky 2.1 UNet expects text_embeds and text_states beside the image embeds.")
        if self.config.reads_hint and hint is None:
            raise ValueError("A depth UNet expects a hint [B, 3, H, W] in 0..1 beside the latents, got none.")
        tokens = self.encoder_hid_proj(image_embeds, text_states)
        attentions = (module for module in self.modules() if isinstance(module, Attention))
        return Conditions(
            addition=self.add_embedding(image_embeds, text_embeds),
            context=tuple(attention.keys_values(tokens) for attention in attentions),
            hint=None if hint is None or not self.config.reads_hint else self.add_embedding.hint_latents(hint),
        )

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        image_embeds: Tensor | Conditions,
        hint: Tensor | None = None,
        text_embeds: Tensor | None = None,
        text_states: Tensor | None = None,
    ) -> Tensor:
        """x [B, C, h, w], 4 latent channels and C − 4 for inpainting; timesteps [B] → [B, 8, h, w], predicted noise and
        variance, 4 channels each.

        The conditioning is the result of `prepare`, or its arguments. Sides that are not multiples of 2^(levels − 1)
        are padded, and the output is cropped."""
        conditions = image_embeds
        if not isinstance(conditions, Conditions):
            conditions = self.prepare(conditions, hint, text_embeds, text_states)
        time = timestep_embedding(timesteps, self.config.block_out_channels[0]).to(x.dtype)
        emb = F.silu(self.time_embedding(time) + conditions.addition)  # once, for all resnets
        context = iter(conditions.context)
        if conditions.hint is not None:
            x = torch.cat([x, conditions.hint], dim=1)
        height, width = x.shape[-2:]

        h = self.conv_in(pad_to_multiple(x, 2 ** (len(self.config.block_out_channels) - 1)))
        skips = [h]
        for block in self.down_blocks:
            h = block(h, emb, context, push=skips)
        h = self.mid_block(h, emb, context)
        for block in self.up_blocks:
            h = block(h, emb, context, pop=skips)
        return self.conv_out(F.silu(self.conv_norm_out(h), inplace=True))[..., :height, :width]


class _Builder:
    """Makes norms, resnets and attentions."""

    def __init__(self, config: UNet2Config, ops: Operations, factory: Factory) -> None:
        self.config, self.ops, self.factory = config, ops, factory

    def norm(self, width: int) -> nn.Module:
        return self.ops.GroupNorm(self.config.norm_num_groups, width, self.config.norm_eps, **self.factory)

    def resnet(self, width_in: int, width: int, change: str | None = None) -> Resnet:
        return Resnet(self, width_in, width, change)

    def attention(self, width: int) -> Attention:
        return Attention(self, width)


class Level(nn.Module):
    """Resnets of one resolution, each followed by attention if `attention`, then down- or upsampling."""

    def __init__(
        self, build: _Builder, width_in: int | list[int], width: int, layers: int, attention: bool, change: str | None
    ) -> None:
        super().__init__()
        ins = width_in if isinstance(width_in, list) else [width_in] + [width] * (layers - 1)
        self.resnets = nn.ModuleList(build.resnet(n, width) for n in ins)
        if attention:
            self.attentions = nn.ModuleList(build.attention(width) for _ in ins)
        if change:
            self.add_module(f"{change}samplers", nn.ModuleList([build.resnet(width, width, change)]))
        self.has_attention, self.change = attention, change

    def forward(
        self,
        h: Tensor,
        emb: Tensor,
        context: Iterator[KeysValues],
        push: list[Tensor] | None = None,
        pop: list[Tensor] | None = None,
    ) -> Tensor:
        """push: list to append skip connections to. pop: list to take them from."""
        for i, resnet in enumerate(self.resnets):
            h = resnet(h if pop is None else torch.cat([h, pop.pop()], dim=1), emb)
            if self.has_attention:
                h = self.attentions[i](h, next(context))
            if push is not None:
                push.append(h)
        if self.change:
            h = self.get_submodule(f"{self.change}samplers")[0](h, emb)  # pyright: ignore[reportIndexIssue]
            if push is not None:
                push.append(h)
        return h


class Mid(nn.Module):
    def __init__(self, build: _Builder, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(build.resnet(width, width) for _ in range(2))
        self.attentions = nn.ModuleList([build.attention(width)])

    def forward(self, h: Tensor, emb: Tensor, context: Iterator[KeysValues]) -> Tensor:
        h = self.resnets[0](h, emb)
        return self.resnets[1](self.attentions[0](h, next(context)), emb)


class Resnet(nn.Module):
    """norm → SiLU → (resize) → conv → norm, scale and shift by the embedding → SiLU → conv, plus a shortcut."""

    def __init__(self, build: _Builder, width_in: int, width: int, change: str | None) -> None:
        super().__init__()
        conv, factory = build.ops.Conv2d, build.factory
        self.norm1 = build.norm(width_in)
        self.conv1 = conv(width_in, width, 3, padding=1, **factory)
        self.time_emb_proj = build.ops.Linear(build.config.time_width, 2 * width, **factory)
        self.norm2 = build.norm(width)
        self.conv2 = conv(width, width, 3, padding=1, **factory)
        self.conv_shortcut = conv(width_in, width, 1, **factory) if width_in != width else None
        self.change = change

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x [B, C, h, w]; emb [B, time width], after SiLU."""
        h = F.silu(self.norm1(x), inplace=True)
        if self.change == "up":
            x, h = (F.interpolate(t, scale_factor=2.0, mode="nearest") for t in (x, h))
        elif self.change == "down":
            x, h = (F.avg_pool2d(t, 2) for t in (x, h))
        h = self.conv1(h)
        scale, shift = self.time_emb_proj(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h).mul_(1 + scale).add_(shift), inplace=True))
        return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Self- and cross-attention in one softmax, over context tokens, then positions."""

    def __init__(self, build: _Builder, width: int) -> None:
        super().__init__()
        linear, factory, context = build.ops.Linear, build.factory, build.config.cross_attention_dim
        self.heads = width // build.config.attention_head_dim
        self.attend = attention_of(build.ops)
        self.group_norm = build.norm(width)
        self.to_q = linear(width, width, **factory)
        self.to_k = linear(width, width, **factory)
        self.to_v = linear(width, width, **factory)
        self.add_k_proj = linear(context, width, **factory)
        self.add_v_proj = linear(context, width, **factory)
        self.to_out = ToOut(width, width, build.ops, factory)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of context [B, tokens, cross_attention_dim]."""
        return self.add_k_proj(context), self.add_v_proj(context)

    def forward(self, x: Tensor, context: KeysValues) -> Tensor:
        # [B, h·w, C]; contiguous, or each of the three projections makes a copy.
        h = self.group_norm(x).flatten(2).transpose(1, 2).contiguous()
        k = torch.cat([context[0], self.to_k(h)], dim=1)
        v = torch.cat([context[1], self.to_v(h)], dim=1)
        h = self.to_out(self.attend(self.to_q(h), k, v, self.heads))
        return x + h.transpose(1, 2).reshape(x.shape)


class Context(nn.Module):
    """Context tokens: projected image embed, then in 2.1 the text. Only 2.2 normalises them. Text padding is not
    masked, as in the reference."""

    def __init__(self, config: UNet2Config, ops: Operations, factory: Factory) -> None:
        super().__init__()
        width = config.cross_attention_dim
        self.tokens = config.image_tokens
        self.image_embeds = ops.Linear(config.image_width, self.tokens * width, **factory)
        self.text_proj = ops.Linear(config.encoder_hid_dim, width, **factory) if config.reads_text else None
        self.norm = None if config.reads_text else ops.LayerNorm(width, **factory)

    def forward(self, image_embeds: Tensor, text_states: Tensor | None) -> Tensor:
        """[B, D] and, in 2.1, [B, T, W] → [B, tokens, cross_attention_dim]."""
        tokens = self.image_embeds(image_embeds).unflatten(-1, (self.tokens, -1))
        if self.norm is not None:
            return self.norm(tokens)
        return torch.cat([tokens, self.text_proj(text_states)], dim=1)  # pyright: ignore[reportOptionalCall]


class Addition(nn.Module):
    """Projects the image embed, and in 2.1 the pooled text embed, to be added to the time embedding. 2.2 normalises the
    image's part, 2.1 the text's. Also encodes the hint of depth UNets."""

    def __init__(self, config: UNet2Config, ops: Operations, factory: Factory) -> None:
        super().__init__()
        self.image_proj = ops.Linear(config.image_width, config.time_width, **factory)
        self.reads_text = config.reads_text
        if config.reads_text:
            self.text_proj = ops.Linear(config.cross_attention_dim, config.time_width, **factory)
            self.text_norm = ops.LayerNorm(config.time_width, **factory)
        else:
            self.image_norm = ops.LayerNorm(config.time_width, **factory)
        if config.reads_hint:
            self.input_hint_block = hint_network(ops, factory)

    def forward(self, image_embeds: Tensor, text_embeds: Tensor | None) -> Tensor:
        """[B, D] and, in 2.1, [B, D] → [B, time width]."""
        image = self.image_proj(image_embeds)
        return image + self.text_norm(self.text_proj(text_embeds)) if self.reads_text else self.image_norm(image)

    def hint_latents(self, hint: Tensor) -> Tensor:
        """[B, 3, H, W] in 0..1 → [B, 4, H/8, W/8]."""
        return self.input_hint_block(hint)


def hint_network(ops: Operations, factory: Factory) -> nn.Sequential:
    widths = [(3, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 96, 2), (96, 96, 1), (96, 256, 2)]
    layers: list[nn.Module] = []
    for n_in, n_out, stride in widths:
        layers += [ops.Conv2d(n_in, n_out, 3, padding=1, stride=stride, **factory), nn.SiLU()]
    return nn.Sequential(*layers, ops.Conv2d(256, 4, 3, padding=1, **factory))
