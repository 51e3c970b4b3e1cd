"""What ComfyUI's samplers need to know: noise schedules, the reference's timesteps, where a run begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor, nn

from ..decoders import Decoder
from ..keys import INPAINTS
from ..models.unet3 import UNet3Config
from ..sampling.kandinsky3 import FLASH_TIMESTEPS, original_timesteps
from ..sampling.schedulers import TRAIN_STEPS, DecoderScheduler
from ..sampling.steps import steps_for_strength

LARGEST_SIGMA = 33.0
"""What schedules begin from at most. A cosine schedule ends at sigma 20291, and schedules that are even in sigma, as
karras and exponential, would spend most of their steps above 33 (timestep 979), where nothing but noise is seen."""
FULL_DENOISE_SIGMA = 19.0
"""From here on latents are noise for all that can be seen of them: timestep 950 of Kandinsky 2, 965 of Kandinsky 3."""


class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """The reference's noise schedule, and its start: at less than full noise, too, an empty latent becomes noise of
    variance 1 (in ComfyUI's units √(1 + σ²)), while a picture's latents get noise on top."""

    @property
    def sigma_max(self) -> Tensor:
        """The largest sigma that schedules use; `sigmas` has all 1000."""
        return self.sigmas[self.sigmas <= LARGEST_SIGMA][-1]

    def __init__(self, scheduler: DecoderScheduler) -> None:
        nn.Module.__init__(self)
        alphas_cumprod = scheduler.alphas_cumprod
        self.set_sigmas(((1 - alphas_cumprod) / alphas_cumprod) ** 0.5)
        # As ComfyUI's own schedules have; linear_start and linear_end say nothing here.
        self.num_timesteps, self.linear_start, self.linear_end, self.zsnr = (
            len(scheduler.alphas_cumprod),
            0.0,
            0.0,
            False,
        )
        self.sigma_data = 1.0
        self.pure_noise_at: float | None = None

    def noise_scaling(
        self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool | None = None
    ) -> Tensor:
        # A sampler says whether it starts from full noise; calls in mid-run leave that out.
        starts = max_denoise is not None
        if self.pure_noise_at is not None and (sigma >= self.pure_noise_at).all():
            latent_image, max_denoise = torch.zeros_like(latent_image), True
        elif starts and not latent_image.any():
            max_denoise = True
        return super().noise_scaling(sigma, noise, latent_image, bool(max_denoise))

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        # The reference's DDIM ends at the schedule's first step and takes x there as it is, √ᾱ of what it is here.
        latent = super().inverse_noise_scaling(sigma, latent)
        return latent / (1 + sigma**2) ** 0.5 if 0 < sigma <= 1.001 * self.sigma_min else latent

    @contextmanager
    def from_noise(self, sigma: float) -> Iterator[None]:
        """For a run that begins at `sigma`: there all is noise, what a mask keeps too, as in the reference."""
        self.pure_noise_at = sigma
        try:
            yield
        finally:
            self.pure_noise_at = None


def start_from_noise(
    executor: Any, guider: Any, sigmas: Tensor, extra_args: Any, callback: Any, noise: Tensor, *rest: Any
) -> Tensor:
    """Wraps a whole run of a sampler: inpainting at full denoise starts from pure noise, as the reference does."""
    run = (guider, sigmas, extra_args, callback, noise, *rest)
    inner = guider.inner_model
    inpaints = any(entry.get(INPAINTS) for entry in guider.conds.get("positive", []))
    # Another node may have put its own sampling in the place of ours. Without noise, a run goes on with what came.
    if not inpaints or not isinstance(inner.model_sampling, Sampling) or not noise.any():
        return executor(*run)
    if not is_full_denoise(inner.decoder, inner.model_sampling.sigmas, sigmas):
        return executor(*run)
    with inner.model_sampling.from_noise(float(sigmas[0])):
        return executor(*run)


def is_full_denoise(decoder: Decoder, schedule: Tensor, sigmas: Tensor) -> bool:
    """Whether a run of these SIGMAS is to make everything anew, and not only a part of the way.

    schedule: the sigmas [1000] of the model. The reference's own timesteps for
    few steps begin far from the end of the schedule, so they are recognised as a whole.
    """
    steps = len(sigmas) - 1
    if steps < 1 or float(sigmas[0]) >= min(FULL_DENOISE_SIGMA, 0.999 * float(schedule[-1])):
        return steps >= 1
    if steps >= TRAIN_STEPS:
        return False
    begins, schedule = sigmas[:-1].cpu().float(), schedule.cpu()
    reference = reference_sigmas(decoder, schedule, steps, 1.0)[:-1]
    # ComfyUI's ddim_uniform is spaced as diffusers' "leading".
    whole = [reference, schedule[decoder.scheduler.timesteps(steps)]]
    return any(len(one) == steps and torch.allclose(begins, one.float(), rtol=1e-4) for one in whole)


class Restrain:
    """What the reference does to each step's predicted picture, after guidance."""

    def __init__(self, scheduler: DecoderScheduler) -> None:
        self.scheduler = scheduler

    def __call__(self, args: Mapping[str, Any]) -> Tensor:
        return self.scheduler.clip_x0(args["denoised"])


def reference_sigmas(decoder: Decoder, sigmas: Tensor, steps: int, denoise: float) -> Tensor:
    """The reference's own timesteps as SIGMAS [steps + 1]; with denoise < 1 the last int(steps · denoise) of them.

    `sigmas` [1000] are those of the model's schedule. Kandinsky 3 flash has four timesteps, whatever is asked; its
    inpainting has the original repository's.
    """
    network, scheduler = decoder.network, decoder.scheduler
    timesteps = scheduler.timesteps(steps)
    if isinstance(network, UNet3Config) and network.flash:
        timesteps = list(FLASH_TIMESTEPS)
    elif isinstance(network, UNet3Config) and network.inpaints:
        timesteps = original_timesteps(steps)
    timesteps = steps_for_strength(timesteps, denoise)
    # DDIM without set_alpha_to_one ends at the schedule's first step, not at clean.
    last = sigmas[0] if scheduler.kind == "DDIM" and not scheduler.set_alpha_to_one else torch.zeros(())
    return torch.cat([sigmas[timesteps], last[None]]).float()
