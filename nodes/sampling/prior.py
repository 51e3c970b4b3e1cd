"""Running the prior: prompts, pictures and embeds to image embeds.

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
from .steps import OnStep, quiet, steps_for_strength

log = logging.getLogger(__name__)

DECODER_TOKENS = 77
"""What 2.1's decoder reads of a prompt, though M-CLIP could read more."""


@dataclass(frozen=True)
class TextStates:
    """Encoded prompts: embeds [B, D] pooled, states [B, T, D] last hidden states, mask [B, T] (1 = a token)."""

    embeds: Tensor
    states: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.embeds)

    def row(self, i: int) -> TextStates:
        """Prompt number i alone."""
        return TextStates(self.embeds[i : i + 1], self.states[i : i + 1], self.mask[i : i + 1])

    def rows(self, count: int) -> TextStates:
        """One prompt for each of `count` rows."""
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
    """Encode `prompts` with a CLIP text encoder and its tokenizer; what does not fit is cut, and logged."""
    ids, mask = tokenise(tokenizer, prompts, tokenizer.model_max_length)
    embeds, states = text_encoder(ids.to(device))
    return TextStates(embeds, states, mask.to(device))


@torch.inference_mode()
def encode_decoder_text(text_encoder: Any, tokenizer: Any, prompts: Sequence[str], device: torch.device) -> TextStates:
    """Encode `prompts` with M-CLIP, for a 2.1 decoder: 77 tokens each; what does not fit is cut, and logged."""
    ids, mask = (tensor.to(device) for tensor in tokenise(tokenizer, prompts, DECODER_TOKENS))
    pooled, states = text_encoder(ids, mask)
    return TextStates(pooled, states, mask)


def tokenise(tokenizer: Any, prompts: Sequence[str], longest: int) -> tuple[Tensor, Tensor]:
    """(ids, mask) [B, longest] of `prompts`, cut or padded to that; what is cut is logged."""
    got = tokenizer(list(prompts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
    for prompt, ids in zip(prompts, tokenizer(list(prompts)).input_ids, strict=True):
        if len(ids) > longest:
            lost = tokenizer.decode(ids[longest - 1 : -1], skip_special_tokens=True)
            log.warning("The text encoder reads %d tokens; the end of %r was cut: %r", longest, prompt, lost)
    return got.input_ids, got.attention_mask


@torch.inference_mode()
def encode_image(image_encoder: CLIPImageEncoder, pixels: Tensor) -> Tensor:
    """CLIP image embeds [B, D], as they come: of pixels [B, 3, S, S] normalised by the image processor."""
    weight = next(image_encoder.parameters())
    return image_encoder(pixels.to(weight.device, weight.dtype)).float()


def mean_grey_embeds(image_encoder: CLIPImageEncoder, count: int) -> Tensor:
    """[count, D] embeds of an all-zero *normalised* picture, which is mean grey and not black: the negative image
    embeds where there is no negative prompt."""
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
    on_step: OnStep = quiet,
) -> Tensor:
    """Image embeds [B, D] for B encoded prompts.

    With guidance > 1 each step also predicts for `unconditional`, the negative prompts' states, and moves away from
    it; at 1 or less it is not used. With `start`, raw CLIP image embeds [B, D], the run begins from them with noise
    (emb2emb), `strength` of the way back.
    """
    timesteps = scheduler.timesteps(steps)
    shape = (len(text), prior.config.embedding_dim)
    x = noise(shape).to(text.embeds.device)
    if start is not None:
        timesteps = steps_for_strength(timesteps, strength)
        # As the reference does, not normalised by clip_mean and clip_std.
        x = scheduler.add_noise(start.to(x).expand(shape), x, timesteps[0])
    guided = guidance > 1 and unconditional is not None
    both = TextStates.cat(unconditional, text) if guided and unconditional is not None else text
    conditions = prior.prepare(both.embeds, both.states, both.mask)

    for i, t in enumerate(timesteps):
        before = timesteps[i + 1] if i + 1 < len(timesteps) else t - 1
        rows = torch.cat([x, x]) if guided else x
        t_rows = torch.full((len(rows),), t, device=x.device)
        x0 = prior(rows.to(text.embeds.dtype), t_rows, conditions).float()
        if guided:
            without, with_text = x0.chunk(2)
            x0 = without + guidance * (with_text - without)
        x = scheduler.step(x0, t, before, x, noise(shape).to(x) if t > 0 else None)
        on_step(i + 1, len(timesteps), None)
    return prior.to_image_embeds(x)
