"""Kandinsky 3: encodes prompts, and the sampling loops of its decoder.

References: diffusers `Kandinsky3Pipeline` and `Kandinsky3Img2ImgPipeline`; ai-forever/Kandinsky-3 for inpainting, the
original repository's own sampling, and flash.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.t5 import T5Encoder
from ..models.unet3 import UNet3Config
from .decoder import Predict
from .noise import Noise
from .prior import tokenize
from .schedulers import TRAIN_STEPS, DecoderScheduler
from .steps import OnStep, no_callback, steps_for_strength

FLASH_TIMESTEPS: tuple[int, ...] = (979, 729, 479, 229)
ORIGINAL_PERCENTILE, INPAINT_PERCENTILE = 0.99, 0.95
"""Dynamic thresholding ratios of the original repository."""


def with_thresholding(scheduler: DecoderScheduler, percentile: float) -> DecoderScheduler:
    """`scheduler` with the dynamic thresholding of the original repository, which does not limit the range."""
    return replace(scheduler, thresholding=True, dynamic_thresholding_ratio=percentile, sample_max_value=math.inf)


def scheduler_for(config: UNet3Config, scheduler: DecoderScheduler) -> DecoderScheduler:
    """`scheduler` for the variant of `config`: flash does not clip x0, inpainting uses the original thresholding."""
    if config.flash:
        return replace(scheduler, clip_sample=False, thresholding=False)
    return with_thresholding(scheduler, INPAINT_PERCENTILE) if config.inpaints else scheduler


@dataclass(frozen=True)
class Text3:
    """Encoded prompts: states [B, T, D], zero at padding, and mask [B, T] (1 = token, 0 = padding)."""

    states: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.states.ndim != 3 or self.states.shape[:2] != self.mask.shape:
            raise ValueError(
                "Expected text states [batch, tokens, width] and a mask [batch, tokens], got "
                f"{list(self.states.shape)} and {list(self.mask.shape)}."
            )

    def rows(self, count: int) -> Text3:
        """Expand a batch of one text to `count` rows. Raises ValueError if the batch is neither 1 nor `count`."""
        if len(self.states) not in (1, count):
            raise ValueError(f"Expected 1 or {count} texts, got {len(self.states)}.")
        return Text3(self.states.expand(count, -1, -1), self.mask.expand(count, -1))

    def repeat(self, times: int) -> Text3:
        """Repeat each text `times` times: a, a, b, b."""
        return Text3(self.states.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))

    def to(self, device: torch.device) -> Text3:
        return Text3(self.states.to(device), self.mask.to(device))

    def match_token_length(self, other: Text3) -> Text3:
        """Truncate or pad to the number of tokens of `other`, on which the UNet's output depends."""
        more = other.states.shape[1] - self.states.shape[1]
        return Text3(F.pad(self.states, (0, 0, 0, more)), F.pad(self.mask, (0, more)))

    @staticmethod
    def no_text(like: Text3) -> Text3:
        """Zero states and mask: what the reference uses if there is no negative prompt."""
        return Text3(torch.zeros_like(like.states), torch.zeros_like(like.mask))


@torch.inference_mode()
def encode_prompts(encoder: T5Encoder, tokenizer: Any, prompts: Sequence[str], device: torch.device) -> Text3:
    """Encode `prompts`, cut to the longest one plus one token of padding, as the reference does. Prompts that are too
    long are truncated, with a warning in the log."""
    ids, mask = (tensor.to(device) for tensor in tokenize(tokenizer, prompts, tokenizer.model_max_length))
    states = encoder(ids, mask) * mask[..., None]
    length = int(mask.sum(dim=1).max()) + 1
    return Text3(states[:, :length], mask[:, :length])


def blank_out(pixels: Tensor, repaint: Tensor) -> Tensor:
    """Set pixels [B, 3, H, W] in −1..1 to 0 (mean grey) wherever `repaint` [B, 1, H, W] is above 0."""
    return pixels.masked_fill(repaint > 0, 0.0)


@torch.inference_mode()
def sample(
    predict: Predict,
    scheduler: DecoderScheduler,
    shape: tuple[int, int, int, int],
    device: torch.device,
    noise: Noise,
    steps: int,
    guidance: float,
    start: Tensor | None = None,
    strength: float = 1.0,
    inpaints: bool = False,
    original: bool = False,
    on_step: OnStep = no_callback,
) -> Tensor:
    """Sample latents of `shape` [B, 4, h, w], float32.

    guidance: the reference's scale g, in (g + 1)·positive − g·negative; ComfyUI's cfg is g + 1.
    start: latents to start from (img2img), noised to `strength` of the schedule.
    original: use the timesteps and thresholding of the original repository; `inpaints` implies it.
    """
    original = original or inpaints
    if original:
        scheduler = with_thresholding(scheduler, INPAINT_PERCENTILE if inpaints else ORIGINAL_PERCENTILE)
        timesteps = original_timesteps(steps)
    else:
        timesteps = scheduler.timesteps(steps)
    spacing = TRAIN_STEPS // steps
    x = noise(shape).to(device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        x = scheduler.add_noise(start.to(x).expand(shape), x, timesteps[0])

    for i, t in enumerate(timesteps):
        eps, negative, _ = predict(x, t)
        if negative is not None:
            eps = (guidance + 1) * eps - guidance * negative
        if original:  # ends at timestep 0, and adds no noise there
            prev_timestep = timesteps[i + 1] if i + 1 < len(timesteps) else 0
            needs_noise = prev_timestep > 0
        else:
            prev_timestep, needs_noise = t - spacing, t > 0
        x, x0 = scheduler.step(eps, t, prev_timestep, x, noise(shape).to(x) if needs_noise else None)
        on_step(i + 1, len(timesteps), x0)
    return x


@torch.inference_mode()
def sample_flash(
    predict: Predict,
    scheduler: DecoderScheduler,
    shape: tuple[int, int, int, int],
    device: torch.device,
    noise: Noise,
    start: Tensor | None = None,
    strength: float = 1.0,
    on_step: OnStep = no_callback,
) -> Tensor:
    """Sample latents of `shape` [B, 4, h, w] in four steps without guidance. Each step adds noise to the previous x0
    (the first to noise) and predicts x0. With `start`, only the last steps run (the original repository's refiner)."""
    timesteps = list(FLASH_TIMESTEPS)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
    scheduler = replace(scheduler, clip_sample=False, thresholding=False)
    x0 = (noise(shape) if start is None else start.expand(shape)).to(device, torch.float32)
    for i, t in enumerate(timesteps):
        x = scheduler.add_noise(x0, noise(shape).to(x0), t)
        x0 = scheduler.predict_x0(predict(x, t).noise, t, x)
        on_step(i + 1, len(timesteps), x0)
    return x0


def original_timesteps(steps: int) -> list[int]:
    """Timesteps of the original repository, descending from 999; their number is about `steps`."""
    if not 1 <= steps < TRAIN_STEPS:
        raise ValueError(f"Kandinsky 3 expected 1 to {TRAIN_STEPS - 1} steps, got {steps}: 50 is usual.")
    return list(range(TRAIN_STEPS - 1, 0, -TRAIN_STEPS // steps))
