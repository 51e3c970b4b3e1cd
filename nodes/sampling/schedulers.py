"""Schedulers: UnCLIP for the prior, DDPM and DDIM for the decoder.

`timesteps(steps)` returns timesteps in descending order, indices 0..999 of the training schedule; `step(...)` does one
denoising step. References: diffusers schedulers of the same names; DDPM (Ho et al., 2020), formulas 6 and 7; DDIM (Song
et al., 2021), formula 12.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..models.config import read_config

TRAIN_STEPS = 1000


def linear_betas(start: float, end: float) -> Tensor:
    """[1000], evenly spaced (diffusers "linear", ComfyUI "sqrt_linear")."""
    return torch.linspace(start, end, TRAIN_STEPS, dtype=torch.float32)


def cosine_betas(max_beta: float = 0.999) -> Tensor:
    """[1000], cosine schedule of Nichol & Dhariwal, 2021 (diffusers "squaredcos_cap_v2")."""

    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = (1 - alpha_bar((i + 1) / TRAIN_STEPS) / alpha_bar(i / TRAIN_STEPS) for i in range(TRAIN_STEPS))
    return torch.tensor([min(beta, max_beta) for beta in betas], dtype=torch.float32)


def posterior(
    x: Tensor, x0: Tensor, alpha: Tensor, beta: Tensor, alpha_prod: Tensor, alpha_prod_prev: Tensor
) -> tuple[Tensor, Tensor]:
    """(mean, variance) of q(x_{t−1} | x_t, x0).

    alpha and beta are those of the step; alpha_prod and alpha_prod_prev are alphas_cumprod at t and at the previous
    timestep. All are float32 scalars, as in the reference: at the ends of a schedule its rounding shows in the result.
    """
    x0_factor = alpha_prod_prev.sqrt() * beta / (1 - alpha_prod)
    mean = x0_factor * x0 + alpha.sqrt() * (1 - alpha_prod_prev) / (1 - alpha_prod) * x
    return mean, ((1 - alpha_prod_prev) / (1 - alpha_prod) * beta).clamp(min=1e-20)


ONE = torch.tensor(1.0)


@dataclass(frozen=True)
class UnCLIPScheduler:
    """Scheduler of the prior. The network predicts x0, which is clamped to ±`clip_sample_range`."""

    clip_sample_range: float = 10.0

    @cached_property
    def betas(self) -> Tensor:
        """[1000]"""
        return cosine_betas()

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """[1000]"""
        return torch.cumprod(1 - self.betas, 0)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UnCLIPScheduler:
        expected = {
            "num_train_timesteps": TRAIN_STEPS,
            "variance_type": "fixed_small_log",
            "clip_sample": True,
            "prediction_type": "sample",
            "beta_schedule": "squaredcos_cap_v2",
        }
        # Defaults of the diffusers class, for missing keys.
        defaults = {"clip_sample_range": 1.0, "prediction_type": "epsilon"}
        return read_config(cls, defaults | dict(values), expected)

    def timesteps(self, steps: int) -> list[int]:
        """`steps` evenly spaced timesteps from 999 to 0. Raises ValueError for fewer than 2 steps: the spacing divides
        by steps − 1."""
        if not 2 <= steps <= TRAIN_STEPS:
            raise ValueError(f"The prior expected 2 to {TRAIN_STEPS} steps, got {steps}: 25 is usual.")
        # In the reference's order of operations, which decides how .5 is rounded.
        ratio = (TRAIN_STEPS - 1) / (steps - 1)
        return [round(i * ratio) for i in reversed(range(steps))]

    def step(self, x0: Tensor, t: int, prev_timestep: int, x: Tensor, noise: Tensor | None) -> Tensor:
        """x at `prev_timestep` (−1: clean), from x at `t` and the predicted x0. noise: standard normal like x; None at
        t = 0."""
        x0 = x0.clamp(-self.clip_sample_range, self.clip_sample_range)
        alpha_prod = self.alphas_cumprod[t]
        alpha_prod_prev = self.alphas_cumprod[prev_timestep] if prev_timestep >= 0 else ONE
        beta = self.betas[t] if prev_timestep == t - 1 else 1 - alpha_prod / alpha_prod_prev
        mean, variance = posterior(x, x0, 1 - beta, beta, alpha_prod, alpha_prod_prev)
        return mean if noise is None else mean + variance.sqrt() * noise

    def add_noise(self, x0: Tensor, noise: Tensor, t: int) -> Tensor:
        return add_noise(self.alphas_cumprod, x0, noise, t)


@dataclass(frozen=True)
class DecoderScheduler:
    """DDPM or DDIM scheduler of a decoder that predicts noise ("epsilon"). Fields as in scheduler_config.json."""

    kind: Literal["DDPM", "DDIM"] = "DDPM"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "linear"
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    variance_type: str = "fixed_small"
    set_alpha_to_one: bool = False
    steps_offset: int = 1

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """[1000]"""
        cosine = self.beta_schedule == "squaredcos_cap_v2"
        return torch.cumprod(1 - (cosine_betas() if cosine else linear_betas(self.beta_start, self.beta_end)), 0)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DecoderScheduler:
        name = values.get("_class_name", "DDPMScheduler")
        kinds = {"DDPMScheduler": "DDPM", "DDIMScheduler": "DDIM"}
        if name not in kinds:
            raise ValueError(f"The decoder's scheduler_config.json: expected {' or '.join(kinds)}, got {name}.")
        # Defaults of the diffusers classes, for missing keys, where Kandinsky's differ.
        defaults = {"steps_offset": 0, "set_alpha_to_one": True, "beta_start": 0.0001, "beta_end": 0.02}
        expected = {
            "num_train_timesteps": TRAIN_STEPS,
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
            "rescale_betas_zero_snr": False,
            "trained_betas": None,
        }
        scheduler = read_config(cls, defaults | dict(values) | {"kind": kinds[name]}, expected)
        if scheduler.beta_schedule not in ("linear", "squaredcos_cap_v2"):
            raise ValueError(f"Expected beta_schedule linear or squaredcos_cap_v2, got {scheduler.beta_schedule!r}.")
        if scheduler.variance_type not in ("fixed_small", "learned_range"):
            raise ValueError(f"Expected variance_type fixed_small or learned_range, got {scheduler.variance_type!r}.")
        return scheduler

    def timesteps(self, steps: int) -> list[int]:
        """Timesteps with "leading" spacing, descending: multiples of 1000 // steps, plus steps_offset."""
        if not 1 <= steps <= TRAIN_STEPS:
            raise ValueError(f"The decoder expected 1 to {TRAIN_STEPS} steps, got {steps}: 30 to 100 is usual.")
        spacing = TRAIN_STEPS // steps
        # With 1000 steps, the offset would exceed the schedule.
        return [min(i * spacing + self.steps_offset, TRAIN_STEPS - 1) for i in reversed(range(steps))]

    def predict_x0(self, eps: Tensor, t: int, x: Tensor) -> Tensor:
        alpha_prod = self.alphas_cumprod[t]
        return self.clip_x0((x - (1 - alpha_prod).sqrt() * eps) / alpha_prod.sqrt())

    def clip_x0(self, x0: Tensor) -> Tensor:
        """Apply dynamic thresholding or clipping to a predicted x0, if the config says so."""
        if self.thresholding:
            return dynamic_threshold(x0, self.dynamic_thresholding_ratio, self.sample_max_value)
        return x0.clamp(-self.clip_sample_range, self.clip_sample_range) if self.clip_sample else x0

    def step(
        self, eps: Tensor, t: int, prev_timestep: int, x: Tensor, noise: Tensor | None, variance: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(x at `prev_timestep`, predicted x0), from x [B, C, h, w] at `t` and the predicted noise `eps`.

        prev_timestep: < 0 at the end of the schedule. noise: standard normal like x; None at t = 0 and for DDIM.
        variance: predicted by the network, in −1..1; used if variance_type is "learned_range".
        """
        x0 = self.predict_x0(eps, t, x)
        if self.kind == "DDIM":
            final = ONE if self.set_alpha_to_one else self.alphas_cumprod[0]
            alpha_prod_prev = self.alphas_cumprod[prev_timestep] if prev_timestep >= 0 else final
            return alpha_prod_prev.sqrt() * x0 + (1 - alpha_prod_prev).sqrt() * eps, x0
        alpha_prod = self.alphas_cumprod[t]
        alpha_prod_prev = self.alphas_cumprod[prev_timestep] if prev_timestep >= 0 else ONE
        alpha = alpha_prod / alpha_prod_prev
        mean, fixed = posterior(x, x0, alpha, 1 - alpha, alpha_prod, alpha_prod_prev)
        if noise is None:
            return mean, x0
        if self.variance_type == "learned_range" and variance is not None:
            frac = (variance + 1) / 2
            return mean + torch.exp(0.5 * (frac * (1 - alpha).log() + (1 - frac) * fixed.log())) * noise, x0
        return mean + fixed.sqrt() * noise, x0

    def add_noise(self, x0: Tensor, noise: Tensor, t: int) -> Tensor:
        return add_noise(self.alphas_cumprod, x0, noise, t)


def dynamic_threshold(x0: Tensor, ratio: float, max_value: float) -> Tensor:
    """Clamp each of x0 [B, …] to ±s and divide it by s, the quantile `ratio` of its absolute values, in 1..max_value
    (Saharia et al., 2022)."""
    s = torch.quantile(x0.flatten(1).abs(), ratio, dim=1).clamp(1, max_value)
    s = s.reshape(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-s, s) / s


def add_noise(alphas_cumprod: Tensor, x0: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
    """x at t, one timestep or [B]: √alphas_cumprod[t] · x0 + √(1 − alphas_cumprod[t]) · noise."""
    alpha_prod = alphas_cumprod[t] if isinstance(t, int) else alphas_cumprod.to(x0.device)[t]
    alpha_prod = alpha_prod.reshape(-1, *[1] * (x0.ndim - 1)) if alpha_prod.ndim else alpha_prod
    return (alpha_prod.sqrt() * x0 + (1 - alpha_prod).sqrt() * noise).to(x0.dtype)
