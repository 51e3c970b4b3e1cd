"""The names LoRA files use for the layers of a Kandinsky network. Needs nothing but Python."""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIXES = ("", "unet.", "base_model.model.", "base_model.model.unet.", "transformer.")
"""What published files put before a layer's name: nothing, diffusers' pipelines, PEFT with and without them."""

PROCESSED = re.compile(r"\.(to_q|to_k|to_v|add_k_proj|add_v_proj|to_out)(?:\.0)?$")


def lora_names(weights: Iterable[str]) -> dict[str, str]:
    """Name in a LoRA file, without its `.lora_up.weight` or the like → the weight it changes.

    `weights` are the keys of a network's state dict. Before PEFT, diffusers named a LoRA after its attention's
    processor: `….attentions.0.processor.to_q` (then `_lora.up.weight`), for the output projection too, which lacks the
    `.0` of its own key. (diffusers' 2023 training script for Kandinsky 2.2 saves these.) Trainers of the kohya family
    write `lora_unet_` and underscores.
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
