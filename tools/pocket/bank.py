"""What the prior and the decoder train on: drawn pictures' image embeds, latents and triples, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nodes.models.movq import MOVQ

from . import recipe
from .shapes import TRAINED, Scenes, Triple, draw, sample_scenes
from .train_encoders import Encoders, preprocess, recolour

AT_ONCE = 64


@dataclass(frozen=True)
class Bank:
    """N pictures: embeds [N, D]; latents [N, 4, h, w] or None; the scenes they were drawn from."""

    embeds: Tensor
    latents: Tensor | None
    scenes: Scenes
    grey: Tensor
    """[D], the embed of a mean grey picture: the negative image embed of an empty negative prompt."""

    @property
    def triples(self) -> list[Triple]:
        return self.scenes.triples


@torch.no_grad()
def make_bank(
    encoders: Encoders, movq: MOVQ | None, size: int, seed: int, device: torch.device, recoloured: float = 0.0
) -> Bank:
    """Draw `size` pictures of the trained triples and encode them, with latents if there is a `movq`. The first part
    of them, `recoloured`, is in colours of no name: their triples mean nothing."""
    generator = torch.Generator().manual_seed(seed + 1)
    scenes = sample_scenes(size, generator, TRAINED, jitter=0.02)
    recolour(scenes, int(recoloured * size), generator)
    embeds, latents = [], []
    for start in range(0, size, AT_ONCE):
        pictures = draw(scenes[start : start + AT_ONCE], recipe.PICTURE_SIDE).to(device)
        embeds.append(encoders.image(preprocess(pictures)).image_embeds)
        if movq is not None:
            latents.append(movq.encode((pictures * 2 - 1).to(memory_format=torch.channels_last)).contiguous())
    side = recipe.IMAGE_ENCODER["image_size"]
    grey = encoders.image(torch.zeros(1, 3, side, side, device=device)).image_embeds[0]
    return Bank(torch.cat(embeds), torch.cat(latents) if latents else None, scenes, grey)
