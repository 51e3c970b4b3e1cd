"""Write the trained parts as two folders in the official layout, half precision, for us and for diffusers to load."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from nodes.models.movq import MOVQ
from nodes.models.prior import PriorTransformer
from nodes.models.unet2 import UNet2

from . import recipe
from .train_encoders import MEAN, STD, load_encoders
from .train_movq import fit_codebook
from .training import trained_part

PRIOR_FOLDER, DECODER_FOLDER = "kandinsky-2-2-pocket-prior", "kandinsky-2-2-pocket-decoder"
DIFFUSERS_VERSION = "0.17.0"
"""The first to hold all the classes named."""


def export(work: Path, out: Path, seed: int) -> None:
    encoders, prior = load_encoders(work), PriorTransformer(recipe.PRIOR)
    movq, unet = MOVQ(recipe.MOVQ), UNet2(recipe.DECODER)
    for network, part in ((prior, "prior_polish"), (movq, "movq_polish"), (unet, "decoder_finish")):
        trained_part(network, work / f"{part}.pt", part)
    fit_codebook(movq, torch.Generator().manual_seed(seed), torch.device("cpu"))

    folder = out / PRIOR_FOLDER
    write_network(folder / "prior", prior, "PriorTransformer", asdict(recipe.PRIOR) | PRIOR_FIXED)
    for name, encoder in (("text_encoder", encoders.text), ("image_encoder", encoders.image)):
        encoder.half().save_pretrained(folder / name)
    shutil.rmtree(folder / "tokenizer", ignore_errors=True)
    shutil.copytree(work / "tokenizer", folder / "tokenizer")
    write_json(folder / "image_processor" / "preprocessor_config.json", image_processor())
    write_json(folder / "scheduler" / "scheduler_config.json", UNCLIP)
    write_json(folder / "model_index.json", PRIOR_INDEX)

    folder = out / DECODER_FOLDER
    write_network(folder / "unet", unet, "UNet2DConditionModel", asdict(recipe.DECODER) | unet_fixed())
    write_network(folder / "movq", movq, "VQModel", asdict(recipe.MOVQ) | movq_fixed())
    write_json(folder / "scheduler" / "scheduler_config.json", DDPM)
    write_json(folder / "model_index.json", DECODER_INDEX)

    write_sums(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def write_network(folder: Path, network: nn.Module, class_name: str, config: dict[str, Any]) -> None:
    write_json(folder / "config.json", {"_class_name": class_name, "_diffusers_version": DIFFUSERS_VERSION, **config})
    tensors = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def write_sums(out: Path) -> None:
    """SHA256SUMS, as `sha256sum` writes it: what install.py checks."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out).as_posix()}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def image_processor() -> dict[str, Any]:
    side = recipe.IMAGE_ENCODER["image_size"]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "do_convert_rgb": True,
    }


def unet_fixed() -> dict[str, Any]:
    attended = len(recipe.DECODER.block_out_channels) - 1
    return {
        "sample_size": recipe.PICTURE_SIDE // 8,
        "act_fn": "silu",
        "encoder_hid_dim_type": "image_proj",
        "resnet_time_scale_shift": "scale_shift",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "down_block_types": ["ResnetDownsampleBlock2D"] + ["SimpleCrossAttnDownBlock2D"] * attended,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ["SimpleCrossAttnUpBlock2D"] * attended + ["ResnetUpsampleBlock2D"],
    }


def movq_fixed() -> dict[str, Any]:
    plain = len(recipe.MOVQ.block_out_channels) - 1
    return {
        "sample_size": recipe.PICTURE_SIDE,
        "act_fn": "silu",
        "norm_type": "spatial",
        "down_block_types": ["DownEncoderBlock2D"] * plain + ["AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * plain,
    }


PRIOR_FIXED = {"additional_embeddings": 4, "dropout": 0.0}
UNCLIP = {
    "_class_name": "UnCLIPScheduler",
    "_diffusers_version": DIFFUSERS_VERSION,
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": True,
    "clip_sample_range": 10.0,
    "num_train_timesteps": 1000,
    "prediction_type": "sample",
    "variance_type": "fixed_small_log",
}
DDPM = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": DIFFUSERS_VERSION,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "thresholding": False,
    "timestep_spacing": "leading",
    "variance_type": "fixed_small",
}
PRIOR_INDEX = {
    "_class_name": "KandinskyV22PriorPipeline",
    "_diffusers_version": DIFFUSERS_VERSION,
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "image_processor": ["transformers", "CLIPImageProcessor"],
    "prior": ["diffusers", "PriorTransformer"],
    "scheduler": ["diffusers", "UnCLIPScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
DECODER_INDEX = {
    "_class_name": "KandinskyV22Pipeline",
    "_diffusers_version": DIFFUSERS_VERSION,
    "movq": ["diffusers", "VQModel"],
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}
