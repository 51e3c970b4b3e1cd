"""Converts the original Kandinsky 3.0 and 3.1 weights to the layout that the pack loads.

The original repository has pickles with other tensor names, and a part of the UNet in the text encoder's folder:
`kandinsky3*.pt` (UNet and null embedding), `projection*.pt`, `movq.pt`. They are converted to a folder in the published
layout: unet/, movq/ and scheduler/, safetensors with config.json. No code in a pickle is run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import re
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kandiflux.errors import OutputError, UsageError
from kandiflux.util.json_values import as_object, is_object
from kandiflux.util.pack_code import pack_module

__all__ = ["CheckpointConversion", "convert", "movq_tensors", "plan", "read_pickle", "unet_tensors"]

_log = logging.getLogger(__name__)

Tensors = Mapping[str, Any]
OnBytes = Callable[[str, int, int], None]
"""Called with the file being written, the bytes done and the total bytes."""

WEIGHTS = "diffusion_pytorch_model.safetensors"
CODEBOOK = 16384
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.00085,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "thresholding": False,
    "timestep_spacing": "leading",
    "variance_type": "fixed_small",
}
"""The published scheduler configuration."""
_CANDIDATE = re.compile(r"kandinsky3.*\.pt|movq.*\.pt")
_PROJECTION = ("0.weight", "1.weight", "1.bias")
_OF_MOVQ = ("quant_conv.weight", "quant_conv.bias", "encoder.conv_out.bias")
_MAX_BLOCKS = 16
"""The maximum number of levels of a network, and of layers of a level. The published networks have 4 and 3."""
EXPECTED = "kandinsky3.pt, kandinsky3_flash.pt or kandinsky3_inpainting.pt (a UNet), movq.pt, or their folder"


@dataclass(frozen=True)
class CheckpointConversion:
    """One folder to write, from `unet` with its `projection`, from `movq`, or from both."""

    folder: Path
    unet: Path | None
    projection: Path | None
    movq: Path | None

    @property
    def variant(self) -> str:
        """`flash` for a flash UNet, else empty."""
        return "flash" if self.unet is not None and "flash" in self.unet.stem else ""

    def targets(self) -> list[Path]:
        """Returns the files to write. config.json comes after the weights: a folder is a model only with both."""
        networks = [name for name, source in (("unet", self.unet), ("movq", self.movq)) if source]
        written = [self.folder / name / file for name in networks for file in (WEIGHTS, "config.json")]
        return written + ([self.folder / "scheduler" / "scheduler_config.json"] if self.unet else [])


def plan(source: Path, out: Path, projection: Path | None = None) -> list[CheckpointConversion]:
    """Plans the conversion of `source`, an original file or the folder of these files, to folders under `out`.

    Raises UsageError if the files are not recognised, or the projection of a UNet is not found.
    """
    if source.is_dir():
        # Select by name first, because reading other large files takes long.
        files = sorted(source.rglob("*.pt"))
        kinds = {file: _kind_of(file) for file in files if _CANDIDATE.fullmatch(file.name)}
        for file in (file for file, kind in kinds.items() if kind is None):
            _log.warning("Skipped %s: not recognised", file)
        unets = [file for file, kind in kinds.items() if kind == "unet"]
        movqs = [file for file, kind in kinds.items() if kind == "movq"]
        if not unets and not movqs:
            found = ", ".join(file.name for file in files[:10]) or "no .pt file"
            raise UsageError(f"There is nothing to convert in {source}.", expected=EXPECTED, got=found)
    else:
        kind = _kind_of(source) if source.is_file() else None
        if kind not in ("unet", "movq"):
            raise UsageError(f"{source} cannot be converted.", expected=EXPECTED, got=_describe(source))
        unets, movqs = ([source], _files_near(source, "movq.pt")) if kind == "unet" else ([], [source])
    if projection is not None and len(unets) != 1:
        raise UsageError(
            f"A projection belongs to one UNet; {source} has {len(unets)}.", hint="Give the file of the UNet as source."
        )
    movq = movqs[0] if movqs else None
    if not unets:
        return [CheckpointConversion(out / "kandinsky-3", None, None, movq)]
    return [
        CheckpointConversion(out / _folder_name(unet), unet, projection or _find_projection(unet), movq)
        for unet in unets
    ]


def convert(
    todo: list[CheckpointConversion], *, force: bool = False, on_bytes: OnBytes = lambda _file, _done, _total: None
) -> Iterator[Path]:
    """Writes each of `todo`, and yields the path of each file when it is complete.

    Raises UsageError before it writes if a file exists (unless `force`), or if the tensors do not form a network.
    """
    existing = [str(path) for conversion in todo for path in conversion.targets() if path.exists()]
    if existing and not force:
        raise UsageError(
            f"{existing[0]} exists already{f', and {len(existing) - 1} more' if len(existing) > 1 else ''}.",
            hint="Choose another folder, or overwrite it.",
            parameter="overwrite",
        )
    written: dict[Path, Path] = {}
    for conversion in todo:
        parts: list[tuple[str, Path, Tensors, dict[str, Any]]] = []
        if conversion.unet and conversion.projection:
            saved = as_object(read_pickle(conversion.unet))
            unet = _tensors(saved.get("unet"), conversion.unet)
            null = _tensors({"null_embedding": saved.get("null_embedding")}, conversion.unet)
            projection = _tensors(read_pickle(conversion.projection), conversion.projection, _PROJECTION)
            tensors = unet_tensors({"unet": unet, **null}, projection)
            parts.append(("unet", conversion.unet, tensors, _unet_config(tensors, conversion)))
        if conversion.movq and conversion.movq not in written:
            tensors = movq_tensors(_tensors(read_pickle(conversion.movq), conversion.movq, _OF_MOVQ))
            parts.append(("movq", conversion.movq, tensors, _movq_config(tensors, conversion.movq)))
        for name, source, weights, config in parts:
            target = conversion.folder / name / WEIGHTS
            metadata = {"format": "pt", "converted_from": source.name}
            _write(target, partial(_write_safetensors, tensors=weights, metadata=metadata, on_bytes=on_bytes))
            yield target
            yield _write_json(target.with_name("config.json"), config)
        if conversion.movq and conversion.movq in written:
            for file in (WEIGHTS, "config.json"):
                yield _link_or_copy(written[conversion.movq] / file, conversion.folder / "movq" / file)
        elif conversion.movq:
            written[conversion.movq] = conversion.folder / "movq"
        if conversion.unet:
            yield _write_json(conversion.folder / "scheduler" / "scheduler_config.json", SCHEDULER)


def read_pickle(path: Path) -> Any:
    """Loads a file saved by torch, with memory-mapped tensors and without running code. UsageError if it cannot."""
    torch = _torch()
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return torch.load(path, mmap=True, **options)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):
                    raise
                _log.warning("%s has an older format and is read completely into memory", path)
                return torch.load(path, mmap=False, **options)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is not a weight file, or contains more than weights; it is not read, because it could run code.",
            expected=EXPECTED,
        ) from error
    except _MALFORMED as error:
        raise UsageError(f"{path} cannot be read as weights: {_reason(error)}", expected=EXPECTED) from error


_MALFORMED = (OSError, EOFError, MemoryError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError,
              AttributeError, AssertionError, struct.error)  # fmt: skip
"""What torch's unpickler raises for damaged or malicious files."""


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    if "weights_only" in first:  # torch's message advises to disable weights_only, which would run the file's code
        return "it is not a plain dictionary of tensors, as torch.save writes it."
    if isinstance(error, (OSError, EOFError, RuntimeError)) and first:
        return first[:200]
    return f"its pickle is malformed ({type(error).__name__})."


def _tensors(values: Any, source: Path, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the same dictionary. UsageError unless it contains only complete tensors, including `required`."""
    torch = _torch()
    found: dict[Any, Any] = dict(as_object(values))
    for name in required:
        if name not in found:
            raise UsageError(f"{source} has no {name}.", expected=EXPECTED)
    for name, tensor in found.items():
        wrong = None
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            wrong = f"is a {type(tensor).__name__}"
        elif tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
            wrong = f"is {tensor.dtype}, {tensor.layout}, on {tensor.device}"
        elif tensor.dim() == 0 or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            wrong = f"has the shape {list(tensor.shape)[:8]}, but the file does not contain all of its values"
        if wrong is not None:
            raise UsageError(
                f"{source} cannot be converted: its entry {str(name)[:80]!r} {wrong}.",
                expected="a name and a floating-point tensor",
            )
    if not found:
        raise UsageError(f"{source} cannot be converted: it has no tensors.", expected=EXPECTED)
    return found


# Recognising files


def _kind_of(file: Path) -> str | None:
    """Returns unet, movq or projection, from the file's content; None for anything else."""
    values = read_pickle(file)
    if not is_object(values):
        return None
    if {"unet", "null_embedding"} <= values.keys() and "in_layer.weight" in as_object(values["unet"]):
        return "unet"
    if {"encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.norm_out.conv_y.weight"} <= values.keys():
        return "movq"
    return "projection" if set(values) == set(_PROJECTION) else None


def _describe(source: Path) -> str:
    if not source.exists():
        return "no such file or folder"
    kind = _kind_of(source)
    if kind == "projection":
        return "a projection, which is a part of a UNet: convert the UNet, and name the projection if needed"
    values = read_pickle(source)
    if not is_object(values):
        return f"a {type(values).__name__}"
    names = [str(name)[:80] for name in values]
    if any(name.startswith("down_blocks.") for name in names):
        return "tensors in the published layout: they only need conversion to safetensors"
    return f"a file with {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"


def _suffix(unet: Path) -> str:
    return unet.stem.removeprefix("kandinsky3") if unet.stem.startswith("kandinsky3") else ""


def _folder_name(unet: Path) -> str:
    return "kandinsky-3" + _suffix(unet).replace("_", "-")


def _files_near(file: Path, name: str) -> list[Path]:
    """Returns the files called `name` in the folder of `file` and in its flan_ul2_encoder/."""
    paths = (file.parent / name, file.parent / "flan_ul2_encoder" / name)
    return [path for path in paths if path.is_file()]


def _find_projection(unet: Path) -> Path:
    name = f"projection{_suffix(unet)}.pt"
    found = _files_near(unet, name)
    if not found:
        raise UsageError(
            f"The projection of {unet.name} is missing.",
            expected=f"{name} in the same folder, or in its flan_ul2_encoder/",
            hint="It is in the folder of the original text encoder: give its path.",
            parameter="projection",
        )
    return found[0]


# Names


_UNET_RULES = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"^to_time_embed\.1\.", "time_embedding.linear_1."),
        (r"^to_time_embed\.3\.", "time_embedding.linear_2."),
        (r"^feature_pooling\.", "add_time_condition."),
        (r"^in_layer\.", "conv_in."),
        (r"^out_layer\.0\.", "conv_norm_out."),
        (r"^out_layer\.2\.", "conv_out."),
        (r"^(down|up)_samples\.(\d+)\.self_attention_block\.", r"\1_blocks.\2.attentions.0."),
        (r"^(down|up)_samples\.(\d+)\.resnet_attn_blocks\.(\d+)\.0\.", r"\1_blocks.\2.resnets_in.\3."),
        (r"^(down|up)_samples\.(\d+)\.resnet_attn_blocks\.(\d+)\.2\.", r"\1_blocks.\2.resnets_out.\3."),
        (r"\.to_query\.", ".to_q."),
        (r"\.to_key\.", ".to_k."),
        (r"\.to_value\.", ".to_v."),
        (r"\.output_layer\.", ".to_out.0."),
    )
]
_CROSS = re.compile(r"^(down|up)_samples\.(\d+)\.resnet_attn_blocks\.(\d+)\.1\.")

_MOVQ_RULES = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\.norm_out\.", ".conv_norm_out."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"\.block\.(\d+)\.", r".resnets.\1."),
        (r"\.attn\.(\d+)\.", r".attentions.\1."),
        (r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"(\.attentions\.\d+)\.(q|k|v)\.", r"\1.to_\2."),
        (r"(\.attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
        (r"^(encoder\..*\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
        (r"^(decoder\..*\.attentions\.\d+)\.norm\.", r"\1.spatial_norm."),
        (r"^(encoder\..*)\.norm_layer\.", r"\1."),  # in the encoder it is a plain group norm
        (r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
    )
]
_UP = re.compile(r"^decoder\.up\.(\d{1,2})\.")
_LINEAR = re.compile(r"\.attentions\.\d+\.(to_q|to_k|to_v|to_out\.0)\.weight$")


def unet_tensors(saved: Mapping[str, Any], projection: Tensors) -> dict[str, Any]:
    """Renames the tensors of an original UNet, its null embedding and its projection to the published names."""
    made = {
        "null_embedding": saved["null_embedding"].flatten(),
        "encoder_hid_proj.projection_linear.weight": projection["0.weight"],
        "encoder_hid_proj.projection_norm.weight": projection["1.weight"],
        "encoder_hid_proj.projection_norm.bias": projection["1.bias"],
    }
    for name, tensor in saved["unet"].items():
        # In the published layout attention 0 of a level is the self-attention, so the others move up by one.
        name = _CROSS.sub(lambda m: f"{m[1]}_blocks.{m[2]}.attentions.{int(m[3]) + 1}.", name)
        made[_renamed(name, _UNET_RULES)] = tensor
    return made


def movq_tensors(saved: Tensors) -> dict[str, Any]:
    """Renames the tensors of an original MOVQ to the published names."""
    levels = 1 + max((int(found[1]) for name in saved if (found := _UP.match(name))), default=-1)
    made: dict[str, Any] = {}
    for name, tensor in saved.items():
        name = _UP.sub(lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.", name)
        name = _renamed(name, _MOVQ_RULES)
        # The published layout has linear layers instead of 1×1 convolutions.
        made[name] = tensor.flatten(1) if tensor.dim() > 1 and _LINEAR.search(name) else tensor
    if "quantize.embedding.weight" not in made:
        # The published weights have a codebook, which is never used; the original weights have none.
        made["quantize.embedding.weight"] = _torch().zeros(CODEBOOK, saved["quant_conv.weight"].shape[0])
    return made


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, put in rules:
        name = pattern.sub(put, name)
    return name


# Sizes


def _unet_config(tensors: Tensors, conversion: CheckpointConversion) -> dict[str, Any]:
    pack = pack_module("models.unet3")

    def size(name: str, axis: int = 0) -> int:
        return int(tensors[name].shape[axis])

    try:
        config = pack.UNet3Config(
            in_channels=size("conv_in.weight", 1),
            out_channels=size("conv_out.weight"),
            time_embedding_dim=size("time_embedding.linear_2.weight"),
            layers_per_block=sum(
                bool(re.fullmatch(r"down_blocks\.0\.resnets_in\.\d+\.resnet_blocks\.0\.projection\.bias", name))
                for name in tensors
            ),
            block_out_channels=tuple(
                size(f"down_blocks.{level}.resnets_in.0.resnet_blocks.3.projection.bias") for level in range(4)
            ),
            cross_attention_dim=size("null_embedding"),
            encoder_hid_dim=size("encoder_hid_proj.projection_linear.weight", 1),
            null_embedding=True,
            variant=conversion.variant,
        )
    except (KeyError, IndexError) as error:
        raise UsageError(f"{conversion.unet} is not a complete Kandinsky 3 UNet: it has no {error}.") from error
    _check(conversion.unet, config, lambda: pack.UNet3(config, device="meta"), tensors)
    return {"_class_name": "Kandinsky3UNet", **asdict(config)}


def _movq_config(tensors: Tensors, source: Path) -> dict[str, Any]:
    pack = pack_module("models.movq")
    names = [name for name in tensors if re.fullmatch(r"encoder\.down_blocks\.\d+\.resnets\.0\.conv1\.bias", name)]
    widths = tuple(int(tensors[name].shape[0]) for name in sorted(names))
    try:
        config = pack.MOVQConfig(
            block_out_channels=widths,
            layers_per_block=sum("encoder.down_blocks.0." in name and "conv1.bias" in name for name in tensors),
            latent_channels=int(tensors["encoder.conv_out.bias"].shape[0]),
            num_vq_embeddings=int(tensors["quantize.embedding.weight"].shape[0]),
            vq_embed_dim=int(tensors["quant_conv.bias"].shape[0]),
        )
    except (KeyError, IndexError) as error:
        raise UsageError(f"{source} is not a complete MOVQ: it has no {error}.") from error
    _check(source, config, lambda: pack.MOVQ(config, device="meta"), tensors)
    plain = len(widths) - 1
    return {
        "_class_name": "VQModel",
        "act_fn": "silu",
        "norm_type": "spatial",
        "down_block_types": ["DownEncoderBlock2D"] * plain + ["AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * plain,
        **asdict(config),
    }


def _check(source: Path | None, config: Any, make: Callable[[], Any], tensors: Tensors) -> None:
    """Raises UsageError unless `tensors` have the names and shapes of the network that `make` returns."""
    sizes = f"block_out_channels {config.block_out_channels[:8]}, layers_per_block {config.layers_per_block}"
    refusal = UsageError(f"{source} is not a valid network: its sizes do not fit together.", got=sizes)
    if not (0 < len(config.block_out_channels) <= _MAX_BLOCKS and 0 < config.layers_per_block <= _MAX_BLOCKS):
        raise refusal
    try:
        network = make()
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AssertionError) as error:
        raise refusal from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    problems = [f"missing {name}" for name in sorted(wanted.keys() - got.keys())]
    problems += [f"unexpected {name}" for name in sorted(got.keys() - wanted.keys())]
    problems += [
        f"{name}: expected {list(wanted[name])}, got {list(got[name])}"
        for name in sorted(wanted.keys() & got.keys())
        if wanted[name] != got[name]
    ]
    if problems:
        raise UsageError(
            f"{source} is not a valid network: {'; '.join(problem[:200] for problem in problems[:4])}"
            f"{f'; and {len(problems) - 4} more' if len(problems) > 4 else ''}.",
            hint="Check that the files belong together, and download them again.",
        )


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UsageError("Converting weights needs torch.", hint="pip install 'kandiflux[lite]'") from error
    return torch


# Writing


def _write(path: Path, fill: Callable[[Path], None]) -> None:
    """Writes a file atomically: `fill` writes to `path`.part, which is renamed when complete. Raises OutputError."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(part)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _write_json(path: Path, values: dict[str, Any]) -> Path:
    def fill(part: Path) -> None:
        part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    _write(path, fill)
    return path


def _link_or_copy(source: Path, path: Path) -> Path:
    """Makes `path` a hard link to `source`, or a copy if the file system has no hard links."""

    def link(part: Path) -> None:
        part.unlink(missing_ok=True)
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)

    _write(path, link)
    return path


_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def _write_safetensors(path: Path, tensors: Tensors, metadata: dict[str, str], on_bytes: OnBytes) -> None:
    """Writes a safetensors file tensor by tensor; the library's writer would first hold all tensors in memory."""
    torch = _torch()
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # largest dtype first: all aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    total = 0
    for name in names:
        tensor = tensors[name]
        dtype = _DTYPES.get(str(tensor.dtype).removeprefix("torch."))
        if dtype is None:
            raise UsageError(f"{name} is {tensor.dtype}.", expected=f"one of {', '.join(_DTYPES)}")
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [total, total + size]}
        total += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    done = 0
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in names:
            data = tensors[name].detach().contiguous().flatten().view(torch.uint8)
            for piece in data.split(64 << 20):
                file.write(memoryview(piece.numpy()))
                done += len(piece)
                on_bytes(str(path).removesuffix(".part"), done, total)
        file.flush()
        os.fsync(file.fileno())
