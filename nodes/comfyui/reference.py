"""The reference's own loops on a ComfyUI MODEL.

They run where one of ComfyUI's samplers would, so that loading, streaming, LoRAs, hooks, wrappers, areas of prompts,
batches that fit the memory, previews and interrupts are ComfyUI's. Only what the network predicts is handed on as it
is: the reference's schedulers do the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_sampling
import comfy.patcher_extension
import comfy.samplers
import latent_preview
import torch
from torch import Tensor, nn

from ..host import Loop
from ..keys import Conditioning
from ..sampling.decoder import Prediction
from ..sampling.schedulers import TRAIN_STEPS
from .model import VARIANCE
from .sampling import Restrain

REPLACED = {
    "sampler_cfg_function": "the guidance",
    "sampler_pre_cfg_function": "the guidance",
    "sampler_calc_cond_batch_function": "the guidance",
}
"""What nodes set on a MODEL that changes what the loops do themselves."""


class Timesteps(nn.Module):
    """Stands in for a model's sampling: a sigma is a timestep, and what goes in and comes out is not scaled."""

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
        """As ComfyUI's own: beyond all that comes at 0 or less, below it at 1 or more."""
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
    """A `Loop` as ComfyUI calls a sampler."""

    def __init__(self, loop: Loop, model: Any) -> None:
        self.loop, self.model = loop, model

    def sample(
        self, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor, *rest: Any
    ) -> Tensor:
        options = extra_args["model_options"]
        conds = [guider.conds["positive"], guider.conds.get("negative")]
        learned: list[Tensor] = []

        def learn(variance: Tensor, parts: Sequence[int]) -> None:
            learned.extend(variance.chunk(len(parts))[i] for i, part in enumerate(parts) if part == 0)

        options["transformer_options"] = {**options.get("transformer_options", {}), VARIANCE: learn}

        def predict(x: Tensor, t: int) -> Prediction:
            learned.clear()
            at = torch.full((len(x),), float(t), device=x.device)
            wanted, unwanted = comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, at, options)
            return Prediction(wanted, None if conds[1] is None else unwanted, learned[0] if learned else None)

        bar: list[Any] = []

        def on_step(step: int, total: int, x0: Tensor | None) -> None:
            if not bar:
                bar.append(latent_preview.prepare_callback(self.model, total))
            bar[0](step - 1, x0, None, total)

        return self.loop(predict, noise.device, on_step)


@torch.inference_mode()
def sample(
    model: Any, positive: Conditioning, negative: Conditioning | None, shape: tuple[int, ...], loop: Loop
) -> Tensor:
    """See `Host.sample`. Raises ValueError for a MODEL whose guidance or schedule other nodes have changed."""
    require_unchanged(model)
    model = model.clone()
    model.add_object_patch("model_sampling", Timesteps())
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": positive} if negative is None else {"positive": positive, "negative": negative})
    nothing = torch.zeros(shape)
    timesteps = torch.tensor([TRAIN_STEPS - 1.0, 0.0])  # the loop has its own
    return guider.sample(nothing, nothing, ReferenceSampler(loop, model), timesteps, disable_pbar=True, seed=0)


def require_unchanged(model: Any) -> None:
    changed = {why for key, why in REPLACED.items() if model.model_options.get(key)}
    after = model.model_options.get("sampler_post_cfg_function", [])
    if any(not isinstance(one, Restrain) for one in after):
        changed.add("the guidance")
    if "model_sampling" in model.object_patches:
        changed.add("the noise schedule")
    if changed:
        raise ValueError(
            f"Another node changed {' and '.join(sorted(changed))} of this MODEL, but this node runs the reference's "
            "own loop, which has its own. Connect the MODEL from before that node, or use KSampler."
        )
