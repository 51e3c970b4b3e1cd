"""Nodes that save and load conditioning of any model, so that a prompt is encoded only once.

Files are safetensors: tensors named by number, and the structure that refers to them as JSON in the metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import host
from .saving import save_new

CATEGORY = "kandiflux/conditioning"
KIND = "conditioning"
"""Folder name in output/ and models/."""

FORMAT = "kandiflux.conditioning.1"
TENSOR, DICT, LIST, TUPLE = "tensor", "dict", "list", "tuple"
Conditioning = list[Any]


class KandifluxSaveConditioning:
    DESCRIPTION = (
        "Save conditioning of any model, such as an encoded prompt, to output/conditioning. Load Conditioning loads it "
        "unchanged, without the text encoder."
    )
    SEARCH_ALIASES = ["store conditioning", "cache prompt", "export embeds", "t5 cache"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "What to save; control nets cannot be saved with it."}),
                "filename": (
                    "STRING",
                    {
                        "default": "conditioning",
                        "tooltip": "Name of the file. A number is added, so nothing is overwritten.",
                    },
                ),
            }
        }

    def run(self, conditioning: Conditioning, filename: str) -> dict[str, Any]:
        path = save_conditioning(host.current().output_directory() / KIND, filename, conditioning)
        return {"ui": {"text": [path.name]}}


class KandifluxLoadConditioning:
    DESCRIPTION = "Load conditioning saved by Save Conditioning; no text encoder is needed."
    SEARCH_ALIASES = ["import conditioning", "read prompt", "cached prompt"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("The conditioning as it was saved.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "file": (list(saved_files()), {"tooltip": "A file of output/conditioning or models/conditioning."})
            }
        }

    @classmethod
    def IS_CHANGED(cls, file: str) -> str:
        path = saved_files().get(file)
        return f"{path.stat().st_mtime_ns}:{path.stat().st_size}" if path else ""

    def run(self, file: str) -> tuple[Conditioning]:
        found = saved_files()
        if file not in found:
            raise FileNotFoundError(
                f"Expected {file!r} in output/conditioning or models/conditioning, but it no longer exists. "
                f"Available: {', '.join(found) or 'none'}."
            )
        return (load_conditioning(found[file]),)


def saved_files() -> dict[str, Path]:
    """Name → path of saved conditioning; files in models/ take precedence over files of the same name in output/."""
    here = host.current()
    models = here.models_directory()
    folders = [*here.model_folders(KIND), *([models / KIND] if models else []), here.output_directory() / KIND]
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("*.safetensors") if folder.is_dir() else ():
            found.setdefault(path.name, path)
    return dict(sorted(found.items()))


def save_conditioning(folder: Path, name: str, conditioning: Conditioning) -> Path:
    """Write `folder/<name>_00001.safetensors`, or the next free number, and return the path. Raises ValueError naming
    what cannot be saved."""
    tensors: dict[str, Tensor] = {}
    if not isinstance(conditioning, list) or not conditioning:
        raise ValueError(f"Expected a CONDITIONING that is not empty, got {conditioning!r:.80}.")
    plan = to_json(conditioning, "conditioning", tensors)
    metadata = {"format": FORMAT, "conditioning": json.dumps(plan, ensure_ascii=False)}
    return save_new(folder, name, "conditioning", tensors, metadata)


def load_conditioning(path: Path) -> Conditioning:
    """Load a file written by save_conditioning. Raises ValueError for other files."""
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            # Copies: the file may be overwritten while its tensors are in use.
            tensors = {key: stored.get_tensor(key).clone() for key in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a complete safetensors file ({error}). Save it again.") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path.name}: expected conditioning saved by Save Conditioning, got a file with the tensors "
            f"{sorted(tensors)[:4]}."
        )
    try:
        return from_json(json.loads(metadata["conditioning"]), tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path.name} has been changed since it was saved ({error!r}). Save it again.") from error


def to_json(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """Convert `value` to JSON and collect its tensors in `tensors`. Containers become {"list": […]} etc., so that
    tuples stay tuples. `where` is the path of the value, for errors. Raises ValueError."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value) in (Tensor, torch.nn.Parameter):
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise ValueError(f"{where} cannot be saved: expected a dense tensor, got a sparse, meta or quantised one.")
        name = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory, as combined conditionings may.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {TENSOR: name}
    if type(value) is dict:
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"{where} cannot be saved: expected text for its keys, got {list(value)[:3]}.")
        return {DICT: {key: to_json(item, f"{where}[{key!r}]", tensors) for key, item in value.items()}}
    if type(value) in (list, tuple):
        kind = LIST if isinstance(value, list) else TUPLE
        return {kind: [to_json(item, f"{where}[{i}]", tensors) for i, item in enumerate(value)]}
    raise ValueError(
        f"{where} cannot be saved: expected tensors, numbers, text, lists and dicts, got a {type(value).__name__}. "
        "Save the conditioning before the node that adds it (a control net, a hook, …), and add that after loading."
    )


def from_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Inverse of to_json."""
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == TENSOR:
        return tensors[held]
    if kind == DICT:
        return {key: from_json(item, tensors) for key, item in held.items()}
    if kind in (LIST, TUPLE):
        items = [from_json(item, tensors) for item in held]
        return items if kind == LIST else tuple(items)
    raise ValueError(f"unknown {kind!r}")


NODES = {
    "KandifluxSaveConditioning": (KandifluxSaveConditioning, "Save Conditioning (kandiflux)"),
    "KandifluxLoadConditioning": (KandifluxLoadConditioning, "Load Conditioning (kandiflux)"),
}
