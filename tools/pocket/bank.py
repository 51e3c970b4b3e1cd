"""What the prior and the decoder train on: drawn pictures' image embeds, latents and triples, computed once."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nodes.models.clip import CLIPTextConfig, CLIPTextEncoder
from nodes.models.movq import MOVQ
from nodes.models.prior import PriorTransformer
from nodes.sampling.noise import seeded_noise
from nodes.sampling.prior import encode_text, sample_image_embeds
from nodes.sampling.schedulers import UnCLIPScheduler

from . import recipe
from .captions import LANGUAGES, training_caption
from .shapes import TRAINED, Scenes, Triple, draw, sample_scenes
from .train_encoders import Encoders, estrange, load_encoders, load_tokenizer, preprocess, recolour
from .training import trained_part

AT_ONCE = 64
PRIOR = "prior"
"""The stage whose prior the decoder reads."""
STEPS, GUIDANCE = 25, 2.0
"""Of the prior, as its pictures are drawn."""


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


@dataclass(frozen=True)
class Told:
    """What the prior makes of captions: embeds [N, D], and for each the bank's row [N] that shows its triple and is
    nearest to it, in place and size too."""

    embeds: Tensor
    rows: Tensor


@torch.no_grad()
def prior_embeds(bank: Bank, first: int, folder: Path, seed: int, device: torch.device) -> Told:
    """Embeds the trained prior makes of captions of the bank's pictures, from row `first` on: those before it are in
    colours that no caption names."""
    prior = PriorTransformer(recipe.PRIOR).to(device)
    trained_part(prior, folder / f"{PRIOR}.pt", PRIOR)
    trained, tokenizer = load_encoders(folder).text, load_tokenizer(folder)
    encoder = CLIPTextEncoder(CLIPTextConfig.from_json(trained.config.to_dict()))
    encoder.load_state_dict(trained.state_dict())
    encoder.to(device)
    rng, triples = random.Random(seed), bank.triples
    of_triple: dict[Triple, list[int]] = {}
    for row in range(first, len(triples)):
        of_triple.setdefault(triples[row], []).append(row)
    nothing = encode_text(encoder, tokenizer, [""], device)
    embeds, rows = [], []
    for start in range(0, recipe.TOLD, AT_ONCE):
        count = min(AT_ONCE, recipe.TOLD - start)
        wanted = [triples[rng.randrange(first, len(triples))] for _ in range(count)]
        captions = [training_caption(*triple, rng.choice(LANGUAGES), rng, partial=0) for triple in wanted]
        text = encode_text(encoder, tokenizer, captions, device)
        noise = seeded_noise(range(start, start + count))
        made = sample_image_embeds(prior, UnCLIPScheduler(), text, nothing.rows(count), noise, STEPS, GUIDANCE)
        embeds.append(made)
        for triple, embed in zip(wanted, made, strict=True):
            same = torch.tensor(of_triple[triple], device=device)
            rows.append(same[(bank.embeds[same] - embed).norm(dim=-1).argmin()])
    return Told(torch.cat(embeds).clone(), torch.stack(rows))


@torch.no_grad()
def make_bank(
    encoders: Encoders,
    movq: MOVQ | None,
    size: int,
    seed: int,
    device: torch.device,
    recoloured: float = 0.0,
    estranged: float = 0.0,
) -> Bank:
    """Draw `size` pictures of the trained triples and encode them, with latents if there is a `movq`. The first part
    of them, `recoloured`, is in colours of no name, so that only their shapes mean anything; or, `estranged`, in one
    such colour: the shape's in even rows, the background's in odd ones."""
    generator = torch.Generator().manual_seed(seed + 1)
    scenes = sample_scenes(size, generator, TRAINED, jitter=0.02)
    recolour(scenes, int(recoloured * size), generator)
    estrange(scenes, int(estranged * size), generator)
    embeds, latents = [], []
    for start in range(0, size, AT_ONCE):
        pictures = draw(scenes[start : start + AT_ONCE], recipe.PICTURE_SIDE).to(device)
        embeds.append(encoders.image(preprocess(pictures)).image_embeds)
        if movq is not None:
            latents.append(movq.encode((pictures * 2 - 1).to(memory_format=torch.channels_last)).contiguous())
    side = recipe.IMAGE_ENCODER["image_size"]
    grey = encoders.image(torch.zeros(1, 3, side, side, device=device)).image_embeds[0]
    return Bank(torch.cat(embeds), torch.cat(latents) if latents else None, scenes, grey)
