"""Reads network config and scheduler of a decoder from its folder or file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .models.detect import is_unet3, unet3_config
from .models.loader import detect_config, network_config, read_config, tensor_shapes, weights_file
from .models.loader3 import SCHEDULER, is_kandinsky3_folder
from .models.movq import MOVQConfig
from .models.single import DDPM_21, published_scheduler
from .models.unet2 import UNet2Config
from .models.unet3 import UNet3Config
from .sampling.schedulers import DecoderScheduler


@dataclass(frozen=True)
class Decoder:
    """A decoder without its weights."""

    name: str
    network: UNet2Config | UNet3Config
    scheduler: DecoderScheduler
    ddpm_scheduler: DecoderScheduler | None = None
    """Second scheduler published with 2.1."""
    vae: Any = None
    clip: Any = None
    """VAE and CLIP loaded with the decoder, used by nodes whose vae and clip inputs are not connected."""

    def scheduler_called(self, name: str) -> DecoderScheduler:
        """Scheduler for the name "reference" (the one published with the decoder), "DDPM" or "DDIM"."""
        if name == "DDPM" and self.ddpm_scheduler is not None:
            return self.ddpm_scheduler
        return self.scheduler if name == "reference" else replace(self.scheduler, kind=name)


def read_decoder(path: Path, name: str) -> tuple[Path, Decoder]:
    """Return (weights file, Decoder) of the folder or safetensors file `path`. Raises WeightsError."""
    if is_kandinsky3_folder(path):
        network3 = read_config(UNet3Config, path / "unet" / "config.json")
        config = path / "scheduler" / "scheduler_config.json"
        scheduler = read_config(DecoderScheduler, config) if config.is_file() else SCHEDULER
        return weights_file(path / "unet"), Decoder(name, network3, scheduler)
    if path.is_dir():
        network = network_config(UNet2Config, path / "unet")
        scheduler = read_config(DecoderScheduler, path / "scheduler" / "scheduler_config.json")
        learned = path / "ddpm_scheduler" / "scheduler_config.json"
        second = read_config(DecoderScheduler, learned) if learned.is_file() else None
        return weights_file(path / "unet"), Decoder(name, network, scheduler, second)
    shapes = of_unet(tensor_shapes(path))
    if is_unet3(shapes):
        network3 = replace(unet3_config(shapes), variant="flash" if "flash" in path.stem.lower() else "")
        return path, Decoder(name, network3, SCHEDULER)
    network = detect_config(UNet2Config, path, shapes)
    second = DDPM_21 if network.reads_text and not network.inpaints else None
    return path, Decoder(name, network, published_scheduler(network), second)


def read_movq(path: Path) -> tuple[Path, MOVQConfig]:
    """Return (weights file, config) of the MOVQ in the folder or safetensors file `path`. Raises WeightsError."""
    if path.is_dir():
        return weights_file(path / "movq"), network_config(MOVQConfig, path / "movq")
    return path, detect_config(MOVQConfig, path)


SAVED_AS = ("model.diffusion_model.", "diffusion_model.")
"""Prefixes of tensor names in files saved by ComfyUI's ModelSave and similar nodes."""


def of_unet(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The UNet's tensors (or shapes) with the names of official files: removes the prefix of files saved by ComfyUI,
    and the tensors without it (VAE, text encoders)."""
    for prefix in SAVED_AS:
        if any(key.startswith(prefix) for key in tensors):
            return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return dict(tensors)
