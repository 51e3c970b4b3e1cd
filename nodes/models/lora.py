"""Key names of LoRA files for Kandinsky networks. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIXES = ("", "unet.", "base_model.model.", "base_model.model.unet.", "transformer.")
"""Prefixes of layer names in published files: none, diffusers, PEFT, PEFT with diffusers, transformer."""

PROCESSED = re.compile(r"\.(to_q|to_k|to_v|add_k_proj|add_v_proj|to_out)(?:\.0)?$")


def lora_names(weights: Iterable[str]) -> dict[str, str]:
    """Map names in LoRA files, without suffixes such as `.lora_up.weight`, to the `weights` (state dict keys) they
    patch.

    Styles: the layer name with one of PREFIXES; diffusers before PEFT, `….attentions.0.processor.to_q` (for to_out
    without `.0`), as its 2023 training script for Kandinsky 2.2 saves; kohya, `lora_unet_` and underscores.
    """
    names: dict[str, str] = {}
    for key in weights:
        if not key.endswith(".weight"):
            continue
        layer = key.removesuffix(".weight")
        names["lora_unet_" + layer.replace(".", "_")] = key
        styles = [layer]
        if PROCESSED.search(layer):
            styles.append(PROCESSED.sub(r".processor.\1", layer))
        for style in styles:
            names.update({prefix + style: key for prefix in PREFIXES})
    return names
