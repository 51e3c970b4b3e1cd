"""Kandinsky 2.1 and 2.2 decoders as ComfyUI's MODEL; the keys of their CONDITIONING are in keys.py."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.conds
import comfy.utils
import torch
from torch import Tensor

from ..embeds import describe_width
from ..keys import HINT, IMAGE_EMBEDS, KEEP, PICTURE, POOLED
from ..models.movq import PIXELS_PER_LATENT
from ..models.unet2 import LATENT_CHANNELS, UNet2, UNet2Config
from ..sampling.decoder import keep_mask
from .model import VARIANCE, Kandinsky, run_network, with_attention


class DiffusionUNet2(UNet2):
    """A 2.x UNet with the interface of ComfyUI's UNets: returns the predicted noise without the variance."""

    def __init__(
        self, kandinsky: UNet2Config, dtype: torch.dtype, device: Any = None, operations: Any = None, **_: Any
    ) -> None:
        super().__init__(kandinsky, with_attention(operations), dtype, device)
        self.dtype = dtype

    def forward(self, x: Tensor, timesteps: Tensor, **kwargs: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        options = kwargs.get("transformer_options") or {}
        on_variance, cond_or_uncond = options.get(VARIANCE), options.get("cond_or_uncond")
        predict = partial(self._predict, on_variance=on_variance, cond_or_uncond=cond_or_uncond)
        return run_network(predict, self, x, timesteps, **kwargs)

    def _predict(
        self,
        x: Tensor,
        timesteps: Tensor,
        image_embeds: Tensor,
        context: Tensor | None = None,
        hint: Tensor | None = None,
        text_embeds: Tensor | None = None,
        on_variance: Any = None,
        cond_or_uncond: Any = None,
        **_: Any,
    ) -> Tensor:
        output = super().forward(x, timesteps, image_embeds, hint, text_embeds, context)
        if on_variance is not None:
            on_variance(output[:, LATENT_CHANNELS:].float(), cond_or_uncond)
        return output[:, :LATENT_CHANNELS]


class HintCond(comfy.conds.CONDRegular):
    """Hint in pixels, cropped to the area of a prompt (Conditioning Set Area), which is in latents."""

    def process_cond(self, batch_size: int, area: Any = None, **_: Any) -> HintCond:
        data = self.cond
        if area is not None:
            sides = len(area) // 2
            for i in range(sides):
                data = data.narrow(i + 2, area[i + sides] * PIXELS_PER_LATENT, area[i] * PIXELS_PER_LATENT)
        return self._copy_with(comfy.utils.repeat_to_batch_size(data, batch_size))


class Kandinsky2(Kandinsky):
    """A Kandinsky 2.x decoder. Its CONDITIONING comes from Kandinsky Conditioning."""

    unet = DiffusionUNet2

    @property
    def network(self) -> UNet2Config:
        assert isinstance(self.decoder.network, UNet2Config)
        return self.decoder.network

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out, network = super().extra_conds(**kwargs), self.network
        embeds = kwargs.get(IMAGE_EMBEDS)
        if network.reads_text:
            text, pooled = kwargs.get("cross_attn"), kwargs.get(POOLED)
            self.require("text", text, network.encoder_hid_dim, ndim=3)
            self.require("pooled text", pooled, network.cross_attention_dim, ndim=2)
            out["text_embeds"] = comfy.conds.CONDRegular(pooled)
        else:
            out.pop("c_crossattn", None)
            embeds = kwargs.get("cross_attn")
            embeds = embeds[:, 0] if embeds is not None and embeds.ndim == 3 and embeds.shape[1] == 1 else embeds
        self.require("image embeds", embeds, network.image_width, ndim=2)
        out["image_embeds"] = comfy.conds.CONDRegular(embeds)
        if network.reads_hint:
            out["hint"] = HintCond(self.hint(kwargs.get(HINT), kwargs["noise"]))
        return out

    def require(self, what: str, tensor: Tensor | None, width: int, ndim: int) -> None:
        if tensor is None or tensor.ndim != ndim or tensor.shape[-1] != width:
            found = "none" if tensor is None else f"a tensor of shape {list(tensor.shape)}"
            raise ValueError(
                f"{self.decoder.name} expected conditioning from Kandinsky Conditioning, with {what} "
                f"{describe_width(width)}; got {found}. 2.2 needs image embeds, 2.1 image embeds and text, made with "
                "the prior and text encoder of the same Kandinsky version."
            )

    def hint(self, hint: Tensor | None, noise: Tensor) -> Tensor:
        if hint is None:
            raise ValueError(
                f"{self.decoder.name} is a depth decoder and expected a hint in positive and negative: put "
                "Kandinsky Depth Hint between Kandinsky Conditioning and the sampler."
            )
        height, width = (side * PIXELS_PER_LATENT for side in noise.shape[-2:])
        return comfy.utils.common_upscale(hint, width, height, "bilinear", "center").to(noise)

    def concat_cond(self, **kwargs: Any) -> Tensor | None:
        """Masked latents and keep mask [B, 5, h, w] for inpainting decoders, from Kandinsky Inpaint Conditioning, or
        ComfyUI's Inpaint Model Conditioning or Set Latent Noise Mask."""
        if not self.network.inpaints:
            return None
        noise, device = kwargs["noise"], kwargs["device"]
        height, width = noise.shape[-2:]
        latents, keep = kwargs.get(PICTURE), kwargs.get(KEEP)
        latents = kwargs.get("latent_image") if latents is None else self.process_latent_in(latents)
        if keep is None:
            mask = kwargs.get("concat_mask", kwargs.get("denoise_mask"))
            if mask is not None:
                keep = keep_mask(mask.reshape(-1, 1, *mask.shape[-2:]).float().cpu(), (height, width))
        if keep is None or latents is None:
            raise ValueError(
                f"{self.decoder.name} is for inpainting and expected an image and a mask: put Kandinsky Inpaint "
                "Conditioning before the sampler, or load a text-to-image decoder."
            )
        if latents.shape[-2:] != noise.shape[-2:]:
            latents = comfy.utils.common_upscale(latents, width, height, "bilinear", "center")
        if keep.shape[-2:] != noise.shape[-2:]:
            keep = comfy.utils.common_upscale(keep, width, height, "nearest-exact", "center")
        latents, keep = (comfy.utils.resize_to_batch_size(t.to(device), len(noise)) for t in (latents, keep))
        return torch.cat([latents * keep, keep], dim=1)
