"""The ComfyUIs that several files of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from nodes.conditioning import save_conditioning
from tests.support.hosts import RunningHost
from tests.support.small_runs import WORDS, save_loras, small_comfyui


@pytest.fixture(scope="session")
def flux_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """A ComfyUI with small random FLUX.1 models and LoRAs, two pictures (wide.png, tall.png) and a conditioning."""
    base = tmp_path_factory.mktemp("flux")
    for name, seed, size in (("wide", 1, (96, 64)), ("tall", 2, (64, 96))):
        (base / "input").mkdir(exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(pixels).resize((4 * size[0], 4 * size[1])).save(base / "input" / f"{name}.png")
    numbers = torch.Generator().manual_seed(0)
    prompt = [
        [torch.randn(1, WORDS, 4096, generator=numbers), {"pooled_output": torch.randn(1, 768, generator=numbers)}]
    ]
    save_conditioning(base / "output" / "conditioning", "prompt", prompt)
    save_loras(base / "models" / "loras")
    with small_comfyui(base, "flux") as host:
        yield host
