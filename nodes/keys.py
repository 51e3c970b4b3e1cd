"""Keys of Kandinsky's CONDITIONING.

The tensor of an entry is: image embeds [B, 1, D] for 2.2 (so that Conditioning Average works), text states [B, T, W]
for 2.1, text states [B, T, D] for 3.
"""

from __future__ import annotations

from typing import Any

Conditioning = list[Any]
"""[[tensor, {key: value}], …]"""

IMAGE_EMBEDS = "kandinsky_image_embeds"
"""[B, D], for 2.1."""
HINT = "kandinsky_hint"
"""[B, 3, H, W] in 0..1, for depth decoders."""
POOLED = "pooled_output"
"""Pooled text embeds [B, D], for 2.1. A key of ComfyUI."""
MASK = "attention_mask"
"""[B, T], 1 = token, all 0 = no text, for 3. A key of ComfyUI."""

KEEP = "kandinsky_keep"
"""[B, 1, h, w], 1 = keep, for inpainting."""
PICTURE = "concat_latent_image"
"""Latents [B, 4, h, w] of the picture to inpaint, not masked, for 2.x. A key of ComfyUI."""
MASKED_LATENTS = "kandinsky_masked_latents"
"""Latents [B, 4, h, w] of the masked picture, for 3."""
INPAINTS = "kandinsky_inpaints"
"""True: sampling at full denoise starts from pure noise instead of the latents."""


def with_values(conditioning: Conditioning, values: dict[str, Any]) -> Conditioning:
    """Copy of `conditioning` with `values` added to each entry."""
    return [[tensor, {**options, **values}] for tensor, options in conditioning]
