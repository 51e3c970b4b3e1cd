"""Loads Kandinsky 2.x from official diffusers folders.

    prior folder:    prior/ text_encoder/ image_encoder/ tokenizer/ image_processor/ scheduler/
    decoder folder:  unet/ movq/ scheduler/, and in 2.1 text_encoder/ tokenizer/ (ddpm_scheduler/)

Loading is strict and memory-mapped. Without a config.json, sizes are detected from the tensors. Only safetensors files
are read, nothing is unpickled. Single files are loaded by single.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..sampling.schedulers import UnCLIPScheduler
from .clip import CLIPImageEncoder, CLIPTextConfig, CLIPTextEncoder, CLIPVisionConfig
from .detect import NAMES, Shapes, Sizes, config_from_tensors
from .layers import Operations, SkipInit
from .movq import MOVQConfig
from .prior import PriorConfig, PriorTransformer
from .unet2 import UNet2Config

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config", UNet2Config, MOVQConfig, PriorConfig, CLIPTextConfig, CLIPVisionConfig)
AnySizes = TypeVar("AnySizes", bound=Sizes)


POSITION_IDS = "position_ids"
"""End of the name of a buffer in old files of text and image encoders, which is ignored."""


class WeightsError(Exception):
    """A model folder or file is missing, damaged, or of another model. The message says what to do."""


@dataclass(frozen=True)
class KandinskyPrior:
    """A loaded prior with its encoders, tokenizer and scheduler."""

    name: str
    prior: PriorTransformer
    text_encoder: CLIPTextEncoder
    image_encoder: CLIPImageEncoder
    tokenizer: Any
    image_processor: ImageProcessorConfig
    scheduler: UnCLIPScheduler

    @property
    def width(self) -> int:
        """Width D of the image embeds."""
        return self.prior.config.embedding_dim


@dataclass(frozen=True)
class ImageProcessorConfig:
    """Preprocessing for the CLIP image encoder: shortest side resized to `size`, centre crop, normalised."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ImageProcessorConfig:
        def side(value: Any) -> int:
            return (
                int(value["shortest_edge"] if "shortest_edge" in value else value["height"])
                if isinstance(value, dict)
                else int(value)
            )

        size, crop = side(values["size"]), side(values["crop_size"])
        if size != crop:
            raise WeightsError(
                f"preprocessor_config.json: expected size and crop_size to agree, got {size} and {crop}."
            )
        return cls(size, tuple(values["image_mean"]), tuple(values["image_std"]))


def is_prior_folder(folder: Path) -> bool:
    return _holds_network(folder / "prior")


def is_decoder_folder(folder: Path) -> bool:
    """Return True for a Kandinsky 2.x decoder folder; Kandinsky 3's have unet/ and movq/ too."""
    if not (_holds_network(folder / "unet") and _holds_network(folder / "movq")):
        return False
    config = folder / "unet" / "config.json"
    return not config.is_file() or b"Kandinsky3UNet" not in config.read_bytes()


def _holds_network(folder: Path) -> bool:
    return (folder / "config.json").is_file() or _weights_in(folder) is not None


def load_prior(folder: Path, dtype: torch.dtype = torch.float32, operations: Operations = SkipInit) -> KandinskyPrior:
    """Load a prior folder to the CPU in `dtype`. Raises WeightsError."""
    from transformers import CLIPTokenizer

    config = network_config(PriorConfig, folder / "prior")
    text = network_config(CLIPTextConfig, folder / "text_encoder")
    vision = network_config(CLIPVisionConfig, folder / "image_encoder")
    processor = _read_json(folder / "image_processor" / "preprocessor_config.json")
    return KandinskyPrior(
        name=folder.name,
        prior=load_network(PriorTransformer(config, operations, dtype, "meta"), weights_file(folder / "prior"), dtype),
        text_encoder=load_network(
            CLIPTextEncoder(text, operations, dtype, "meta"), weights_file(folder / "text_encoder"), dtype
        ),
        image_encoder=load_network(
            CLIPImageEncoder(vision, operations, dtype, "meta"), weights_file(folder / "image_encoder"), dtype
        ),
        tokenizer=CLIPTokenizer.from_pretrained(_require_exists(folder / "tokenizer"), local_files_only=True),
        image_processor=ImageProcessorConfig.from_json(processor),
        scheduler=read_config(UnCLIPScheduler, folder / "scheduler" / "scheduler_config.json"),
    )


def load_decoder_text(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load (M-CLIP, tokenizer) from a 2.1 decoder folder. Raises WeightsError."""
    from .mclip import MCLIP, Tokenizer

    text_encoder = load_transformers(MCLIP, folder / "text_encoder", dtype)
    return text_encoder, Tokenizer.from_pretrained(_require_exists(folder / "tokenizer"), local_files_only=True)


def weights_file(folder: Path) -> Path:
    """Safetensors file of one network; the full-precision one is preferred over fp16. Raises WeightsError."""
    if (path := _weights_in(_require_exists(folder))) is not None:
        return path
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".ckpt", ".pt"))
    found = f" It holds {', '.join(others)}, which is not read: unpickling can run any code." if others else ""
    raise WeightsError(
        f"Expected diffusion_pytorch_model.safetensors in {folder}.{found} Download the safetensors file."
    )


def _weights_in(folder: Path) -> Path | None:
    for stem in ("diffusion_pytorch_model", "diffusion_pytorch_model.fp16", "model", "model.fp16"):
        if (path := folder / f"{stem}.safetensors").is_file():
            return path
    return None


def network_config(kind: type[Config], folder: Path) -> Config:
    """Config of the network in `folder`: its config.json, or detected from its tensors. Raises WeightsError."""
    if (file := folder / "config.json").is_file():
        return read_config(kind, file)
    return detect_config(kind, weights_file(folder))


def detect_config(kind: type[AnySizes], file: Path, shapes: Shapes | None = None) -> AnySizes:
    """Config detected from the tensors of `file`, or from `shapes`. Raises WeightsError for another network."""
    try:
        found = config_from_tensors(tensor_shapes(file) if shapes is None else shapes)
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from error
    if not isinstance(found, kind):
        raise WeightsError(f"{file}: expected the tensors of {NAMES[kind]}, got those of {NAMES[type(found)]}.")
    return found


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, from its header. Raises WeightsError."""
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            return _shapes(stored)
    except SafetensorError as error:
        raise _invalid_file(file, error) from error


def _shapes(stored: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118


def _invalid_file(file: Path, error: SafetensorError) -> WeightsError:
    return WeightsError(f"{file} is not a complete safetensors file ({error}). Download it again.")


def load_network(network: Network, file: Path, dtype: torch.dtype) -> Network:
    """Load `file` into `network`, created on the meta device, and cast it to `dtype`.

    The file is memory-mapped: tensors already in `dtype` are not copied, others are cast one at a time. Raises
    WeightsError naming missing, unexpected and mismatched tensors.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            got = {key: shape for key, shape in _shapes(stored).items() if not key.endswith(POSITION_IDS)}
            check_shapes(file, wanted, got)
            tensors: dict[str, Tensor] = {key: stored.get_tensor(key).to(dtype) for key in wanted}
    except SafetensorError as error:
        raise _invalid_file(file, error) from error
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def check_shapes(file: Path, wanted: dict[str, tuple[int, ...]], got: dict[str, tuple[int, ...]]) -> None:
    """Raise WeightsError unless the names and shapes in `got` are those in `wanted`."""
    missing = [f"missing {key}" for key in sorted(wanted.keys() - got.keys())]
    unexpected = [f"unexpected {key}" for key in sorted(got.keys() - wanted.keys())]
    mismatched = [
        f"{key}: expected {list(wanted[key])}, got {list(got[key])}"
        for key in sorted(wanted.keys() & got.keys())
        if wanted[key] != got[key]
    ]
    # A few of each kind, to tell an incomplete file from one of another network.
    problems = [problem for kind in (mismatched, unexpected, missing) for problem in kind[:3]]
    if problems:
        others = len(missing) + len(unexpected) + len(mismatched) - len(problems)
        more = f"; and {others} more" if others else ""
        raise WeightsError(
            f"{file} does not match its config.json (or, without one, the network detected from its tensors): "
            f"{'; '.join(problems)}{more}. Check that the files belong together."
        )


def load_transformers(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load a transformers model from its folder. Raises WeightsError."""
    file = weights_file(folder)
    _require_exists(folder / "config.json")
    variant = "fp16" if ".fp16." in file.name else None
    return _from_pretrained(kind, file, dtype, folder, use_safetensors=True, local_files_only=True, variant=variant)


def load_transformers_file(kind: Any, config: Any, file: Path, dtype: torch.dtype) -> Any:
    """Load a transformers model from a single file, memory-mapped, with its config. Raises WeightsError."""
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _invalid_file(file, error) from error
    return _from_pretrained(kind, file, dtype, None, config=config, state_dict=state)


def _from_pretrained(kind: Any, file: Path, dtype: torch.dtype, source: Path | None, **options: Any) -> Any:
    """transformers' `from_pretrained`, but raises WeightsError for missing tensors, of which it only warns."""
    keyword = "dtype" if _transformers_version() >= (4, 56) else "torch_dtype"
    try:
        model, report = kind.from_pretrained(
            source,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that it reports them instead of raising
            **{keyword: dtype, **options},
        )
    except SafetensorError as error:
        raise _invalid_file(file, error) from error
    extra = [key for key in report["unexpected_keys"] if not key.endswith(POSITION_IDS)]
    problems = [f"missing {key}" for key in report["missing_keys"]] + [f"unexpected {key}" for key in extra]
    # Names, or (name, shape, shape), depending on the version. transformers may rename tensors of the file.
    mismatched = [item if isinstance(item, str) else item[0] for item in report["mismatched_keys"]]
    if mismatched:
        wanted, got = model.state_dict(), tensor_shapes(file)
        problems += [f"{k}: expected {list(wanted[k].shape)}, got {list(got.get(k, ())) or '?'}" for k in mismatched]
    if problems:
        described = "its config.json" if source else "the network detected from its tensors"
        raise WeightsError(f"{file} does not match {described}: {'; '.join(sorted(problems)[:6])}.")
    return model.eval().requires_grad_(False)


def _transformers_version() -> tuple[int, int]:
    import transformers

    major, minor = transformers.__version__.split(".")[:2]
    return int(major), int(minor)


def read_config(kind: Any, file: Path) -> Any:
    """Read `kind`, a config or scheduler, from its JSON file. Raises WeightsError."""
    values = _read_json(file)
    try:
        return kind.from_json(values)
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(_require_exists(file).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise WeightsError(f"{file} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{file}: expected a JSON object, got {type(values).__name__}.")
    return values


def _require_exists(path: Path) -> Path:
    if not path.exists():
        raise WeightsError(f"Expected {path}, which does not exist: copy the whole official repository folder.")
    return path
