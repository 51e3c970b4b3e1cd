"""One training loop for every part: schedule, weight averaging, checkpoints, resuming, a line of progress."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .recipe import Stage

CHECKPOINT_SECONDS = 120


class Average:
    """An exponential moving average of a module's parameters."""

    def __init__(self, modules: nn.Module, decay: float) -> None:
        self.decay = decay
        self.modules = copy.deepcopy(modules).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, modules: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))  # a short memory while there is little to remember
        for ours, theirs in zip(self.modules.parameters(), modules.parameters(), strict=True):
            ours.lerp_(theirs, 1 - decay)


def learning_rate(stage: Stage, step: int) -> float:
    warm = max(1, int(stage.steps * 0.03))
    if step < warm:
        return stage.lr * (step + 1) / warm
    return stage.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, stage.steps - warm)))


def train(
    name: str,
    modules: nn.Module,
    loss: Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]],
    stage: Stage,
    seed: int,
    folder: Path,
    extra: Sequence[nn.Module] = (),
    log: Callable[[str], None] = print,
) -> None:
    """Train `modules` on `loss(step, generator)` → (loss, figures to print); their average is what is kept.

    `extra` modules train along and are dropped after. A run that was cut resumes at its last checkpoint,
    `folder/<name>.pt`, with the same random numbers as if it had not been; a finished one is only loaded.
    """
    path = folder / f"{name}.pt"
    trained = nn.ModuleList([modules, *extra])
    average = Average(modules, stage.average)
    parameters = list(trained.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=stage.lr, betas=(0.9, 0.99), weight_decay=stage.weight_decay)
    start = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        trained.load_state_dict(state["trained"])
        average.modules.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])

    def save(step: int) -> None:
        state = {
            "step": step,
            "trained": trained.state_dict(),
            "average": average.modules.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    trained.train()
    began = saved = time.monotonic()
    for step in range(start, stage.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage, step)
        # Seeded by the step, so that a resumed run goes on as it would have.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        value, figures = loss(step, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(modules, step)
        now = time.monotonic()
        if step % 100 == 99:
            pace = (now - began) / (step + 1 - start)
            text = " ".join(f"{key} {number:.4f}" for key, number in figures.items())
            left = pace * (stage.steps - step - 1) / 60
            log(f"{name} {step + 1}/{stage.steps} {text} · {pace:.2f} s a step, {left:.0f} min to go")
        if now - saved > CHECKPOINT_SECONDS:
            save(step + 1)
            saved = now
    if start < stage.steps:
        save(stage.steps)


def trained_part(modules: nn.Module, path: Path, part: str) -> None:
    """Load the averaged weights that training `part` left at `path`. Raises FileNotFoundError with the cure."""
    if not path.exists():
        raise FileNotFoundError(f"Expected trained {part} at {path}: train them first, with --parts {part}.")
    modules.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    modules.eval().requires_grad_(False)
