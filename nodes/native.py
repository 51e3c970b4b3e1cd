"""Nodes for Kandinsky in ComfyUI's samplers. In ComfyUI only; see comfyui/."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .comfyui.loading import require_kandinsky, with_lora
from .comfyui.sampling import reference_sigmas
from .embeds import EMBEDS, ImageEmbeds
from .images import crop_and_resize, for_keep_mask
from .inpainting import crop_to_latents, for_inpainting, for_inpainting3
from .keys import HINT, IMAGE_EMBEDS, Conditioning, with_values
from .pipelines import SIZE_STEP
from .pipelines3 import match_token_length
from .sources import files, pick

CATEGORY = "kandiflux/kandinsky/native"
CONDITIONING = "CONDITIONING"
TEXT_TIP = "For Kandinsky 2.1 only: {}, encoded by CLIP Text Encode with the CLIP from Kandinsky CLIP Loader."


class KandinskyLoraLoader:
    DESCRIPTION = (
        "Apply a LoRA to a Kandinsky MODEL. Unlike Load LoRA, it supports diffusers' old key names, and raises an "
        "error for LoRAs of other models."
    )
    SEARCH_ALIASES = ["load lora", "lora loader model only", "kandinsky lora"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model with the LoRA.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "A Kandinsky model."}),
                "lora": (list(files("loras")), {"tooltip": "A safetensors file in models/loras."}),
                "strength": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": -20.0,
                        "max": 20.0,
                        "step": 0.01,
                        "tooltip": "Strength of the LoRA. 0 turns it off.",
                    },
                ),
            }
        }

    def run(self, model: Any, lora: str, strength: float) -> tuple[Any]:
        require_kandinsky(model, "Kandinsky LoRA Loader", "use Load LoRA")
        return (with_lora(model, pick(files("loras"), lora, "LoRA", "models/loras"), strength) if strength else model,)


class KandinskyConditioning:
    DESCRIPTION = "Turn image embeds into conditioning for a Kandinsky MODEL in KSampler and other samplers."
    SEARCH_ALIASES = ["embeds to conditioning", "unclip conditioning", "kandinsky positive negative"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING)
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("What to draw.", "What to avoid.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image_embeds": (EMBEDS, {"tooltip": "What to draw. A batch is used for a batch of latents."}),
                "negative_image_embeds": (EMBEDS, {"tooltip": "What to avoid."}),
            },
            "optional": {
                "text": (CONDITIONING, {"tooltip": TEXT_TIP.format("the prompt")}),
                "negative_text": (CONDITIONING, {"tooltip": TEXT_TIP.format("the negative prompt (may be empty)")}),
            },
        }

    def run(
        self,
        image_embeds: ImageEmbeds,
        negative_image_embeds: ImageEmbeds,
        text: Conditioning | None = None,
        negative_text: Conditioning | None = None,
    ) -> tuple[Conditioning, Conditioning]:
        if (text is None) != (negative_text is None):
            raise ValueError(
                "Kandinsky Conditioning expected text and negative_text both, or neither (for Kandinsky 2.2), got only "
                "one. For negative_text, an empty prompt will do."
            )
        if text is None or negative_text is None:
            return [[image_embeds.values[:, None], {}]], [[negative_image_embeds.values[:, None], {}]]
        return (
            with_values(text, {IMAGE_EMBEDS: image_embeds.values}),
            with_values(negative_text, {IMAGE_EMBEDS: negative_image_embeds.values}),
        )


class KandinskyInpaintConditioning:
    DESCRIPTION = (
        "Set up inpainting for a Kandinsky decoder, best an inpainting one. With denoise 1, the masked part starts "
        "from noise; below about 0.9, from the image."
    )
    SEARCH_ALIASES = ["inpaint model conditioning", "vae encode for inpainting", "mask"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING, "LATENT")
    RETURN_NAMES = ("positive", "negative", "latent")
    OUTPUT_TOOLTIPS = (
        "The positive, with the image and the mask.",
        "The negative, with the image and the mask.",
        "The latents of the image, for the sampler.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "positive": (CONDITIONING, {"tooltip": "What to draw."}),
                "negative": (CONDITIONING, {"tooltip": "What to avoid."}),
                "vae": ("VAE", {"tooltip": "From Kandinsky VAE Loader."}),
                "pixels": ("IMAGE", {"tooltip": "The whole image; width and height should be multiples of 8."}),
                "mask": ("MASK", {"tooltip": "Where to repaint: white is repainted."}),
            },
            "optional": {
                "from_noise": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "hidden": True,
                        "tooltip": "Has no effect: the sampler's denoise decides. It exists for saved workflows.",
                    },
                ),
                "keep_rest": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "tooltip": "Composite the unmasked latents after each step (on for 2.2, off for the 2.1 "
                        "inpainting model).",
                    },
                ),
            },
        }

    def run(
        self,
        positive: Conditioning,
        negative: Conditioning,
        vae: Any,
        pixels: Tensor,
        mask: Tensor,
        from_noise: bool = True,
        keep_rest: bool = True,
    ) -> tuple[Conditioning, Conditioning, dict[str, Tensor]]:
        pixels, mask = crop_to_latents(pixels, mask)
        samples = vae.encode(pixels)
        keep, values = for_inpainting(samples, mask)
        latent = {"samples": samples} | ({"noise_mask": 1 - keep[:, 0]} if keep_rest else {})
        return with_values(positive, values), with_values(negative, values), latent


class Kandinsky3Conditioning:
    DESCRIPTION = (
        "Prepare positive and negative for Kandinsky 3 as diffusers does: match the token length of the negative to "
        "the positive; without a negative, use zero embeddings."
    )
    SEARCH_ALIASES = ["zero out", "negative prompt", "kandinsky 3 positive negative"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING)
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("The positive, unchanged.", "The negative, with as many tokens as the positive.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"positive": (CONDITIONING, {"tooltip": "From CLIP Text Encode or Kandinsky 3 Text Encode."})},
            "optional": {
                "negative": (
                    CONDITIONING,
                    {
                        "tooltip": "Optional. If not connected, zero embeddings (as in diffusers), which differ from "
                        "an empty prompt."
                    },
                )
            },
        }

    def run(self, positive: Conditioning, negative: Conditioning | None = None) -> tuple[Conditioning, Conditioning]:
        return match_token_length(positive, negative)


class Kandinsky3InpaintConditioning:
    DESCRIPTION = "Set up inpainting for a Kandinsky 3 inpainting model."
    SEARCH_ALIASES = ["inpaint model conditioning", "mask"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING, "LATENT")
    RETURN_NAMES = ("positive", "negative", "latent")
    OUTPUT_TOOLTIPS = (
        "The positive, with the image and the mask.",
        "The negative, with the image and the mask.",
        "The latents of the image, for the sampler.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "positive": (CONDITIONING, {"tooltip": "What to draw."}),
                "negative": (CONDITIONING, {"tooltip": "What to avoid."}),
                "vae": ("VAE", {"tooltip": "From Kandinsky VAE Loader."}),
                "pixels": ("IMAGE", {"tooltip": "The whole image; width and height should be multiples of 8."}),
                "mask": ("MASK", {"tooltip": "Where to repaint: white is repainted."}),
            }
        }

    def run(
        self, positive: Conditioning, negative: Conditioning, vae: Any, pixels: Tensor, mask: Tensor
    ) -> tuple[Conditioning, Conditioning, dict[str, Tensor]]:
        pixels, mask = crop_to_latents(pixels, mask, soft=True)
        values = for_inpainting3(vae, pixels, mask)
        return with_values(positive, values), with_values(negative, values), {"samples": vae.encode(pixels)}


class KandinskyDepthHint:
    DESCRIPTION = "Add a depth map to positive and negative, for a depth decoder."
    SEARCH_ALIASES = ["depth control", "controlnet depth", "hint"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING)
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("The positive, with the depth map.", "The negative, with the depth map.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "positive": (CONDITIONING, {"tooltip": "What to draw."}),
                "negative": (CONDITIONING, {"tooltip": "What to avoid."}),
                "depth": ("IMAGE", {"tooltip": "A depth map (near is bright), resized to the size of the latent."}),
            }
        }

    def run(self, positive: Conditioning, negative: Conditioning, depth: Tensor) -> tuple[Conditioning, Conditioning]:
        hint = {HINT: depth[..., :3].movedim(-1, 1)}
        return with_values(positive, hint), with_values(negative, hint)


class KandinskySigmas:
    DESCRIPTION = "Sigmas of the original timesteps, for SamplerCustom and SamplerCustomAdvanced."
    SEARCH_ALIASES = ["scheduler", "timesteps", "leading"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("SIGMAS",)
    RETURN_NAMES = ("sigmas",)
    OUTPUT_TOOLTIPS = ("The sigmas [steps + 1].",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "A Kandinsky model."}),
                "steps": ("INT", {"default": 50, "min": 1, "max": 1000, "tooltip": "Number of sampling steps."}),
                "denoise": (
                    "FLOAT",
                    {"default": 1.0, "min": 0.01, "max": 1.0, "step": 0.01, "tooltip": "Less than 1 for img2img."},
                ),
            }
        }

    def run(self, model: Any, steps: int, denoise: float) -> tuple[Tensor]:
        decoder = require_kandinsky(model, "Kandinsky Sigmas", "use its own scheduler")
        return (reference_sigmas(decoder, model.get_model_object("model_sampling").sigmas.cpu(), steps, denoise),)


class KandinskyLatentSize:
    DESCRIPTION = (
        "Empty latent for Kandinsky. Width and height are rounded to multiples of 8 (multiples of 64 are best). Also "
        "resizes an image and a mask to that size, for VAE Encode and inpainting."
    )
    SEARCH_ALIASES = ["empty latent image", "resize to 64", "round size"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("LATENT", "IMAGE", "MASK", "INT", "INT")
    RETURN_NAMES = ("latent", "image", "mask", "width", "height")
    OUTPUT_TOOLTIPS = (
        "An empty latent.",
        "The image at that size.",
        "The mask at that size.",
        "Width in pixels.",
        "Height in pixels.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {
            "default": 768,
            "min": 16,
            "max": 16384,
            "step": 1,
            "tooltip": "In pixels, rounded to a multiple of 8.",
        }
        return {
            "required": {
                "width": ("INT", side),
                "height": ("INT", side),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096, "tooltip": "Number of images."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "Optional. Center-cropped and resized to the rounded size."}),
                "mask": ("MASK", {"tooltip": "Optional. Mask of the image, cropped and resized like it."}),
            },
        }

    def run(
        self, width: int, height: int, batch_size: int, image: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, int, int]:
        width, height = round_size(width, height)
        latent = {"samples": torch.zeros(batch_size, 4, height // 8, width // 8)}
        sized = torch.zeros(1, height, width, 3) if image is None else crop_and_resize(image, width, height)
        part = torch.zeros(1, height, width) if mask is None else for_keep_mask(mask, width, height)[:, 0]
        return latent, sized, part, width, height


def round_size(*sides: int) -> list[int]:
    return [max(SIZE_STEP, round(side / SIZE_STEP) * SIZE_STEP) for side in sides]


NODES = {
    "KandinskyLoraLoader": (KandinskyLoraLoader, "Kandinsky LoRA Loader"),
    "KandinskyConditioning": (KandinskyConditioning, "Kandinsky Conditioning"),
    "KandinskyInpaintConditioning": (KandinskyInpaintConditioning, "Kandinsky Inpaint Conditioning"),
    "Kandinsky3Conditioning": (Kandinsky3Conditioning, "Kandinsky 3 Conditioning"),
    "Kandinsky3InpaintConditioning": (Kandinsky3InpaintConditioning, "Kandinsky 3 Inpaint Conditioning"),
    "KandinskyDepthHint": (KandinskyDepthHint, "Kandinsky Depth Hint"),
    "KandinskySigmas": (KandinskySigmas, "Kandinsky Sigmas"),
    "KandinskyLatentSize": (KandinskyLatentSize, "Kandinsky Latent Size"),
}
