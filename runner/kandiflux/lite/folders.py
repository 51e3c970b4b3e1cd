"""The host's folders. Checks that file names from clients do not refer to files outside them."""

from __future__ import annotations

import mimetypes
import os
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MODEL_KINDS", "MODEL_SUFFIXES", "Folders", "OutsideFolder", "inside", "save_path"]

MODEL_KINDS = (
    "checkpoints",
    "configs",
    "loras",
    "vae",
    "text_encoders",
    "diffusion_models",
    "clip_vision",
    "style_models",
    "embeddings",
    "diffusers",
    "vae_approx",
    "controlnet",
    "gligen",
    "upscale_models",
    "hypernetworks",
    "photomaker",
    "classifiers",
    "model_patches",
    "audio_encoders",
    "latent_upscale_models",
    "background_removal",
    "frame_interpolation",
    "geometry_estimation",
    "optical_flow",
    "detection",
)
"""ComfyUI's model folder names. Packs add theirs."""

MODEL_SUFFIXES = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}

_MOST_FOLDERS = 100

mimetypes.add_type("image/webp", ".webp")


class OutsideFolder(ValueError):
    """A name that refers to a file outside its folder, or that is not a valid file name."""


class Folders:
    """Input, output, temp and model folders, which are created. All paths are absolute, with links resolved."""

    def __init__(self, input: Path, output: Path, temp: Path, models: Iterable[Path]) -> None:
        self.input, self.output, self.temp = (_created(folder) for folder in (input, output, temp))
        self.models = [_created(folder) for folder in models]
        self._added: dict[str, list[Path]] = {}

    def of_type(self, kind: str) -> Path | None:
        """Returns the folder for "input", "output" or "temp"; None for any other kind."""
        return {"input": self.input, "output": self.output, "temp": self.temp}.get(kind)

    def annotated(self, name: str) -> tuple[str, Path | None]:
        """Splits "cat.png [output]" into the name and the folder; the folder is None if there is no annotation."""
        for kind in ("output", "input", "temp"):
            if name.endswith(f"[{kind}]"):
                return name[: -len(f"[{kind}]") - 1], self.of_type(kind)
        return name, None

    def input_file(self, name: str) -> Path:
        """Returns the file that an image widget names, in the annotated folder or else the input folder."""
        name, folder = self.annotated(name)
        return inside(folder or self.input, name)

    def input_images(self) -> list[str]:
        """Returns the sorted names of the images in the input folder, without subfolders."""
        names = (entry.name for entry in self.input.iterdir() if entry.is_file())
        return sorted(
            name for name in names if (mimetypes.guess_type(name, strict=False)[0] or "").startswith("image/")
        )

    def model_kinds(self) -> list[str]:
        """Returns ComfyUI's kinds of model folders, then those that packs added."""
        return [*MODEL_KINDS, *(kind for kind in self._added if kind not in MODEL_KINDS)]

    def model_folders(self, kind: str) -> list[Path]:
        """Returns the folders searched for `kind`, in order of preference; [] if the kind is unknown."""
        added = self._added.get(kind, [])
        if kind not in MODEL_KINDS and not added:
            return []
        own = [folder / kind for folder in self.models]
        return own + [folder for folder in added if folder not in own]

    def add_model_folder(self, kind: str, folder: Path) -> None:
        """Adds `folder` as the last folder to search for `kind`."""
        folders = self._added.setdefault(kind, [])
        if folder not in folders:
            folders.append(folder)

    def model_files(self, kind: str) -> list[str]:
        """Returns the sorted names of the model files of `kind`, relative to their folders."""
        found: set[str] = set()
        for folder in self.model_folders(kind):
            for directory, folders, files in os.walk(folder, followlinks=True):
                folders[:] = [name for name in folders if name != ".git"]
                found.update(
                    str((Path(directory) / name).relative_to(folder))
                    for name in files
                    if Path(name).suffix.lower() in MODEL_SUFFIXES
                )
        return sorted(found)


def _created(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def inside(folder: Path, *names: str) -> Path:
    """Joins `folder` and `names`, resolving links. Raises OutsideFolder if the path is invalid or not in `folder`."""
    try:
        path = folder.joinpath(*names).resolve()
        os.fsencode(path)
    except (ValueError, RuntimeError) as error:  # a null character, a lone surrogate, a loop of links
        raise OutsideFolder(f"{str(names)[:200]} is not a file name: {error}") from error
    if len(path.parts) > len(folder.parts) + _MOST_FOLDERS:  # Path.mkdir creates them recursively
        raise OutsideFolder(f"{str(path)[:200]} has too many folders; the maximum is {_MOST_FOLDERS}")
    if not path.is_relative_to(folder):
        raise OutsideFolder(f"{str(Path(*names))!r} is outside the folder {folder.name!r}")
    return path


def save_path(folder: Path, prefix: str, width: int, height: int) -> tuple[Path, str, int, str]:
    """Chooses where to save an image with the file name prefix `prefix`, by ComfyUI's rules. Creates the folder.

    Returns the folder, the file name's stem, the next free counter and the subfolder.
    """
    values = {"width": str(width), "height": str(height), **_now()}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    prefix = os.path.normpath(prefix)
    subfolder, stem = os.path.split(prefix)
    target = inside(folder, subfolder)
    target.mkdir(parents=True, exist_ok=True)
    counters = [_counter(entry.name, stem) for entry in target.iterdir()]
    return target, stem, max(counters, default=0) + 1, subfolder


def _counter(name: str, stem: str) -> int:
    """Returns the number in STEM_00042_.png; 0 if the stem differs or there is no number."""
    head, digits = name[: len(stem) + 1], name[len(stem) + 1 :].split("_")[0]
    if os.path.normcase(head) != os.path.normcase(stem + "_") or not digits.isdecimal():
        return 0
    return int(digits)


def _now() -> dict[str, str]:
    now = time.localtime()
    parts = {"month": now.tm_mon, "day": now.tm_mday, "hour": now.tm_hour, "minute": now.tm_min, "second": now.tm_sec}
    return {"year": str(now.tm_year), **{name: f"{value:02}" for name, value in parts.items()}}
