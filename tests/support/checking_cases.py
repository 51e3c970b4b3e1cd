"""A prompt in the API format that a server with OBJECT_INFO would run, to be made wrong in one place."""

from __future__ import annotations

import json
from typing import Any

from kandiflux.workflow.validation.findings import Finding
from kandiflux.workflow.validation.problems import find_problems

from tests.support.places import DATA

__all__ = ["OBJECT_INFO", "api", "node", "only_problem"]

OBJECT_INFO: dict[str, Any] = json.loads((DATA / "object_info.json").read_text("utf-8")) | {
    "CheckpointLoaderSimple": {
        "display_name": "Load Checkpoint",
        "output": ["MODEL", "CLIP", "VAE"],
        "input": {"required": {"ckpt_name": [["dreamshaper_8.safetensors", "SDXL/base.safetensors"]]}},
    },
    "EmptyLatentImage": {
        "display_name": "Empty Latent Image",
        "output": ["LATENT"],
        "input": {"required": {"width": ["INT", {"default": 512, "min": 16, "max": 16384, "step": 8}]}},
    },
    "VAEDecode": {
        "display_name": "VAE Decode",
        "output": ["IMAGE"],
        "input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}},
    },
}
OBJECT_INFO["KSampler"]["output"] = ["LATENT"]
OBJECT_INFO["CLIPTextEncode"]["output"] = ["CONDITIONING"]
OBJECT_INFO["LoadImage"]["output"] = ["IMAGE", "MASK"]
OBJECT_INFO["SaveImage"]["output"] = []


def api() -> dict[str, dict[str, Any]]:
    """A whole picture from a prompt, as the server would run it."""
    return {
        "1": node("CheckpointLoaderSimple", "Checkpoint", ckpt_name="dreamshaper_8.safetensors"),
        "2": node("CLIPTextEncode", "Positive", text="a fox", clip=["1", 1]),
        "3": node("CLIPTextEncode", "Negative", text="", clip=["1", 1]),
        "4": node("EmptyLatentImage", "Size", width=512),
        "5": node(
            "KSampler", "Sampler", model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0], seed=1,
            steps=20, cfg=8.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        ),
        "6": node("VAEDecode", "Decode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", "Save", images=["6", 0], filename_prefix="x"),
    }  # fmt: skip


def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def only_problem(nodes: dict[str, Any]) -> Finding:
    found = find_problems(nodes, OBJECT_INFO)
    assert len(found) == 1, [str(finding) for finding in found]
    return found[0]
