"""Mixing and interpolating image embeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

METHODS = ("sum", "normalised", "slerp")


def mix(embeds: Sequence[Tensor], weights: Sequence[float], method: str = "sum") -> Tensor:
    """Mix `embeds`, each [B, D] or [1, D], into one [B, D].

    "sum": Σ wᵢ·eᵢ, as diffusers' `interpolate`. "normalised": weights divided by their sum, result scaled to the
    weighted mean norm of the embeds. "slerp": spherical interpolation from one embed to the next, norms interpolated.
    Raises ValueError.
    """
    if not embeds or len(embeds) != len(weights):
        raise ValueError(f"Expected as many weights as embeds, at least one; got {len(embeds)} and {len(weights)}.")
    widths = {embed.shape[-1] for embed in embeds}
    if len(widths) > 1:
        raise ValueError(
            f"Expected image embeds of one width, got {sorted(widths)}: they come from different Kandinsky versions "
            "(768 is 2.1, 1280 is 2.2). Make all of them with the same prior."
        )
    rows = max(len(embed) for embed in embeds)
    if any(len(embed) not in (1, rows) for embed in embeds):
        raise ValueError(f"Expected batches of one size, or of 1, got {[len(embed) for embed in embeds]}.")
    if method == "sum":
        return torch.stack([w * e.expand(rows, -1) for e, w in zip(embeds, weights, strict=True)]).sum(0)
    total = sum(weights)
    if any(weight < 0 for weight in weights) or total <= 0:
        raise ValueError(f"Method {method!r} expects weights of 0 or more, not all 0; got {list(weights)}. Use 'sum'.")
    shares = [weight / total for weight in weights]
    if method == "normalised":
        mixed = mix(embeds, shares)
        norm = sum(w * e.norm(dim=-1, keepdim=True) for e, w in zip(embeds, shares, strict=True))
        return mixed / mixed.norm(dim=-1, keepdim=True).clamp(min=1e-12) * norm
    if method == "slerp":
        mixed, so_far = embeds[0].expand(rows, -1), shares[0]
        for embed, share in zip(embeds[1:], shares[1:], strict=True):
            if share > 0:
                so_far += share
                mixed = slerp(mixed, embed.expand(rows, -1), share / so_far)
        return mixed
    raise ValueError(f"Expected a method of {', '.join(METHODS)}; got {method!r}.")


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate the directions of a and b [B, D] spherically and their norms linearly (Shoemake, 1985)."""
    norm_a, norm_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / norm_a.clamp(min=1e-12), b / norm_b.clamp(min=1e-12)
    angle = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    linear = torch.lerp(unit_a, unit_b, t)  # for parallel vectors, where the formula divides by 0
    arc = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / sine.clamp(min=1e-6)
    return torch.where(sine < 1e-4, linear, arc) * torch.lerp(norm_a, norm_b, t)


def interpolate(a: Tensor, b: Tensor, frames: int, method: str = "slerp") -> Tensor:
    """Interpolate from a to b, both [1, D], ends included → [frames, D]. Raises ValueError."""
    if frames < 2:
        raise ValueError(f"Expected at least 2 frames, the two ends; got {frames}.")
    if len(a) != 1 or len(b) != 1:
        raise ValueError(f"Expected one embed at each end, got batches of {len(a)} and {len(b)}.")
    return torch.cat([mix([a, b], [1 - i / (frames - 1), i / (frames - 1)], method) for i in range(frames)])
