"""What all Kandinsky decoders have in common as ComfyUI's MODEL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.latent_formats
import comfy.ldm.modules.attention
import comfy.model_base
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ..decoders import Decoder
from ..models.unet2 import LATENT_CHANNELS
from .sampling import Sampling

PIXELS_PER_LATENT = 8

VARIANCE = "kandinsky_variance"
"""Key of transformer_options: called with the learned variance and the numbers of the conditionings in its batch."""


class Latents(comfy.latent_formats.LatentFormat):
    """MOVQ latents as they are. Previews need factors that are fitted to a MOVQ: see vae.py."""

    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS
    latent_rgb_factors: list[list[float]] | None
    latent_rgb_factors_bias: list[float] | None


class Sizes(dict[str, Any]):
    """A unet_config without the sizes that FreeU and other nodes for Stable Diffusion read; the error says why."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"The model has no {key}: {NOT_STABLE_DIFFUSION}")


NOT_STABLE_DIFFUSION = (
    "this is a Kandinsky model. Nodes that change the blocks or the attention of Stable Diffusion's UNet, such as "
    "FreeU, SAG, PAG, HyperTile, Deep Shrink and ControlNets, are not made for it: take them out between Kandinsky "
    "Model Loader and the sampler."
)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """As `layers.attend`, in the way that ComfyUI's options choose."""
    return comfy.ldm.modules.attention.optimized_attention(q, k, v, heads, mask=bias)


def with_attention(operations: Any) -> Any:
    """ComfyUI's layers, and its attention."""
    return type(operations.__name__, (operations,), {"attend": staticmethod(attend)})


def run_network(forward: Callable[..., Tensor], unet: nn.Module, x: Tensor, timesteps: Tensor, **given: Any) -> Tensor:
    """Runs `forward(x, timesteps, **conditions)` of a UNet within the wrappers that nodes put around ComfyUI's models.

    given: what ComfyUI hands a network, of which `control` and `transformer_options` are not for `forward`. Raises
    ValueError for patches of blocks and attention, and for ControlNets, which could not be heeded.
    """
    control, options = given.pop("control", None), given.pop("transformer_options", None) or {}
    kinds = (options.get("patches") or {}, options.get("patches_replace") or {})
    if control is not None or any(any(patches.values()) for patches in kinds):
        raise ValueError(f"Patches inside the network, and ControlNets, do not work here: {NOT_STABLE_DIFFUSION}")
    wrappers = comfy.patcher_extension.get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)

    def without_options(x: Tensor, timesteps: Tensor, context: Any, options: Any, **rest: Any) -> Tensor:
        return forward(x, timesteps, context=context, **rest)

    executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(without_options, unet, wrappers)
    # In the order and with the names that wrappers of other nodes look for.
    return executor.execute(x, timesteps, given.pop("context", None), options, **given)


class Config(comfy.supported_models_base.BASE):
    """What ComfyUI asks of a model before there is one."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}
    latent_format = Latents
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]
    memory_usage_factor = 2.0

    def __init__(self, model: type[Kandinsky], decoder: Decoder) -> None:
        super().__init__({})
        self.unet_config = Sizes(kandinsky=decoder.network)
        self.model, self.decoder = model, decoder

    def inpaint_model(self) -> bool:
        return False  # ComfyUI would set up SD's order of channels; our concat_cond knows Kandinsky's

    def get_model(self, state_dict: Mapping[str, Tensor], prefix: str = "", device: Any = None) -> Kandinsky:
        return self.model(self, device=device)


class Kandinsky(comfy.model_base.BaseModel):
    """A Kandinsky decoder in ComfyUI's frame; its kinds say what their UNet is and what it wants."""

    unet: type[nn.Module]
    model_config: Config

    def __init__(self, model_config: Config, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.EPS, device=device, unet_model=self.unet)
        self.decoder = model_config.decoder
        self.model_sampling = Sampling(self.decoder.scheduler)
