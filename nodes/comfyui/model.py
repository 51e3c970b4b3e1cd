"""Kandinsky decoders as ComfyUI's MODEL, and what its CONDITIONING holds for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.lora
import comfy.lora_convert
import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor

from ..embeds import describe_width
from ..models.loader import WeightsError
from ..models.lora import lora_names
from ..models.unet2 import LATENT_CHANNELS, UNet2, UNet2Config
from ..sampling.decoder import keep_mask
from ..sampling.schedulers import DecoderScheduler
from .files import load_state
from .sampling import Sampling, begin_as_told, clip_denoised

PIXELS_PER_LATENT = 8

# Keys of CONDITIONING, beside the tensor that stands first in each entry: for 2.2 the image embeds [B, 1, D], so that
# ComfyUI's own averaging blends them; for 2.1 the text's hidden states [B, T, W].
IMAGE_EMBEDS = "kandinsky_image_embeds"
"""[B, D], for 2.1."""
HINT = "kandinsky_hint"
"""[B, 3, H, W] in 0..1, for depth decoders."""
KEEP = "kandinsky_keep"
"""[B, 1, h, w], 1 = keep, for inpainting decoders; with "concat_latent_image", the whole picture's latents."""


class Latents(comfy.latent_formats.LatentFormat):
    """MOVQ latents as they are. Previews need factors that are fitted to a MOVQ: see vae.py."""

    scale_factor = 1.0
    latent_channels = LATENT_CHANNELS
    latent_rgb_factors: list[list[float]] | None
    latent_rgb_factors_bias: list[float] | None


class DiffusionUNet2(UNet2):
    """A 2.x UNet as ComfyUI builds and calls one: predicted noise only, the learned variance is dropped."""

    def __init__(
        self, kandinsky: UNet2Config, dtype: torch.dtype, device: Any = None, operations: Any = None, **_: Any
    ) -> None:
        super().__init__(kandinsky, operations, dtype, device)
        self.dtype = dtype

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        image_embeds: Tensor | None = None,
        hint: Tensor | None = None,
        text_embeds: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        assert image_embeds is not None  # extra_conds always gives them
        return super().forward(x, timesteps, image_embeds, hint, text_embeds, context)[:, :LATENT_CHANNELS]


class Config(comfy.supported_models_base.BASE):
    """What ComfyUI asks of a model before there is one."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}
    latent_format = Latents
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]
    memory_usage_factor = 2.0

    def __init__(self, network: UNet2Config, scheduler: DecoderScheduler, name: str) -> None:
        super().__init__({"kandinsky": network})
        self.network, self.scheduler, self.name = network, scheduler, name

    def inpaint_model(self) -> bool:
        return False  # ComfyUI would set up SD's order of channels; Kandinsky2.concat_cond knows ours

    def get_model(self, state_dict: Mapping[str, Tensor], prefix: str = "", device: Any = None) -> Kandinsky2:
        return Kandinsky2(self, device=device)


class HintCond(comfy.conds.CONDRegular):
    """A picture eight times the latents' size, cut as they are where a prompt has an area of its own."""

    def process_cond(self, batch_size: int, area: Any = None, **_: Any) -> HintCond:
        data = self.cond
        if area is not None:
            sides = len(area) // 2
            for i in range(sides):
                data = data.narrow(i + 2, area[i + sides] * PIXELS_PER_LATENT, area[i] * PIXELS_PER_LATENT)
        return self._copy_with(comfy.utils.repeat_to_batch_size(data, batch_size))


class Kandinsky2(comfy.model_base.BaseModel):
    """A Kandinsky 2.x decoder. Its CONDITIONING comes from Kandinsky Conditioning; errors say so."""

    model_config: Config

    def __init__(self, model_config: Config, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.EPS, device=device, unet_model=DiffusionUNet2)
        self.model_sampling = Sampling(model_config.scheduler)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out, network = super().extra_conds(**kwargs), self.model_config.network
        embeds = kwargs.get(IMAGE_EMBEDS)
        if network.reads_text:
            text, pooled = kwargs.get("cross_attn"), kwargs.get("pooled_output")
            self.require("text", text, network.encoder_hid_dim, ndim=3)
            self.require("pooled text", pooled, network.cross_attention_dim, ndim=2)
            out["text_embeds"] = comfy.conds.CONDRegular(pooled)
        else:
            out.pop("c_crossattn", None)
            given = kwargs.get("cross_attn")
            embeds = given[:, 0] if given is not None and given.ndim == 3 and given.shape[1] == 1 else given
        self.require("image embeds", embeds, network.image_width, ndim=2)
        out["image_embeds"] = comfy.conds.CONDRegular(embeds)
        if network.reads_hint:
            out["hint"] = HintCond(self.hint(kwargs.get(HINT), kwargs["noise"]))
        return out

    def require(self, what: str, given: Tensor | None, width: int, ndim: int) -> None:
        if given is None or given.ndim != ndim or given.shape[-1] != width:
            found = "none" if given is None else f"a tensor of shape {list(given.shape)}"
            raise ValueError(
                f"{self.model_config.name} expected conditioning from Kandinsky Conditioning, with {what} "
                f"{describe_width(width)}; got {found}. Text conditioning alone does not do, nor do embeds of another "
                "Kandinsky version; a 2.1 decoder wants both."
            )

    def hint(self, given: Tensor | None, noise: Tensor) -> Tensor:
        if given is None:
            raise ValueError(
                f"{self.model_config.name} is a depth decoder and expected a hint in positive and negative: put "
                "Kandinsky Depth Hint between Kandinsky Conditioning and the sampler."
            )
        height, width = (side * PIXELS_PER_LATENT for side in noise.shape[-2:])
        return comfy.utils.common_upscale(given, width, height, "bilinear", "center").to(noise)

    def concat_cond(self, **kwargs: Any) -> Tensor | None:
        """Masked latents and keep mask [B, 5, h, w] for an inpainting decoder, from Kandinsky Inpaint Conditioning, or
        from what ComfyUI's own nodes for it give (Inpaint Model Conditioning, Set Latent Noise Mask)."""
        if not self.model_config.network.inpaints:
            return None
        noise, device = kwargs["noise"], kwargs["device"]
        height, width = noise.shape[-2:]
        latents, keep = kwargs.get("concat_latent_image"), kwargs.get(KEEP)
        latents = kwargs.get("latent_image") if latents is None else self.process_latent_in(latents)
        if keep is None:
            mask = kwargs.get("concat_mask", kwargs.get("denoise_mask"))
            if mask is not None:
                keep = keep_mask(mask.reshape(-1, 1, *mask.shape[-2:]).float().cpu(), (height, width))
        if keep is None or latents is None:
            raise ValueError(
                f"{self.model_config.name} is for inpainting and expected a picture and a mask: put Kandinsky Inpaint "
                "Conditioning before the sampler, or load a decoder that draws whole pictures."
            )
        if latents.shape[-2:] != noise.shape[-2:]:
            latents = comfy.utils.common_upscale(latents, width, height, "bilinear", "center")
        if keep.shape[-2:] != noise.shape[-2:]:
            keep = comfy.utils.common_upscale(keep, width, height, "nearest-exact", "center")
        latents, keep = (comfy.utils.resize_to_batch_size(t.to(device), len(noise)) for t in (latents, keep))
        return torch.cat([latents * keep, keep], dim=1)


@dataclass(frozen=True)
class WeightDtype:
    """How weights are kept: a dtype (None: ComfyUI chooses), and whether fp8 products are taken in fp8."""

    dtype: torch.dtype | None = None
    fast: bool = False


WEIGHT_DTYPES = {
    "default": WeightDtype(),
    "fp8_e4m3fn": WeightDtype(torch.float8_e4m3fn),
    "fp8_e4m3fn_fast": WeightDtype(torch.float8_e4m3fn, fast=True),
    "fp8_e5m2": WeightDtype(torch.float8_e5m2),
}


def load_model(
    file: Path, network: UNet2Config, scheduler: DecoderScheduler, name: str, weights: WeightDtype
) -> comfy.model_patcher.ModelPatcher:
    """The decoder in `file` as a ComfyUI MODEL. As ComfyUI's `load_diffusion_model_state_dict`, but strict: raises
    WeightsError naming missing, extra and misshapen tensors."""
    state = load_state(file, UNet2(network, device="meta"))
    config = Config(network, scheduler, name)
    supported, device = list(config.supported_inference_dtypes), management.get_torch_device()
    dtype = weights.dtype or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state),
        supported_dtypes=supported,
        weight_dtype=comfy.utils.weight_dtype(state),
    )
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    config.optimizations["fp8"] = weights.fast
    offload = management.unet_offload_device()
    model = config.get_model(state).to(offload)
    model.load_model_weights(state, "")
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)
    if scheduler.clip_sample:
        patcher.set_model_sampler_post_cfg_function(clip_denoised(scheduler))
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "kandinsky", begin_as_told)
    return patcher


def require_kandinsky(model: Any, node: str, otherwise: str) -> Config:
    """The config of a Kandinsky MODEL; TypeError for another one."""
    inner = getattr(model, "model", None)
    config = getattr(inner, "model_config", None)
    if not isinstance(config, Config):
        raise TypeError(f"{node} expected a Kandinsky model, got {type(inner).__name__}: for that one, {otherwise}.")
    return config


def with_lora(model: comfy.model_patcher.ModelPatcher, file: Path, strength: float) -> comfy.model_patcher.ModelPatcher:
    """`model` with the LoRA in `file`, in any of the published styles of keys. Raises WeightsError if nothing in it, or
    something misshapen, is for this model."""
    name, prefix = model.model.model_config.name, "diffusion_model."
    shapes = {key.removeprefix(prefix): value.shape for key, value in model.model.state_dict().items()}
    names = {style: prefix + key for style, key in lora_names(shapes).items()}
    names |= {prefix + style: key for style, key in names.items()}
    tensors = comfy.lora_convert.convert_lora(load_state(file))
    patches = comfy.lora.load_lora(tensors, names)
    if not patches:
        raise WeightsError(
            f"{file} expected to be a LoRA for {name}, but none of its keys names one of that network's layers; it "
            f"has, for instance, {next(iter(tensors), 'no tensors')!r}. Is it for another model?"
        )
    for key, adapter in patches.items():
        up, down = (getattr(adapter, "weights", None) or (None, None))[:2]
        if getattr(adapter, "name", "") == "lora" and up is not None and down is not None:
            wanted, found = shapes[key.removeprefix(prefix)], (up.shape[0], down.shape[1])
            if tuple(wanted[:2]) != found:
                raise WeightsError(
                    f"{file} does not fit {name}: {key.removeprefix(prefix)} is {list(wanted)}, the LoRA is for "
                    f"{list(found)}. Is it for another version of Kandinsky?"
                )
    patched = model.clone()
    patched.add_patches(patches, strength)
    return patched
