"""Kandinsky 3, the short way: Text Encode → Decoder, in the reference's own loops. Node classes only; the work is in
pipelines3.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import host
from .kandinsky import DTYPE, PROMPT, SEED, STRENGTH
from .models.loader3 import Kandinsky3, Kandinsky3TextEncoder, Place, load_kandinsky3, load_text_encoder
from .models.t5 import FP8
from .pipelines import SIZE_STEP, is_there, latents_to_image, pick, require_size
from .pipelines3 import (
    AUTO,
    SAMPLINGS,
    Conditioning,
    conditioning_to_latents,
    kandinsky3_folders,
    prompt_to_conditioning,
    text_encoder_folders,
)

CATEGORY = "Kandinsky/Kandinsky 3"
MODEL, TEXT_ENCODER = "KANDINSKY3", "KANDINSKY3_TEXT_ENCODER"
PLACES: dict[str, Place] = {"default": "device", "stream": "stream", "cpu": "cpu"}
STORAGE = {"auto": torch.float16, **host.DTYPES, "fp8_e4m3fn": FP8}


class Kandinsky3Loader:
    DESCRIPTION = "Load Kandinsky 3: the UNet that draws what a text says, and its MOVQ. The text encoder loads apart."
    SEARCH_ALIASES = ["kandinsky 3 checkpoint", "kandinsky 3.1", "flash", "unet", "movq"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("kandinsky3",)
    OUTPUT_TOOLTIPS = ("UNet and MOVQ, for Kandinsky 3 Decoder.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "A folder in models/kandinsky: the official repository kandinsky-3, or one that `kandiflux "
            "models convert` made of the original 3.0 or 3.1 weights (flash and inpainting too)."
        }
        return {"required": {"model": (list(kandinsky3_folders()), names), "dtype": DTYPE}}

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        return is_there(kandinsky3_folders(), model, "Kandinsky 3")

    def run(self, model: str, dtype: str) -> tuple[Kandinsky3]:
        folder = pick(kandinsky3_folders(), model, "Kandinsky 3")
        return (load_kandinsky3(folder, host.current().dtype(dtype)),)


class Kandinsky3TextEncoderLoader:
    DESCRIPTION = "Load FLAN-UL2, the text encoder of Kandinsky 3: 8.7 billion parameters, read as they are needed."
    SEARCH_ALIASES = ["t5", "flan-ul2", "clip loader", "kandinsky 3 clip"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (TEXT_ENCODER,)
    RETURN_NAMES = ("text_encoder",)
    OUTPUT_TOOLTIPS = ("The text encoder, for Kandinsky 3 Text Encode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": (
                    list(text_encoder_folders()),
                    {"tooltip": "A folder in models/kandinsky with text_encoder and tokenizer, such as kandinsky-3."},
                ),
                "dtype": (
                    list(STORAGE),
                    {
                        "default": "auto",
                        "tooltip": "How the weights are kept. fp32 takes 35 GB, fp16 (auto) and bf16 17.5 GB, fp8 9 GB "
                        "at some loss.",
                    },
                ),
                "device": (
                    list(PLACES),
                    {
                        "default": "default",
                        "tooltip": "stream: the weights stay in the computer's memory and go through the GPU one after "
                        "another, so that any GPU will do. cpu: leaves it alone; a prompt may take a minute. Save "
                        "Conditioning keeps what was made.",
                    },
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        return is_there(text_encoder_folders(), model, "Kandinsky 3 text encoder")

    def run(self, model: str, dtype: str, device: str) -> tuple[Kandinsky3TextEncoder]:
        folder = pick(text_encoder_folders(), model, "Kandinsky 3 text encoder")
        here, storage, place = host.current(), STORAGE[dtype], PLACES[device]
        # A CPU is slow in half precision, which then only saves memory.
        on_cpu = place == "cpu" or here.device().type == "cpu"
        compute = torch.float32 if on_cpu else here.dtype("auto") if storage == FP8 else storage
        return (load_text_encoder(folder, storage, compute, place=place),)


class Kandinsky3TextEncode:
    DESCRIPTION = (
        "Turn a prompt into conditioning for Kandinsky 3, up to 128 tokens; for Kandinsky 3 Decoder and KSampler alike."
    )
    SEARCH_ALIASES = ["prompt", "clip text encode", "kandinsky 3 conditioning"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("The encoded prompt.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        source = {"tooltip": "From Kandinsky 3 Text Encoder Loader."}
        return {"required": {"text_encoder": (TEXT_ENCODER, source), "prompt": PROMPT}}

    def run(self, text_encoder: Kandinsky3TextEncoder, prompt: str) -> tuple[Conditioning]:
        return (prompt_to_conditioning(text_encoder, prompt),)


class Kandinsky3Decoder:
    DESCRIPTION = (
        "Draw pictures from a prompt's conditioning with Kandinsky 3. With an image, start from it; with a mask too, "
        "and an inpainting model, repaint what is masked."
    )
    SEARCH_ALIASES = ["kandinsky 3 sampler", "text to image", "img2img", "inpaint", "flash"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "LATENT")
    RETURN_NAMES = ("image", "latent")
    OUTPUT_TOOLTIPS = ("The pictures.", "The pictures' latents, for another pass or Save Latent.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 1024, "min": 64, "max": 4096, "step": SIZE_STEP}
        return {
            "required": {
                "kandinsky3": (MODEL, {"tooltip": "From Kandinsky 3 Loader."}),
                "positive": ("CONDITIONING", {"tooltip": "What to draw: from Kandinsky 3 Text Encode."}),
                "width": ("INT", side | {"tooltip": "Width in pixels, a multiple of 8. 1024 is best."}),
                "height": ("INT", side | {"tooltip": "Height in pixels, a multiple of 8. 1024 is best."}),
                "seed": SEED,
                "steps": (
                    "INT",
                    {"default": 25, "min": 1, "max": 999, "tooltip": "25 is usual, 50 for original; flash takes 4."},
                ),
                "guidance_scale": (
                    "FLOAT",
                    {
                        "default": 3.0,
                        "min": 0.0,
                        "max": 20.0,
                        "step": 0.1,
                        "tooltip": "How closely to follow the prompt, in the reference's terms: 3 equals a KSampler's "
                        "cfg of 4. Inpainting likes 4. 1 or less: no guidance, twice as fast.",
                    },
                ),
                "sampling": (
                    list(SAMPLINGS),
                    {
                        "default": AUTO,
                        "tooltip": "auto: what the model was made for. reference: as diffusers. original: as the "
                        "original repository, which thresholds by percentile. flash: four steps, no guidance.",
                    },
                ),
                "batch_size": (
                    "INT",
                    {"default": 1, "min": 1, "max": 64, "tooltip": "Pictures, with seeds one after another."},
                ),
            },
            "optional": {
                "negative": (
                    "CONDITIONING",
                    {"tooltip": "What to move away from. Left out: no text at all, which is not an empty prompt."},
                ),
                "image": ("IMAGE", {"tooltip": "Start from this picture, cut in the middle to width × height."}),
                "strength": (
                    "FLOAT",
                    STRENGTH | {"default": 0.3, "tooltip": "With an image: how far from it. No use when inpainting."},
                ),
                "mask": ("MASK", {"tooltip": "For an inpainting model: what of the image to repaint, in white."}),
            },
        }

    def run(
        self,
        kandinsky3: Kandinsky3,
        positive: Conditioning,
        width: int,
        height: int,
        seed: int,
        steps: int,
        guidance_scale: float,
        sampling: str,
        batch_size: int,
        negative: Conditioning | None = None,
        image: Tensor | None = None,
        strength: float = 0.3,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        require_size(width, height)
        if mask is not None and image is None:
            raise ValueError("Expected an image with the mask: what to repaint a part of. Connect image, or no mask.")
        latents = conditioning_to_latents(
            kandinsky3,
            positive,
            negative,
            (width, height),
            seed,
            steps,
            guidance_scale,
            sampling,
            batch_size,
            start=None if image is None or mask is not None else (image, strength),
            repaint=None if image is None or mask is None else (image, mask),
        )
        return latents_to_image(kandinsky3, latents), {"samples": latents}


NODES = {
    "Kandinsky3Loader": (Kandinsky3Loader, "Kandinsky 3 Loader"),
    "Kandinsky3TextEncoderLoader": (Kandinsky3TextEncoderLoader, "Kandinsky 3 Text Encoder Loader"),
    "Kandinsky3TextEncode": (Kandinsky3TextEncode, "Kandinsky 3 Text Encode"),
    "Kandinsky3Decoder": (Kandinsky3Decoder, "Kandinsky 3 Decoder"),
}
