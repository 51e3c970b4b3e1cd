"""Prior of Kandinsky 2.x: encodes prompts and pictures, and samples image embeds.

References: diffusers `KandinskyPriorPipeline`, `KandinskyV22PriorPipeline` and `KandinskyV22PriorEmb2EmbPipeline`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.clip import CLIPImageEncoder, CLIPTextEncoder
from ..models.prior import PriorTransformer
from .noise import Noise
from .schedulers import UnCLIPScheduler
from .steps import OnStep, no_callback, steps_for_strength

log = logging.getLogger(__name__)

DECODER_TOKENS = 77
"""Maximum number of tokens of a prompt for the 2.1 decoder, fewer than M-CLIP allows (diffusers: max_length=77)."""


@dataclass(frozen=True)
class TextStates:
    """Encoded prompts: pooled embeds [B, D], last hidden states [B, T, W], mask [B, T] (1 = token, 0 = padding)."""

    embeds: Tensor
    states: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.embeds)

    def row(self, i: int) -> TextStates:
        """Prompt i as a batch of one."""
        return TextStates(self.embeds[i : i + 1], self.states[i : i + 1], self.mask[i : i + 1])

    def rows(self, count: int) -> TextStates:
        """A batch of one prompt, expanded to `count` rows."""
        return TextStates(*(t.expand(count, *t.shape[1:]) for t in (self.embeds, self.states, self.mask)))

    @staticmethod
    def cat(*parts: TextStates) -> TextStates:
        return TextStates(
            *(torch.cat(tensors) for tensors in zip(*((p.embeds, p.states, p.mask) for p in parts), strict=True))
        )


@torch.inference_mode()
def encode_text(
    text_encoder: CLIPTextEncoder, tokenizer: Any, prompts: Sequence[str], device: torch.device
) -> TextStates:
    """Encode `prompts` with a CLIP text encoder. Long prompts are truncated, with a warning in the log."""
    ids, mask = tokenize(tokenizer, prompts, tokenizer.model_max_length)
    embeds, states = text_encoder(ids.to(device))
    return TextStates(embeds, states, mask.to(device))


@torch.inference_mode()
def encode_decoder_text(text_encoder: Any, tokenizer: Any, prompts: Sequence[str], device: torch.device) -> TextStates:
    """Encode `prompts` with M-CLIP for a 2.1 decoder, 77 tokens each. Long prompts are truncated, with a warning."""
    ids, mask = (tensor.to(device) for tensor in tokenize(tokenizer, prompts, DECODER_TOKENS))
    pooled, states = text_encoder(ids, mask)
    return TextStates(pooled, states, mask)


def tokenize(tokenizer: Any, prompts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    """(ids, mask), [B, max_length] each, of `prompts`, truncated or padded. Logs a warning with what was truncated."""
    tokens = tokenizer(list(prompts), padding="max_length", max_length=max_length, truncation=True, return_tensors="pt")
    for prompt, ids in zip(prompts, tokenizer(list(prompts)).input_ids, strict=True):
        if len(ids) > max_length:
            lost = tokenizer.decode(ids[max_length - 1 : -1], skip_special_tokens=True)
            log.warning("The text encoder reads %d tokens; the end of %r was cut: %r", max_length, prompt, lost)
    return tokens.input_ids, tokens.attention_mask


@torch.inference_mode()
def encode_image(image_encoder: CLIPImageEncoder, pixels: Tensor) -> Tensor:
    """CLIP image embeds [B, D], not normalised, of pixels [B, 3, S, S] from the image processor."""
    weight = next(image_encoder.parameters())
    return image_encoder(pixels.to(weight.device, weight.dtype)).float()


def mean_grey_embeds(image_encoder: CLIPImageEncoder, count: int) -> Tensor:
    """Embeds [count, D] of a picture whose *normalised* pixels are 0, so mean grey, not black: the negative image
    embeds if there is no negative prompt (diffusers: `get_zero_embed`)."""
    side = image_encoder.config.image_size
    return encode_image(image_encoder, torch.zeros(1, 3, side, side)).expand(count, -1)


@torch.inference_mode()
def sample_image_embeds(
    prior: PriorTransformer,
    scheduler: UnCLIPScheduler,
    text: TextStates,
    unconditional: TextStates | None,
    noise: Noise,
    steps: int,
    guidance: float,
    start: Tensor | None = None,
    strength: float = 1.0,
    on_step: OnStep = no_callback,
) -> Tensor:
    """Sample image embeds [B, D] for B encoded prompts.

    unconditional: encoded negative prompts, used if guidance > 1.
    start: CLIP image embeds [B, D] to start from (emb2emb), noised to `strength` of the schedule.
    """
    timesteps = scheduler.timesteps(steps)
    shape = (len(text), prior.config.embedding_dim)
    x = noise(shape).to(text.embeds.device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        # The reference does not normalise them by clip_mean and clip_std.
        x = scheduler.add_noise(start.to(x).expand(shape), x, timesteps[0])
    guided = guidance > 1 and unconditional is not None
    both = TextStates.cat(unconditional, text) if guided and unconditional is not None else text
    conditions = prior.prepare(both.embeds, both.states, both.mask)

    for i, t in enumerate(timesteps):
        prev_timestep = timesteps[i + 1] if i + 1 < len(timesteps) else t - 1
        rows = torch.cat([x, x]) if guided else x
        t_rows = torch.full((len(rows),), t, device=x.device)
        x0 = prior(rows.to(text.embeds.dtype), t_rows, conditions).float()
        if guided:
            negative, positive = x0.chunk(2)
            x0 = negative + guidance * (positive - negative)
        x = scheduler.step(x0, t, prev_timestep, x, noise(shape).to(x) if t > 0 else None)
        on_step(i + 1, len(timesteps), None)
    return prior.to_image_embeds(x)
