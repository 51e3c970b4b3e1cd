"""How deep T5 and SigLIP are: in ComfyUI a fact of their kind, not of their file."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.sd

T5 = {"num_layers": 1, "d_ff": 64, "num_heads": 2}
SIGLIP = {"num_hidden_layers": 2}


def make_encoders_shallow() -> None:
    load = comfy.sd.load_clip

    @functools.wraps(load)
    def load_shallow(*args: Any, model_options: dict[str, Any], **rest: Any) -> Any:
        return load(*args, model_options={**model_options, "t5xxl_model_config": T5}, **rest)

    comfy.sd.load_clip = load_shallow
    comfy.clip_vision.ClipVisionModel = _ShallowVision


class _ShallowVision(comfy.clip_vision.ClipVisionModel):
    def __init__(self, json_config: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
            json.dump({**json.loads(Path(json_config).read_text()), **SIGLIP}, config)
            config.flush()
            super().__init__(config.name)
