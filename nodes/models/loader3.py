"""Loads Kandinsky 3's text encoder from official diffusers folders, or from the output of `kandiflux models convert`.

    unet/ movq/ scheduler/          decoder
    text_encoder/ tokenizer/        encoder of FLAN-UL2, sharded, and its vocabulary

Loading is strict and memory-mapped, one shard after another.
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
"""Maximum number of tokens of a Kandinsky 3 prompt."""

TIED = "encoder.embed_tokens.weight"
"""Weight tied to `shared.weight`; some files have both."""

SCHEDULER = DecoderScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True, steps_offset=1)
"""Scheduler of Kandinsky 3, for folders without scheduler/."""


@dataclass(frozen=True)
class Kandinsky3TextEncoder:
    """A loaded text encoder with its tokenizer."""

    name: str
    encoder: T5Encoder
    tokenizer: Any


def is_kandinsky3_folder(folder: Path) -> bool:
    return _config_has(folder / "unet", "_class_name", "Kandinsky3UNet") and (folder / "movq/config.json").is_file()


def is_kandinsky3_text_folder(folder: Path) -> bool:
    return _config_has(folder / "text_encoder", "model_type", "t5") and (folder / "tokenizer").is_dir()


def _config_has(folder: Path, key: str, value: str) -> bool:
    """Return True if the folder has a valid config.json with this value."""
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
    """Load text_encoder/ and tokenizer/ of a Kandinsky 3 folder to the CPU, weights stored in `dtype`, which may be
    torch.float8_e4m3fn, layers computing in `compute` (default: dtype, float32 for fp8). Raises WeightsError."""
    weights = folder / "text_encoder"
    if dtype == FP8 and compute is None:
        compute = torch.float32
    encoder = T5Encoder(read_config(T5Config, weights / "config.json"), operations, dtype, "meta", compute)
    load_shards(encoder, shards(weights))
    return Kandinsky3TextEncoder(folder.name, encoder, load_tokenizer(folder / "tokenizer"))


def shards(folder: Path) -> list[Path]:
    """Safetensors files of one network, from its index, full precision preferred over fp16; or its single file. Raises
    WeightsError naming missing files."""
    for name in ("model.safetensors.index.json", "model.safetensors.index.fp16.json"):
        if not (index := folder / name).is_file():
            continue
        try:
            weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(weight_map.values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{index}: expected JSON with a weight_map ({error!r}). Download it again.") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            lost = sum(name in missing for name in weight_map.values())
            raise WeightsError(
                f"{index} names {len(names)} files, but {', '.join(missing)} is missing in {folder}, with "
                f"{lost} of {len(weight_map)} tensors. Download the missing files."
            )
        return [folder / name for name in names]
    return [weights_file(folder)]


@torch.no_grad()
def load_shards(network: nn.Module, files: Sequence[Path]) -> None:
    """Load `files` into `network`, created on the meta device, cast to the dtypes of its parameters.

    The files are memory-mapped: tensors of the right dtype are not copied, others are cast one at a time. Raises
    WeightsError naming file, tensor and shapes.
    """
    wanted = dict(network.named_parameters())
    _check(wanted, {file: tensor_shapes(file) for file in files})
    for file in files:
        with safe_open(file, framework="pt", device="cpu") as stored:
            for name in stored.keys():  # noqa: SIM118
                if name in wanted:
                    _set_parameter(network, name, stored.get_tensor(name), wanted[name].dtype)
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
            f"{next(iter(found)).parent} does not match its config.json: "
            f"{'; '.join(problems[:6])}{more}. Check that the files belong together."
        )


def _set_parameter(network: nn.Module, name: str, value: Tensor, dtype: torch.dtype) -> None:
    path, _, last = name.rpartition(".")
    module = network.get_submodule(path)
    if dtype == FP8 and isinstance(module, CastLinear):
        value, module.scale = to_fp8(value)
    setattr(module, last, nn.Parameter(value.to(dtype), requires_grad=False))


def load_tokenizer(folder: Path) -> Any:
    """Load the T5 tokenizer in `folder`, from tokenizer.json or spiece.model. The official folder has only the latter.
    Raises WeightsError."""
    from transformers import PreTrainedTokenizerFast

    if (file := folder / "tokenizer.json").is_file():
        return _tokenizer(PreTrainedTokenizerFast, file)
    if not (file := folder / "spiece.model").is_file():
        raise WeightsError(f"Expected tokenizer.json or spiece.model in {folder}: copy the whole official folder.")
    try:
        values = tokenizer_json(file.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file} is not a valid SentencePiece vocabulary ({error}). Download it again.") from error
    with tempfile.TemporaryDirectory() as temporary:
        converted = Path(temporary) / "tokenizer.json"
        converted.write_text(json.dumps(values), encoding="utf-8")
        return _tokenizer(PreTrainedTokenizerFast, converted)


def _tokenizer(kind: Any, file: Path) -> Any:
    special_tokens = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return kind(tokenizer_file=str(file), model_max_length=MAX_TOKENS, **special_tokens)
