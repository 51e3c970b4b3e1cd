"""Image embeds, the output of the prior and input of the decoder, and nodes that mix, save and load them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import host
from .sampling.mixing import METHODS, interpolate, mix
from .saving import save_new

CATEGORY = "kandiflux/kandinsky/embeds"
VERSIONS = {768: "Kandinsky 2.1", 1280: "Kandinsky 2.2"}
MIX_INPUTS = 8
FORMAT = "kandiflux.image_embeds.1"


@dataclass(frozen=True)
class ImageEmbeds:
    """CLIP image embeds [B, D] float32 on the CPU. origin: prior, prompt and so on."""

    values: Tensor
    origin: dict[str, str]

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ValueError(f"Expected image embeds of shape [batch, width], got {list(self.values.shape)}.")
        if not torch.isfinite(self.values).all():
            raise ValueError(
                "The image embeds contain NaN or infinity, most likely because fp16 overflowed. Load the prior with "
                "dtype fp32 or bf16."
            )

    @property
    def width(self) -> int:
        return self.values.shape[-1]

    def rows(self, count: int) -> Tensor:
        """Expand a batch of one to [count, D]. Raises ValueError if the batch is neither 1 nor `count`."""
        if len(self.values) not in (1, count):
            raise ValueError(f"Expected 1 or {count} image embeds, got a batch of {len(self.values)}.")
        return self.values.expand(count, -1)


class MissingEmbeds(ImageEmbeds):
    """Placeholder for negative embeds missing in a file. Raises ValueError when they are used."""

    def __init__(self, file: str) -> None:
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "origin", {})

    def __repr__(self) -> str:  # ComfyUI prints the inputs of a node that fails
        return f"MissingEmbeds({self.__dict__['file']!r})"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def values(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise ValueError(
            f"{self.__dict__['file']} was saved without negative image embeds. Use those of Kandinsky Prior or "
            "Kandinsky Image Encode, or save it again with them."
        )


def describe_width(width: int) -> str:
    return f"{width} wide ({VERSIONS[width]})" if width in VERSIONS else f"{width} wide"


def require_width(embeds: ImageEmbeds, width: int, what: str) -> None:
    if embeds.width != width:
        raise ValueError(
            f"{what} expected image embeds {describe_width(width)}, got {describe_width(embeds.width)}: the prior and "
            "the decoder are different versions. Load the prior that belongs to the decoder."
        )


EMBEDS = "KANDINSKY_EMBEDS"
METHOD = (
    list(METHODS),
    {
        "default": "sum",
        "tooltip": "sum: the weighted sum, as in the reference. normalised: the weighted mean, scaled to the norm of "
        "its parts. slerp: spherical interpolation, norms interpolated.",
    },
)


class KandinskyEmbeddingMix:
    DESCRIPTION = "Mix up to eight image embeds, each with a weight."
    SEARCH_ALIASES = ["mix embeddings", "blend", "average embeds", "interpolate"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS,)
    RETURN_NAMES = ("image_embeds",)
    OUTPUT_TOOLTIPS = ("The mixed image embeds, for the decoder.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        first: dict[str, Any] = {"method": METHOD}
        optional: dict[str, Any] = {}
        for i in range(1, MIX_INPUTS + 1):
            place = first if i == 1 else optional
            place[f"embeds_{i}"] = (EMBEDS, {"tooltip": f"Image embeds number {i}."})
        for i in range(1, MIX_INPUTS + 1):
            place = first if i == 1 else optional
            weight = {"default": 0.5 if i < 3 else 0.0, "min": -4.0, "max": 4.0, "step": 0.01}
            place[f"weight_{i}"] = ("FLOAT", weight | {"tooltip": f"Weight of embeds_{i}. 0 leaves it out."})
        return {"required": first, "optional": optional}

    def run(self, method: str, **inputs: Any) -> tuple[ImageEmbeds]:
        numbers = [i for i in range(1, MIX_INPUTS + 1) if inputs.get(f"embeds_{i}") is not None]
        parts: list[ImageEmbeds] = [inputs[f"embeds_{i}"] for i in numbers]
        weights = [float(inputs.get(f"weight_{i}", 0.0)) for i in numbers]
        blend = mix([part.values for part in parts], weights, method)
        return (ImageEmbeds(blend, {"mixed": json.dumps(weights), "method": method}),)


class KandinskyInterpolate:
    DESCRIPTION = "Interpolate from one image embed to another, as a batch of frames."
    SEARCH_ALIASES = ["morph", "transition", "slerp", "interpolation strip"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS,)
    RETURN_NAMES = ("image_embeds",)
    OUTPUT_TOOLTIPS = ("A batch of image embeds, one per frame.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "embeds_a": (EMBEDS, {"tooltip": "The first frame."}),
                "embeds_b": (EMBEDS, {"tooltip": "The last frame."}),
                "frames": (
                    "INT",
                    {"default": 5, "min": 2, "max": 256, "tooltip": "Number of frames, first and last included."},
                ),
                "method": (METHOD[0], METHOD[1] | {"default": "slerp"}),
            }
        }

    def run(self, embeds_a: ImageEmbeds, embeds_b: ImageEmbeds, frames: int, method: str) -> tuple[ImageEmbeds]:
        return (ImageEmbeds(interpolate(embeds_a.values, embeds_b.values, frames, method), {"frames": str(frames)}),)


class KandinskySaveEmbeds:
    DESCRIPTION = "Save image embeds as a safetensors file in the output folder, to load later without the prior."
    SEARCH_ALIASES = ["store embeddings", "export embeds"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image_embeds": (EMBEDS, {"tooltip": "The image embeds to save."}),
                "negative_image_embeds": (EMBEDS, {"tooltip": "The negative image embeds, saved in the same file."}),
                "filename": (
                    "STRING",
                    {
                        "default": "embeds",
                        "tooltip": "Name of the file. A number is added, so nothing is overwritten.",
                    },
                ),
            }
        }

    def run(self, image_embeds: ImageEmbeds, negative_image_embeds: ImageEmbeds, filename: str) -> dict[str, Any]:
        folder = host.current().output_directory() / "kandinsky_embeds"
        path = save_embeds(folder, filename, image_embeds, negative_image_embeds)
        return {"ui": {"text": [path.name]}}


class KandinskyLoadEmbeds:
    DESCRIPTION = "Load image embeds saved by Kandinsky Save Embeds; no prior is needed."
    SEARCH_ALIASES = ["import embeds", "read embeddings"]
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = (EMBEDS, EMBEDS)
    RETURN_NAMES = ("image_embeds", "negative_image_embeds")
    OUTPUT_TOOLTIPS = ("The saved embeds.", "The saved negative embeds.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "file": (saved_files(), {"tooltip": "A file of output/kandinsky_embeds or models/kandinsky_embeds."})
            }
        }

    @classmethod
    def IS_CHANGED(cls, file: str) -> str:
        path = find_saved(file)
        return f"{path.stat().st_mtime_ns}:{path.stat().st_size}" if path else ""

    def run(self, file: str) -> tuple[ImageEmbeds, ImageEmbeds]:
        path = find_saved(file)
        if path is None:
            raise FileNotFoundError(
                f"Expected {file!r} in output/kandinsky_embeds or models/kandinsky_embeds, but it no longer exists. "
                f"Available: {', '.join(saved_files()) or 'none'}."
            )
        return load_embeds(path)


def saved_files() -> list[str]:
    """Names of saved embeds."""
    folders = host.current().model_folders("kandinsky_embeds")
    return sorted({path.name for folder in folders if folder.is_dir() for path in folder.glob("*.safetensors")})


def find_saved(name: str) -> Path | None:
    if name not in saved_files():
        return None
    return next(f / name for f in host.current().model_folders("kandinsky_embeds") if (f / name).is_file())


def save_embeds(folder: Path, name: str, positive: ImageEmbeds, negative: ImageEmbeds) -> Path:
    """Write `folder/<name>_00001.safetensors`, or the next free number, and return the path."""
    tensors = {
        "image_embeds": positive.values.contiguous(),
        "negative_image_embeds": negative.values.clone(),  # may share memory with the other, which safetensors refuses
    }
    metadata = {"format": FORMAT, "origin": json.dumps(positive.origin, ensure_ascii=False)}
    return save_new(folder, name, "embeds", tensors, metadata)


def load_embeds(path: Path) -> tuple[ImageEmbeds, ImageEmbeds]:
    """Load (image embeds, negative image embeds) from a file written by save_embeds; old files may lack the latter.
    Raises ValueError for other files."""
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a complete safetensors file ({error}). Save the embeds again.") from error
    if metadata.get("format") != FORMAT or "image_embeds" not in tensors:
        raise ValueError(
            f"{path.name}: expected image embeds saved by Kandinsky Save Embeds, got a file with the tensors "
            f"{sorted(tensors)[:4]}."
        )
    origin = json.loads(metadata.get("origin", "{}"))
    positive = ImageEmbeds(tensors["image_embeds"].float(), origin)
    negative = tensors.get("negative_image_embeds")
    return positive, MissingEmbeds(path.name) if negative is None else ImageEmbeds(negative.float(), origin)


NODES = {
    "KandinskyEmbeddingMix": (KandinskyEmbeddingMix, "Kandinsky Embedding Mix"),
    "KandinskyInterpolate": (KandinskyInterpolate, "Kandinsky Interpolate"),
    "KandinskySaveEmbeds": (KandinskySaveEmbeds, "Kandinsky Save Embeds"),
    "KandinskyLoadEmbeds": (KandinskyLoadEmbeds, "Kandinsky Load Embeds"),
}
