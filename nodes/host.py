"""Interface between the nodes and the program they run in.

`current()` returns ComfyHost in ComfyUI, LiteHost in the lite host, Host otherwise (tests, tools). Only this module and
the folder comfyui/ import ComfyUI.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .keys import Conditioning
from .models.memory import unet_memory
from .residents import Residents, residents_of
from .sampling.decoder import Predict
from .sampling.steps import OnStep

if TYPE_CHECKING:
    from .decoders import Decoder
    from .models.movq import MOVQConfig

Loop = Callable[[Predict, torch.device, OnStep], Tensor]
"""A sampling loop: (predict, device, on_step) → latents."""

PACK = Path(__file__).resolve().parents[1]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FP8 = "fp8_e4m3fn"


class Host:
    """No host program: default device, output in the temporary folder, no progress."""

    def __init__(self) -> None:
        self._folders: dict[str, list[Path]] = {}

    def device(self) -> torch.device:
        """Device that networks run on."""
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")

    def dtype(self, name: str) -> torch.dtype:
        """The dtype for a widget value; "auto" is fp16 on GPUs that are fast with it, otherwise fp32."""
        if name != "auto":
            return DTYPES[name]
        return torch.float32 if self.device().type == "cpu" else torch.float16

    @contextmanager
    def loaded(self, module: nn.Module, memory: int = 0) -> Iterator[torch.device]:
        """`module` on the device for the length of the block; after it, until its room is needed (residents.py).
        memory: bytes to keep free there for what it computes (models/memory.py)."""
        if (device := self.device()).type != "cpu":
            self.residents.bring(module, memory)
        yield device

    # MODEL, VAE and CLIP. Loaders raise WeightsError.

    weight_dtypes: tuple[str, ...] = ("auto", *DTYPES)
    """Choices of the weights' dtype for load_model."""

    def load_model(self, file: Path, decoder: Decoder, dtype: str) -> Any:
        """Load the UNet in `file` as MODEL."""
        from . import networks

        return networks.load_model(file, decoder, self.dtype(dtype))

    def load_vae(self, file: Path, config: MOVQConfig, dtype: str = "auto") -> Any:
        """Load the MOVQ in `file` as VAE."""
        from . import networks

        return networks.load_vae(file, config, self.dtype(dtype))

    def load_mclip(self, source: Path, tokenizers: list[Path], dtype: str = "auto") -> Any:
        """Load 2.1's text encoder from the decoder folder or file `source` as CLIP."""
        from . import networks

        return networks.load_mclip(source, tokenizers, self.dtype(dtype))

    def load_ul2(self, folder: Path, dtype: str, place: str) -> Any:
        """Load Kandinsky 3's text encoder as CLIP. place: "default", "stream" or "cpu"."""
        from . import networks
        from .models import t5

        storage = {"auto": torch.float16, **DTYPES, FP8: t5.FP8}[dtype]
        # CPUs are slow in half precision.
        on_cpu = place == "cpu" or self.device().type == "cpu"
        compute = torch.float32 if on_cpu else self.dtype("auto") if dtype == FP8 else storage
        return networks.load_ul2(folder, storage, compute, "device" if place == "default" else place)  # pyright: ignore[reportArgumentType]

    def decoder(self, model: Any, node: str) -> Decoder:
        """Decoder of a Kandinsky MODEL. Raises TypeError, naming `node`, for other models."""
        from .networks import Model

        if not isinstance(model, Model):
            raise TypeError(f"{node} expected a MODEL from a Kandinsky loader, got {type(model).__name__}.")
        return model.decoder

    def sample(
        self, model: Any, positive: Conditioning, negative: Conditioning | None, shape: tuple[int, ...], loop: Loop
    ) -> Tensor:
        """Run `loop` with the predictions of a MODEL for this conditioning, and report progress. Returns latents of
        `shape`. negative None: no guidance."""
        from .networks import predictor

        rows, _, height, width = shape
        rows *= 1 if negative is None else 2
        memory = unet_memory(model.decoder.network, rows, height, width, model.unet.conv_in.weight.dtype.itemsize)
        with self.loaded(model.unet, memory) as device:
            predict = predictor(model.unet, positive, negative, device)
            return loop(predict, device, lambda step, total, x0: self.progress(step, total))

    @functools.cached_property
    def residents(self) -> Residents:
        return residents_of(self.device())

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        """Report progress of the running node, with ("JPEG", PIL image, longest side) as a preview. Raises the host's
        exception if the user interrupted."""

    def throw_if_interrupted(self) -> None:
        """Raise the host's exception if the user interrupted."""

    def model_folders(self, kind: str) -> list[Path]:
        """Folders of models of `kind`, in order of preference."""
        return self._folders.get(kind, [])

    def model_files(self, kind: str) -> dict[str, Path]:
        """Relative path → path of the safetensors files of `kind`, searched recursively."""
        found: dict[str, Path] = {}
        for root in self.model_folders(kind):
            for where, _, names in os.walk(root, followlinks=True):
                for path in (Path(where) / name for name in names if name.endswith(".safetensors")):
                    found.setdefault(path.relative_to(root).as_posix(), path)
        return dict(sorted(found.items()))

    def add_model_folder(self, kind: str, folder: Path) -> None:
        self._folders.setdefault(kind, []).append(folder)

    def models_directory(self) -> Path | None:
        """Folder with a subfolder for each kind of model (ComfyUI's models/), if there is one."""
        return None

    def output_directory(self) -> Path:
        return Path(tempfile.gettempdir())

    def clip_tokenizer_folder(self) -> Path | None:
        """Folder of the host's CLIP tokenizer, if it has one."""
        return None


class LiteHost(Host):
    """The lite host."""

    def __init__(self, seam: Any) -> None:
        super().__init__()
        self.seam = seam
        seam.on_free(self.free)

    def free(self) -> None:
        """Free cached networks."""
        self.residents.clear()
        gc.collect()

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        self.seam.progress(step, total, preview)

    def throw_if_interrupted(self) -> None:
        self.seam.throw_if_interrupted()

    def model_folders(self, kind: str) -> list[Path]:
        return self.seam.model_folders(kind)

    def add_model_folder(self, kind: str, folder: Path) -> None:
        self.seam.add_model_folder(kind, folder)

    def output_directory(self) -> Path:
        return self.seam.output_directory


class ComfyHost(Host):
    """ComfyUI: its device, memory management, folders and progress bar."""

    def device(self) -> torch.device:
        import comfy.model_management

        return comfy.model_management.get_torch_device()

    def dtype(self, name: str) -> torch.dtype:
        import comfy.model_management as management

        if name != "auto":
            return DTYPES[name]
        return torch.float16 if management.should_use_fp16(self.device()) else torch.float32

    @contextmanager
    def loaded(self, module: nn.Module, memory: int = 0) -> Iterator[torch.device]:
        import comfy.model_management as management
        import comfy.model_patcher

        # One patcher for a module's whole life: ComfyUI knows by it what is on the device already.
        patcher = getattr(module, "_kandiflux_patcher", None)
        if patcher is None:
            # In a holder, for ComfyUI sets `device` on what it patches, and transformers' models own that name.
            holder = nn.ModuleList([module])
            patcher = comfy.model_patcher.ModelPatcher(holder, self.device(), management.unet_offload_device())
            object.__setattr__(module, "_kandiflux_patcher", patcher)
        management.load_models_gpu([patcher], memory_required=memory, force_full_load=True)
        device = self.device()
        if any(parameter.device.type != device.type for parameter in module.parameters()):
            # --novram leaves weights off the device all the same; only ComfyUI's own layers fetch them when they run.
            module.to(device)
        yield device

    weight_dtypes = ("auto", *DTYPES, FP8, "fp8_e4m3fn_fast", "fp8_e5m2")

    def load_model(self, file: Path, decoder: Decoder, dtype: str) -> Any:
        from .comfyui.loading import load_model

        return load_model(file, decoder, dtype)

    def load_vae(self, file: Path, config: MOVQConfig, dtype: str = "auto") -> Any:
        from .comfyui.vae import load_vae

        return load_vae(file, config)  # ComfyUI chooses the dtype of a VAE

    def load_mclip(self, source: Path, tokenizers: list[Path], dtype: str = "auto") -> Any:
        from .comfyui.text import load_mclip

        return load_mclip(source, tokenizers)

    def load_ul2(self, folder: Path, dtype: str, place: str) -> Any:
        from .comfyui.text import load_ul2

        return load_ul2(folder, dtype, on_cpu=place == "cpu")  # ComfyUI streams automatically

    def decoder(self, model: Any, node: str) -> Decoder:
        from .comfyui.loading import require_kandinsky

        return require_kandinsky(model, node)

    def sample(
        self, model: Any, positive: Conditioning, negative: Conditioning | None, shape: tuple[int, ...], loop: Loop
    ) -> Tensor:
        from .comfyui.reference import sample

        return sample(model, positive, negative, shape, loop)

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        import comfy.utils

        self.throw_if_interrupted()
        comfy.utils.ProgressBar(total).update_absolute(step, total, preview)

    def throw_if_interrupted(self) -> None:
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()

    def model_folders(self, kind: str) -> list[Path]:
        import folder_paths

        known = folder_paths.folder_names_and_paths
        return [Path(folder) for folder in folder_paths.get_folder_paths(kind)] if kind in known else []

    def model_files(self, kind: str) -> dict[str, Path]:
        import folder_paths

        if kind not in folder_paths.folder_names_and_paths:
            return {}
        names = [name for name in folder_paths.get_filename_list(kind) if name.endswith(".safetensors")]  # cached
        return {name: Path(folder_paths.get_full_path_or_raise(kind, name)) for name in names}

    def add_model_folder(self, kind: str, folder: Path) -> None:
        import folder_paths

        known = folder_paths.folder_names_and_paths
        if kind not in known:
            # add_model_folder_path would leave the set of extensions empty, so that every file is listed.
            known[kind] = ([], {".safetensors"})
        if str(folder) not in known[kind][0]:
            known[kind][0].append(str(folder))

    def models_directory(self) -> Path | None:
        import folder_paths

        return Path(folder_paths.models_dir)

    def output_directory(self) -> Path:
        import folder_paths

        return Path(folder_paths.get_output_directory())

    def clip_tokenizer_folder(self) -> Path | None:
        import comfy.sd1_clip

        folder = Path(comfy.sd1_clip.__file__).with_name("sd1_tokenizer")
        return folder if folder.is_dir() else None


@functools.cache
def current() -> Host:
    """Detect the program this pack runs in. Cached."""
    if "comfy.model_management" in sys.modules:
        return ComfyHost()
    lite = sys.modules.get("kandiflux.lite.seam")
    if lite is not None and lite.active is not None:
        return LiteHost(lite.active)
    return Host()


def on_comfyui() -> bool:
    """Return True in ComfyUI, the only host with the nodes of native.py."""
    return isinstance(current(), ComfyHost)


def register_model_folders() -> None:
    """Register the folders of this pack's models: in the host's models folder, then the pocket weights of the pack."""
    host = current()
    models = host.models_directory()
    if models is not None:
        host.add_model_folder("kandinsky", models / "kandinsky")
        host.add_model_folder("kandinsky_embeds", models / "kandinsky_embeds")
    host.add_model_folder("kandinsky", PACK / "weights" / "pocket")
    host.add_model_folder("kandinsky_embeds", host.output_directory() / "kandinsky_embeds")
