"""Kandinsky's noise schedule and timesteps for ComfyUI's samplers."""

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

MAX_SIGMA = 33.0
"""Limit of sigma_max. The cosine schedule ends at sigma 20291; karras and exponential would spend most steps above 33
(timestep 979), where latents are only noise."""
FULL_DENOISE_SIGMA = 19.0
"""Runs that start at this sigma or above are full denoise: timestep 950 of Kandinsky 2, 965 of Kandinsky 3."""


class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """The reference's noise schedule. As in the reference, an empty latent starts as noise of variance 1 (√(1 + σ²) in
    ComfyUI's scaling) even below sigma_max; latents of a picture get noise added."""

    @property
    def sigma_max(self) -> Tensor:
        """Largest sigma for ComfyUI's schedulers; `sigmas` has all 1000."""
        return self.sigmas[self.sigmas <= MAX_SIGMA][-1]

    def __init__(self, scheduler: DecoderScheduler) -> None:
        nn.Module.__init__(self)
        alphas_cumprod = scheduler.alphas_cumprod
        self.set_sigmas(((1 - alphas_cumprod) / alphas_cumprod) ** 0.5)
        # Attributes of ComfyUI's class; linear_start and linear_end have no meaning here.
        self.num_timesteps, self.linear_start, self.linear_end, self.zsnr = len(alphas_cumprod), 0.0, 0.0, False
        self.sigma_data = 1.0
        self.pure_noise_at: float | None = None

    def noise_scaling(
        self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool | None = None
    ) -> Tensor:
        # Only the call at the start of sampling passes max_denoise.
        starts = max_denoise is not None
        if self.pure_noise_at is not None and (sigma >= self.pure_noise_at).all():
            latent_image, max_denoise = torch.zeros_like(latent_image), True
        elif starts and not latent_image.any():
            max_denoise = True
        return super().noise_scaling(sigma, noise, latent_image, bool(max_denoise))

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        # DDIM without set_alpha_to_one ends at alphas_cumprod[0]: undo ComfyUI's scaling by √(1 + σ²).
        latent = super().inverse_noise_scaling(sigma, latent)
        return latent / (1 + sigma**2) ** 0.5 if 0 < sigma <= 1.001 * self.sigma_min else latent

    @contextmanager
    def from_noise(self, sigma: float) -> Iterator[None]:
        """For the run in this block, start from pure noise at `sigma`, in the kept part of a mask too."""
        self.pure_noise_at = sigma
        try:
            yield
        finally:
            self.pure_noise_at = None


def start_from_noise(
    executor: Any, guider: Any, sigmas: Tensor, extra_args: Any, callback: Any, noise: Tensor, *rest: Any
) -> Tensor:
    """SAMPLER_SAMPLE wrapper: inpainting at full denoise starts from pure noise, as in the reference."""
    run = (guider, sigmas, extra_args, callback, noise, *rest)
    inner = guider.inner_model
    inpaints = any(entry.get(INPAINTS) for entry in guider.conds.get("positive", []))
    # Another node may have replaced model_sampling. A run without noise continues an earlier one.
    if not inpaints or not isinstance(inner.model_sampling, Sampling) or not noise.any():
        return executor(*run)
    if not is_full_denoise(inner.decoder, inner.model_sampling.sigmas, sigmas):
        return executor(*run)
    with inner.model_sampling.from_noise(float(sigmas[0])):
        return executor(*run)


def is_full_denoise(decoder: Decoder, schedule: Tensor, sigmas: Tensor) -> bool:
    """Return True if `sigmas` are a complete run, and not a part of one (img2img).

    schedule: the sigmas [1000] of the model. With few steps, the reference's timesteps start far below sigma_max, so
    they are compared one by one.
    """
    steps = len(sigmas) - 1
    if steps < 1 or float(sigmas[0]) >= min(FULL_DENOISE_SIGMA, 0.999 * float(schedule[-1])):
        return steps >= 1
    if steps >= TRAIN_STEPS:
        return False
    starts, schedule = sigmas[:-1].cpu().float(), schedule.cpu()
    reference = reference_sigmas(decoder, schedule, steps, 1.0)[:-1]
    # ComfyUI's ddim_uniform has diffusers' "leading" spacing.
    complete = [reference, schedule[decoder.scheduler.timesteps(steps)]]
    return any(len(one) == steps and torch.allclose(starts, one.float(), rtol=1e-4) for one in complete)


class ClipX0:
    """Post-CFG function that clips or thresholds the predicted x0, as the reference's scheduler does."""

    def __init__(self, scheduler: DecoderScheduler) -> None:
        self.scheduler = scheduler

    def __call__(self, args: Mapping[str, Any]) -> Tensor:
        return self.scheduler.clip_x0(args["denoised"])


def reference_sigmas(decoder: Decoder, sigmas: Tensor, steps: int, denoise: float) -> Tensor:
    """The reference's timesteps as SIGMAS [steps + 1]; with denoise < 1, the last int(steps · denoise) of them.

    sigmas: [1000], those of the model. Kandinsky 3 flash always has four timesteps; Kandinsky 3 inpainting uses those
    of the original repository.
    """
    network, scheduler = decoder.network, decoder.scheduler
    timesteps = scheduler.timesteps(steps)
    if isinstance(network, UNet3Config) and network.flash:
        timesteps = list(FLASH_TIMESTEPS)
    elif isinstance(network, UNet3Config) and network.inpaints:
        timesteps = original_timesteps(steps)
    timesteps = steps_for_strength(timesteps, denoise)
    # DDIM without set_alpha_to_one ends at alphas_cumprod[0], not at sigma 0.
    last = sigmas[0] if scheduler.kind == "DDIM" and not scheduler.set_alpha_to_one else torch.zeros(())
    return torch.cat([sigmas[timesteps], last[None]]).float()
