"""The all-in-one nodes of Kandinsky 2: Prior → Decoder, in the reference's own loops. Node classes only; the work is in
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
    {"multiline": True, "dynamicPrompts": True, "default": "", "tooltip": "What the picture shows, in plain words."},
)
NEGATIVE = (
    "STRING",
    {"multiline": True, "dynamicPrompts": True, "default": "", "tooltip": "What to move away from. May be empty."},
)
PRIOR_STEPS = ("INT", {"default": 25, "min": 2, "max": 1000, "tooltip": "25 is usual."})
PRIOR_GUIDANCE = (
    "FLOAT",
    {
        "default": 4.0,
        "min": 0.0,
        "max": 20.0,
        "step": 0.1,
        "tooltip": "How closely to follow the prompt; 1 or less: no guidance.",
    },
)
VAE = ("VAE", {"tooltip": "Another one than the decoder was loaded with; needed if it came without one."})
STRENGTH = {"min": 0.01, "max": 1.0, "step": 0.01}


class KandinskyPriorNode:
    DESCRIPTION = (
        "Turn a prompt into image embeds. The negative embeds are a grey picture's, or those of a negative prompt."
    )
    SEARCH_ALIASES = ["prompt", "text to embeds", "kandinsky text encode", "clip text"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("What to draw, for the decoder.", "What to move away from, for the decoder.")

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
                    {"default": 1, "min": 1, "max": 256, "tooltip": "Embeds to make, with seeds one after another."},
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
    DESCRIPTION = "Turn pictures into image embeds: the decoder draws variations of them; mix them with other embeds."
    SEARCH_ALIASES = ["clip vision encode", "image variation", "image to embeds"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("One embed for each picture.", "A grey picture's embed, for the decoder's negative.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"prior": PRIOR_INPUT, "image": ("IMAGE", {"tooltip": "Centre-cropped to a square."})}}

    def run(self, prior: KandinskyPrior, image: Tensor) -> tuple[ImageEmbeds, ImageEmbeds]:
        return image_to_embeds(prior, image)


class KandinskyEmb2Emb:
    DESCRIPTION = "Push image embeds towards a prompt: a picture's idea, changed by words."
    SEARCH_ALIASES = ["embeds to embeds", "edit embeds", "image and prompt"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("The changed embeds.", "What to move away from, for the decoder.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prior": PRIOR_INPUT,
                "image_embeds": (EMBEDS, {"tooltip": "Where to start: from Kandinsky Image Encode, as a rule."}),
                "prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "seed": SEED,
                "steps": PRIOR_STEPS,
                "guidance_scale": PRIOR_GUIDANCE,
                "strength": (
                    "FLOAT",
                    STRENGTH | {"default": 0.3, "tooltip": "How far from the start: 1 leaves little of it."},
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
        "A blend of prompts and pictures in one node, as the reference's interpolate: the weights are not normalised."
    )
    SEARCH_ALIASES = ["mix text and image", "interpolate", "fuse", "style mix"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = (
        "The blend, for the decoder.",
        "What to move away from: the negative prompt's embeds, or mean grey ones.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        weight = {"default": 0.5, "min": -4.0, "max": 4.0, "step": 0.01}
        prompts: dict[str, Any] = {}
        for i in (1, 2):
            prompts[f"prompt_{i}"] = PROMPT
            prompts[f"prompt_weight_{i}"] = (
                "FLOAT",
                weight | {"tooltip": f"How much of prompt_{i}; an empty prompt is left out."},
            )
        images: dict[str, Any] = {}
        for i in (1, 2):
            images[f"image_{i}"] = ("IMAGE", {"tooltip": "A picture to blend in."})
            images[f"image_weight_{i}"] = ("FLOAT", weight | {"tooltip": f"How much of image_{i}."})
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
        "Draw pictures from image embeds. With an image, start from it instead of from noise; with a mask too, repaint "
        "that part of it; with a hint, follow its depth."
    )
    SEARCH_ALIASES = ["kandinsky sampler", "embeds to image", "img2img", "inpaint", "depth controlnet", "generate"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "LATENT")
    RETURN_NAMES = ("image", "latent")
    OUTPUT_TOOLTIPS = ("The pictures.", "The pictures' latents, for another pass or Save Latent.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 512, "min": 64, "max": 4096, "step": SIZE_STEP}
        return {
            "required": {
                "decoder": ("MODEL", {"tooltip": "From Kandinsky Decoder Loader or Kandinsky Model Loader."}),
                "image_embeds": (EMBEDS, {"tooltip": "What to draw; a batch gives a batch."}),
                "negative_image_embeds": (EMBEDS, {"tooltip": "What to move away from."}),
                "width": ("INT", side | {"tooltip": "In pixels, a multiple of 8."}),
                "height": ("INT", side | {"tooltip": "In pixels, a multiple of 8."}),
                "seed": SEED,
                "steps": (
                    "INT",
                    {"default": 50, "min": 1, "max": 1000, "tooltip": "The reference takes 100; 50 is usually enough."},
                ),
                "guidance_scale": (
                    "FLOAT",
                    {
                        "default": 4.0,
                        "min": 0.0,
                        "max": 20.0,
                        "step": 0.1,
                        "tooltip": "How closely to follow the embeds; 1 or less: no guidance, twice as fast.",
                    },
                ),
                "scheduler": (
                    ["reference", "DDPM", "DDIM"],
                    {
                        "default": "reference",
                        "tooltip": "reference: the one the model came with. DDIM adds no noise between steps.",
                    },
                ),
                "batch_size": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 64,
                        "tooltip": "Pictures for each embed, with seeds one after another.",
                    },
                ),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "Start from this picture, cut in the middle to width × height."}),
                "strength": (
                    "FLOAT",
                    STRENGTH
                    | {
                        "default": 0.3,
                        "tooltip": "With an image: how far from it. 1 leaves nothing of it. Inpainting decoders always "
                        "begin the masked part anew.",
                    },
                ),
                "mask": (
                    "MASK",
                    {
                        "tooltip": "Where to repaint the image: 1 (white) is repainted, 0 stays. An inpainting decoder "
                        "sees what is around it; another one only has it put back after every step."
                    },
                ),
                "hint": (
                    "IMAGE",
                    {
                        "tooltip": "For kandinsky-2-2-controlnet-depth: a depth map as a picture, near parts bright, "
                        "as the nodes MiDaS Depth Map and Depth Anything (comfyui_controlnet_aux) make it. Cut in the "
                        "middle to width × height."
                    },
                ),
                "prompt": (
                    "STRING",
                    {
                        "forceInput": True,
                        "tooltip": "For Kandinsky 2.1, whose decoder reads words, too. Not connected: the prompt that "
                        "the image embeds were made from; for those of pictures and mixes, no words.",
                    },
                ),
                "negative_prompt": (
                    "STRING",
                    {"forceInput": True, "tooltip": "For Kandinsky 2.1: words to move away from. Not connected: none."},
                ),
                "vae": VAE,
                "clip": ("CLIP", {"tooltip": "For Kandinsky 2.1: another one than the decoder was loaded with."}),
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
        "Make room around a picture, and a mask of it, for an inpainting decoder to fill. The sizes come out as "
        "multiples of 8: connect them to the decoder's."
    )
    SEARCH_ALIASES = ["outpaint", "extend image", "uncrop", "expand canvas", "pad image"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "MASK", "INT", "INT")
    RETURN_NAMES = ("image", "mask", "width", "height")
    OUTPUT_TOOLTIPS = (
        "The picture with room around it, its edge repeated there.",
        "1 where there is room: for the decoder's mask.",
        "For the decoder's width.",
        "For the decoder's height.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        room = {"default": 0, "min": 0, "max": 4096, "step": 8}
        more = "Pixels to add; a few more are, to a multiple of 8."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture to draw on beyond its edges."}),
                "left": ("INT", room | {"tooltip": more}),
                "top": ("INT", room | {"tooltip": more}),
                "right": ("INT", room | {"default": 128, "tooltip": more}),
                "bottom": ("INT", room | {"tooltip": more}),
                "feather": (
                    "INT",
                    {
                        "default": 32,
                        "min": 0,
                        "max": 1024,
                        "tooltip": "Pixels of the picture over which the mask runs out; the decoder repaints the outer "
                        "half of them, which hides the seam.",
                    },
                ),
            }
        }

    def run(
        self, image: Tensor, left: int, top: int, right: int, bottom: int, feather: int
    ) -> tuple[Tensor, Tensor, int, int]:
        grown, mask = pad_for_outpaint(image, (left, top, right, bottom), feather, SIZE_STEP)
        return grown, mask, grown.shape[2], grown.shape[1]


NODES = {
    "KandinskyPrior": (KandinskyPriorNode, "Kandinsky Prior"),
    "KandinskyImageEncode": (KandinskyImageEncode, "Kandinsky Image Encode"),
    "KandinskyEmb2Emb": (KandinskyEmb2Emb, "Kandinsky Emb2Emb"),
    "KandinskyBlend": (KandinskyBlend, "Kandinsky Blend"),
    "KandinskyDecoder": (KandinskyDecoderNode, "Kandinsky Decoder"),
    "KandinskyPadForOutpaint": (KandinskyPadForOutpaint, "Kandinsky Pad for Outpaint"),
}
