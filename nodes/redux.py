"""Mixing pictures into a FLUX prompt with Redux.

Redux turns what SigLIP sees in a picture, a grid of 27×27 tokens, into tokens like the text's, and these follow the
text. With one picture of weight 1, this is ComfyUI's CLIPVisionEncode and StyleModelApply, to the bit. Here there may
be several, each with a weight and perhaps a mask, and fewer tokens of each, so that the text counts for more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, pad

Conditioning = list[Any]
STRENGTH_TYPES = ("multiply", "attn_bias")
COMBINE = ("append", "average")
CROPS = ("center", "none", "mask", "letterbox")
MASK_EDGES = ("hard", "soft")
DOWNSAMPLINGS = ("area", "bicubic", "nearest")
_KEPT = 0.5
"""With a hard edge, a token stays if its cell lies in the mask by this share or more."""
_LEAST = 0.02
"""With a soft edge, tokens of a smaller share are left out."""

_GREY = 0.5
"""What is put around a picture: SigLIP's mean."""


class ClipVision(Protocol):
    """ComfyUI's CLIP_VISION."""

    image_size: int

    def encode_image(self, image: Tensor, crop: bool = True) -> Any: ...


class StyleModel(Protocol):
    """ComfyUI's STYLE_MODEL."""

    def get_cond(self, input: Any) -> Tensor: ...


@dataclass(frozen=True)
class Picture:
    """What is mixed in: IMAGE [B,H,W,C], its weight, and the MASK [1 or B,h,w] of what counts in it."""

    name: str
    """For errors: the input it came by."""
    image: Tensor
    weight: float = 1.0
    mask: Tensor | None = None


@dataclass(frozen=True)
class Tokens:
    """One picture as Redux gives it: values [N, width], and the share [N], 0 to 1, by which each counts."""

    values: Tensor
    share: Tensor
    weight: float

    @property
    def kept(self) -> Tensor:
        """[N], bool: the tokens that go into the prompt."""
        return self.share > 0


def mix(
    conditioning: Conditioning,
    style_model: StyleModel,
    clip_vision: ClipVision,
    pictures: list[Picture],
    *,
    strength: float = 1.0,
    strength_type: str = "multiply",
    downsampling: int = 1,
    crop: str = "center",
    combine: str = "append",
    mask_edge: str = "hard",
    downsampling_method: str = "area",
) -> Conditioning:
    """`conditioning` with the tokens of `pictures` behind its text, in every entry.

    combine: "append", each picture's tokens one after the other; "average", one grid of tokens, in each place the mean
    of those that are kept there, by weight. strength: how much all pictures count against text and latents; 0 leaves
    them out, as weight 0 does one of them. strength_type, and what a weight means with "append":
    "multiply": tokens are multiplied by strength × weight. "attn_bias": attention to them is, so that a picture of
    weight 2 is the same as that picture twice (Redux tokens among themselves know the weights, not the strength).
    downsampling: the grid is resized to 27 // downsampling tokens a side, by downsampling_method. crop: of each picture
    the square in its middle ("center"), all of it squeezed to a square ("none"), the square around its mask (without a
    mask, its middle), or all of it with room around it that makes it a square and counts for nothing ("letterbox").
    mask_edge: whether a token at a mask's edge counts wholly or not at all ("hard"), or by its share in the mask
    ("soft"), which acts as a weight of the token does. Raises ValueError for what does not fit together.
    """
    for name, value, known in (
        ("strength_type", strength_type, STRENGTH_TYPES),
        ("combine", combine, COMBINE),
        ("crop", crop, CROPS),
        ("mask_edge", mask_edge, MASK_EDGES),
        ("downsampling_method", downsampling_method, DOWNSAMPLINGS),
    ):
        if value not in known:
            raise ValueError(f"Expected a {name} of {', '.join(known)}, got {value!r}.")
    if not pictures:
        raise ValueError("Expected a picture, got none. Connect image_1, or set the node to bypass.")
    for name, value in [("strength", strength), *((f"a weight for {p.name}", p.weight) for p in pictures)]:
        if not 0 <= value < math.inf:
            raise ValueError(f"Expected {name} of 0 or more, got {value:g}.")
    pictures = [picture for picture in pictures if picture.weight]
    if not pictures or not strength:
        return list(conditioning)
    tokens = [
        token
        for picture in pictures
        for token in redux_tokens(picture, style_model, clip_vision, downsampling, crop, mask_edge, downsampling_method)
    ]
    if combine == "average":
        tokens = [average(tokens)]
    return append(conditioning, tokens, strength, strength_type)


def redux_tokens(
    picture: Picture,
    style_model: StyleModel,
    clip_vision: ClipVision,
    downsampling: int,
    crop: str,
    mask_edge: str = "hard",
    downsampling_method: str = "area",
) -> list[Tokens]:
    """The tokens of each picture of a batch."""
    image, mask = picture.image, None
    if picture.mask is not None or crop == "letterbox":
        mask = _fit_mask(picture)
        if crop == "mask":
            image, mask = _cut_to_mask(image, mask)
        elif crop == "letterbox":
            image, mask = _squared(image, mask)
    seen = clip_vision.encode_image(image, crop=crop != "none")
    _require_width(style_model, seen.last_hidden_state)
    values = style_model.get_cond(seen)  # [B, N, width]
    side = _side(values, picture.name) if mask is not None or downsampling > 1 else 0
    covered = torch.ones(*values.shape[:2], 1)
    if mask is not None:
        covered = _cells(mask, clip_vision.image_size, side, crop != "none")
    if downsampling > 1:
        values = _downsampled(values, side, downsampling, downsampling_method)
        covered = _downsampled(covered, side, downsampling, "area")
    share = covered[..., 0]
    share = (share >= _KEPT).float() if mask_edge == "hard" else share * (share >= _LEAST)
    if not share.any(dim=1).all():
        raise ValueError(
            f"The mask of {picture.name} leaves nothing of it: expected a mask that fills at least one of "
            f"{share.shape[1]} cells of the picture by half. Draw a larger one, choose less downsampling, or crop to "
            "the mask."
        )
    return [Tokens(v, s.to(v.device), picture.weight) for v, s in zip(values, share, strict=True)]


def average(tokens: list[Tokens]) -> Tokens:
    """One grid: in each place the mean, by weight, of the tokens kept there."""
    weights = torch.stack([t.weight * t.share for t in tokens])  # [pictures, N]
    total = weights.sum(0)
    values = sum(t.values * w[:, None] for t, w in zip(tokens, weights, strict=True)) / total.clamp_min(1e-9)[:, None]
    return replace(tokens[0], values=values, share=torch.stack([t.share for t in tokens]).amax(0), weight=1.0)


def append(conditioning: Conditioning, tokens: list[Tokens], strength: float, strength_type: str) -> Conditioning:
    """`conditioning` with `tokens` behind the text of each entry; see `mix`."""
    multiply = strength_type == "multiply"
    scales = [strength * t.weight if multiply else 1.0 for t in tokens]
    shares = [t.share[t.kept].to(t.values)[:, None] if multiply else 1.0 for t in tokens]
    added = torch.cat(
        [t.values[t.kept] * scale * share for t, scale, share in zip(tokens, scales, shares, strict=True)]
    )
    weights = torch.cat(
        [torch.ones(int(t.kept.sum())) if multiply else t.weight * t.share[t.kept].cpu() for t in tokens]
    )
    among, from_rest = torch.log(weights), torch.log(weights * (1.0 if multiply else strength))
    result: Conditioning = []
    for text, keys in conditioning:
        if text.shape[-1] != added.shape[-1]:
            raise ValueError(
                f"The style model gives tokens {added.shape[-1]} wide, the conditioning has {text.shape[-1]}: "
                "expected both to be FLUX's (4096). Use flux1-redux-dev and a FLUX text encoder."
            )
        if "attention_mask" in keys or among.any() or from_rest.any():
            latent_shape = keys.get("attention_mask_img_shape", (1, 1))
            bias = _attention_bias(text, math.prod(latent_shape), keys.get("attention_mask"), among, from_rest)
            keys = {**keys, "attention_mask": bias, "attention_mask_img_shape": latent_shape}
        behind = added.to(text.device).expand(len(text), -1, -1)
        result.append([torch.cat((text, behind), dim=1), dict(keys)])
    return result


def _attention_bias(text: Tensor, latents: int, before: Tensor | None, among: Tensor, from_rest: Tensor) -> Tensor:
    """Bias [B, L, L] float16 (query, key) over text, new tokens and latents. `before`: over text and latents, bool or a
    bias. Attention to the new tokens gets `among` from each other and `from_rest` from all else."""
    words, n = text.shape[1], len(among)
    length = words + n + latents
    bias = torch.zeros((len(text), length, length), dtype=torch.float16, device=text.device)
    if before is not None:
        if before.ndim != 3 or before.shape[1:] != (words + latents, words + latents):
            raise ValueError(
                f"The conditioning has an attention mask of shape {list(before.shape)}: expected "
                f"[batch, {words + latents}, {words + latents}] for {words} text tokens and {latents} of the latents."
            )
        if before.dtype == torch.bool:
            before = torch.log(before.to(torch.float16))
        old = torch.cat([torch.arange(words), torch.arange(words + n, length)])
        bias[:, old[:, None], old] = before.to(bias)
    new = slice(words, words + n)
    bias[:, :, new] = from_rest.to(bias)
    bias[:, new, new] = among.to(bias)
    return bias


def _require_width(style_model: StyleModel, seen: Tensor) -> None:
    redux_up = getattr(getattr(style_model, "model", None), "redux_up", None)
    if redux_up is not None and redux_up.in_features != seen.shape[-1]:
        raise ValueError(
            f"The style model expects a picture's tokens {redux_up.in_features} wide, the CLIP vision model gives "
            f"{seen.shape[-1]}. With flux1-redux-dev use sigclip_vision_patch14_384."
        )


def _side(values: Tensor, name: str) -> int:
    side = math.isqrt(values.shape[1])
    if side * side != values.shape[1]:
        raise ValueError(
            f"{name} gives {values.shape[1]} tokens, which are no square: expected a grid of them, as SigLIP gives, "
            "for downsampling and masks. Use sigclip_vision_patch14_384, or downsampling 1 and no mask."
        )
    return side


def _downsampled(tokens: Tensor, side: int, downsampling: int, method: str) -> Tensor:
    """Tokens [B, side², width] resized to a grid of side // downsampling."""
    grid, smaller = tokens.unflatten(1, (side, side)).movedim(-1, 1), max(1, side // downsampling)
    if method == "area":
        grid = adaptive_avg_pool2d(grid, smaller)
    elif method == "bicubic":
        grid = interpolate(grid.float(), (smaller, smaller), mode="bicubic", antialias=True).to(grid)
    else:
        grid = interpolate(grid, (smaller, smaller), mode="nearest-exact")
    return grid.flatten(2).movedim(1, -1)


def _fit_mask(picture: Picture) -> Tensor:
    """The mask as [B, 1, H, W], as large as the picture."""
    frames, height, width = picture.image.shape[:3]
    mask = picture.mask if picture.mask is not None else torch.ones(1, height, width)
    mask = mask.reshape(-1, 1, *mask.shape[-2:])
    if len(mask) not in (1, frames):
        raise ValueError(f"Expected 1 or {frames} masks for {picture.name}, got {len(mask)}.")
    if mask.shape[-2:] != (height, width):
        mask = interpolate(mask, (height, width), mode="bilinear", antialias=True)
    return mask.float().expand(frames, -1, -1, -1)


def _cut_to_mask(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Image [B,H,W,C] and mask [B,1,H,W], cut to the least square around the mask; grey where that leaves the image."""
    inside = (mask >= _KEPT).any(0)[0]
    if not inside.any():
        return image, mask
    rows, columns = (inside.any(axis).nonzero() for axis in (1, 0))
    spans = [(int(found.min()), int(found.max()) + 1) for found in (rows, columns)]
    side = max(stop - start for start, stop in spans)
    cuts, margins = [], []
    for (start, stop), length in zip(spans, inside.shape, strict=True):
        start = min(max((start + stop - side) // 2, 0), max(length - side, 0))
        cuts.append(slice(start, min(start + side, length)))
        lacking = max(side - length, 0)
        margins.append((lacking // 2, lacking - lacking // 2))
    (top, bottom), (left, right) = margins
    image = pad(image[:, cuts[0], cuts[1]], (0, 0, left, right, top, bottom), value=_GREY)
    return image, pad(mask[..., cuts[0], cuts[1]], (left, right, top, bottom))


def _squared(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Image [B,H,W,C] and mask [B,1,H,W] with room around them that makes them squares: grey, and not in the mask."""
    height, width = image.shape[1:3]
    across, down = max(height - width, 0), max(width - height, 0)
    margins = (across // 2, across - across // 2, down // 2, down - down // 2)  # left, right, top, bottom
    return pad(image, (0, 0, *margins), value=_GREY), pad(mask, margins)


def _cells(mask: Tensor, size: int, side: int, crop: bool) -> Tensor:
    """How much of each cell of the grid lies in the mask: [B, side², 1], from a mask [B, 1, H, W] that is brought
    to the encoder's `size` as ComfyUI brings the picture."""
    height, width = mask.shape[-2:]
    scale = size / min(height, width)
    height, width = (round(scale * height), round(scale * width)) if crop else (size, size)
    view = interpolate(mask, (height, width), mode="bilinear", antialias=True)
    top, left = (height - size) // 2, (width - size) // 2
    # Patches are whole: 27 of 14 pixels are 378, and the last 6 of 384 are seen by none.
    patch = size // side
    seen = side * patch
    return avg_pool2d(view[..., top : top + seen, left : left + seen], patch).flatten(2).movedim(1, -1)
