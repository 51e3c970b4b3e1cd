"""Loader nodes of Kandinsky, for official folders and single files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from . import host
from .decoders import read_decoder, read_movq
from .models.clip import CLIPTextConfig, CLIPVisionConfig
from .models.detect import MCLIPSizes
from .models.loader import KandinskyPrior, load_prior
from .models.loader3 import is_kandinsky3_text_folder
from .models.movq import MOVQConfig
from .models.prior import PriorConfig
from .models.single import load_prior_files
from .models.unet2 import UNet2Config
from .models.unet3 import UNet3Config
from .sources import (
    clip_sources,
    decoder_folders,
    files,
    is_there,
    loadable,
    movq_sources,
    pick,
    prior_sources,
    tokenizer_folders,
    unet_sources,
)

CATEGORY = "kandiflux/kandinsky/loaders"
PRIOR = "KANDINSKY_PRIOR"
NONE = "none"
FOLDERS = "models/kandinsky"
UNETS, MOVQS = f"{FOLDERS} or models/diffusion_models", f"{FOLDERS} or models/vae"
TEXTS = f"{FOLDERS} or models/text_encoders"


def dtype_input(tooltip: str = "") -> tuple[list[str], dict[str, Any]]:
    tip = "auto: fp16 on the GPU if it is fast with it, fp32 on the CPU. Use bf16 if fp16 gives black images."
    return [*host.current().weight_dtypes], {"default": "auto", "tooltip": tooltip or tip}


def file_input(kind: str, network: type, example: str, optional: bool = False) -> tuple[list[str], dict[str, Any]]:
    """Input that lists the safetensors files in models/`kind` with this network (config class)."""
    options, names = {"tooltip": f"A safetensors file in models/{kind}: {example}."}, loadable(files(kind), network)
    return ([NONE, *names], options | {"default": NONE}) if optional else (names, options)


def pick_file(kind: str, name: str) -> Path:
    return pick(files(kind), name, "safetensors file", f"models/{kind}")


class KandinskyPriorLoader:
    DESCRIPTION = (
        "Load a Kandinsky prior, which turns prompts and images into image embeds, from an official folder or from "
        "three single files (prior, text encoder, image encoder)."
    )
    SEARCH_ALIASES = ["kandinsky checkpoint", "load prior", "unclip"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (PRIOR,)
    RETURN_NAMES = ("prior",)
    OUTPUT_TOOLTIPS = ("The prior, for Kandinsky Prior, Image Encode and Blend.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "An official repository folder in models/kandinsky: kandinsky-2-2-prior, kandinsky-2-1-prior; "
            "or a prior's safetensors file in models/diffusion_models, which needs the two encoders below."
        }
        tip = "only for a prior from a single file"
        return {
            "required": {"model": (loadable(prior_sources(), PriorConfig), names), "dtype": dtype_input()},
            "optional": {
                "text_encoder": file_input("text_encoders", CLIPTextConfig, tip, optional=True),
                "image_encoder": file_input("clip_vision", CLIPVisionConfig, tip, optional=True),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        return is_there(prior_sources(), model, "prior", UNETS)

    def run(self, model: str, dtype: str, text_encoder: str = NONE, image_encoder: str = NONE) -> tuple[KandinskyPrior]:
        source, torch_dtype = pick(prior_sources(), model, "prior", UNETS), host.current().dtype(dtype)
        if source.is_dir():
            return (load_prior(source, torch_dtype),)
        if NONE in (text_encoder, image_encoder):
            raise ValueError(
                f"{model} is a single file: expected its text encoder and image encoder too. Choose both, from the "
                "same repository, or choose the repository's folder."
            )
        text, image = pick_file("text_encoders", text_encoder), pick_file("clip_vision", image_encoder)
        return (load_prior_files(source, text, image, tokenizer_folders(text), torch_dtype),)


class KandinskyDecoderLoader:
    DESCRIPTION = (
        "Load a Kandinsky decoder from its folder: MODEL and VAE, and for 2.1 the text encoder as CLIP. Kandinsky "
        "Decoder needs only the MODEL."
    )
    SEARCH_ALIASES = ["kandinsky checkpoint", "load decoder", "movq", "unet", "kandinsky 3.1", "flash"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL", "VAE", "CLIP")
    RETURN_NAMES = ("model", "vae", "clip")
    OUTPUT_TOOLTIPS = (
        "The decoder, for Kandinsky Decoder, Kandinsky 3 Decoder and samplers.",
        "The MOVQ autoencoder, for VAE Decode and VAE Encode.",
        "The text encoder of 2.1. 2.2 has none; for 3, use Kandinsky CLIP Loader.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "An official repository folder in models/kandinsky: kandinsky-2-2-decoder, kandinsky-2-1, "
            "kandinsky-3, …, or a folder from `kandiflux models convert` for the original 3.0 or 3.1 weights."
        }
        return {"required": {"model": (list(decoder_folders()), names), "dtype": dtype_input()}}

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        return is_there(decoder_folders(), model, "decoder")

    def run(self, model: str, dtype: str) -> tuple[Any, Any, Any]:
        seam, folder = host.current(), pick(decoder_folders(), model, "decoder")
        file, decoder = read_decoder(folder, model)
        vae, clip = seam.load_vae(*read_movq(folder), dtype), None
        if isinstance(decoder.network, UNet2Config) and decoder.network.reads_text:
            clip = seam.load_mclip(folder, [], dtype)
        return seam.load_model(file, replace(decoder, vae=vae, clip=clip), dtype), vae, clip


class KandinskyModelLoader:
    DESCRIPTION = (
        "Load the UNet of a Kandinsky decoder from a folder or a single file, for Kandinsky Decoder, KSampler and "
        "other nodes with a MODEL input."
    )
    SEARCH_ALIASES = ["load diffusion model", "unet loader", "kandinsky checkpoint", "kandinsky unet"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The decoder's UNet, for KSampler and other samplers.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "An official repository folder in models/kandinsky, or a safetensors file of a Kandinsky UNet "
            "in models/diffusion_models."
        }
        kinds, tip = dtype_input("Dtype of the weights. fp8 halves their memory, at some loss of quality.")
        return {
            "required": {
                "unet": (loadable(unet_sources(), UNet2Config, UNet3Config), names),
                "weight_dtype": (["default", *kinds[1:]], tip | {"default": "default"}),
            },
            "optional": {
                "vae": (
                    "VAE",
                    {"tooltip": "Optional. From Kandinsky VAE Loader, for latent previews and for Kandinsky Decoder."},
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, unet: str) -> bool | str:
        return is_there(unet_sources(), unet, "Kandinsky decoder", UNETS)

    def run(self, unet: str, weight_dtype: str, vae: Any = None) -> tuple[Any]:
        file, decoder = read_decoder(pick(unet_sources(), unet, "Kandinsky decoder", UNETS), unet)
        dtype = "auto" if weight_dtype == "default" else weight_dtype
        return (host.current().load_model(file, replace(decoder, vae=vae), dtype),)


class KandinskyVAELoader:
    DESCRIPTION = "Load MOVQ, the autoencoder of Kandinsky, as VAE."
    SEARCH_ALIASES = ["load vae", "movq", "vqgan", "kandinsky checkpoint"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("VAE",)
    RETURN_NAMES = ("vae",)
    OUTPUT_TOOLTIPS = ("The MOVQ autoencoder, for VAE Decode and VAE Encode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "An official repository folder in models/kandinsky, or a MOVQ safetensors file in models/vae."
        }
        return {"required": {"movq": (loadable(movq_sources(), MOVQConfig), names)}}

    @classmethod
    def VALIDATE_INPUTS(cls, movq: str) -> bool | str:
        return is_there(movq_sources(), movq, "MOVQ", MOVQS)

    def run(self, movq: str) -> tuple[Any]:
        return (host.current().load_vae(*read_movq(pick(movq_sources(), movq, "MOVQ", MOVQS))),)


class KandinskyCLIPLoader:
    DESCRIPTION = (
        "Load the text encoder of Kandinsky 2.1 or 3 as CLIP, for CLIP Text Encode. Kandinsky 3's has 8.7 billion "
        "parameters: use Save Conditioning to load it only once per prompt."
    )
    SEARCH_ALIASES = ["load clip", "m-clip", "mclip", "text encoder", "xlm-roberta", "flan-ul2", "t5"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CLIP",)
    RETURN_NAMES = ("clip",)
    OUTPUT_TOOLTIPS = ("The text encoder, for CLIP Text Encode and Kandinsky 3 Text Encode.",)
    NAME = "text_encoder"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = {
            "tooltip": "A folder in models/kandinsky with text_encoder and tokenizer: kandinsky-2-1, kandinsky-3; or "
            "an M-CLIP safetensors file in models/text_encoders."
        }
        tip = "Dtype of the weights. Kandinsky 3: fp32 35 GB, fp16 and bf16 17.5 GB, fp8 9 GB at some loss of quality."
        return {
            "required": {cls.NAME: (loadable(clip_sources(), MCLIPSizes), names)},
            "optional": {
                "dtype": ([*("auto", *host.DTYPES), host.FP8], {"default": "auto", "tooltip": tip}),
                "device": (
                    ["default", "stream", "cpu"],
                    {
                        "default": "default",
                        "tooltip": "For Kandinsky 3. cpu: run on the CPU; a prompt may take a minute. stream: load "
                        "layers to the GPU one after another, for GPUs with little memory (automatic in ComfyUI).",
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, text_encoder: str) -> bool | str:
        return is_there(clip_sources(), text_encoder, "Kandinsky text encoder", TEXTS)

    def run(self, text_encoder: str, dtype: str = "auto", device: str = "default") -> tuple[Any]:
        source = pick(clip_sources(), text_encoder, "Kandinsky text encoder", TEXTS)
        if is_kandinsky3_text_folder(source):
            return (host.current().load_ul2(source, dtype, device),)
        if dtype == host.FP8:
            raise ValueError("fp8 is for the text encoder of Kandinsky 3: expected auto, fp32, fp16 or bf16.")
        return (host.current().load_mclip(source, tokenizer_folders(source), dtype),)


# --- Deprecated loaders, for saved workflows -------------------------------------------------------------------------


class KandinskyPriorFilesLoader(KandinskyPriorLoader):
    DESCRIPTION = "Deprecated: use Kandinsky Prior Loader. Loads a prior from three single files."
    DEPRECATED = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "prior": file_input("diffusion_models", PriorConfig, "kandinsky-2-2-prior.safetensors"),
                "text_encoder": file_input("text_encoders", CLIPTextConfig, "the prior's"),
                "image_encoder": file_input("clip_vision", CLIPVisionConfig, "the prior's"),
                "dtype": dtype_input(),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, prior: str) -> bool | str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().VALIDATE_INPUTS(prior)

    def run(self, prior: str, text_encoder: str, image_encoder: str, dtype: str) -> tuple[KandinskyPrior]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().run(prior, dtype, text_encoder, image_encoder)


class KandinskyDecoderFilesLoader:
    DESCRIPTION = "Deprecated: use Kandinsky Model Loader and VAE Loader. Loads a decoder from single files."
    DEPRECATED = True
    SEARCH_ALIASES = ["kandinsky checkpoint", "safetensors"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("decoder",)
    OUTPUT_TOOLTIPS = ("The decoder, for Kandinsky Decoder.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "unet": file_input("diffusion_models", UNet2Config, "kandinsky-2-2-decoder.safetensors"),
                "movq": file_input("vae", MOVQConfig, "kandinsky-2-2-movq.safetensors"),
                "dtype": dtype_input(),
            },
            "optional": {
                "text_encoder": file_input("text_encoders", MCLIPSizes, "M-CLIP, for 2.1 only", optional=True)
            },
        }

    def run(self, unet: str, movq: str, dtype: str, text_encoder: str = NONE) -> tuple[Any]:
        seam, (vae,) = host.current(), KandinskyVAELoader().run(movq)
        clip = None if text_encoder == NONE else KandinskyCLIPLoader().run(text_encoder, dtype)[0]
        file, decoder = read_decoder(pick(unet_sources(), unet, "Kandinsky decoder", UNETS), unet)
        return (seam.load_model(file, replace(decoder, vae=vae, clip=clip), dtype),)


class Kandinsky3Loader(KandinskyDecoderLoader):
    DESCRIPTION = "Deprecated: use Kandinsky Decoder Loader. Loads a Kandinsky 3 decoder."
    DEPRECATED = True


class Kandinsky3CLIPLoader(KandinskyCLIPLoader):
    DESCRIPTION = "Deprecated: use Kandinsky CLIP Loader. Loads the text encoder of Kandinsky 3."
    DEPRECATED = True


class Kandinsky3TextEncoderLoader(KandinskyCLIPLoader):
    DESCRIPTION = "Deprecated: use Kandinsky CLIP Loader. Loads the text encoder of Kandinsky 3."
    DEPRECATED = True
    NAME = "model"

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().VALIDATE_INPUTS(model)

    def run(self, model: str, dtype: str = "auto", device: str = "default") -> tuple[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().run(model, dtype, device)


NODES = {
    "KandinskyPriorLoader": (KandinskyPriorLoader, "Kandinsky Prior Loader"),
    "KandinskyDecoderLoader": (KandinskyDecoderLoader, "Kandinsky Decoder Loader"),
    "KandinskyModelLoader": (KandinskyModelLoader, "Kandinsky Model Loader"),
    "KandinskyVAELoader": (KandinskyVAELoader, "Kandinsky VAE Loader"),
    "KandinskyCLIPLoader": (KandinskyCLIPLoader, "Kandinsky CLIP Loader"),
    "KandinskyPriorFilesLoader": (KandinskyPriorFilesLoader, "Kandinsky Prior Loader (files)"),
    "KandinskyDecoderFilesLoader": (KandinskyDecoderFilesLoader, "Kandinsky Decoder Loader (files)"),
    "Kandinsky3Loader": (Kandinsky3Loader, "Kandinsky 3 Loader"),
    "Kandinsky3CLIPLoader": (Kandinsky3CLIPLoader, "Kandinsky 3 CLIP Loader"),
    "Kandinsky3TextEncoderLoader": (Kandinsky3TextEncoderLoader, "Kandinsky 3 Text Encoder Loader"),
}
