"""Loading Kandinsky 3 from the official diffusers folder layout, or what `kandiflux models convert` made.

    unet/ movq/ scheduler/          the networks that draw
    text_encoder/ tokenizer/        FLAN-UL2's encoder, in shards, and its vocabulary

Strictly, memory-mapped, each tensor held once, as loader.py; the text encoder's shards one after another.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..sampling.schedulers import DecoderScheduler
from .layers import Operations
from .loader import WeightsError, read_config, tensor_shapes, weights_file
from .spiece import tokenizer_json
from .t5 import FP8, CastLinear, CastOperations, T5Config, T5Encoder, to_fp8

MAX_TOKENS = 128
"""Tokens of a prompt that Kandinsky 3 reads."""

TIED = "encoder.embed_tokens.weight"
"""A second name of `shared.weight`, which some files hold too."""

SCHEDULER = DecoderScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True, steps_offset=1)
"""Kandinsky 3's, where a folder has none: DDPM, clip ±1, fixed_small, leading."""


@dataclass(frozen=True)
class Kandinsky3TextEncoder:
    """What turns prompts into text states."""

    name: str
    encoder: T5Encoder
    tokenizer: Any


def is_kandinsky3_folder(folder: Path) -> bool:
    return _says(folder / "unet", "_class_name", "Kandinsky3UNet") and (folder / "movq" / "config.json").is_file()


def is_kandinsky3_text_folder(folder: Path) -> bool:
    return _says(folder / "text_encoder", "model_type", "t5") and (folder / "tokenizer").is_dir()


def _says(folder: Path, key: str, value: str) -> bool:
    """Whether the folder's config.json can be read and has that value."""
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get(key) == value
    except (OSError, ValueError, AttributeError):
        return False


def load_text_encoder(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    compute: torch.dtype | None = None,
    operations: Operations = CastOperations,
) -> Kandinsky3TextEncoder:
    """Read text_encoder/ and tokenizer/ of a Kandinsky 3 folder, the encoder's weights on the CPU in `dtype`
    (torch.float8_e4m3fn too), its layers computing in `compute` (default: dtype). Raises WeightsError."""
    weights = folder / "text_encoder"
    if dtype == FP8 and compute is None:
        compute = torch.float32
    encoder = T5Encoder(read_config(T5Config, weights / "config.json"), operations, dtype, "meta", compute)
    fill(encoder, shards(weights))
    return Kandinsky3TextEncoder(folder.name, encoder, load_tokenizer(folder / "tokenizer"))


def shards(folder: Path) -> list[Path]:
    """The safetensors files of one network: those its index names, the full ones before a half-precision variant; or
    its only one. Raises WeightsError naming each that is missing."""
    for name in ("model.safetensors.index.json", "model.safetensors.index.fp16.json"):
        if not (index := folder / name).is_file():
            continue
        try:
            places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(places.values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{index}: expected JSON with a weight_map ({error!r}). Download it again.") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            lost = sum(place in missing for place in places.values())
            raise WeightsError(
                f"{index} names {len(names)} files; of these {', '.join(missing)} is not in {folder}, and with it "
                f"{lost} of {len(places)} tensors. Download what is missing."
            )
        return [folder / name for name in names]
    return [weights_file(folder)]


@torch.no_grad()
def fill(network: nn.Module, files: Sequence[Path]) -> None:
    """Put the tensors of `files` into `network`, made on the meta device, each cast to the dtype that has there.

    The files are mapped, and read one tensor at a time: nothing is held twice, and what needs no cast is used where
    it lies. Raises WeightsError naming the file and tensor, with the shapes expected and found.
    """
    wanted = dict(network.named_parameters())
    _check(wanted, {file: tensor_shapes(file) for file in files})
    for file in files:
        with safe_open(file, framework="pt", device="cpu") as stored:
            for name in stored.keys():  # noqa: SIM118
                if name in wanted:
                    _put(network, name, stored.get_tensor(name), wanted[name].dtype)
    network.eval().requires_grad_(False)


def _check(wanted: dict[str, Any], found: dict[Path, dict[str, tuple[int, ...]]]) -> None:
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for file, shapes in found.items():
        for name, shape in shapes.items():
            if name == TIED:
                continue
            if name not in wanted:
                problems.append(f"{file.name}: unexpected {name} {list(shape)}")
            elif shape != tuple(wanted[name].shape):
                problems.append(f"{file.name}: {name}: expected {list(wanted[name].shape)}, got {list(shape)}")
            elif name in seen:
                problems.append(f"{file.name}: {name} is in {seen[name].name} too")
            seen[name] = file
    names = ", ".join(file.name for file in found)
    problems += [
        f"missing {name}: expected {list(wanted[name].shape)} in {names}" for name in wanted if name not in seen
    ]
    if problems:
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise WeightsError(
            f"{next(iter(found)).parent} does not hold the network its config.json describes: "
            f"{'; '.join(problems[:6])}{more}. Check that its files belong together."
        )


def _put(network: nn.Module, name: str, value: Tensor, dtype: torch.dtype) -> None:
    place, _, last = name.rpartition(".")
    module = network.get_submodule(place)
    if dtype == FP8 and isinstance(module, CastLinear):
        value, module.scale = to_fp8(value)
    setattr(module, last, nn.Parameter(value.to(dtype), requires_grad=False))


def load_tokenizer(folder: Path) -> Any:
    """The T5 tokenizer in `folder`: from tokenizer.json, or spiece.model, which is all the official one has."""
    from transformers import PreTrainedTokenizerFast

    if (file := folder / "tokenizer.json").is_file():
        return _tokenizer(PreTrainedTokenizerFast, file)
    if not (file := folder / "spiece.model").is_file():
        raise WeightsError(f"Expected tokenizer.json or spiece.model in {folder}: copy the whole official folder.")
    try:
        values = tokenizer_json(file.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file} is not a whole SentencePiece vocabulary ({error}). Download it again.") from error
    with tempfile.TemporaryDirectory() as made:
        written = Path(made) / "tokenizer.json"
        written.write_text(json.dumps(values), encoding="utf-8")
        return _tokenizer(PreTrainedTokenizerFast, written)


def _tokenizer(kind: Any, file: Path) -> Any:
    marks = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return kind(tokenizer_file=str(file), model_max_length=MAX_TOKENS, **marks)
