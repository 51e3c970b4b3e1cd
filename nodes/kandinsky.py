"""All-in-one nodes of Kandinsky 2: Prior → Decoder, with the original sampling loops. Node classes only; see
pipelines.py."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .embeds import EMBEDS, METHOD, ImageEmbeds, require_width
from .images import pad_for_outpaint
from .loaders import PRIOR
from .models.loader import KandinskyPrior
from .pipelines import (
    SIZE_STEP,
    blend,
    embeds_to_latents,
    image_to_embeds,
    latents_to_image,
    require_size,
    text_to_embeds,
)

CATEGORY = "kandiflux/kandinsky"

SEED = (
    "INT",
    {
        "default": 0,
        "min": 0,
        "max": 2**64 - 1,
        "control_after_generate": True,
        "tooltip": "The same seed gives the same result.",
    },
)
PRIOR_INPUT = (PRIOR, {"tooltip": "From Kandinsky Prior Loader."})
PROMPT = (
    "STRING",
    {"multiline": True, "dynamicPrompts": True, "default": "", "tooltip": "What the image should show."},
)
NEGATIVE = (
    "STRING",
    {"multiline": True, "dynamicPrompts": True, "default": "", "tooltip": "What to avoid. May be empty."},
)
PRIOR_STEPS = ("INT", {"default": 25, "min": 2, "max": 1000, "tooltip": "Number of sampling steps. 25 is usual."})
PRIOR_GUIDANCE = (
    "FLOAT",
    {
        "default": 4.0,
        "min": 0.0,
        "max": 20.0,
        "step": 0.1,
        "tooltip": "How closely to follow the prompt. 1 or less turns guidance off.",
    },
)
VAE = ("VAE", {"tooltip": "Optional. If not connected, the VAE that was loaded with the model."})
STRENGTH = {"min": 0.01, "max": 1.0, "step": 0.01}


class KandinskyPriorNode:
    DESCRIPTION = (
        "Turn a prompt into image embeds. Without a negative prompt, the negative embeds are those of a grey image."
    )
    SEARCH_ALIASES = ["prompt", "text to embeds", "kandinsky text encode", "clip text"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("Image embeds, for the decoder.", "Negative image embeds, for the decoder.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prior": PRIOR_INPUT,
                "prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "seed": SEED,
                "steps": PRIOR_STEPS,
                "guidance_scale": PRIOR_GUIDANCE,
            },
            "optional": {
                "batch_size": (
                    "INT",
                    {"default": 1, "min": 1, "max": 256, "tooltip": "Number of embeds, with seeds seed, seed + 1, …"},
                )
            },
        }

    def run(
        self,
        prior: KandinskyPrior,
        prompt: str,
        negative_prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        batch_size: int = 1,
    ) -> tuple[ImageEmbeds, ImageEmbeds]:
        return text_to_embeds(prior, prompt, negative_prompt, seed, steps, guidance_scale, batch_size)


class KandinskyImageEncode:
    DESCRIPTION = "Turn images into image embeds, to draw variations of them or to mix them with other embeds."
    SEARCH_ALIASES = ["clip vision encode", "image variation", "image to embeds"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("One embed per image.", "Embeds of a grey image, for the decoder's negative input.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"prior": PRIOR_INPUT, "image": ("IMAGE", {"tooltip": "Centre-cropped to a square."})}}

    def run(self, prior: KandinskyPrior, image: Tensor) -> tuple[ImageEmbeds, ImageEmbeds]:
        return image_to_embeds(prior, image)


class KandinskyEmb2Emb:
    DESCRIPTION = "Change image embeds with a prompt (img2img for embeds)."
    SEARCH_ALIASES = ["embeds to embeds", "edit embeds", "image and prompt"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("The changed embeds.", "Negative image embeds, for the decoder.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prior": PRIOR_INPUT,
                "image_embeds": (EMBEDS, {"tooltip": "Embeds to start from, usually from Kandinsky Image Encode."}),
                "prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "seed": SEED,
                "steps": PRIOR_STEPS,
                "guidance_scale": PRIOR_GUIDANCE,
                "strength": (
                    "FLOAT",
                    STRENGTH | {"default": 0.3, "tooltip": "How much to change the embeds. 1 leaves little of them."},
                ),
            }
        }

    def run(
        self,
        prior: KandinskyPrior,
        image_embeds: ImageEmbeds,
        prompt: str,
        negative_prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        strength: float,
    ) -> tuple[ImageEmbeds, ImageEmbeds]:
        require_width(image_embeds, prior.width, f"The prior {prior.name}")
        count = len(image_embeds.values)
        start = (image_embeds.values, strength)
        return text_to_embeds(prior, prompt, negative_prompt, seed, steps, guidance_scale, count, start)


class KandinskyBlend:
    DESCRIPTION = (
        "Mix prompts and images to image embeds in one node, as diffusers' interpolate. Weights are not normalised."
    )
    SEARCH_ALIASES = ["mix text and image", "interpolate", "fuse", "style mix"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = (
        "The mixed image embeds, for the decoder.",
        "Embeds of the negative prompt, or of a grey image.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        weight = {"default": 0.5, "min": -4.0, "max": 4.0, "step": 0.01}
        prompts: dict[str, Any] = {}
        for i in (1, 2):
            prompts[f"prompt_{i}"] = PROMPT
            prompts[f"prompt_weight_{i}"] = (
                "FLOAT",
                weight | {"tooltip": f"Weight of prompt_{i}. An empty prompt is ignored."},
            )
        images: dict[str, Any] = {}
        for i in (1, 2):
            images[f"image_{i}"] = ("IMAGE", {"tooltip": "Optional. An image to mix in."})
            images[f"image_weight_{i}"] = ("FLOAT", weight | {"tooltip": f"Weight of image_{i}."})
        common = {"negative_prompt": NEGATIVE, "seed": SEED, "steps": PRIOR_STEPS, "guidance_scale": PRIOR_GUIDANCE}
        return {"required": {"prior": PRIOR_INPUT, **prompts, "method": METHOD, **common}, "optional": images}

    def run(
        self,
        prior: KandinskyPrior,
        method: str,
        negative_prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        **items: Any,
    ) -> tuple[ImageEmbeds, ImageEmbeds]:
        prompts = [(items[f"prompt_{i}"], items[f"prompt_weight_{i}"]) for i in (1, 2)]
        images = [(items.get(f"image_{i}"), items.get(f"image_weight_{i}", 0.5)) for i in (1, 2)]
        return blend(prior, prompts, images, method, negative_prompt, seed, steps, guidance_scale)


class KandinskyDecoderNode:
    DESCRIPTION = (
        "Draw images from image embeds with the original sampling loop: text to image, img2img (with image), "
        "inpainting (with image and mask), depth (with hint)."
    )
    SEARCH_ALIASES = ["kandinsky sampler", "embeds to image", "img2img", "inpaint", "depth controlnet", "generate"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "LATENT")
    RETURN_NAMES = ("image", "latent")
    OUTPUT_TOOLTIPS = ("The images.", "The latents of the images, for another sampler or Save Latent.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 512, "min": 64, "max": 4096, "step": SIZE_STEP}
        return {
            "required": {
                "decoder": ("MODEL", {"tooltip": "From Kandinsky Decoder Loader or Kandinsky Model Loader."}),
                "image_embeds": (EMBEDS, {"tooltip": "What to draw. A batch gives a batch of images."}),
                "negative_image_embeds": (EMBEDS, {"tooltip": "What to avoid."}),
                "width": ("INT", side | {"tooltip": "In pixels, a multiple of 8."}),
                "height": ("INT", side | {"tooltip": "In pixels, a multiple of 8."}),
                "seed": SEED,
                "steps": (
                    "INT",
                    {"default": 50, "min": 1, "max": 1000, "tooltip": "Number of sampling steps. 50 is usual."},
                ),
                "guidance_scale": (
                    "FLOAT",
                    {
                        "default": 4.0,
                        "min": 0.0,
                        "max": 20.0,
                        "step": 0.1,
                        "tooltip": "How closely to follow the embeds. 1 or less turns guidance off: twice as fast.",
                    },
                ),
                "scheduler": (
                    ["reference", "DDPM", "DDIM"],
                    {
                        "default": "reference",
                        "tooltip": "reference: the scheduler published with the model. DDIM adds no noise in steps.",
                    },
                ),
                "batch_size": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 64,
                        "tooltip": "Number of images per embed, with seeds seed, seed + 1, …",
                    },
                ),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "Optional. Image to start from, center-cropped to width × height."}),
                "strength": (
                    "FLOAT",
                    STRENGTH
                    | {
                        "default": 0.3,
                        "tooltip": "How much to change the image (denoise). 1 leaves nothing of it. Ignored by "
                        "inpainting decoders.",
                    },
                ),
                "mask": (
                    "MASK",
                    {
                        "tooltip": "Optional. Where to repaint the image: white is repainted. Works best with an "
                        "inpainting decoder, but also with others."
                    },
                ),
                "hint": (
                    "IMAGE",
                    {
                        "tooltip": "Depth map (near is bright) for kandinsky-2-2-controlnet-depth, from MiDaS Depth "
                        "Map or Depth Anything (comfyui_controlnet_aux). Center-cropped to width × height."
                    },
                ),
                "prompt": (
                    "STRING",
                    {
                        "forceInput": True,
                        "tooltip": "Optional. For Kandinsky 2.1, whose decoder takes text too. If not connected, the "
                        "prompt of the image embeds; for embeds of images and mixes, an empty prompt.",
                    },
                ),
                "negative_prompt": (
                    "STRING",
                    {
                        "forceInput": True,
                        "tooltip": "Optional. For Kandinsky 2.1. If not connected, an empty negative prompt.",
                    },
                ),
                "vae": VAE,
                "clip": (
                    "CLIP",
                    {
                        "tooltip": "Optional. For Kandinsky 2.1. If not connected, the CLIP that was loaded with the "
                        "model."
                    },
                ),
            },
        }

    def run(
        self,
        decoder: Any,
        image_embeds: ImageEmbeds,
        negative_image_embeds: ImageEmbeds,
        width: int,
        height: int,
        seed: int,
        steps: int,
        guidance_scale: float,
        scheduler: str,
        batch_size: int,
        image: Tensor | None = None,
        strength: float = 0.3,
        mask: Tensor | None = None,
        hint: Tensor | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        vae: Any = None,
        clip: Any = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        require_size(width, height)
        latents, vae = embeds_to_latents(
            decoder,
            image_embeds,
            negative_image_embeds,
            (width, height),
            seed,
            steps,
            guidance_scale,
            scheduler,
            batch_size,
            None if image is None else (image, strength),
            mask,
            hint,
            prompt,
            negative_prompt,
            vae,
            clip,
        )
        return latents_to_image(vae, latents), {"samples": latents}


class KandinskyPadForOutpaint:
    DESCRIPTION = (
        "Pad an image for outpainting, with a mask of the padding. Connect width and height, multiples of 8, to the "
        "decoder."
    )
    SEARCH_ALIASES = ["outpaint", "extend image", "uncrop", "expand canvas", "pad image"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "MASK", "INT", "INT")
    RETURN_NAMES = ("image", "mask", "width", "height")
    OUTPUT_TOOLTIPS = (
        "The padded image; the padding repeats its edge.",
        "Mask of the padding, for the decoder's mask.",
        "Width of the padded image, for the decoder.",
        "Height of the padded image, for the decoder.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        padding: dict[str, Any] = {"default": 0, "min": 0, "max": 4096, "step": 8}
        padding["tooltip"] = "Pixels to add. The padded size is rounded up to a multiple of 8."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The image to extend."}),
                "left": ("INT", padding),
                "top": ("INT", padding),
                "right": ("INT", padding | {"default": 128}),
                "bottom": ("INT", padding),
                "feather": (
                    "INT",
                    {
                        "default": 32,
                        "min": 0,
                        "max": 1024,
                        "tooltip": "Pixels over which the mask fades into the image. The outer half is repainted, to "
                        "hide the seam.",
                    },
                ),
            }
        }

    def run(
        self, image: Tensor, left: int, top: int, right: int, bottom: int, feather: int
    ) -> tuple[Tensor, Tensor, int, int]:
        padded, mask = pad_for_outpaint(image, (left, top, right, bottom), feather, SIZE_STEP)
        return padded, mask, padded.shape[2], padded.shape[1]


NODES = {
    "KandinskyPrior": (KandinskyPriorNode, "Kandinsky Prior"),
    "KandinskyImageEncode": (KandinskyImageEncode, "Kandinsky Image Encode"),
    "KandinskyEmb2Emb": (KandinskyEmb2Emb, "Kandinsky Emb2Emb"),
    "KandinskyBlend": (KandinskyBlend, "Kandinsky Blend"),
    "KandinskyDecoder": (KandinskyDecoderNode, "Kandinsky Decoder"),
    "KandinskyPadForOutpaint": (KandinskyPadForOutpaint, "Kandinsky Pad for Outpaint"),
}
