"""A node pack for tests: ComfyUI's FLUX.1 and SD1.5 made small enough to sample with on a CPU.

When ComfyUI imports it, it writes the model files that workflows name, with random weights: the published widths, for
ComfyUI knows models by these, but one or two layers deep. Where ComfyUI takes the depth from elsewhere than the file
(text and vision encoders), it is told. What the FLUX network is given is recorded, see `recording`.
"""

from .depth import make_encoders_shallow
from .files import save_missing
from .recording import record

save_missing()
make_encoders_shallow()
record()

NODE_CLASS_MAPPINGS = {}
__all__ = ["NODE_CLASS_MAPPINGS"]
