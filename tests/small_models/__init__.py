"""A node pack for tests: ComfyUI's FLUX.1 and SD1.5 made small enough to sample with on a CPU.

When ComfyUI imports it, it writes the model files that workflows name, with random weights: the published widths, for
ComfyUI knows models by these, but one or two layers deep. $SMALL_MODELS says of which family, flux or sd15. Where
ComfyUI takes the depth from elsewhere than the file (text and vision encoders), it is told. What the FLUX network is
given is recorded, see `recording`.
"""

import os
from pathlib import Path

import folder_paths
from safetensors.torch import save_file

from . import flux, sd15
from .depth import make_encoders_shallow
from .recording import record

for _name, _weights in {"flux": flux.FILES, "sd15": sd15.FILES}[os.environ["SMALL_MODELS"]].items():
    _path = Path(folder_paths.models_dir) / _name
    _path.parent.mkdir(parents=True, exist_ok=True)
    save_file(_weights(), _path)
make_encoders_shallow()
record()

NODE_CLASS_MAPPINGS = {}
__all__ = ["NODE_CLASS_MAPPINGS"]
