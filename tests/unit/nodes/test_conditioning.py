"""Conditioning is given back exactly as it was saved, whatever model it is for, or the reason is said why not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nodes import conditioning as module
from nodes import saving
from nodes.conditioning import (
    KandifluxLoadConditioning,
    KandifluxSaveConditioning,
    load_conditioning,
    save_conditioning,
)
from nodes.embeds import ImageEmbeds, save_embeds

FLUX = [[torch.randn(1, 6, 16).to(torch.bfloat16), {"pooled_output": torch.randn(1, 8), "guidance": 3.5}]]
SDXL = [
    [
        torch.randn(1, 7, 12, dtype=torch.float16),
        {
            "pooled_output": torch.randn(1, 5),
            "width": 1024,
            "height": 768,
            "crop_w": 0,
            "crop_h": 0,
            "prompt": "кот 猫",
        },
    ]
]
KANDINSKY3 = [[torch.randn(1, 5, 8), {"attention_mask": torch.tensor([[1, 1, 1, 1, 0]])}]]
REGIONS = [
    [torch.randn(2, 3, 4), {"area": (64, 64, 0, 8), "strength": 0.1 + 0.2, "set_area_to_bounds": False}],
    [torch.randn(1, 3, 4), {"mask": torch.rand(1, 8, 8) > 0.5, "start_percent": float("inf"), "pooled_output": None}],
]
NESTED = [[torch.zeros(0, 3), {"reference_latents": [torch.randn(1, 4, 2, 2)], "a": {"b": [1, (2.5, None)], "": {}}}]]
FP8 = [[torch.randn(1, 2, 16).to(torch.float8_e4m3fn), {"scalar": torch.tensor(7)}]]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return type(b) is torch.Tensor and a.dtype == b.dtype and a.shape == b.shape and equal_bits(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def equal_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        bool((a.contiguous().view(torch.uint8) == b.contiguous().view(torch.uint8)).all()) if a.ndim else bool(a == b)
    )


@pytest.mark.parametrize(
    "conditioning",
    [FLUX, SDXL, KANDINSKY3, REGIONS, NESTED, FP8],
    ids=["flux", "sdxl", "kandinsky3", "regions", "nested", "fp8"],
)
def test_it_comes_back_exactly(tmp_path: Path, conditioning: list[Any]) -> None:
    assert same(conditioning, load_conditioning(save_conditioning(tmp_path, "mine", conditioning)))


def test_a_tensor_in_two_places_and_a_view(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    conditioning = [[base, {}], [base, {"part": base[1:3].T}]]
    assert same(conditioning, load_conditioning(save_conditioning(tmp_path, "mine", conditioning)))


def test_what_is_loaded_outlives_its_file(tmp_path: Path) -> None:
    path = save_conditioning(tmp_path, "mine", FLUX)
    loaded = load_conditioning(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert same(FLUX, loaded)


class ControlNet:
    pass


class Hooked(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"control": ControlNet()}, r"conditioning\[0\]\[1\]\['control'\] cannot be saved.*got a ControlNet.*before"),
        ({"hooks": [1, {"f": print}]}, r"\['hooks'\]\[1\]\['f'\] cannot be saved.*got a builtin_function_or_method"),
        ({"deep": {1: 2}}, r"\['deep'\] cannot be saved: expected text for its keys, got \[1\]"),
        ({"sparse": torch.eye(2).to_sparse()}, r"\['sparse'\] cannot be saved: expected a dense tensor"),
        ({"empty": torch.empty(2, device="meta")}, r"\['empty'\] cannot be saved: expected a dense tensor"),
        ({"sub": torch.zeros(2).as_subclass(Hooked)}, r"\['sub'\] cannot be saved.*got a Hooked"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_left(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_conditioning(tmp_path, "mine", [[torch.zeros(1, 2, 3), value]])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [[], None, {"a": 1}])
def test_no_conditioning_at_all(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="Expected a CONDITIONING that is not empty"):
        save_conditioning(tmp_path, "mine", value)


@pytest.mark.parametrize(
    "save",
    [
        lambda folder: save_conditioning(folder, "mine", FLUX),
        lambda folder: save_embeds(
            folder, "mine", ImageEmbeds(torch.zeros(1, 8), {}), ImageEmbeds(torch.ones(1, 8), {})
        ),
    ],
    ids=["conditioning", "embeds"],
)
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[[Path], Path]
) -> None:
    def full(*args: Any, **keywords: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_are_numbered_and_stay_in_the_folder(tmp_path: Path) -> None:
    names = [save_conditioning(tmp_path, name, FLUX).name for name in ("mine", "mine", "../up", "/", "a:b")]
    assert names == [
        "mine_00001.safetensors",
        "mine_00002.safetensors",
        "up_00001.safetensors",
        "conditioning_00001.safetensors",
        "a_b_00001.safetensors",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_corrupt_and_foreign_files_say_so(tmp_path: Path) -> None:
    path = save_conditioning(tmp_path, "mine", FLUX)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"mine_00001\.safetensors is not a complete safetensors file"):
        load_conditioning(path)
    save_file({"lora.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"expected conditioning saved by Save Conditioning.*lora\.weight"):
        load_conditioning(path)
    for plan in ('{"list": [{"tensor": "9"}]}', "{", '{"what": 1}', '{"list": 3}'):
        save_file({"0": torch.zeros(2)}, path, metadata={"format": module.FORMAT, "conditioning": plan})
        with pytest.raises(ValueError, match="has been changed since it was saved"):
            load_conditioning(path)
    save_file({"0": torch.zeros(2)}, path, metadata={"format": module.FORMAT})
    with pytest.raises(ValueError, match="has been changed since it was saved"):
        load_conditioning(path)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(models/conditioning, output/conditioning) of a host."""

    class Here(module.host.Host):
        def models_directory(self) -> Path:
            return tmp_path / "models"

        def output_directory(self) -> Path:
            return tmp_path / "output"

    here = Here()
    monkeypatch.setattr(module.host, "current", lambda: here)
    return tmp_path / "models" / "conditioning", tmp_path / "output" / "conditioning"


def test_nodes_save_list_and_load(folders: tuple[Path, Path]) -> None:
    models, output = folders
    node = KandifluxLoadConditioning()
    assert node.INPUT_TYPES()["required"]["file"][0] == []
    shown = KandifluxSaveConditioning().run(FLUX, "flux")
    assert shown == {"ui": {"text": ["flux_00001.safetensors"]}}
    assert (output / "flux_00001.safetensors").is_file()
    save_conditioning(models, "kept", SDXL)
    assert node.INPUT_TYPES()["required"]["file"][0] == ["flux_00001.safetensors", "kept_00001.safetensors"]
    assert same(FLUX, node.run("flux_00001.safetensors")[0])
    assert same(SDXL, node.run("kept_00001.safetensors")[0])


def test_load_node_refuses_what_it_does_not_list(folders: tuple[Path, Path]) -> None:
    save_conditioning(folders[1], "mine", FLUX)
    for name in ("../mine_00001.safetensors", "gone.safetensors", str(folders[1] / "mine_00001.safetensors")):
        with pytest.raises(FileNotFoundError, match=r"Available: mine_00001\.safetensors"):
            KandifluxLoadConditioning().run(name)
        assert KandifluxLoadConditioning.IS_CHANGED(name) == ""


def test_a_changed_file_is_loaded_anew(folders: tuple[Path, Path]) -> None:
    path = save_conditioning(folders[1], "mine", FLUX)
    before = KandifluxLoadConditioning.IS_CHANGED(path.name)
    assert before == KandifluxLoadConditioning.IS_CHANGED(path.name)
    os.utime(path, ns=(1, 1))
    assert KandifluxLoadConditioning.IS_CHANGED(path.name) != before


def test_a_file_holds_no_more_than_it_says(tmp_path: Path) -> None:
    path = save_conditioning(tmp_path, "mine", [[torch.zeros(1000, 100)[:1], {}]])
    size = path.stat().st_size
    assert size < 2000, "a view is saved, not what it is a view of"
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert json.loads(path.read_bytes()[8 : 8 + header])["__metadata__"]["format"] == module.FORMAT


@pytest.mark.parametrize("name", module.NODES)
def test_every_node_explains_itself(name: str) -> None:
    node, title = module.NODES[name]
    assert f"{name}(kandiflux)" == "Kandiflux" + title.replace(" ", "")
    assert len(node.DESCRIPTION) > 30
    assert node.SEARCH_ALIASES
    for spec in node.INPUT_TYPES()["required"].values():
        assert spec[1]["tooltip"]
