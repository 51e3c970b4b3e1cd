"""Loads Kandinsky decoders and LoRAs as ComfyUI's MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.model_management as management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.utils
import torch
from torch import Tensor, nn

from .. import host
from ..decoders import Decoder, of_unet
from ..models.layers import SkipInit
from ..models.loader import WeightsError, check_shapes, tensor_shapes
from ..models.lora import lora_names
from ..models.unet2 import UNet2, UNet2Config
from ..models.unet3 import UNet3
from ..sampling.kandinsky3 import scheduler_for
from .model import Config, Kandinsky
from .model2 import Kandinsky2
from .model3 import Kandinsky3
from .sampling import ClipX0, start_from_noise
from .vae import show_previews

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "auto": None,  # chosen by ComfyUI
    **host.DTYPES,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


def load_model(
    file: Path, decoder: Decoder, dtype: str, disable_dynamic: bool = True
) -> comfy.model_patcher.ModelPatcher:
    """Load the decoder in `file` as a ComfyUI MODEL, as ComfyUI's `load_diffusion_model_state_dict` does, but strictly.
    disable_dynamic: passed by ComfyUI when it loads the model again; a Kandinsky MODEL is never dynamic. Raises
    WeightsError naming missing, unexpected and mismatched tensors."""
    network, scheduler = decoder.network, decoder.scheduler
    if isinstance(network, UNet2Config):
        kind, meta = Kandinsky2, UNet2(network, SkipInit, device="meta")
    else:
        kind, meta = Kandinsky3, UNet3(network, SkipInit, device="meta")
        scheduler = scheduler_for(network, scheduler)
    state = load_state(file, meta)
    config = Config(kind, decoder)
    supported, device = list(config.supported_inference_dtypes), management.get_torch_device()
    weight_dtype = WEIGHT_DTYPES[dtype] or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state),
        supported_dtypes=supported,
        weight_dtype=comfy.utils.weight_dtype(state),
    )
    config.set_inference_dtype(weight_dtype, management.unet_manual_cast(weight_dtype, device, supported))
    config.optimizations["fp8"] = dtype.endswith("_fast")  # matrix multiplication in fp8
    offload = management.unet_offload_device()
    model = config.get_model(state).to(offload)
    model.load_model_weights(state, "")
    model.diffusion_model.to(weight_dtype)  # newer versions create some layers while loading, in the file's dtype
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)
    # Newer versions call this for a copy with weights of its own: to train a LoRA, and for several GPUs.
    patcher.cached_patcher_init = (load_model, (file, decoder, dtype))
    if scheduler.clip_sample or scheduler.thresholding:
        patcher.set_model_sampler_post_cfg_function(ClipX0(scheduler))
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "kandinsky", start_from_noise)
    if decoder.vae is not None:
        show_previews(patcher, decoder.vae)
    return patcher


def load_state(file: Path, network: nn.Module | None = None) -> dict[str, Tensor]:
    """Load the tensors of a safetensors file, memory-mapped, and check that they are those of `network`, if given.
    Raises WeightsError."""
    found = of_unet(tensor_shapes(file))  # raises WeightsError for a damaged file, before ComfyUI's own error
    if network is not None:
        check_shapes(file, {key: tuple(value.shape) for key, value in network.state_dict().items()}, found)
    return of_unet(comfy.utils.load_torch_file(str(file), safe_load=True))


def require_kandinsky(model: Any, node: str, otherwise: str = "use the nodes made for it") -> Decoder:
    """Return the decoder of a Kandinsky MODEL. Raises TypeError for other models."""
    inner = getattr(model, "model", None)
    if not isinstance(inner, Kandinsky):
        raise TypeError(
            f"{node} expected a Kandinsky 2 or 3 model, got {type(inner).__name__}: for that model, {otherwise}. "
            "(Kandinsky 5 is supported by ComfyUI itself.)"
        )
    return inner.decoder


def with_lora(model: comfy.model_patcher.ModelPatcher, file: Path, strength: float) -> comfy.model_patcher.ModelPatcher:
    """Copy of `model` with the LoRA in `file`; see lora.py for the supported key styles. Raises WeightsError if it has
    no key of this model, or a shape that does not match."""
    name, prefix = model.model.decoder.name, "diffusion_model."
    shapes = {key.removeprefix(prefix): value.shape for key, value in model.model.state_dict().items()}
    names = {style: prefix + key for style, key in lora_names(shapes).items()}
    names |= {prefix + style: key for style, key in names.items()}
    tensors = comfy.lora_convert.convert_lora(load_state(file))
    patches = comfy.lora.load_lora(tensors, names)
    if not patches:
        raise WeightsError(
            f"Expected a LoRA for {name}, but no key of {file} is the name of a layer of it; its first key is "
            f"{next(iter(tensors), 'no tensors')!r}. Is it for another model?"
        )
    for key, adapter in patches.items():
        up, down = (getattr(adapter, "weights", None) or (None, None))[:2]
        if getattr(adapter, "name", "") == "lora" and up is not None and down is not None:
            wanted, found = shapes[key.removeprefix(prefix)], (up.shape[0], down.shape[1])
            # ComfyUI's Train LoRA saves a convolution's input channels and kernel as one dimension.
            if found not in ((wanted[0], wanted[1]), (wanted[0], wanted[1:].numel())):
                raise WeightsError(
                    f"{file} does not match {name}: {key.removeprefix(prefix)}: expected {list(wanted)}, got "
                    f"{list(found)}. Is it for another version of Kandinsky?"
                )
    patched = model.clone()
    patched.add_patches(patches, strength)
    return patched
