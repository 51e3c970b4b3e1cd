"""All-in-one nodes of Kandinsky 3: Text Encode → Decoder, with the original sampling loops. Node classes only; see
pipelines3.py."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .kandinsky import PROMPT, SEED, STRENGTH, VAE
from .keys import Conditioning
from .pipelines import SIZE_STEP, latents_to_image, require_finite, require_size
from .pipelines3 import AUTO, SAMPLINGS, conditioning_to_latents

CATEGORY = "kandiflux/kandinsky"


class Kandinsky3TextEncode:
    DESCRIPTION = "Encode a prompt of up to 128 tokens for Kandinsky 3 Decoder or KSampler."
    SEARCH_ALIASES = ["prompt", "clip text encode", "kandinsky 3 conditioning"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("The encoded prompt.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        source = {"tooltip": "From Kandinsky CLIP Loader."}
        return {"required": {"text_encoder": ("CLIP", source), "prompt": PROMPT}}

    def run(self, text_encoder: Any, prompt: str) -> tuple[Conditioning]:
        conditioning = text_encoder.encode_from_tokens_scheduled(text_encoder.tokenize(prompt))
        for states, _ in conditioning:
            require_finite(states, "The text states")
        return (conditioning,)


class Kandinsky3Decoder:
    DESCRIPTION = (
        "Draw images with Kandinsky 3 and the original sampling loop: text to image, img2img (with image), inpainting "
        "(with image, mask and an inpainting model)."
    )
    SEARCH_ALIASES = ["kandinsky 3 sampler", "text to image", "img2img", "inpaint", "flash"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "LATENT")
    RETURN_NAMES = ("image", "latent")
    OUTPUT_TOOLTIPS = ("The images.", "The latents of the images, for another sampler or Save Latent.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 1024, "min": 64, "max": 4096, "step": SIZE_STEP}
        return {
            "required": {
                "kandinsky3": ("MODEL", {"tooltip": "From Kandinsky Decoder Loader or Kandinsky Model Loader."}),
                "positive": ("CONDITIONING", {"tooltip": "What to draw, from Kandinsky 3 Text Encode."}),
                "width": ("INT", side | {"tooltip": "Width in pixels, a multiple of 8. 1024 is best."}),
                "height": ("INT", side | {"tooltip": "Height in pixels, a multiple of 8. 1024 is best."}),
                "seed": SEED,
                "steps": (
                    "INT",
                    {"default": 25, "min": 1, "max": 999, "tooltip": "25 is usual, 50 for original. flash: always 4."},
                ),
                "guidance_scale": (
                    "FLOAT",
                    {
                        "default": 3.0,
                        "min": 0.0,
                        "max": 20.0,
                        "step": 0.1,
                        "tooltip": "How closely to follow the prompt. 3 is the same as cfg 4 in KSampler. 4 is usual "
                        "for inpainting. 1 or less turns guidance off: twice as fast.",
                    },
                ),
                "sampling": (
                    list(SAMPLINGS),
                    {
                        "default": AUTO,
                        "tooltip": "auto: the sampling that fits the model. reference: as diffusers. original: as the "
                        "original repository, with dynamic thresholding. flash: four steps without guidance.",
                    },
                ),
                "batch_size": (
                    "INT",
                    {"default": 1, "min": 1, "max": 64, "tooltip": "Number of images, with seeds seed, seed + 1, …"},
                ),
            },
            "optional": {
                "negative": (
                    "CONDITIONING",
                    {
                        "tooltip": "Optional. What to avoid. If not connected, zero embeddings (as in diffusers), "
                        "which differ from an empty prompt."
                    },
                ),
                "image": ("IMAGE", {"tooltip": "Optional. Image to start from, center-cropped to width × height."}),
                "strength": (
                    "FLOAT",
                    STRENGTH
                    | {
                        "default": 0.3,
                        "tooltip": "How much to change the image (denoise). Ignored when inpainting.",
                    },
                ),
                "mask": (
                    "MASK",
                    {"tooltip": "Optional. For inpainting models: where to repaint the image, in white."},
                ),
                "vae": VAE,
            },
        }

    def run(
        self,
        kandinsky3: Any,
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
        vae: Any = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        require_size(width, height)
        if mask is not None and image is None:
            raise ValueError("Expected an image to repaint, got only a mask. Connect image, or disconnect mask.")
        latents, vae = conditioning_to_latents(
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
            vae=vae,
        )
        return latents_to_image(vae, latents), {"samples": latents}


NODES = {
    "Kandinsky3TextEncode": (Kandinsky3TextEncode, "Kandinsky 3 Text Encode"),
    "Kandinsky3Decoder": (Kandinsky3Decoder, "Kandinsky 3 Decoder"),
}
