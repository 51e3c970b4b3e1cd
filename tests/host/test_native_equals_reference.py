"""Kandinsky as ComfyUI's MODEL, sampled by ComfyUI, draws the pictures of diffusers' pipelines to 1e-3 in fp32: tiny
random weights, the reference's timesteps, the same noise."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import KandinskyV22ControlnetPipeline, KandinskyV22Pipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from tests.hosts import ROOT, comfyui_folder, comfyui_python, why_no_comfyui
from tests.parity.test_pipelines import decoder_parts, generator, silent
from tests.parity.tiny import WIDTH, ddpm, save_decoder_folder

CLOSE = 1e-3
SEED = 7


class Inside:
    """Cases for `inside.py` and what they should give; all run in one ComfyUI process, when the first is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models" / "kandinsky"
        self.tensors: dict[str, torch.Tensor] = {}
        self.cases: list[dict[str, Any]] = []
        self.wanted: dict[str, torch.Tensor] = {}
        self._results: dict[str, torch.Tensor] | None = None

    def tensor(self, name: str, *shape: int, seed: int) -> torch.Tensor:
        self.tensors[name] = torch.randn(shape, generator=generator(seed))
        return self.tensors[name]

    def add(self, wanted: torch.Tensor, **case: Any) -> None:
        self.cases.append({"seed": SEED, "positive": "positive", "negative": "negative", "noise": "noise", **case})
        self.wanted[case["name"]] = wanted

    def result(self, name: str) -> torch.Tensor:
        if self._results is None:
            tensors, cases, out = (self.folder / file for file in ("in.safetensors", "cases.json", "out.safetensors"))
            save_file(self.tensors, tensors)
            cases.write_text(json.dumps(self.cases))
            script = Path(__file__).with_name("inside.py")
            done = subprocess.run(
                [comfyui_python(), script, comfyui_folder(), ROOT, self.folder, cases, tensors, out],
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr[-4000:]
            self._results = load_file(out)
        return self._results[name]


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    reason = why_no_comfyui()
    if reason:
        pytest.skip(reason)
    inside = Inside(tmp_path_factory.mktemp("inside"))
    positive = inside.tensor("positive", 1, WIDTH, seed=1)
    negative = inside.tensor("negative", 1, WIDTH, seed=2)
    noise = inside.tensor("noise", 1, 4, 8, 16, seed=3)
    size = {"height": 64, "width": 128, "output_type": "np"}

    folder = save_decoder_folder(inside.models / "plain")
    pipeline = silent(KandinskyV22Pipeline(**decoder_parts(folder)))
    for steps, cfg in ((4, 4.0), (7, 4.0), (4, 1.0)):
        run = {"num_inference_steps": steps, "guidance_scale": cfg, "generator": generator(SEED)}
        pictures = pipeline(positive, negative, latents=noise.clone(), **run, **size).images
        inside.add(
            torch.from_numpy(pictures),
            name=f"2.2 DDPM {steps} steps cfg {cfg}",
            model="plain",
            sampler="ddpm",
            steps=steps,
            cfg=cfg,
        )

    folder = save_decoder_folder(inside.models / "depth", ddpm(), in_channels=8, addition_embed_type="image_hint")
    pipeline = silent(KandinskyV22ControlnetPipeline(**decoder_parts(folder)))
    hint = inside.tensors["hint"] = torch.rand(1, 3, 64, 128, generator=generator(5))
    run = {"num_inference_steps": 4, "guidance_scale": 4.0, "generator": generator(SEED)}
    pictures = pipeline(positive, negative, hint, latents=noise.clone(), **run, **size).images
    inside.add(
        torch.from_numpy(pictures), name="2.2 depth", model="depth", sampler="ddpm", steps=4, cfg=4.0, hint="hint"
    )

    # LoRA, in each published style of names: the same layers, and a reference whose weights are changed by hand.
    unet = UNet2DConditionModel.from_pretrained(inside.models / "plain" / "unet")
    layers = [f"down_blocks.1.attentions.0.{layer}" for layer in ("to_q", "add_k_proj", "to_out.0")]
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for i, layer in enumerate(layers):
        module = unet.get_submodule(layer)
        assert isinstance(module, torch.nn.Linear)
        up = torch.randn(module.out_features, 2, generator=generator(10 + i))
        down = torch.randn(2, module.in_features, generator=generator(20 + i))
        pairs[layer] = up, down
        module.weight.data += 0.5 * up @ down
    pipeline = silent(KandinskyV22Pipeline(**decoder_parts(inside.models / "plain") | {"unet": unet}))
    run = {"num_inference_steps": 4, "guidance_scale": 4.0, "generator": generator(SEED)}
    wanted = torch.from_numpy(pipeline(positive, negative, latents=noise.clone(), **run, **size).images)
    loras = inside.folder / "models" / "loras"
    loras.mkdir()
    for style, name in LORA_STYLES.items():
        tensors = {}
        for layer, (up, down) in pairs.items():
            tensors |= dict(zip(name(layer), (up, down), strict=True))
        save_file(tensors, loras / f"{style}.safetensors")
        case: dict[str, Any] = {"model": "plain", "sampler": "ddpm", "steps": 4, "cfg": 4.0}
        inside.add(wanted, name=f"LoRA {style}", lora=f"{style}.safetensors", strength=0.5, **case)
    inside.add(
        inside.wanted["2.2 DDPM 4 steps cfg 4.0"], name="LoRA strength 0", lora="PEFT.safetensors", strength=0, **case
    )
    plain = inside.wanted["2.2 DDPM 4 steps cfg 4.0"]
    inside.add(plain, name="streamed", stream=True, **case)
    inside.add(plain, name="again", again=True, **case)
    inside.add(wanted, name="LoRA streamed", lora="PEFT.safetensors", strength=0.5, stream=True, **case)
    inside.add(plain, name="tiled", tiled=True, **case)  # one tile is larger than the picture
    for dtype in ("fp8_e4m3fn", "fp8_e5m2"):
        inside.add(plain, name=dtype, weight_dtype=dtype, **case)
    save_file({"model.diffusion_model.joint_blocks.0.lora_A.weight": torch.ones(2, 2)}, loras / "foreign.safetensors")
    inside.add(torch.empty(0), name="LoRA foreign", lora="foreign.safetensors", error=True, **case)
    up, down = pairs[layers[0]]
    wide = {f"{layers[0]}.lora_B.weight": up, f"{layers[0]}.lora_A.weight": torch.ones(2, down.shape[1] + 8)}
    save_file(wide, loras / "wide.safetensors")
    inside.add(torch.empty(0), name="LoRA wide", lora="wide.safetensors", error=True, **case)
    inside.add(torch.empty(0), name="no hint", error=True, **case | {"model": "depth"})
    inside.tensor("wrong", 1, WIDTH + 1, seed=9)
    inside.add(torch.empty(0), name="wrong width", error=True, **case | {"positive": "wrong"})
    return inside


def processed(layer: str) -> tuple[str, str]:
    head, _, tail = layer.removesuffix(".0").rpartition(".")
    return f"unet.{head}.processor.{tail}_lora.up.weight", f"unet.{head}.processor.{tail}_lora.down.weight"


LORA_STYLES: dict[str, Callable[[str], tuple[str, str]]] = {
    "processors": processed,
    "PEFT": lambda layer: (f"base_model.model.{layer}.lora_B.weight", f"base_model.model.{layer}.lora_A.weight"),
    "diffusers": lambda layer: (f"unet.{layer}.lora_B.weight", f"unet.{layer}.lora_A.weight"),
    "kohya": lambda layer: tuple(f"lora_unet_{layer.replace('.', '_')}.lora_{end}.weight" for end in ("up", "down")),  # pyright: ignore[reportReturnType]
    "ComfyUI": lambda layer: (f"diffusion_model.{layer}.lora_up.weight", f"diffusion_model.{layer}.lora_down.weight"),
}
NAMES = ["2.2 DDPM 4 steps cfg 4.0", "2.2 DDPM 7 steps cfg 4.0", "2.2 DDPM 4 steps cfg 1.0", "2.2 depth"]
NAMES += [*(f"LoRA {style}" for style in LORA_STYLES), "LoRA strength 0"]
NAMES += ["streamed", "again", "LoRA streamed", "tiled"]
FP8 = ["fp8_e4m3fn", "fp8_e5m2"]
ERRORS = {
    "LoRA foreign": "foreign.safetensors expected to be a LoRA for plain, but none of its keys",
    "LoRA wide": "wide.safetensors does not fit plain: down_blocks.1.attentions.0.to_q.weight is [32, 32], the "
    "LoRA is for [32, 40]",
    "no hint": "depth is a depth decoder and expected a hint in positive and negative: put Kandinsky Depth Hint",
    "wrong width": "plain expected conditioning from Kandinsky Conditioning, with image embeds 24 wide; got a tensor "
    "of shape [1, 25]",
}


@pytest.mark.parametrize("name", NAMES)
def test_equal(inside: Inside, name: str) -> None:
    wanted, got = inside.wanted[name], inside.result(name)
    assert wanted.std() > 0.01
    assert (got - wanted).abs().max() <= CLOSE


@pytest.mark.parametrize("name", ERRORS)
def test_error(inside: Inside, name: str) -> None:
    assert ERRORS[name] in bytes(inside.result(name).tolist()).decode()


def test_a_lora_changes_the_picture(inside: Inside) -> None:
    plain, changed = inside.result("LoRA strength 0"), inside.result("LoRA PEFT")
    assert (plain - changed).abs().max() > 10 * CLOSE
    assert (plain == inside.result("2.2 DDPM 4 steps cfg 4.0")).all()


def test_off_the_device_and_on_again_is_the_same(inside: Inside) -> None:
    assert (inside.result("again") == inside.result("2.2 DDPM 4 steps cfg 4.0")).all()


@pytest.mark.parametrize("name", FP8)
def test_fp8_draws_nearly_the_same(inside: Inside, name: str) -> None:
    wanted, got = inside.wanted[name], inside.result(name)
    assert torch.isfinite(got).all()
    assert CLOSE < (got - wanted).abs().max(), "the weights were not kept in fp8"
    assert (got - wanted).abs().mean() < 0.5 * (wanted - wanted.mean()).abs().mean()


def test_every_case_is_tested(inside: Inside) -> None:
    assert sorted(inside.wanted) == sorted([*NAMES, *FP8, *ERRORS])
