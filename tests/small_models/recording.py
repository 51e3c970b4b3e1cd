"""What the FLUX network is given, call by call: output/seen.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.ldm.flux.model
import folder_paths
from torch import Tensor


def record() -> None:
    """From now on, each call is a line: sigma and guidance of each of the batch, text tokens, and any attention mask's
    least bias."""
    network = comfy.ldm.flux.model.Flux
    forward = network.forward

    def recorded(
        self: Any,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        y: Any = None,
        guidance: Any = None,
        *rest: Any,
        **named: Any,
    ) -> Tensor:
        mask = named.get("attention_mask")
        seen = {
            "sigma": timestep.tolist(),
            "guidance": None if guidance is None else guidance.tolist(),
            "tokens": context.shape[1],
            "least_bias": None if mask is None else float(mask.min()),
        }
        with (Path(folder_paths.get_output_directory()) / "seen.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")
        return forward(self, x, timestep, context, y, guidance, *rest, **named)

    network.forward = recorded
