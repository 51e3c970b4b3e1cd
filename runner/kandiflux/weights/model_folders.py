"""A ComfyUI's model folders on this machine, those of its extra_model_paths.yaml among them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kandiflux.errors import UsageError
from kandiflux.json_values import is_object
from kandiflux.weights.model_files import ModelFile, is_model_name

__all__ = ["ModelFolders"]

_EXTRA = "extra_model_paths.yaml"
# As in ComfyUI's folder_paths.py: old names of folders, and folders that are read as well.
_RENAMED = {"unet": "diffusion_models", "clip": "text_encoders"}
_ALSO = {"diffusion_models": "unet", "text_encoders": "clip", "controlnet": "t2i_adapter"}


class ModelFolders:
    """Where files of each kind lie, and where new ones go.

    comfyui: ComfyUI's folder. extra: more files like extra_model_paths.yaml (`--extra-model-paths-config`).
    UsageError where they cannot be read.
    """

    def __init__(self, comfyui: Path, extra: Iterable[Path] = ()) -> None:
        comfyui = comfyui.expanduser()
        self.models = comfyui / "models"
        if not (self.models.is_dir() or (comfyui / "folder_paths.py").is_file()):
            raise UsageError(
                f"{comfyui} is no ComfyUI.", expected="the folder that has ComfyUI's main.py and models in it",
                got="no such folder" if not comfyui.is_dir() else "a folder without models",
            )  # fmt: skip
        self._first: dict[str, list[Path]] = {}
        self._more: dict[str, list[Path]] = {}
        own = comfyui / _EXTRA
        for file in [*([own] if own.is_file() else []), *extra]:
            self._read(file.expanduser())

    def places(self, directory: str) -> list[Path]:
        """The folders in which files of this kind are looked for, the one for new files first."""
        kind = _RENAMED.get(directory, directory)
        also = [self.models / _ALSO[kind]] if kind in _ALSO else []
        return [*self._first.get(kind, []), self.models / kind, *also, *self._more.get(kind, [])]

    def find(self, model: ModelFile) -> Path | None:
        """The file, where it is there; one whose folder is not known is looked for in all of them."""
        kinds = [model.directory] if model.directory else self._kinds()
        plain = model.name.replace("\\", "/")
        for kind in kinds:
            for place in self.places(kind):
                if (path := place / plain).exists():
                    return path
        return None

    def find_stem(self, directory: str, stem: str) -> Path | None:
        """A file of weights by its name without the suffix, as prompts name embeddings."""
        for place in self.places(directory):
            parent = (place / stem).parent
            for path in sorted(parent.glob(f"{Path(stem).name}*")) if parent.is_dir() else ():
                if path.stem == Path(stem).name and is_model_name(path.name):
                    return path
        return None

    def target(self, model: ModelFile) -> Path:
        """Where the file is to be written."""
        return self.places(model.directory or "")[0] / model.name

    def _kinds(self) -> list[str]:
        own = [path.name for path in self.models.iterdir() if path.is_dir()] if self.models.is_dir() else []
        return list(dict.fromkeys([*own, *self._first, *self._more]))

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
                kept = self._first if section.get("is_default") else self._more
                kept.setdefault(_RENAMED.get(str(name), str(name)), []).extend(paths)


def _yaml(file: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise UsageError(
            f"{file} names model folders, and to read it PyYAML is needed.", hint="pip install pyyaml"
        ) from error
    try:
        loaded = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error
    if loaded is None:
        return {}
    if not is_object(loaded):
        raise UsageError(f"{file} cannot be read.", expected="sections with folders by name", got=repr(loaded)[:80])
    return loaded
