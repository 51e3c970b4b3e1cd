"""More FLUX.1 workflows that run to their pictures on a real ComfyUI, with small random weights and LoRAs.

Those with models of other shapes (the Canny and Depth models, checkpoints) are left to the test of what is accepted,
and so is what is large (Kontext brings pictures to a megapixel).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.hosts import RunningHost
from tests.support.kandinsky_runs import a_picture
from tests.support.small_runs import draw

SIZES = {
    "flux_fill_outpaint": (192, 192),
    "flux_hires": (96, 96),
    "flux_image_to_image": (144, 144),
    "flux_lora": (64, 64),
    "flux_canny_lora": (144, 144),
    "flux_depth_lora": (144, 144),
}
"""Width and height of what each draws."""


@pytest.mark.parametrize("name", SIZES)
def test_a_workflow_draws(flux_host: RunningHost, tmp_path: Path, name: str) -> None:
    more = {"depth": a_picture(tmp_path)} if name == "flux_depth_lora" else {}
    (pixels,) = draw(flux_host, tmp_path, name, **more)
    assert pixels.shape[1::-1] == SIZES[name]


def test_inpainting_leaves_the_rest_alone_to_the_pixel(flux_host: RunningHost, tmp_path: Path) -> None:
    (pixels,) = draw(flux_host, tmp_path, "flux_fill_inpaint")
    with Image.open(a_picture(tmp_path)) as started:
        scaled = np.asarray(started.resize((64, 64), Image.Resampling.LANCZOS)) / 255
    kept, drawn = scaled[..., 3] == 1, scaled[..., 3] == 0
    apart = np.abs(pixels - scaled[..., :3]).max(axis=-1)
    assert kept.sum() > 1000
    assert drawn.sum() > 300
    assert apart[kept].max() <= 2 / 255
    assert apart[drawn].mean() > 0.02
