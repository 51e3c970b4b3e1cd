"""Kandinsky 3 as ComfyUI's MODEL; the keys of its CONDITIONING are in keys.py."""

from __future__ import annotations

from typing import Any

import comfy.conds
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ..keys import KEEP, MASK, MASKED_LATENTS
from ..models.unet3 import UNet3, UNet3Config
from .model import Kandinsky, run_network, with_attention


class DiffusionUNet3(UNet3):
    """A Kandinsky 3 UNet with the interface of ComfyUI's UNets."""

    def __init__(
        self, kandinsky: UNet3Config, dtype: torch.dtype, device: Any = None, operations: Any = None, **_: Any
    ) -> None:
        super().__init__(kandinsky, with_attention(operations), dtype, device)
        self.dtype = dtype

    def forward(self, x: Tensor, timesteps: Tensor, **kwargs: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return run_network(self._predict, self, x, timesteps, **kwargs)

    def _predict(self, x: Tensor, timesteps: Tensor, text_states: Tensor, text_mask: Tensor, **_: Any) -> Tensor:
        return super().forward(x, timesteps, text_states, text_mask)


class Kandinsky3(Kandinsky):
    """Kandinsky 3. The reference's guidance g is ComfyUI's cfg g + 1."""

    unet = DiffusionUNet3

    @property
    def network(self) -> UNet3Config:
        assert isinstance(self.decoder.network, UNet3Config)
        return self.decoder.network

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out, width = super().extra_conds(**kwargs), self.network.encoder_hid_dim
        out.pop("c_crossattn", None)
        states, mask = kwargs.get("cross_attn"), kwargs.get(MASK)
        if states is None or states.ndim != 3 or states.shape[-1] != width:
            found = "none" if states is None else f"a tensor of shape {list(states.shape)}"
            raise ValueError(
                f"{self.decoder.name} expected conditioning with text states [batch, tokens, {width}], got {found} "
                "from another model's text encoder. Use CLIP Text Encode with the CLIP from Kandinsky CLIP Loader."
            )
        if mask is None:
            mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
        mask = mask * (states != 0).any()  # Conditioning Zero Out zeroes only the states
        # Not CONDCrossAttn, which repeats tokens to match lengths: the output depends on the number of tokens.
        out["text_states"], out["text_mask"] = (comfy.conds.CONDRegular(t) for t in (states, mask))
        return out

    def concat_cond(self, **kwargs: Any) -> Tensor | None:
        """Keep mask and masked latents [B, 5, h, w] for inpainting models (2.x has the mask last)."""
        if not self.network.inpaints:
            return None
        noise, device = kwargs["noise"], kwargs["device"]
        keep, latents = kwargs.get(KEEP), kwargs.get(MASKED_LATENTS)
        if keep is None or latents is None:
            raise ValueError(
                f"{self.decoder.name} is for inpainting and expected an image and a mask: put Kandinsky 3 "
                "Inpaint Conditioning before the sampler, or load a text-to-image model."
            )
        size = noise.shape[-2:]
        resized = [F.interpolate(t.to(device).float(), size, mode="nearest") for t in (keep, latents)]
        return torch.cat([comfy.utils.resize_to_batch_size(t, len(noise)) for t in resized], dim=1)
