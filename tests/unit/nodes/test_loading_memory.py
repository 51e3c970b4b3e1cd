"""Loading maps the weights' file: tensors kept in the stored dtype cost no memory, cast ones are held once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nodes.models.loader import load_network
from nodes.models.unet2 import UNet2, UNet2Config
from tests.support.memory import peak_of

CONFIG = UNet2Config(block_out_channels=(64, 128, 192, 256), layers_per_block=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "unet.safetensors"
    save_file(UNet2(CONFIG).state_dict(), path)
    return path


@pytest.mark.memory
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("dtype", "share"), [("float32", 0.0), ("float16", 0.5), ("bfloat16", 0.5)])
def test_peak_memory(weights: Path, dtype: str, share: float) -> None:
    kept, stored = getattr(torch, dtype), weights.stat().st_size
    assert stored > 50e6, "too small to tell from noise"
    network = UNet2(CONFIG, dtype=kept, device="meta")
    torch.ones(8).to(kept)  # what torch sets up for itself the first time is no part of it
    peak, _ = peak_of(lambda: load_network(network, weights, kept))
    assert peak <= share * stored + 0.15 * stored
