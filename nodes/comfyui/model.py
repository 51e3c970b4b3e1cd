"""Base classes of Kandinsky decoders as ComfyUI's MODEL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from ..models.memory import unet_memory
from ..models.unet2 import LATENT_CHANNELS
from .sampling import Sampling

VARIANCE = "kandinsky_variance"
"""Key of transformer_options. Its value is called with the predicted variance and cond_or_uncond of the batch."""


class Latents(comfy.latent_formats.LatentFormat):
    """MOVQ latents, not scaled. vae.py sets the factors for previews."""

    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS
    latent_rgb_factors: list[list[float]] | None
    latent_rgb_factors_bias: list[float] | None


class UNetConfig(dict[str, Any]):
    """A unet_config without the keys that FreeU and other nodes for Stable Diffusion read. Raises ValueError for
    them."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"The model has no {key}: {NOT_STABLE_DIFFUSION}")


NOT_STABLE_DIFFUSION = (
    "this is a Kandinsky model. Nodes that patch blocks or attention of Stable Diffusion's UNet, such as FreeU, SAG, "
    "PAG, HyperTile, Deep Shrink and ControlNets, do not support it: remove them between Kandinsky Model Loader and "
    "the sampler."
)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """`layers.attend` with the attention that ComfyUI's options select."""
    return comfy.ldm.modules.attention.optimized_attention(q, k, v, heads, mask=bias)


def with_attention(operations: Any) -> Any:
    """ComfyUI's `operations` plus its attention."""
    return type(operations.__name__, (operations,), {"attend": staticmethod(attend)})


def run_network(forward: Callable[..., Tensor], unet: nn.Module, x: Tensor, timesteps: Tensor, **kwargs: Any) -> Tensor:
    """Run `forward(x, timesteps, **conditions)` of a UNet inside the DIFFUSION_MODEL wrappers of other nodes.

    kwargs: the arguments from ComfyUI; `control` and `transformer_options` are not passed on. Raises ValueError for
    patches of blocks and attention and for ControlNets, which would have no effect.
    """
    control, options = kwargs.pop("control", None), kwargs.pop("transformer_options", None) or {}
    kinds = (options.get("patches") or {}, options.get("patches_replace") or {})
    if control is not None or any(any(patches.values()) for patches in kinds):
        raise ValueError(f"Patches inside the network and ControlNets do not work here: {NOT_STABLE_DIFFUSION}")
    wrappers = comfy.patcher_extension.get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)

    def without_options(x: Tensor, timesteps: Tensor, context: Any, options: Any, **rest: Any) -> Tensor:
        return forward(x, timesteps, context=context, **rest)

    executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(without_options, unet, wrappers)
    # Argument order as in ComfyUI's UNets, which wrappers expect.
    return executor.execute(x, timesteps, kwargs.pop("context", None), options, **kwargs)


class Config(comfy.supported_models_base.BASE):
    """ComfyUI's config of a model."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}
    latent_format = Latents
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]

    def __init__(self, model: type[Kandinsky], decoder: Decoder) -> None:
        super().__init__({})
        self.unet_config = UNetConfig(kandinsky=decoder.network)
        self.model, self.decoder = model, decoder

    def inpaint_model(self) -> bool:
        return False  # True would set up SD's channel order; see concat_cond for Kandinsky's

    def get_model(self, state_dict: Mapping[str, Tensor], prefix: str = "", device: Any = None) -> Kandinsky:
        return self.model(self, device=device)


class Kandinsky(comfy.model_base.BaseModel):
    """Base class of Kandinsky2 and Kandinsky3."""

    unet: type[nn.Module]
    model_config: Config

    def __init__(self, model_config: Config, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.EPS, device=device, unet_model=self.unet)
        self.decoder = model_config.decoder
        self.model_sampling = Sampling(self.decoder.scheduler)

    def memory_required(self, input_shape: Sequence[int], cond_shapes: Any = None) -> int:
        """Bytes of one pass over latents of this shape, beside the weights; ComfyUI's own figure is one for all."""
        dtype = self.manual_cast_dtype or self.get_dtype()
        batch, _, height, width = input_shape
        return unet_memory(self.decoder.network, batch, height, width, dtype.itemsize)
