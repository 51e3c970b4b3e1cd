"""Kandinsky as ComfyUI's MODEL, VAE and CONDITIONING. Node classes only, and on ComfyUI only; the work is in
comfyui/."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .comfyui.files import decoder_unet, files, find_movq, mclip_sources, movq_sources, unet_sources
from .comfyui.latents import for_inpainting, for_inpainting3, resized, resized_mask, round_size
from .comfyui.loading import WEIGHT_DTYPES, load_model, require_kandinsky, with_lora
from .comfyui.model2 import HINT, IMAGE_EMBEDS
from .comfyui.model3 import as_long
from .comfyui.sampling import reference_sigmas
from .comfyui.text import TEXT_DTYPES, load_mclip, load_ul2
from .comfyui.vae import load_vae, show_previews
from .embeds import EMBEDS, ImageEmbeds
from .pipelines import is_there, pick
from .pipelines3 import text_encoder_folders

CATEGORY = "Kandinsky/native"
CONDITIONING = "CONDITIONING"
MCLIP_PLACES = "models/kandinsky or models/text_encoders"
TEXT_TIP = "For Kandinsky 2.1 only: {} through CLIP Text Encode, with the CLIP from Kandinsky CLIP Loader."


class KandinskyModelLoader:
    DESCRIPTION = (
        "Load a Kandinsky decoder as MODEL, for KSampler and every other node that takes one. Its conditioning comes "
        "from Kandinsky Conditioning."
    )
    SEARCH_ALIASES = ["load diffusion model", "unet loader", "kandinsky checkpoint", "kandinsky unet"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The decoder's UNet, for KSampler and other samplers.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "unet": (
                    list(unet_sources()),
                    {
                        "tooltip": "An official repository folder in models/kandinsky, or a safetensors file of a "
                        "Kandinsky UNet in models/diffusion_models."
                    },
                ),
                "weight_dtype": (
                    list(WEIGHT_DTYPES),
                    {"default": "default", "tooltip": "fp8 halves the memory of the weights, at some loss."},
                ),
            },
            "optional": {"vae": ("VAE", {"tooltip": "From Kandinsky VAE Loader: for previews in the right colours."})},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, unet: str) -> bool | str:
        return is_there(unet_sources(), unet, "Kandinsky decoder", "models/kandinsky or models/diffusion_models")

    def run(self, unet: str, weight_dtype: str, vae: Any = None) -> tuple[Any]:
        model = load_model(*decoder_unet(unet), unet, WEIGHT_DTYPES[weight_dtype])
        if vae is not None:
            show_previews(model, vae)
        return (model,)


class KandinskyLoraLoader:
    DESCRIPTION = (
        "Add a LoRA to a Kandinsky MODEL. Unlike Load LoRA it knows diffusers' older names, and refuses a LoRA that is "
        "for another model."
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
                    {"default": 1.0, "min": -20.0, "max": 20.0, "step": 0.01, "tooltip": "0 changes nothing."},
                ),
            }
        }

    def run(self, model: Any, lora: str, strength: float) -> tuple[Any]:
        require_kandinsky(model, "Kandinsky LoRA Loader", "use Load LoRA")
        return (with_lora(model, pick(files("loras"), lora, "LoRA", "models/loras"), strength) if strength else model,)


class KandinskyCLIPLoader:
    DESCRIPTION = "Load the text encoder of a Kandinsky 2.1 decoder as CLIP, for CLIP Text Encode."
    SEARCH_ALIASES = ["load clip", "m-clip", "mclip", "text encoder", "xlm-roberta"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CLIP",)
    RETURN_NAMES = ("clip",)
    OUTPUT_TOOLTIPS = ("The text encoder, for CLIP Text Encode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "An official 2.1 repository folder in models/kandinsky, such as kandinsky-2-1, or an M-CLIP "
            "safetensors file in models/text_encoders."
        }
        return {"required": {"text_encoder": (list(mclip_sources()), names)}}

    @classmethod
    def VALIDATE_INPUTS(cls, text_encoder: str) -> bool | str:
        return is_there(mclip_sources(), text_encoder, "Kandinsky 2.1 text encoder", MCLIP_PLACES)

    def run(self, text_encoder: str) -> tuple[Any]:
        return (load_mclip(pick(mclip_sources(), text_encoder, "Kandinsky 2.1 text encoder", MCLIP_PLACES)),)


class KandinskyVAELoader:
    DESCRIPTION = "Load MOVQ, Kandinsky's autoencoder, as VAE: for VAE Decode, VAE Encode and the tiled ones."
    SEARCH_ALIASES = ["load vae", "movq", "vqgan", "kandinsky checkpoint"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("VAE",)
    RETURN_NAMES = ("vae",)
    OUTPUT_TOOLTIPS = ("MOVQ, for VAE Decode and VAE Encode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "An official repository folder in models/kandinsky, or a MOVQ safetensors file in models/vae."
        }
        return {"required": {"movq": (list(movq_sources()), names)}}

    @classmethod
    def VALIDATE_INPUTS(cls, movq: str) -> bool | str:
        return is_there(movq_sources(), movq, "MOVQ", "models/kandinsky or models/vae")

    def run(self, movq: str) -> tuple[Any]:
        return (load_vae(*find_movq(movq)),)


class KandinskyConditioning:
    DESCRIPTION = "Image embeds as conditioning for a Kandinsky MODEL in KSampler and other samplers."
    SEARCH_ALIASES = ["embeds to conditioning", "unclip conditioning", "kandinsky positive negative"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING)
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("What to draw.", "What to move away from.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image_embeds": (EMBEDS, {"tooltip": "What to draw. A batch goes to the pictures of a latent batch."}),
                "negative_image_embeds": (EMBEDS, {"tooltip": "What to move away from."}),
            },
            "optional": {
                "text": (CONDITIONING, {"tooltip": TEXT_TIP.format("the prompt")}),
                "negative_text": (CONDITIONING, {"tooltip": TEXT_TIP.format("the negative prompt, or an empty one")}),
            },
        }

    def run(
        self,
        image_embeds: ImageEmbeds,
        negative_image_embeds: ImageEmbeds,
        text: list[Any] | None = None,
        negative_text: list[Any] | None = None,
    ) -> tuple[list[Any], list[Any]]:
        if (text is None) != (negative_text is None):
            raise ValueError(
                "Kandinsky Conditioning expected text and negative_text both, or neither (Kandinsky 2.2 has none); got "
                "one. An empty prompt's will do for the negative."
            )
        if text is None or negative_text is None:
            return [[image_embeds.values[:, None], {}]], [[negative_image_embeds.values[:, None], {}]]
        return (
            with_values(text, {IMAGE_EMBEDS: image_embeds.values}),
            with_values(negative_text, {IMAGE_EMBEDS: negative_image_embeds.values}),
        )


class KandinskyInpaintConditioning:
    DESCRIPTION = (
        "What a Kandinsky decoder needs to repaint the masked part of a picture: an inpainting one sees the rest, and "
        "any other can do it, too. At a denoise of 1 the masked part is drawn anew, below about 0.9 from what is there."
    )
    SEARCH_ALIASES = ["inpaint model conditioning", "vae encode for inpainting", "mask"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING, "LATENT")
    RETURN_NAMES = ("positive", "negative", "latent")
    OUTPUT_TOOLTIPS = (
        "What to draw, with the picture and the mask.",
        "What to move away from, with the same.",
        "The picture's latents, for the sampler.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "positive": (CONDITIONING, {"tooltip": "What to draw."}),
                "negative": (CONDITIONING, {"tooltip": "What to move away from."}),
                "vae": ("VAE", {"tooltip": "From Kandinsky VAE Loader."}),
                "pixels": ("IMAGE", {"tooltip": "The whole picture; its sides are multiples of 8."}),
                "mask": ("MASK", {"tooltip": "White is repainted."}),
            },
            "optional": {
                "from_noise": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "hidden": True,
                        "tooltip": "Without effect: what the sampler starts from follows from its denoise. Keeps the "
                        "place of keep_rest in saved workflows.",
                    },
                ),
                "keep_rest": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "tooltip": "Put the rest back after each step, as the reference does for 2.2. For 2.1's "
                        "inpainting decoder it does not.",
                    },
                ),
            },
        }

    def run(
        self,
        positive: list[Any],
        negative: list[Any],
        vae: Any,
        pixels: Tensor,
        mask: Tensor,
        from_noise: bool = True,
        keep_rest: bool = True,
    ) -> tuple[list[Any], list[Any], dict[str, Tensor]]:
        values, latent = for_inpainting(vae, pixels, mask, keep_rest)
        return with_values(positive, values), with_values(negative, values), latent


class Kandinsky3CLIPLoader:
    DESCRIPTION = (
        "Load FLAN-UL2, the text encoder of Kandinsky 3, as CLIP, for CLIP Text Encode. 8.7 billion parameters: Save "
        "Conditioning keeps what it made of a prompt, so that it need not be loaded again."
    )
    SEARCH_ALIASES = ["load clip", "flan-ul2", "t5", "kandinsky 3 text encoder"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CLIP",)
    RETURN_NAMES = ("clip",)
    OUTPUT_TOOLTIPS = ("The text encoder, for CLIP Text Encode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "text_encoder": (
                    list(text_encoder_folders()),
                    {"tooltip": "A folder in models/kandinsky with text_encoder and tokenizer, such as kandinsky-3."},
                ),
                "dtype": (
                    list(TEXT_DTYPES),
                    {
                        "default": "auto",
                        "tooltip": "How the weights are kept. auto and bf16 take 17.5 GB, fp8 9 GB at some loss; what "
                        "does not fit on the GPU is streamed.",
                    },
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, text_encoder: str) -> bool | str:
        return is_there(text_encoder_folders(), text_encoder, "Kandinsky 3 text encoder")

    def run(self, text_encoder: str, dtype: str) -> tuple[Any]:
        return (load_ul2(pick(text_encoder_folders(), text_encoder, "Kandinsky 3"), TEXT_DTYPES[dtype]),)


class Kandinsky3Conditioning:
    DESCRIPTION = (
        "Make positive and negative as the reference has them for Kandinsky 3: the negative as long as the positive, "
        "and no text at all where there is no negative."
    )
    SEARCH_ALIASES = ["zero out", "negative prompt", "kandinsky 3 positive negative"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING)
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("What to draw.", "What to move away from, as long as the positive.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"positive": (CONDITIONING, {"tooltip": "The prompt through CLIP Text Encode."})},
            "optional": {"negative": (CONDITIONING, {"tooltip": "Left out: no text, which is not an empty prompt."})},
        }

    def run(self, positive: list[Any], negative: list[Any] | None = None) -> tuple[list[Any], list[Any]]:
        return as_long(positive, negative)


class Kandinsky3InpaintConditioning:
    DESCRIPTION = "What a Kandinsky 3 inpainting model needs to repaint the masked part of a picture."
    SEARCH_ALIASES = ["inpaint model conditioning", "mask"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING, "LATENT")
    RETURN_NAMES = ("positive", "negative", "latent")
    OUTPUT_TOOLTIPS = (
        "What to draw, with the picture and the mask.",
        "What to move away from, with the same.",
        "The picture's latents, for the sampler.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "positive": (CONDITIONING, {"tooltip": "What to draw."}),
                "negative": (CONDITIONING, {"tooltip": "What to move away from."}),
                "vae": ("VAE", {"tooltip": "From Kandinsky VAE Loader."}),
                "pixels": ("IMAGE", {"tooltip": "The whole picture; its sides are multiples of 8."}),
                "mask": ("MASK", {"tooltip": "White is repainted."}),
            }
        }

    def run(
        self, positive: list[Any], negative: list[Any], vae: Any, pixels: Tensor, mask: Tensor
    ) -> tuple[list[Any], list[Any], dict[str, Tensor]]:
        values, latent = for_inpainting3(vae, pixels, mask)
        return with_values(positive, values), with_values(negative, values), latent


class KandinskyDepthHint:
    DESCRIPTION = "Give a depth decoder the depth map to follow, in both positive and negative."
    SEARCH_ALIASES = ["depth control", "controlnet depth", "hint"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (CONDITIONING, CONDITIONING)
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("What to draw, with the depth map.", "What to move away from, with the same.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "positive": (CONDITIONING, {"tooltip": "What to draw."}),
                "negative": (CONDITIONING, {"tooltip": "What to move away from."}),
                "depth": ("IMAGE", {"tooltip": "A depth map, near is light; resized to the latents."}),
            }
        }

    def run(self, positive: list[Any], negative: list[Any], depth: Tensor) -> tuple[list[Any], list[Any]]:
        hint = {HINT: depth[..., :3].movedim(-1, 1)}
        return with_values(positive, hint), with_values(negative, hint)


class KandinskySigmas:
    DESCRIPTION = "The reference's own timesteps as sigmas, for SamplerCustom and SamplerCustomAdvanced."
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
                "steps": ("INT", {"default": 50, "min": 1, "max": 1000, "tooltip": "The reference takes 100."}),
                "denoise": (
                    "FLOAT",
                    {"default": 1.0, "min": 0.01, "max": 1.0, "step": 0.01, "tooltip": "Less than 1: img2img."},
                ),
            }
        }

    def run(self, model: Any, steps: int, denoise: float) -> tuple[Tensor]:
        config = require_kandinsky(model, "Kandinsky Sigmas", "use its own scheduler")
        sigmas = model.get_model_object("model_sampling").sigmas.cpu()
        return (reference_sigmas(config.network, config.scheduler, sigmas, steps, denoise),)


class KandinskyLatentSize:
    DESCRIPTION = (
        "An empty latent of a size Kandinsky can draw: sides are rounded to multiples of 8 (multiples of 64 are best). "
        "An image and its mask are brought to that size, too, for VAE Encode and inpainting."
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
            "tooltip": "In pixels; rounded to a multiple of 8.",
        }
        return {
            "required": {
                "width": ("INT", side),
                "height": ("INT", side),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096, "tooltip": "Pictures at a time."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "Resized to the rounded size, cut to its proportions."}),
                "mask": ("MASK", {"tooltip": "The image's mask, cut in the same way."}),
            },
        }

    def run(
        self, width: int, height: int, batch_size: int, image: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, int, int]:
        width, height = round_size(width, height)
        latent = {"samples": torch.zeros(batch_size, 4, height // 8, width // 8)}
        sized = torch.zeros(1, height, width, 3) if image is None else resized(image, width, height)
        part = torch.zeros(1, height, width) if mask is None else resized_mask(mask, width, height)
        return latent, sized, part, width, height


def with_values(conditioning: list[Any], values: dict[str, Any]) -> list[Any]:
    """`conditioning` with `values` added to each entry; the given one stays as it is."""
    return [[tensor, {**options, **values}] for tensor, options in conditioning]


NODES = {
    "KandinskyModelLoader": (KandinskyModelLoader, "Kandinsky Model Loader"),
    "KandinskyLoraLoader": (KandinskyLoraLoader, "Kandinsky LoRA Loader"),
    "KandinskyCLIPLoader": (KandinskyCLIPLoader, "Kandinsky CLIP Loader"),
    "KandinskyVAELoader": (KandinskyVAELoader, "Kandinsky VAE Loader"),
    "KandinskyConditioning": (KandinskyConditioning, "Kandinsky Conditioning"),
    "KandinskyInpaintConditioning": (KandinskyInpaintConditioning, "Kandinsky Inpaint Conditioning"),
    "Kandinsky3CLIPLoader": (Kandinsky3CLIPLoader, "Kandinsky 3 CLIP Loader"),
    "Kandinsky3Conditioning": (Kandinsky3Conditioning, "Kandinsky 3 Conditioning"),
    "Kandinsky3InpaintConditioning": (Kandinsky3InpaintConditioning, "Kandinsky 3 Inpaint Conditioning"),
    "KandinskyDepthHint": (KandinskyDepthHint, "Kandinsky Depth Hint"),
    "KandinskySigmas": (KandinskySigmas, "Kandinsky Sigmas"),
    "KandinskyLatentSize": (KandinskyLatentSize, "Kandinsky Latent Size"),
}
