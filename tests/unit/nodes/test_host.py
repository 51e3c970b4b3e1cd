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
    here.residents = type("Residents", (), {"bring": brought.append})()
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


def test_the_lite_host_is_asked(tmp_path: Path) -> None:
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
    here.residents.bring(network)
    seam.free()
    here.residents.bring(network)  # is brought anew: it was given back
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
