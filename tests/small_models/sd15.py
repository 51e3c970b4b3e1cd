"""SD1.5's files: a UNet of one level, and what workflows put beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.cldm.cldm
import comfy.ldm.modules.diffusionmodules.openaimodel

from .shared import UNMADE, Weights, clip_l, random, random_of, sd15_vae

ONE_LEVEL: dict[str, Any] = {
    "image_size": 32, "model_channels": 320, "num_res_blocks": [1], "channel_mult": [1], "transformer_depth_middle": 1,
    "context_dim": 768, "num_heads": 8, "use_spatial_transformer": True, "legacy": False,
}  # fmt: skip
TO_Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


def checkpoint(in_channels: int) -> Weights:
    unet = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(
        in_channels=in_channels,
        out_channels=4,
        transformer_depth=[1],
        transformer_depth_output=[1, 1],
        **ONE_LEVEL,
        **UNMADE,
    )
    encoder = clip_l("cond_stage_model.transformer.")
    return random(unet, "model.diffusion_model.") | sd15_vae("first_stage_model.") | encoder


def controlnet() -> Weights:
    network = comfy.cldm.cldm.ControlNet(in_channels=4, hint_channels=3, transformer_depth=[1], **ONE_LEVEL, **UNMADE)
    return random(network, "control_model.")


def lora() -> Weights:
    return random_of({f"{TO_Q}.lora_down.weight": (4, 320), f"{TO_Q}.lora_up.weight": (320, 4)})


def embedding() -> Weights:
    return {name: tensor.float() for name, tensor in random_of({"emb_params": (2, 768)}).items()}


def upscaler() -> Weights:
    """Real-ESRGAN with one of its blocks."""
    wide, grown = 64, 32
    convolutions = {"conv_first": (wide, 3), "conv_last": (3, wide)}
    convolutions |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (wide, wide))
    for part in (1, 2, 3):
        for i in range(5):
            convolutions[f"body.0.rdb{part}.conv{i + 1}"] = (grown if i < 4 else wide, wide + grown * i)
    shapes = {f"{name}.weight": (*sizes, 3, 3) for name, sizes in convolutions.items()}
    shapes |= {f"{name}.bias": sizes[:1] for name, sizes in convolutions.items()}
    return {name: tensor.float() for name, tensor in random_of(shapes).items()}


FILES: dict[str, Callable[[], Weights]] = {
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors": lambda: checkpoint(4),
    "checkpoints/sd-v1-5-inpainting.safetensors": lambda: checkpoint(9),
    "vae/vae-ft-mse-840000-ema-pruned.safetensors": sd15_vae,
    "controlnet/control_v11p_sd15_canny_fp16.safetensors": controlnet,
    "loras/MoXinV1.safetensors": lora,
    "embeddings/EasyNegative.safetensors": embedding,
    "upscale_models/RealESRGAN_x4plus.safetensors": upscaler,
}
