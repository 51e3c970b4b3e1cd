"""Running Kandinsky 3: prompts to text states, text states to latents.

References: diffusers `Kandinsky3Pipeline` and `Kandinsky3Img2ImgPipeline`; ai-forever/Kandinsky-3 for inpainting, the
original repository's own sampling, and flash.
"""

from __future__ import annotations

import logging
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
from .schedulers import TRAIN_STEPS, DecoderScheduler
from .steps import OnStep, quiet, steps_for_strength

log = logging.getLogger(__name__)

FLASH_TIMESTEPS: tuple[int, ...] = (979, 729, 479, 229)
ORIGINAL_PERCENTILE, INPAINT_PERCENTILE = 0.99, 0.95
"""Of the original repository's thresholding of x0."""


def thresholding(scheduler: DecoderScheduler, percentile: float) -> DecoderScheduler:
    """`scheduler` with the original repository's way of keeping x0 in its range."""
    return replace(scheduler, thresholding=True, dynamic_thresholding_ratio=percentile, sample_max_value=math.inf)


def scheduler_for(config: UNet3Config, scheduler: DecoderScheduler) -> DecoderScheduler:
    """How x0 is kept in its range in `config`'s variant: flash leaves it alone, inpainting is the original's."""
    if config.flash:
        return replace(scheduler, clip_sample=False, thresholding=False)
    return thresholding(scheduler, INPAINT_PERCENTILE) if config.inpaints else scheduler


@dataclass(frozen=True)
class Text3:
    """States [B, T, D] of encoded prompts, zero where there is no token, and mask [B, T] (1 = a token)."""

    states: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.states.ndim != 3 or self.states.shape[:2] != self.mask.shape:
            raise ValueError(
                "Expected text states [batch, tokens, width] and a mask [batch, tokens], got "
                f"{list(self.states.shape)} and {list(self.mask.shape)}."
            )

    def rows(self, count: int) -> Text3:
        """The same for `count` pictures: one text serves all. Raises ValueError if there are others."""
        if len(self.states) not in (1, count):
            raise ValueError(f"Expected 1 or {count} texts, got {len(self.states)}.")
        return Text3(self.states.expand(count, -1, -1), self.mask.expand(count, -1))

    def repeat(self, times: int) -> Text3:
        """Each text `times` times, one behind the other."""
        return Text3(self.states.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))

    def to(self, device: torch.device) -> Text3:
        return Text3(self.states.to(device), self.mask.to(device))

    def as_long_as(self, other: Text3) -> Text3:
        """The same with as many tokens as `other`, cut or padded: what the UNet says depends on that number, and one
        batch has one."""
        more = other.states.shape[1] - self.states.shape[1]
        return Text3(F.pad(self.states, (0, 0, 0, more)), F.pad(self.mask, (0, more)))

    @staticmethod
    def nothing(like: Text3) -> Text3:
        """No text at all: what the reference takes where there is no negative prompt."""
        return Text3(torch.zeros_like(like.states), torch.zeros_like(like.mask))


@torch.inference_mode()
def encode_prompts(encoder: T5Encoder, tokenizer: Any, prompts: Sequence[str], device: torch.device) -> Text3:
    """Text states of `prompts`, as long as the longest of them and one more; what does not fit is cut, and logged."""
    longest = tokenizer.model_max_length
    got = tokenizer(list(prompts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
    for prompt, ids in zip(prompts, tokenizer(list(prompts)).input_ids, strict=True):
        if len(ids) > longest:
            lost = tokenizer.decode(ids[longest - 1 : -1], skip_special_tokens=True)
            log.warning("The text encoder reads %d tokens; the end of %r was cut: %r", longest, prompt, lost)
    mask = got.attention_mask.to(device)
    states = encoder(got.input_ids.to(device), mask) * mask[..., None]
    length = int(mask.sum(dim=1).max()) + 1  # the reference keeps one place of padding
    return Text3(states[:, :length], mask[:, :length])


def blank_out(pixels: Tensor, repaint: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] in −1..1 with 0, mean grey, wherever `repaint` [B, 1, H, W] is above 0."""
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
    on_step: OnStep = quiet,
) -> Tensor:
    """Latents of `shape`, [B, 4, h, w], float32, from what `predict` says of them.

    With guidance g > 1 each step takes (g + 1)·with − g·without the text: g is the reference's, and g + 1 what ComfyUI
    calls cfg. With `start`, latents like the result, the run begins from them with noise (img2img), `strength` of the
    way back. `original` takes the timesteps and the thresholding of the original repository, and so does `inpaints`.
    """
    original = original or inpaints
    if original:
        scheduler = thresholding(scheduler, INPAINT_PERCENTILE if inpaints else ORIGINAL_PERCENTILE)
        timesteps = original_timesteps(steps)
    else:
        timesteps = scheduler.timesteps(steps)
    spacing = TRAIN_STEPS // steps
    x = noise(shape).to(device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        x = scheduler.add_noise(start.to(x).expand(shape), x, timesteps[0])

    for i, t in enumerate(timesteps):
        eps, without, _ = predict(x, t)
        if without is not None:
            eps = (guidance + 1) * eps - guidance * without
        if original:  # it ends at timestep 0, without noise, not past the end
            before = timesteps[i + 1] if i + 1 < len(timesteps) else 0
            noisy = before > 0
        else:
            before, noisy = t - spacing, t > 0
        x, x0 = scheduler.step(eps, t, before, x, noise(shape).to(x) if noisy else None)
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
    on_step: OnStep = quiet,
) -> Tensor:
    """Latents of `shape` in four steps without guidance: each adds noise to the x0 of the step before, the first to
    noise, and predicts x0 anew. With `start` the last steps only, from there: the original's refiner."""
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
    """The original repository's, descending from 999, about as many as `steps`."""
    if not 1 <= steps < TRAIN_STEPS:
        raise ValueError(f"Kandinsky 3 expected 1 to {TRAIN_STEPS - 1} steps, got {steps}: 50 is usual.")
    return list(range(TRAIN_STEPS - 1, 0, -TRAIN_STEPS // steps))
