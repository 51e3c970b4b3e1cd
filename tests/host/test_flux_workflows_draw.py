"""More FLUX.1 workflows that run to their pictures on a real ComfyUI, with small random weights and LoRAs.

Those with models of other shapes (the Canny and Depth models, checkpoints) are left to the test of what is accepted,
and so is what is large (Kontext brings pictures to a megapixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from tests.support.hosts import RunningHost
from tests.support.kandinsky_runs import a_picture
from tests.support.small_runs import draw, small_comfyui

SIZES = {
    "flux_fill_outpaint": (192, 192),
    "flux_hires": (96, 96),
    "flux_image_to_image": (144, 144),
    "flux_lora": (64, 64),
    "flux_canny_lora": (144, 144),
    "flux_depth_lora": (144, 144),
}
"""Width and height of what each draws."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    base = tmp_path_factory.mktemp("flux")
    loras = base / "models" / "loras"
    loras.mkdir(parents=True)
    save_file(lora("diffusion_model.double_blocks.0.img_attn.qkv", 9216, 3072), loras / "flux_realism_lora.safetensors")
    # As Black Forest Labs have them: the first layer takes twice the channels, and norms are part of it.
    widened = lora("img_in", 3072, 128) | {"img_in.lora_B.bias": torch.zeros(3072)}
    widened["single_blocks.0.norm.key_norm.scale"] = torch.ones(128)
    for kind in ("canny", "depth"):
        save_file(widened, loras / f"flux1-{kind}-dev-lora.safetensors")
    with small_comfyui(base, "flux") as host:
        yield host


def lora(name: str, rows: int, columns: int) -> dict[str, Tensor]:
    """Of rank 4, for one matrix."""
    numbers = torch.Generator().manual_seed(0)
    return {
        f"{name}.lora_B.weight": torch.randn(rows, 4, generator=numbers) * 0.05,
        f"{name}.lora_A.weight": torch.randn(4, columns, generator=numbers) * 0.05,
    }


@pytest.mark.parametrize("name", SIZES)
def test_a_workflow_draws(host: RunningHost, tmp_path: Path, name: str) -> None:
    more = {"depth": a_picture(tmp_path)} if name == "flux_depth_lora" else {}
    (pixels,) = draw(host, tmp_path, name, **more)
    assert pixels.shape[1::-1] == SIZES[name]


def test_inpainting_leaves_the_rest_alone_to_the_pixel(host: RunningHost, tmp_path: Path) -> None:
    (pixels,) = draw(host, tmp_path, "flux_fill_inpaint")
    with Image.open(a_picture(tmp_path)) as started:
        scaled = np.asarray(started.resize((64, 64), Image.Resampling.LANCZOS)) / 255
    kept, drawn = scaled[..., 3] == 1, scaled[..., 3] == 0
    apart = np.abs(pixels - scaled[..., :3]).max(axis=-1)
    assert kept.sum() > 1000
    assert drawn.sum() > 300
    assert apart[kept].max() <= 2 / 255
    assert apart[drawn].mean() > 0.02
