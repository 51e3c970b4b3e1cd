"""The reference schedulers: UnCLIP (priors), DDPM and DDIM (decoders).

Each offers `timesteps(steps)`, descending, and `step(...)`, one reverse step. Timesteps are indices 0..999 of the
training schedule. References: diffusers schedulers of the same names; DDPM (Ho et al., 2020), formulas 6 and 7;
DDIM (Song et al., 2021), formula 12.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..models.config import read_config

TRAIN_STEPS = 1000


def linear_betas(start: float, end: float) -> Tensor:
    """[1000], evenly spaced. (diffusers' "linear", ComfyUI's "sqrt_linear".)"""
    return torch.linspace(start, end, TRAIN_STEPS, dtype=torch.float32)


def cosine_betas(largest: float = 0.999) -> Tensor:
    """[1000] after Nichol & Dhariwal, 2021. (diffusers' "squaredcos_cap_v2".)"""

    def kept(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = (1 - kept((i + 1) / TRAIN_STEPS) / kept(i / TRAIN_STEPS) for i in range(TRAIN_STEPS))
    return torch.tensor([min(ratio, largest) for ratio in ratios], dtype=torch.float32)


def posterior(
    x: Tensor, x0: Tensor, alpha: Tensor, beta: Tensor, kept: Tensor, before: Tensor
) -> tuple[Tensor, Tensor]:
    """The step before x_t, knowing x0: (mean, variance).

    `kept` and `before` are ᾱ, the signal's share of the power, at this timestep and at the one before; `alpha` and
    `beta` are the step's, and sum to 1. All are float32 scalars: at the ends of a schedule the reference's rounding
    is visible in the result, and is kept.
    """
    mean = before.sqrt() * beta / (1 - kept) * x0 + alpha.sqrt() * (1 - before) / (1 - kept) * x
    return mean, ((1 - before) / (1 - kept) * beta).clamp(min=1e-20)


ONE = torch.tensor(1.0)


@dataclass(frozen=True)
class UnCLIPScheduler:
    """The prior's scheduler. The network predicts x0, which is clamped to ±`clip_sample_range`."""

    clip_sample_range: float = 10.0

    @cached_property
    def betas(self) -> Tensor:
        """[1000]."""
        return cosine_betas()

    @cached_property
    def kept(self) -> Tensor:
        """ᾱ [1000]."""
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
        # What the reference class assumes of keys that are left out.
        defaults = {"clip_sample_range": 1.0, "prediction_type": "epsilon"}
        return read_config(cls, defaults | dict(values), expected)

    def timesteps(self, steps: int) -> list[int]:
        """`steps` evenly spaced timesteps from 999 to 0. Raises ValueError for fewer than 2: the spacing divides
        by steps − 1."""
        if not 2 <= steps <= TRAIN_STEPS:
            raise ValueError(f"The prior expected 2 to {TRAIN_STEPS} steps, got {steps}: 25 is usual.")
        # In the reference's order of operations, which decides where .5 is rounded to.
        ratio = (TRAIN_STEPS - 1) / (steps - 1)
        return [round(i * ratio) for i in reversed(range(steps))]

    def step(self, x0: Tensor, t: int, before: int, x: Tensor, noise: Tensor | None) -> Tensor:
        """x at timestep `before` (−1: clean), from x at `t`; `noise` is a standard normal like x, None at t = 0."""
        x0 = x0.clamp(-self.clip_sample_range, self.clip_sample_range)
        kept, kept_before = self.kept[t], self.kept[before] if before >= 0 else ONE
        beta = self.betas[t] if before == t - 1 else 1 - kept / kept_before
        mean, variance = posterior(x, x0, 1 - beta, beta, kept, kept_before)
        return mean if noise is None else mean + variance.sqrt() * noise

    def add_noise(self, x0: Tensor, noise: Tensor, t: int) -> Tensor:
        return add_noise(self.kept, x0, noise, t)


@dataclass(frozen=True)
class DecoderScheduler:
    """DDPM or DDIM over a decoder that predicts noise ("epsilon")."""

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
    def kept(self) -> Tensor:
        """ᾱ [1000]."""
        cosine = self.beta_schedule == "squaredcos_cap_v2"
        return torch.cumprod(1 - (cosine_betas() if cosine else linear_betas(self.beta_start, self.beta_end)), 0)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DecoderScheduler:
        name = values.get("_class_name", "DDPMScheduler")
        kinds = {"DDPMScheduler": "DDPM", "DDIMScheduler": "DDIM"}
        if name not in kinds:
            raise ValueError(f"The decoder's scheduler_config.json: expected {' or '.join(kinds)}, got {name}.")
        # What the reference classes assume of a key that is left out, where that is not what Kandinsky uses.
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

    def of_kind(self, kind: Literal["DDPM", "DDIM"]) -> DecoderScheduler:
        """The same schedule, sampled the other way."""
        return replace(self, kind=kind)

    def timesteps(self, steps: int) -> list[int]:
        """ "Leading" spacing, descending: whole multiples of 1000 // steps, plus the offset."""
        if not 1 <= steps <= TRAIN_STEPS:
            raise ValueError(f"The decoder expected 1 to {TRAIN_STEPS} steps, got {steps}: 30 to 100 is usual.")
        spacing = TRAIN_STEPS // steps
        # With 1000 steps the offset would reach past the end of the schedule.
        return [min(i * spacing + self.steps_offset, TRAIN_STEPS - 1) for i in reversed(range(steps))]

    def predict_x0(self, eps: Tensor, t: int, x: Tensor) -> Tensor:
        kept = self.kept[t]
        return self.restrained((x - (1 - kept).sqrt() * eps) / kept.sqrt())

    def restrained(self, x0: Tensor) -> Tensor:
        """A predicted x0 kept in its range, in the schedule's way, if it has one."""
        if self.thresholding:
            return dynamic_threshold(x0, self.dynamic_thresholding_ratio, self.sample_max_value)
        return x0.clamp(-self.clip_sample_range, self.clip_sample_range) if self.clip_sample else x0

    def step(
        self, eps: Tensor, t: int, before: int, x: Tensor, noise: Tensor | None, variance: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(x at timestep `before`, predicted x0), from x [B, C, h, w] at `t` and the predicted noise.

        `before` < 0 means past the end. `noise` is a standard normal like x (DDPM; None at t = 0; DDIM takes none).
        `variance` is the network's, −1..1, where the schedule's is learned_range.
        """
        x0 = self.predict_x0(eps, t, x)
        if self.kind == "DDIM":
            last = ONE if self.set_alpha_to_one else self.kept[0]
            kept_before = self.kept[before] if before >= 0 else last
            return kept_before.sqrt() * x0 + (1 - kept_before).sqrt() * eps, x0
        kept, kept_before = self.kept[t], self.kept[before] if before >= 0 else ONE
        alpha = kept / kept_before
        mean, fixed = posterior(x, x0, alpha, 1 - alpha, kept, kept_before)
        if noise is None:
            return mean, x0
        if self.variance_type == "learned_range" and variance is not None:
            share = (variance + 1) / 2
            return mean + torch.exp(0.5 * (share * (1 - alpha).log() + (1 - share) * fixed.log())) * noise, x0
        return mean + fixed.sqrt() * noise, x0

    def add_noise(self, x0: Tensor, noise: Tensor, t: int) -> Tensor:
        return add_noise(self.kept, x0, noise, t)


def dynamic_threshold(x0: Tensor, ratio: float, largest: float) -> Tensor:
    """Each of x0 [B, …] clamped to ±s and divided by s, the quantile `ratio` of its absolute values, s in 1..largest
    (Saharia et al., 2022)."""
    limit = torch.quantile(x0.flatten(1).abs(), ratio, dim=1).clamp(1, largest)
    limit = limit.reshape(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-limit, limit) / limit


def add_noise(kept: Tensor, x0: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
    """x at timestep(s) t: √ᾱ x0 + √(1 − ᾱ) noise. t is one timestep, or [B]."""
    share = kept[t] if isinstance(t, int) else kept.to(x0.device)[t]
    share = share.reshape(-1, *[1] * (x0.ndim - 1)) if share.ndim else share
    return (share.sqrt() * x0 + (1 - share).sqrt() * noise).to(x0.dtype)
