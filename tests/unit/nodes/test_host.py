"""What the nodes ask of the program they run in, without one and on the lite host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nodes import host


def touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def test_files_are_found_at_any_depth_and_the_first_folder_wins(tmp_path: Path) -> None:
    here, first, second = host.Host(), tmp_path / "first", tmp_path / "second"
    for folder in (first, second, tmp_path / "not there"):
        here.add_model_folder("vae", folder)
    both = [touch(folder / "a" / "movq.safetensors") for folder in (first, second)]
    other = touch(second / "b.safetensors")
    touch(first / "c.ckpt")
    assert here.model_folders("vae") == [first, second, tmp_path / "not there"]
    assert list(here.model_files("vae").items()) == [("a/movq.safetensors", both[0]), ("b.safetensors", other)]
    assert here.model_files("loras") == {}


@pytest.mark.parametrize(
    ("device", "name", "dtype"),
    [
        ("cpu", "auto", torch.float32),
        ("cuda", "auto", torch.float16),
        ("mps", "auto", torch.float16),
        ("cpu", "bf16", torch.bfloat16),
        ("cpu", "fp16", torch.float16),
        ("cuda", "fp32", torch.float32),
    ],
)
def test_half_precision_is_the_choice_of_a_gpu(device: str, name: str, dtype: torch.dtype) -> None:
    here = host.Host()
    here.device = lambda: torch.device(device)
    assert here.dtype(name) == dtype


def test_a_network_is_brought_to_a_gpu_and_stays_on_a_cpu() -> None:
    here: Any = host.Host()
    brought: list[nn.Module] = []
    network = nn.Linear(1, 1)
    here.residents = type("Residents", (), {"bring": staticmethod(lambda network, memory: brought.append(network))})()
    for device, expected in (("cpu", []), ("cuda", [network])):
        here.device = lambda device=device: torch.device(device)
        with here.loaded(network) as where:
            assert where == torch.device(device)
        assert brought == expected


class Seam:
    """What the lite host offers."""

    def __init__(self, folder: Path) -> None:
        self.output_directory = folder
        self.folders: list[tuple[str, Path]] = []
        self.reports: list[Any] = []

    def on_free(self, call: Callable[[], None]) -> None:
        self.free = call

    def progress(self, *report: Any) -> None:
        self.reports.append(report)

    def throw_if_interrupted(self) -> None:
        raise KeyboardInterrupt

    def model_folders(self, kind: str) -> list[Path]:
        return [folder for known, folder in self.folders if known == kind]

    def add_model_folder(self, kind: str, folder: Path) -> None:
        self.folders.append((kind, folder))


def test_the_lite_host_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seam = Seam(tmp_path)
    here = host.LiteHost(seam)
    here.progress(1, 4, "preview")
    assert seam.reports == [(1, 4, "preview")]
    with pytest.raises(KeyboardInterrupt):
        here.throw_if_interrupted()
    here.add_model_folder("vae", tmp_path)
    touch(tmp_path / "movq.safetensors")
    assert list(here.model_files("vae")) == ["movq.safetensors"]
    assert here.output_directory() == tmp_path
    network = nn.Linear(1, 1)
    sent: list[Any] = []
    monkeypatch.setattr(network, "to", sent.append)
    here.residents.bring(network)
    seam.free()
    assert sent == [here.device(), "cpu"]
    assert here.models_directory() is here.clip_tokenizer_folder() is None


@pytest.mark.parametrize("models", [True, False])
def test_the_pack_s_own_models_come_last(models: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = host.Host()
    here.models_directory = lambda: tmp_path if models else None
    here.output_directory = lambda: tmp_path / "output"
    monkeypatch.setattr(host, "current", lambda: here)
    host.register_model_folders()
    own = [tmp_path / "kandinsky"] if models else []
    assert here.model_folders("kandinsky") == [*own, host.PACK / "weights" / "pocket"]
    own = [tmp_path / "kandinsky_embeds"] if models else []
    assert here.model_folders("kandinsky_embeds") == [*own, tmp_path / "output" / "kandinsky_embeds"]
    assert not host.on_comfyui()


def test_comfyui_s_folders_are_added_to_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, tuple[list[str], set[str]]] = {"vae": ([str(tmp_path)], {".pt"})}
    paths = SimpleNamespace(
        folder_names_and_paths=known,
        get_folder_paths=lambda kind: known[kind][0],
        get_filename_list=lambda kind: ["a.safetensors", "b.pt"],
        get_full_path_or_raise=lambda kind, name: str(tmp_path / name),
        models_dir=str(tmp_path / "models"),
        get_output_directory=lambda: str(tmp_path / "output"),
    )
    monkeypatch.setitem(sys.modules, "folder_paths", paths)
    here = host.ComfyHost()
    for folder in ("one", "two", "one"):
        here.add_model_folder("kandinsky", tmp_path / folder)
    assert known["kandinsky"] == ([str(tmp_path / "one"), str(tmp_path / "two")], {".safetensors"})
    assert here.model_folders("kandinsky") == [tmp_path / "one", tmp_path / "two"]
    assert here.model_files("vae") == {"a.safetensors": tmp_path / "a.safetensors"}
    assert (here.model_folders("loras"), here.model_files("loras")) == ([], {})
    assert (here.models_directory(), here.output_directory()) == (tmp_path / "models", tmp_path / "output")


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, False, "cuda")],
)
def test_without_a_host_the_best_device_is_taken(
    cuda: bool, mps: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert host.Host().device() == torch.device(device)


class Comfy:
    """ComfyUI's modules, as much of them as is asked: what was loaded, reported and patched."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fp16 = True
        self.stopped = False
        self.loaded: list[list[Any]] = []
        self.options: list[dict[str, Any]] = []
        self.reports: list[tuple[int, Any]] = []
        self.patched: list[tuple[Any, ...]] = []
        self.management = SimpleNamespace(
            get_torch_device=lambda: torch.device("cpu", 0),
            should_use_fp16=lambda device: self.fp16 and device == torch.device("cpu", 0),
            unet_offload_device=lambda: torch.device("meta"),
            load_models_gpu=self.load,
            throw_exception_if_processing_interrupted=self.throw,
        )
        modules = {
            "model_management": self.management,
            "model_patcher": SimpleNamespace(ModelPatcher=self.patcher),
            "utils": SimpleNamespace(ProgressBar=lambda total: SimpleNamespace(update_absolute=self.update(total))),
            "sd1_clip": SimpleNamespace(__file__=str(folder / "sd1_clip.py")),
        }
        monkeypatch.setitem(sys.modules, "comfy", SimpleNamespace(**modules))
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, f"comfy.{name}", module)

    def load(self, models: list[Any], **options: Any) -> None:
        self.loaded.append(models)
        self.options.append(options)

    def patcher(self, *given: Any) -> SimpleNamespace:
        self.patched.append(given)
        return SimpleNamespace(model=given[0])

    def update(self, total: int) -> Callable[..., None]:
        return lambda *values: self.reports.append((total, values))

    def throw(self) -> None:
        if self.stopped:
            raise KeyboardInterrupt


@pytest.fixture
def comfy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comfy:
    return Comfy(tmp_path, monkeypatch)


def test_comfyui_brings_networks_to_its_device_each_with_one_patcher(comfy: Comfy) -> None:
    here = host.ComfyHost()
    networks = [nn.Linear(1, 1), nn.Linear(1, 1)]
    for i, network in enumerate((*networks, networks[0])):
        with here.loaded(network, memory=i) as device:
            assert device == torch.device("cpu", 0)
    assert comfy.options == [{"memory_required": i, "force_full_load": True} for i in range(3)]
    assert [list(holder) for holder, _, _ in comfy.patched] == [[network] for network in networks]
    assert {given[1:] for given in comfy.patched} == {(torch.device("cpu", 0), torch.device("meta"))}
    assert [next(iter(patcher.model)) for (patcher,) in comfy.loaded] == [*networks, networks[0]]
    assert comfy.loaded[0][0] is comfy.loaded[2][0]
    assert not list(networks[0].children())


def test_a_network_is_never_left_half_off_the_device(comfy: Comfy) -> None:
    """As ComfyUI leaves one with --novram."""
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, device="meta"))
    comfy.management.get_torch_device = lambda: torch.device("meta")
    with host.ComfyHost().loaded(network):
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_comfyui_chooses_the_precision(comfy: Comfy) -> None:
    here = host.ComfyHost()
    assert here.dtype("auto") == torch.float16
    comfy.fp16 = False
    assert (here.dtype("auto"), here.dtype("bf16")) == (torch.float32, torch.bfloat16)


def test_comfyui_is_told_of_progress_unless_the_user_has_interrupted(comfy: Comfy) -> None:
    here = host.ComfyHost()
    here.progress(1, 4, "preview")
    assert comfy.reports == [(4, (1, 4, "preview"))]
    comfy.stopped = True
    with pytest.raises(KeyboardInterrupt):
        here.throw_if_interrupted()
    with pytest.raises(KeyboardInterrupt):
        here.progress(2, 4)
    assert len(comfy.reports) == 1


def test_comfyui_s_clip_tokenizer_is_taken_if_it_is_there(comfy: Comfy, tmp_path: Path) -> None:
    here = host.ComfyHost()
    assert here.clip_tokenizer_folder() is None
    (tmp_path / "sd1_tokenizer").mkdir()
    assert here.clip_tokenizer_folder() == tmp_path / "sd1_tokenizer"


def test_the_program_that_the_pack_runs_in_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[], Any] = host.current.__wrapped__
    monkeypatch.delitem(sys.modules, "comfy.model_management", raising=False)
    monkeypatch.delitem(sys.modules, "kandiflux.lite.seam", raising=False)
    assert type(find()) is host.Host
    lite = SimpleNamespace(active=None)
    monkeypatch.setitem(sys.modules, "kandiflux.lite.seam", lite)
    assert type(find()) is host.Host
    lite.active = Seam(tmp_path)
    assert find().seam is lite.active
    monkeypatch.setitem(sys.modules, "comfy.model_management", SimpleNamespace())
    assert type(find()) is host.ComfyHost
    monkeypatch.setattr(host, "current", find)
    assert host.on_comfyui()
