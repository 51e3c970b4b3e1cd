"""The model folders of a ComfyUI on this machine, including those of its extra_model_paths.yaml."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kandiflux.errors import UsageError
from kandiflux.models.model_files import ModelFile, is_model_name, why_misplaced
from kandiflux.util.json_values import is_object

__all__ = ["ModelFolders"]

_EXTRA = "extra_model_paths.yaml"
# As in ComfyUI's folder_paths.py: old names of folders, and second folders that are also searched.
_RENAMED = {"unet": "diffusion_models", "clip": "text_encoders"}
_ALSO = {"diffusion_models": "unet", "text_encoders": "clip", "controlnet": "t2i_adapter"}
_CODE = "custom_nodes"
_KINDS = frozenset({
    "audio_encoders", "background_removal", "checkpoints", "classifiers", "clip", "clip_vision", "configs",
    "controlnet", "detection", "diffusers", "diffusion_models", "embeddings", "frame_interpolation",
    "geometry_estimation", "gligen", "hypernetworks", "kandinsky", "latent_upscale_models", "loras", "model_patches",
    "optical_flow", "photomaker", "style_models", "t2i_adapter", "text_encoders", "unet", "upscale_models", "vae",
    "vae_approx", "BiRefNet", "LLM", "RMBG", "animatediff_models", "animatediff_motion_lora", "clip_gguf",
    "facedetection", "facerestore_models", "insightface", "instantid", "ipadapter", "ipadapter-flux", "mmdets",
    "mmdets_bbox", "mmdets_segm", "onnx", "pulid", "reactor", "rembg", "sam2", "sams", "ultralytics",
    "ultralytics_bbox", "ultralytics_segm", "unet_gguf", "xlabs", "xlabs_controlnets", "xlabs_ipadapters",
    "xlabs_loras"
})  # fmt: skip
"""Model folders of ComfyUI, of this pack, and of widely used packs. extra_model_paths.yaml may name others too,
such as custom_nodes; nothing is written there."""


class ModelFolders:
    """Finds model files of each kind, and the folder for new ones.

    comfyui: ComfyUI's folder. extra: more files like extra_model_paths.yaml (`--extra-model-paths-config`).
    Raises UsageError if they cannot be read.
    """

    def __init__(self, comfyui: Path, extra: Iterable[Path] = ()) -> None:
        comfyui = comfyui.expanduser()
        self.models = comfyui / "models"
        if not (self.models.is_dir() or (comfyui / "folder_paths.py").is_file()):
            raise UsageError(
                f"{comfyui} is not a ComfyUI folder.", expected="the folder with ComfyUI's main.py and models",
                got="no such folder" if not comfyui.is_dir() else "a folder without models",
            )  # fmt: skip
        self._first: dict[str, list[Path]] = {}
        self._more: dict[str, list[Path]] = {}
        self._code = [comfyui / _CODE]
        own = comfyui / _EXTRA
        for file in [*([own] if own.is_file() else []), *extra]:
            self._read(file.expanduser())

    def places(self, directory: str) -> list[Path]:
        """Returns the folders that are searched for files of this kind; the first is for new files."""
        kind = _RENAMED.get(directory, directory)
        also = [self.models / _ALSO[kind]] if kind in _ALSO else []
        return [*self._first.get(kind, []), self.models / kind, *also, *self._more.get(kind, [])]

    def find(self, model: ModelFile) -> Path | None:
        """Returns the file's path if it exists; if `model` has no directory, searches all of them."""
        kinds = [model.directory] if model.directory else self._kinds()
        for kind in kinds:
            if why_misplaced(replace(model, directory=kind)) is not None:
                continue
            for place in self.places(kind):
                if (path := place / model.name.replace("\\", "/")).exists():
                    return path
        return None

    def find_stem(self, directory: str, stem: str) -> Path | None:
        """Returns the path of a weight file by its name without suffix, as prompts name embeddings."""
        for place in self.places(directory):
            parent = (place / stem).parent
            for path in sorted(parent.glob(f"{Path(stem).name}*")) if parent.is_dir() else ():
                if path.stem == Path(stem).name and is_model_name(path.name):
                    return path
        return None

    def target(self, model: ModelFile) -> Path:
        """Returns the path to write the file to. Call `why_refused` first."""
        kind = model.directory or ""
        # Only files of known kinds are written to folders of extra_model_paths.yaml.
        place = self.places(kind)[0] if kind in _KINDS else self.models / kind
        return place / model.name.replace("\\", "/")

    def why_refused(self, model: ModelFile) -> str | None:
        """Returns why the file must not be written into these folders; None if it may be."""
        misplaced = why_misplaced(model)
        if misplaced is not None or model.directory is None:
            return misplaced
        kind = model.directory
        if kind not in _KINDS and kind not in self._own_kinds():
            return f"{kind!r} is not a known or existing model folder; if a node reads it, create {self.models / kind}"
        target = self.target(model)
        place = target.parents[model.name.replace("\\", "/").count("/")]
        try:
            root, folder = place.resolve(), target.parent.resolve()
            code = [path.resolve() for path in self._code]
        except (OSError, RuntimeError) as error:
            return f"{target.parent} cannot be used: {error}"
        if not folder.is_relative_to(root) or (kind not in _KINDS and not root.is_relative_to(self.models.resolve())):
            return f"{target.parent} leads outside the model folder through a symbolic link"
        if any(folder.is_relative_to(path) for path in code):
            return f"{target.parent} is in a folder of custom nodes"
        return None

    def _kinds(self) -> list[str]:
        return list(dict.fromkeys([*self._own_kinds(), *self._first, *self._more]))

    def _own_kinds(self) -> list[str]:
        return [path.name for path in self.models.iterdir() if path.is_dir()] if self.models.is_dir() else []

    def _read(self, file: Path) -> None:
        for section in _yaml(file).values():
            if section is None:
                continue
            if not is_object(section):
                raise UsageError(
                    f"{file} cannot be read.", expected="sections with folders by name", got=repr(section)[:80]
                )
            base = section.get("base_path")
            root = Path(os.path.expandvars(str(base))).expanduser() if base else Path()
            for name, listed in section.items():
                if name in ("base_path", "is_default") or not isinstance(listed, str):
                    continue
                paths = [file.parent.absolute() / root / line.strip() for line in listed.splitlines() if line.strip()]
                if str(name) == _CODE:
                    self._code += paths
                    continue
                folders = self._first if section.get("is_default") else self._more
                folders.setdefault(_RENAMED.get(str(name), str(name)), []).extend(paths)


def _yaml(file: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise UsageError(f"{file} cannot be read without PyYAML.", hint="pip install pyyaml") from error
    try:
        loaded = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error
    if loaded is None:
        return {}
    if not is_object(loaded):
        raise UsageError(f"{file} cannot be read.", expected="sections with folders by name", got=repr(loaded)[:80])
    return loaded
