"""MOVQ on drawn pictures."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nodes.models.movq import MOVQ

from . import recipe
from .shapes import TRAINED, draw, sample_scenes
from .train_encoders import recolour
from .training import train, trained_part

CROP = 64
LATENT_RANGE = 0.95
"""Kandinsky 2.2's scheduler clips the predicted latents to ±1, so they have to live there."""
LATENT_NOISE = 0.05
"""Added before decoding in training: spreads the latents over their range, and the decoder UNet is never exact."""

RECOLOURED = 0.5
"""Part of the pictures in the second stage that are in colours of no name."""


def pixels(n: int, side: int, generator: torch.Generator, device: torch.device, recoloured: float = 0.0) -> Tensor:
    """Drawn pictures in −1..1, channels_last: [n, 3, side, side]; the part `recoloured` in colours of no name."""
    scenes = sample_scenes(n, generator, TRAINED, jitter=0.03)
    recolour(scenes, round(recoloured * n), generator)
    return (draw(scenes, side).to(device) * 2 - 1).to(memory_format=torch.channels_last)


def crops(pictures: Tensor, per_picture: int, generator: torch.Generator) -> Tensor:
    room = pictures.shape[-1] - CROP
    corners = torch.randint(0, room + 1, (len(pictures) * per_picture, 2), generator=generator).tolist()
    cut = [pictures[i // per_picture, :, y : y + CROP, x : x + CROP] for i, (y, x) in enumerate(corners)]
    return torch.stack(cut).contiguous(memory_format=torch.channels_last)


def batch(step: int, size: int, generator: torch.Generator, device: torch.device, recoloured: float) -> Tensor:
    """`size` crops, or a quarter as many whole pictures, in turn: crops are more varied for the same work, and whole
    ones teach the norms and the attention their real size."""
    if step % 2:
        return pixels(size // 4, recipe.PICTURE_SIDE, generator, device, recoloured)
    return crops(pixels(size // 2, recipe.PICTURE_SIDE, generator, device, recoloured), 2, generator)


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def reconstruction(got: Tensor, wanted: Tensor) -> Tensor:
    """Absolute error of the pixels and of their differences: the second keeps edges crisp."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(gradients(got), gradients(wanted), strict=True))
    return F.l1_loss(got, wanted) + F.mse_loss(got, wanted) + edges


def train_movq(folder: Path, seed: int, device: torch.device) -> None:
    fit("movq", MOVQ(recipe.MOVQ), 0.0, folder, seed, device)


def polish_movq(folder: Path, seed: int, device: torch.device) -> None:
    """Train on with strange colours among the others: the decoder learns shapes from them, and needs clean latents."""
    model = MOVQ(recipe.MOVQ)
    trained_part(model, folder / "movq.pt", "movq")
    fit("movq_polish", model.requires_grad_(True), RECOLOURED, folder, seed + 1, device)


def load_movq(folder: Path) -> MOVQ:
    """The MOVQ as both stages left it."""
    model = MOVQ(recipe.MOVQ)
    trained_part(model, folder / "movq_polish.pt", "movq_polish")
    return model


def fit(name: str, model: MOVQ, recoloured: float, folder: Path, seed: int, device: torch.device) -> None:
    stage = recipe.STAGES[name]
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = batch(step, stage.batch, generator, device, recoloured)
        z = model.encode(x)
        outside = F.relu(z.abs() - LATENT_RANGE).square().mean()
        noise = torch.randn(z.shape, generator=generator).to(z)
        wrong = reconstruction(model.decode(z + LATENT_NOISE * noise), x)
        return wrong + 20 * outside, {"error": wrong.item(), "outside": outside.item(), "spread": z.std().item()}

    train(name, model, loss, stage, seed, folder)


@torch.no_grad()
def fit_codebook(movq: MOVQ, generator: torch.Generator, device: torch.device) -> None:
    """Place the codebook's entries among the latents by k-means. Kandinsky never looks anything up in it."""
    latents = movq.encode(pixels(64, recipe.PICTURE_SIDE, generator, device))
    points = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    count = recipe.MOVQ.num_vq_embeddings
    centres = points[torch.randperm(len(points), generator=generator)[:count].to(device)].clone()
    for _ in range(10):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    movq.quantize.embedding.weight.copy_(centres)
