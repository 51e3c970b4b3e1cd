"""The prior: from a caption's text states to the image embed of a picture it describes."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor

from nodes.models.prior import PriorTransformer
from nodes.sampling.schedulers import TRAIN_STEPS, UnCLIPScheduler, add_noise

from . import recipe
from .bank import make_bank
from .captions import LANGUAGES, partial_caption, training_caption
from .shapes import Triple
from .train_encoders import load_encoders, load_tokenizer, tokens
from .training import train, trained_part

NO_TEXT = 0.1
"""Part of the captions replaced by the empty one: what guidance starts from."""
FEW = 0.05
"""Part of the captions that leave an attribute out."""

ESTRANGED = 0.5
"""Part of the pictures in the second stage that have one colour of no name."""


def new_prior() -> PriorTransformer:
    prior = PriorTransformer(recipe.PRIOR)
    with torch.no_grad():
        prior.positional_embedding.normal_(std=0.02)
        prior.prd_embedding.normal_(std=0.02)
    return prior


def describe(triple: Triple, rng: random.Random) -> str:
    return training_caption(triple.shape, triple.colour, triple.background, rng.choice(LANGUAGES), rng, partial=FEW)


def train_prior(folder: Path, seed: int, device: torch.device) -> None:
    fit("prior", new_prior(), 0.0, folder, seed, device)


def polish_prior(folder: Path, seed: int, device: torch.device) -> None:
    """Train on with pictures that have one colour of no name, and captions that leave it out: what a word means then
    depends less on the others, and combinations never seen come out right."""
    prior = new_prior()
    trained_part(prior, folder / "prior.pt", "prior")
    fit("prior_polish", prior.requires_grad_(True), ESTRANGED, folder, seed + 1, device)


def fit(name: str, prior: PriorTransformer, estranged: float, folder: Path, seed: int, device: torch.device) -> None:
    stage = recipe.STAGES[name]
    tokenizer, encoders = load_tokenizer(folder), load_encoders(folder).to(device)
    bank = make_bank(encoders, None, recipe.BANK, seed, device, estranged=estranged)
    triples, strange = bank.triples, int(estranged * recipe.BANK)

    def caption(row: int, rng: random.Random) -> str:
        if row >= strange:
            return describe(triples[row], rng)
        omitted = "background" if row % 2 else "colour"
        return partial_caption(*triples[row], rng.choice(LANGUAGES), rng, omit=omitted)

    prior.to(device)
    # Statistics, not weights: training must not move them.
    if name == "prior":
        prior.clip_mean.data.copy_(bank.embeds.mean(0, keepdim=True))
        prior.clip_std.data.copy_(bank.embeds.std(0, keepdim=True))
    prior.clip_mean.requires_grad_(False)
    prior.clip_std.requires_grad_(False)
    alphas_cumprod = UnCLIPScheduler().alphas_cumprod.to(device)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        rows = torch.randint(len(triples), (stage.batch,), generator=generator)
        texts = ["" if rng.random() < NO_TEXT else caption(row, rng) for row in rows.tolist()]
        ids, mask = tokens(tokenizer, texts, device)
        with torch.no_grad():
            text = encoders.text(input_ids=ids)
        x0 = (bank.embeds[rows.to(device)] - prior.clip_mean) / prior.clip_std
        t = torch.randint(TRAIN_STEPS, (stage.batch,), generator=generator).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        x = add_noise(alphas_cumprod, x0, noise, t)
        error = (prior(x, t, text.text_embeds, text.last_hidden_state, mask) - x0).square().mean()
        return error, {"error": error.item()}

    train(name, prior, loss, stage, seed, folder)
