"""Loading maps the weights' file: tensors kept in the stored dtype cost no memory, cast ones are held once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from nodes.models.unet2 import UNet2, UNet2Config
from tests.support.places import ROOT

CONFIG = UNet2Config(block_out_channels=(64, 128, 192, 256), layers_per_block=2)

# RssAnon leaves out mapped files; VmHWM, the peak, does not, so the highest RssAnon is sampled while loading.
MEASURE = """
import sys, threading, time
from pathlib import Path
import torch
from nodes.models.loader import load_network
from nodes.models.unet2 import UNet2, UNet2Config

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024

dtype = getattr(torch, sys.argv[2])
network = UNet2(UNet2Config(block_out_channels=(64, 128, 192, 256), layers_per_block=2), dtype=dtype, device="meta")
torch.ones(8).to(dtype)
highest = before = anonymous()
done = False

def watch():
    global highest
    while not done:
        highest = max(highest, anonymous())
        time.sleep(0.001)

watcher = threading.Thread(target=watch)
watcher.start()
load_network(network, Path(sys.argv[1]), dtype)
done = True
watcher.join()
print(max(highest, anonymous()) - before)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "unet.safetensors"
    save_file(UNet2(CONFIG).state_dict(), path)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("dtype", "share"), [("float32", 0.0), ("float16", 0.5), ("bfloat16", 0.5)])
def test_peak_memory(weights: Path, dtype: str, share: float) -> None:
    stored = weights.stat().st_size
    command = [sys.executable, "-c", MEASURE, str(weights), dtype]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert stored > 50e6, "too small to tell from noise"
    assert int(done.stdout) <= share * stored + 0.15 * stored
