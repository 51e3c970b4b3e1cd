"""Finds the weights that loaders list: official folders, and single files in ComfyUI's model folders."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from . import host
from .decoders import of_unet
from .models.detect import config_from_tensors, is_unet3
from .models.loader import WeightsError, is_decoder_folder, is_prior_folder, tensor_shapes
from .models.loader3 import is_kandinsky3_folder, is_kandinsky3_text_folder
from .models.unet3 import UNet3Config

Sources = dict[str, Path]
"""Name → folder or file."""

WEIGHTS_PAGE = "https://github.com/kandiflux/kandiflux/blob/main/docs/kandinsky-weights.md"


def folders(fits: Callable[[Path], bool]) -> Sources:
    """Folders in models/kandinsky for which `fits` is true, up to two levels deep (`kandinsky-2-2-prior`,
    `kandinsky-community/kandinsky-2-2-prior`)."""
    found: Sources = {}
    for root in host.current().model_folders("kandinsky"):
        for pattern in ("*", "*/*"):
            for folder in sorted(root.glob(pattern)):
                if folder.is_dir() and fits(folder):
                    found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


def files(kind: str) -> Sources:
    """Safetensors files in models/`kind`."""
    return host.current().model_files(kind)


def loadable(found: Sources, *networks: type) -> list[str]:
    """Names of folders, and of files with one of these networks (config classes)."""
    return [name for name, path in found.items() if path.is_dir() or network_in(path) in networks]


def network_in(file: Path) -> type | None:
    """Config class of the Kandinsky network in `file`; None for other or unreadable files."""
    try:
        state = file.stat()
    except OSError:
        return None
    return _network_in(file, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)
def _network_in(file: Path, changed: int, size: int) -> type | None:
    try:
        shapes = of_unet(tensor_shapes(file))
        return UNet3Config if is_unet3(shapes) else type(config_from_tensors(shapes))
    except (WeightsError, ValueError, KeyError, IndexError, OSError):
        return None


def prior_sources() -> Sources:
    return folders(is_prior_folder) | files("diffusion_models")


def decoder_folders() -> Sources:
    """Decoder folders of Kandinsky 2 and 3."""
    return folders(lambda folder: is_decoder_folder(folder) or is_kandinsky3_folder(folder))


def unet_sources() -> Sources:
    return decoder_folders() | files("diffusion_models")


def movq_sources() -> Sources:
    return decoder_folders() | files("vae")


def clip_sources() -> Sources:
    """Folders with the text encoder of 2.1's decoder or Kandinsky 3, and files in models/text_encoders."""
    return folders(is_clip_folder) | files("text_encoders")


def is_clip_folder(folder: Path) -> bool:
    return is_kandinsky3_text_folder(folder) or (is_decoder_folder(folder) and (folder / "text_encoder").is_dir())


def pick(found: Sources, name: str, kind: str, where: str = "models/kandinsky") -> Path:
    """Path of the folder or file `name`. Raises FileNotFoundError if it no longer exists."""
    if isinstance(why := is_there(found, name, kind, where), str):
        raise FileNotFoundError(why)
    return found[name]


def is_there(found: Sources, name: str, kind: str, where: str = "models/kandinsky") -> bool | str:
    """For VALIDATE_INPUTS: True if `name` was found; else a message with what was found and where to download it."""
    if name in found:
        return True
    listed = f"there are: {', '.join(found)}" if found else "there is nothing there"
    return f"Expected a {kind} called {name!r} in {where}; {listed}. Where to get weights and save them: {WEIGHTS_PAGE}"


def tokenizer_folders(beside: Path) -> list[Path]:
    """Folders to look for the tokenizer of the text encoder file `beside`: a folder with the file's name beside it,
    ComfyUI's CLIP tokenizer, tokenizer/ of official folders."""
    official = sorted(folders(lambda folder: (folder / "tokenizer").is_dir()).values())
    own = host.current().clip_tokenizer_folder()
    return [beside.with_suffix(""), *([own] if own else []), *(folder / "tokenizer" for folder in official)]
