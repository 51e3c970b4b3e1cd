"""Which weights there are, by name, and reading them: official folders, and single files in ComfyUI's own folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.utils
from torch import Tensor, nn

from .. import host
from ..models.detect import is_unet3, unet3_config
from ..models.loader import check_shapes, network_config, read_config, sizes, tensor_shapes, weights_file
from ..models.loader3 import SCHEDULER, is_kandinsky3_folder
from ..models.movq import MOVQConfig
from ..models.single import published_scheduler
from ..models.unet2 import UNet2Config
from ..models.unet3 import UNet3Config
from ..pipelines import decoder_folders, pick
from ..pipelines3 import kandinsky3_folders
from ..sampling.kandinsky3 import scheduler_for
from ..sampling.schedulers import DecoderScheduler


def files(kind: str) -> dict[str, Path]:
    """Name → path of the safetensors files in models/`kind`."""
    return host.current().model_files(kind)


def unet_sources() -> dict[str, Path]:
    return decoder_folders() | kandinsky3_folders() | files("diffusion_models")


def movq_sources() -> dict[str, Path]:
    return decoder_folders() | kandinsky3_folders() | files("vae")


def mclip_sources() -> dict[str, Path]:
    """Official decoder folders that hold a text encoder, 2.1's, and single files."""
    folders = {name: path for name, path in decoder_folders().items() if (path / "text_encoder").is_dir()}
    return folders | files("text_encoders")


SAVED_AS = ("model.diffusion_model.", "diffusion_model.")
"""What ComfyUI's nodes for saving put before the names of a model's tensors."""


def of_unet(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a UNet, or their shapes, by the names in official folders; a file that ComfyUI saved has a prefix
    before them, and perhaps a VAE's and text encoders' beside them."""
    for prefix in SAVED_AS:
        if any(key.startswith(prefix) for key in tensors):
            return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return dict(tensors)


def decoder_unet(name: str) -> tuple[Path, UNet2Config | UNet3Config, DecoderScheduler]:
    """(weights, sizes, schedule) of the decoder called `name`. Raises WeightsError."""
    path = pick(unet_sources(), name, "Kandinsky decoder", "models/kandinsky or models/diffusion_models")
    if is_kandinsky3_folder(path):
        network3 = read_config(UNet3Config, path / "unet" / "config.json")
        config = path / "scheduler" / "scheduler_config.json"
        scheduler = read_config(DecoderScheduler, config) if config.is_file() else SCHEDULER
        return weights_file(path / "unet"), network3, scheduler_for(network3, scheduler)
    if path.is_dir():
        network = network_config(UNet2Config, path / "unet")
        scheduler = read_config(DecoderScheduler, path / "scheduler" / "scheduler_config.json")
        return weights_file(path / "unet"), network, scheduler
    shapes = of_unet(tensor_shapes(path))
    if is_unet3(shapes):
        network3 = replace(unet3_config(shapes), variant="flash" if "flash" in path.stem.lower() else "")
        return path, network3, scheduler_for(network3, SCHEDULER)
    network = sizes(UNet2Config, path, shapes)
    return path, network, published_scheduler(network)


def find_movq(name: str) -> tuple[Path, MOVQConfig]:
    """(weights, sizes) of the MOVQ called `name`. Raises WeightsError."""
    path = pick(movq_sources(), name, "MOVQ", "models/kandinsky or models/vae")
    if path.is_dir():
        return weights_file(path / "movq"), network_config(MOVQConfig, path / "movq")
    return path, sizes(MOVQConfig, path)


def load_state(file: Path, network: nn.Module | None = None) -> dict[str, Tensor]:
    """A safetensors file's tensors, mapped, not read; exactly those of `network`, if there is one. Raises
    WeightsError."""
    found = of_unet(tensor_shapes(file))  # names a broken file, however this version of ComfyUI reads it
    if network is not None:
        check_shapes(file, {key: tuple(value.shape) for key, value in network.state_dict().items()}, found)
    return of_unet(comfy.utils.load_torch_file(str(file), safe_load=True))
