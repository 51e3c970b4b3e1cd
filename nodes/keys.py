"""What Kandinsky reads from CONDITIONING, beside the tensor that is first in each entry.

That tensor is the image embeds [B, 1, D] for 2.2, so that ComfyUI's own averaging blends them; the text's hidden states
[B, T, W] for 2.1, with the pooled ones under ComfyUI's "pooled_output"; the text states [B, T, D] for 3.
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
"""[B, D] of a text, for 2.1. ComfyUI's own key."""
MASK = "attention_mask"
"""[B, T], 1 = a token, for 3; a row of zeros stands for no text at all. ComfyUI's own key."""

KEEP = "kandinsky_keep"
"""[B, 1, h, w], 1 = keep, for inpainting decoders."""
PICTURE = "concat_latent_image"
"""[B, 4, h, w]: latents of the picture to repaint a part of, for 2.x, which masks them itself. ComfyUI's own key."""
MASKED_LATENTS = "kandinsky_masked_latents"
"""[B, 4, h, w]: of a picture that was blanked out where it goes, for 3."""
INPAINTS = "kandinsky_inpaints"
"""True: a run at full denoise begins from pure noise, whatever the latents it is given."""


def with_values(conditioning: Conditioning, values: dict[str, Any]) -> Conditioning:
    """`conditioning` with `values` added to each entry; the given one is left unchanged."""
    return [[tensor, {**options, **values}] for tensor, options in conditioning]
