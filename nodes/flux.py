"""Nodes for FLUX.1: guidance on a schedule, picture sizes, and mixing pictures with Redux."""

from __future__ import annotations

import logging
from typing import Any

import torch

from . import flux_guidance, redux
from .flux_guidance import ADVICE, SCHEDULES, Conditioning, Schedule
from .flux_resolution import ASPECT_RATIOS, resolution
from .redux import COMBINE, CROPS, DOWNSAMPLINGS, MASK_EDGES, STRENGTH_TYPES, Picture

CATEGORY = "kandiflux/flux"
PICTURES = 8
_log = logging.getLogger(__name__)


class KandifluxFluxGuidance:
    DESCRIPTION = (
        "Set FLUX's guidance: constant, or on a schedule (linear, cosine, or an interval). Works with every sampler, "
        "scheduler and number of steps."
    )
    SEARCH_ALIASES = ["flux guidance", "distilled guidance", "guidance schedule", "dynamic guidance", "cfg schedule"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("The conditioning with its guidance.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        guidance = {"default": 3.5, "min": 0.0, "max": 100.0, "step": 0.1}
        percent = {"min": 0.0, "max": 1.0, "step": 0.01}
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "The encoded prompt."}),
                "guidance": (
                    "FLOAT",
                    guidance
                    | {"tooltip": "Usual: dev, Redux 2 to 3.5; Fill, Canny 30; Depth 10; Kontext 2.5; schnell none."},
                ),
                "model": (
                    list(ADVICE),
                    {"tooltip": "The FLUX.1 variant. A value far outside its usual range gets a warning."},
                ),
                "schedule": (
                    list(SCHEDULES),
                    {
                        "tooltip": "constant: guidance throughout. linear, cosine: from guidance to end_guidance. "
                        "interval: guidance from start_percent to end_percent, end_guidance before and after."
                    },
                ),
                "end_guidance": (
                    "FLOAT",
                    guidance
                    | {"tooltip": "The last value of linear and cosine; outside the interval. Not for constant."},
                ),
                "start_percent": (
                    "FLOAT",
                    percent | {"default": 0.0, "tooltip": "Start of the change or interval, a fraction of the run."},
                ),
                "end_percent": (
                    "FLOAT",
                    percent | {"default": 1.0, "tooltip": "End of the change or interval, a fraction of the run."},
                ),
            }
        }

    def run(
        self,
        conditioning: Conditioning,
        guidance: float,
        model: str,
        schedule: str,
        end_guidance: float,
        start_percent: float,
        end_percent: float,
    ) -> dict[str, Any]:
        plan = Schedule(schedule, guidance, end_guidance, start_percent, end_percent)
        result = (flux_guidance.apply(conditioning, plan),)
        advice = flux_guidance.advise(model, plan)
        if advice is None:
            return {"result": result}
        _log.warning("%s", advice)
        return {"ui": {"text": [advice]}, "result": result}


class KandifluxFluxResolution:
    DESCRIPTION = (
        "A picture's size for FLUX: an aspect ratio at a number of megapixels, in multiples of 16, and an empty latent "
        "of that size."
    )
    SEARCH_ALIASES = ["aspect ratio", "image size", "empty latent", "width height", "megapixels"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("INT", "INT", "LATENT")
    RETURN_NAMES = ("width", "height", "latent")
    OUTPUT_TOOLTIPS = ("The width in pixels.", "The height in pixels.", "An empty latent with FLUX's 16 channels.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "aspect_ratio": (list(ASPECT_RATIOS), {"tooltip": "Width to height."}),
                "megapixels": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.1,
                        "max": 4.0,
                        "step": 0.01,
                        "tooltip": "In 1024 × 1024 pixels. FLUX.1 is made for 0.1 to 2; 1 is the usual.",
                    },
                ),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096, "tooltip": "Number of pictures."}),
            }
        }

    def run(self, aspect_ratio: str, megapixels: float, batch_size: int) -> tuple[int, int, dict[str, Any]]:
        width, height = resolution(aspect_ratio, megapixels)
        return width, height, {"samples": torch.zeros(batch_size, 16, height // 8, width // 8)}


class KandifluxReduxMix:
    DESCRIPTION = (
        "Mix up to eight pictures into a FLUX prompt with Redux, each with a weight and an optional mask. Downsampling "
        "makes the text count for more."
    )
    SEARCH_ALIASES = ["redux", "style model", "image prompt", "ip adapter", "image variation", "apply style model"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("The conditioning, with the pictures' tokens after the text's.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        optional: dict[str, Any] = {}
        for i in range(1, PICTURES + 1):
            optional[f"image_{i}"] = ("IMAGE", {"tooltip": f"Picture {i}, or a batch of them: each is mixed in."})
        for i in range(1, PICTURES + 1):
            weight = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01}
            optional[f"weight_{i}"] = ("FLOAT", weight | {"tooltip": f"How much of image_{i}. 0 leaves it out."})
        for i in range(1, PICTURES + 1):
            optional[f"mask_{i}"] = ("MASK", {"tooltip": f"The part of image_{i} that counts. If empty, all of it."})
        # Behind the rest: saved workflows have values for the widgets before them by position.
        optional["mask_edge"] = (
            list(MASK_EDGES),
            {
                "tooltip": "hard: a token counts if half of its cell lies in the mask. soft: it counts by as much as "
                "lies in it."
            },
        )
        optional["downsampling_method"] = (
            list(DOWNSAMPLINGS),
            {"tooltip": "How the grid of tokens is resized. area: means. bicubic: sharper. nearest: some of them."},
        )
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "The encoded prompt; its text may be empty."}),
                "style_model": ("STYLE_MODEL", {"tooltip": "flux1-redux-dev."}),
                "clip_vision": ("CLIP_VISION", {"tooltip": "sigclip_vision_patch14_384."}),
                "strength": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.01,
                        "tooltip": "How much the pictures count, compared with the text. 0 leaves them out.",
                    },
                ),
                "strength_type": (
                    list(STRENGTH_TYPES),
                    {
                        "tooltip": "What strength and weights act on. multiply: the tokens themselves. attn_bias: the "
                        "attention they get, which is finer; weight 2 is then the same picture twice."
                    },
                ),
                "downsampling": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 27,
                        "tooltip": "1: all 27 × 27 tokens of a picture. 2: 13 × 13, 3: 9 × 9, …: the text counts for "
                        "more, and only the picture's looks remain.",
                    },
                ),
                "crop": (
                    list(CROPS),
                    {
                        "tooltip": "center: the square in the middle of each picture. none: the whole picture, "
                        "squeezed to a square. mask: the square around its mask. letterbox: the whole picture in "
                        "its proportions; the room around it counts for nothing."
                    },
                ),
                "combine": (
                    list(COMBINE),
                    {
                        "tooltip": "append: every picture's tokens, as chained Apply Style Model nodes do. average: "
                        "one picture's tokens, the mean by weight: a blend, and no slower than one picture."
                    },
                ),
            },
            "optional": optional,
        }

    def run(
        self,
        conditioning: Conditioning,
        style_model: Any,
        clip_vision: Any,
        strength: float,
        strength_type: str,
        downsampling: int,
        crop: str,
        combine: str,
        mask_edge: str = MASK_EDGES[0],
        downsampling_method: str = DOWNSAMPLINGS[0],
        **inputs: Any,
    ) -> tuple[Conditioning]:
        pictures: list[Picture] = []
        for i in range(1, PICTURES + 1):
            image, mask = inputs.get(f"image_{i}"), inputs.get(f"mask_{i}")
            if image is not None:
                pictures.append(Picture(f"image_{i}", image, float(inputs.get(f"weight_{i}", 1.0)), mask))
            elif mask is not None:
                raise ValueError(f"mask_{i} is connected and image_{i} is not. Connect the picture the mask is for.")
        mixed = redux.mix(
            conditioning,
            style_model,
            clip_vision,
            pictures,
            strength=strength,
            strength_type=strength_type,
            downsampling=downsampling,
            crop=crop,
            combine=combine,
            mask_edge=mask_edge,
            downsampling_method=downsampling_method,
        )
        return (mixed,)


NODES = {
    "KandifluxFluxGuidance": (KandifluxFluxGuidance, "Flux Guidance (kandiflux)"),
    "KandifluxFluxResolution": (KandifluxFluxResolution, "Flux Resolution (kandiflux)"),
    "KandifluxReduxMix": (KandifluxReduxMix, "Redux Mix (kandiflux)"),
}
