"""The decoder UNet: from an image embed to MOVQ latents."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nodes.models.movq import MOVQ
from nodes.models.unet2 import UNet2
from nodes.sampling.schedulers import TRAIN_STEPS, DecoderScheduler, add_noise

from . import recipe
from .bank import make_bank, prior_embeds
from .train_encoders import load_encoders
from .train_movq import load_movq
from .training import train, trained_part

NO_IMAGE = 0.1
"""Part of the embeds replaced by the mean grey picture's: what guidance starts from."""
EMBED_NOISE = 0.15
EMBED_NOISE_POLISH = 0.3
"""Largest noise on an embed, in its standard deviations: the prior's embeds are not exact, nor are mixed ones."""
RECOLOURED, RECOLOURED_FINISH = 0.5, 0.1
"""Part of the pictures in the second and third stages that are in colours of no name."""
TOLD = 0.5
"""Part of the embeds in the third stage that the prior made of captions."""


def train_decoder(folder: Path, seed: int, device: torch.device) -> None:
    unet, movq = UNet2(recipe.DECODER), MOVQ(recipe.MOVQ)
    trained_part(movq, folder / "movq.pt", "movq")  # the unpolished one will do: the polish changes latents little
    with torch.no_grad():  # start from no noise predicted; the learned variance, which 2.2 drops, stays zero
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.zero_()
    fit("decoder", unet, movq, folder, seed, device, EMBED_NOISE)


def polish_decoder(folder: Path, seed: int, device: torch.device) -> None:
    """Train on from the average, down to nothing again: it sharpens outlines. Strange colours and noisier embeds teach
    it to draw a shape whatever its colours, and so combinations it has never seen."""
    unet = UNet2(recipe.DECODER)
    trained_part(unet, folder / "decoder.pt", "decoder")
    unet.requires_grad_(True)
    fit("decoder_polish", unet, load_movq(folder), folder, seed + 1, device, EMBED_NOISE_POLISH, RECOLOURED)


def finish_decoder(folder: Path, seed: int, device: torch.device) -> None:
    """Train on with fewer strange colours, so that it is sure of the named ones again, and with embeds of the prior's:
    they are not quite a picture's, and it has to read the shape in them."""
    unet = UNet2(recipe.DECODER)
    trained_part(unet, folder / "decoder_polish.pt", "decoder_polish")
    unet.requires_grad_(True)
    fit(
        "decoder_finish",
        unet,
        load_movq(folder),
        folder,
        seed + 2,
        device,
        EMBED_NOISE_POLISH,
        RECOLOURED_FINISH,
        told=TOLD,
    )


def fit(
    name: str,
    unet: UNet2,
    movq: MOVQ,
    folder: Path,
    seed: int,
    device: torch.device,
    embed_noise: float,
    recoloured: float = 0.0,
    told: float = 0.0,
) -> None:
    stage, alphas_cumprod = recipe.STAGES[name], DecoderScheduler().alphas_cumprod.to(device)
    unet.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    bank = make_bank(load_encoders(folder).to(device), movq.to(device), recipe.BANK, seed, device, recoloured)
    assert bank.latents is not None
    latents, embeds, spread = bank.latents, bank.embeds, bank.embeds.std(0)
    channels = latents.shape[1]
    pairs = prior_embeds(bank, int(recoloured * recipe.BANK), folder, seed, device) if told else None
    of_prior = int(told * stage.batch)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(latents), (stage.batch,), generator=generator).to(device)
        t = torch.randint(TRAIN_STEPS, (stage.batch,), generator=generator).to(device)
        noise = torch.randn((stage.batch, *latents.shape[1:]), generator=generator).to(device)
        amount = embed_noise * torch.rand(stage.batch, 1, generator=generator).to(device)
        blur = torch.randn((stage.batch, recipe.EMBED), generator=generator).to(device)
        condition = embeds[rows]
        if pairs is not None:
            chosen = torch.randint(len(pairs.rows), (of_prior,), generator=generator).to(device)
            rows[:of_prior], condition[:of_prior] = pairs.rows[chosen], pairs.embeds[chosen]
        condition = condition + amount * spread * blur
        dropped = torch.rand(stage.batch, 1, generator=generator).to(device) < NO_IMAGE
        condition = torch.where(dropped, bank.grey, condition)
        x = add_noise(alphas_cumprod, latents[rows], noise, t).to(memory_format=torch.channels_last)
        error = (unet(x, t, condition)[:, :channels] - noise).square().mean()
        return error, {"error": error.item()}

    train(name, unet, loss, stage, seed, folder)
