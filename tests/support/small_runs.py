"""ComfyUI with the small models of one family, and shipped workflows run on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.hosts import RunningHost, running_comfyui, why_no_comfyui
from tests.support.kandinsky_runs import a_picture
from tests.support.places import ROOT
from tests.support.pocket_runs import Pixels, Runner

SMALL = {"width": 64, "height": 64, "megapixels": 0.02, "steps": 2, "second_steps": 2, "batch_size": 1, "scale": 0.5}
SMALL |= dict.fromkeys(("left", "top", "right", "bottom"), 64)

WORDS = 4
"""Tokens of the conditioning that flux_host has saved."""


@contextmanager
def small_comfyui(base: Path, family: str) -> Iterator[RunningHost]:
    """A ComfyUI with `family` (flux, sd15); its models are gone afterwards. Skips where there is no ComfyUI."""
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SMALL_MODELS", family)
            with running_comfyui(base, packs=(ROOT, ROOT / "tests" / "small_models")) as host:
                yield host
    finally:
        for path in (base / "models").rglob("*.safetensors"):
            path.unlink()


def save_loras(folder: Path) -> None:
    """LoRAs of FLUX.1 under the names that workflows give them."""
    folder.mkdir(parents=True)
    save_file(
        _lora("diffusion_model.double_blocks.0.img_attn.qkv", 9216, 3072), folder / "flux_realism_lora.safetensors"
    )
    # As Black Forest Labs have them: the first layer takes twice the channels, and norms are part of it.
    widened = _lora("img_in", 3072, 128) | {"img_in.lora_B.bias": torch.zeros(3072)}
    widened["single_blocks.0.norm.key_norm.scale"] = torch.ones(128)
    for kind in ("canny", "depth"):
        save_file(widened, folder / f"flux1-{kind}-dev-lora.safetensors")


def _lora(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
    """Of rank 4, for one matrix."""
    numbers = torch.Generator().manual_seed(0)
    return {
        f"{name}.lora_B.weight": torch.randn(rows, 4, generator=numbers) * 0.05,
        f"{name}.lora_A.weight": torch.randn(4, columns, generator=numbers) * 0.05,
    }


def draw(host: RunningHost, folder: Path, name: str, **parameters: Any) -> list[Pixels]:
    """The pictures of a shipped workflow, as small as it can be but for `parameters`; each shows something."""
    described = json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))["extra"]["kandiflux"]["parameters"]
    picture = a_picture(folder)
    chosen = {key: value for key, value in SMALL.items() if key in described} | parameters
    chosen |= {key: picture for key in ("image", "image_2") if key in described}
    pictures = Runner(host.url, folder).run(name, **chosen)
    assert pictures
    assert all(pixels.std() > 0.02 for pixels in pictures), "a picture shows nothing"
    return pictures
