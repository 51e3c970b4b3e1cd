"""Runs the reference's sampling loops on a ComfyUI MODEL.

A loop runs as a ComfyUI sampler, so offloading, LoRAs, hooks, wrappers, prompt areas, batching, previews and interrupts
are ComfyUI's. The loop gets the network's raw output; schedule and guidance are the reference's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.samplers
import latent_preview
import torch
from torch import Tensor, nn

from ..host import Loop
from ..keys import Conditioning
from ..sampling.decoder import Prediction
from ..sampling.schedulers import TRAIN_STEPS
from .model import VARIANCE
from .sampling import ClipX0

GUIDANCE_OPTIONS = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_calc_cond_batch_function")
"""model_options with another guidance, which the reference's loops would ignore."""


class Timesteps(nn.Module):
    """A model_sampling without scaling, whose sigmas are timesteps."""

    sigma_data = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.sigmas = torch.arange(TRAIN_STEPS, dtype=torch.float32)
        self.sigma_min, self.sigma_max = self.sigmas[0], self.sigmas[-1]

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma

    def sigma(self, timestep: Tensor) -> Tensor:
        return timestep

    def percent_to_sigma(self, percent: float) -> float:
        """As in ComfyUI: a huge value at 0 or less, 0 at 1 or more."""
        if not 0 < percent < 1:
            return 999999999.9 if percent <= 0 else 0.0
        return (1 - percent) * (TRAIN_STEPS - 1)

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return noise

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_output

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        return noise

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent


class ReferenceSampler:
    """A `Loop` with the interface of ComfyUI's samplers."""

    def __init__(self, loop: Loop, model: Any) -> None:
        self.loop, self.model = loop, model

    def sample(
        self, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor, *rest: Any
    ) -> Tensor:
        options = extra_args["model_options"]
        conds = [guider.conds["positive"], guider.conds.get("negative")]
        variances: list[Tensor] = []

        def on_variance(variance: Tensor, cond_or_uncond: Sequence[int]) -> None:
            chunks = variance.chunk(len(cond_or_uncond))
            variances.extend(chunk for chunk, i in zip(chunks, cond_or_uncond, strict=True) if i == 0)

        options["transformer_options"] = {**options.get("transformer_options", {}), VARIANCE: on_variance}

        def predict(x: Tensor, t: int) -> Prediction:
            variances.clear()
            timesteps = torch.full((len(x),), float(t), device=x.device)
            positive, negative = comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, timesteps, options)
            return Prediction(positive, None if conds[1] is None else negative, variances[0] if variances else None)

        callbacks: list[Any] = []

        def on_step(step: int, total: int, x0: Tensor | None) -> None:
            if not callbacks:
                callbacks.append(latent_preview.prepare_callback(self.model, total))
            callbacks[0](step - 1, x0, None, total)

        return self.loop(predict, noise.device, on_step)


@torch.inference_mode()
def sample(
    model: Any, positive: Conditioning, negative: Conditioning | None, shape: tuple[int, ...], loop: Loop
) -> Tensor:
    """See `Host.sample`. Raises ValueError if other nodes changed the guidance or schedule of the MODEL."""
    require_unchanged(model)
    model = model.clone()
    model.add_object_patch("model_sampling", Timesteps())
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": positive} if negative is None else {"positive": positive, "negative": negative})
    zeros = torch.zeros(shape)
    timesteps = torch.tensor([TRAIN_STEPS - 1.0, 0.0])  # a placeholder; the loop computes its own
    return guider.sample(zeros, zeros, ReferenceSampler(loop, model), timesteps, disable_pbar=True, seed=0)


def require_unchanged(model: Any) -> None:
    changed = []
    post_cfg = model.model_options.get("sampler_post_cfg_function", [])
    if any(map(model.model_options.get, GUIDANCE_OPTIONS)) or any(not isinstance(one, ClipX0) for one in post_cfg):
        changed.append("the guidance")
    if "model_sampling" in model.object_patches:
        changed.append("the noise schedule")
    if changed:
        raise ValueError(
            f"Another node changed {' and '.join(changed)} of this MODEL, but this node runs the original "
            "sampling loop, which would ignore that. Connect the MODEL from before that node, or use KSampler."
        )
