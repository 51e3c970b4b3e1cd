"""The native nodes without a ComfyUI: their inputs, and what they hand on to comfyui/, which a stand-in notes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from nodes import host
from nodes.embeds import ImageEmbeds
from nodes.keys import HINT, IMAGE_EMBEDS, INPAINTS, KEEP, MASKED_LATENTS, PICTURE

NAMES = {"loading": ("require_kandinsky", "with_lora"), "sampling": ("reference_sigmas",)}
THERE = {"a": Path("a"), "b": Path("b")}


class Comfy:
    """What stands for nodes/comfyui: `calls` are those of its functions, `answers` what they give."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {
            "require_kandinsky": "decoder",
        }

    def function(self, name: str) -> Any:
        def call(*given: Any) -> Any:
            self.calls.append((name, *given))
            return self.answers.get(name, f"{name}'s")

        return call

    def called(self, name: str) -> list[list[Any]]:
        return [given for called, *given in self.calls if called == name]


@pytest.fixture
def comfy() -> Comfy:
    return Comfy()


@pytest.fixture
def native(comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module nodes/native.py, loaded anew, on the stand-in."""
    for name in ("", *NAMES):
        module = ModuleType(f"nodes.comfyui.{name}".rstrip("."))
        for function in NAMES.get(name, ()):
            setattr(module, function, comfy.function(function))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("nodes.native", host.PACK / "nodes" / "native.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "files", lambda kind: THERE if kind == "loras" else {})
    return made


def test_the_inputs_are_those_of_saved_workflows(native: Any) -> None:
    shown: dict[str, dict[str, Any]] = {}
    for name, (node, _) in native.NODES.items():
        for inputs in node.INPUT_TYPES().values():
            for key, (kind, options) in inputs.items():
                if isinstance(kind, list) or options.keys() - {"tooltip"}:
                    values = {option: value for option, value in options.items() if option != "tooltip"}
                    shown.setdefault(name, {})[key] = (kind, *values.values())
    side = ("INT", 768, 16, 16384, 1)
    assert shown == {
        "KandinskyLoraLoader": {"lora": (["a", "b"],), "strength": ("FLOAT", 1.0, -20.0, 20.0, 0.01)},
        "KandinskyInpaintConditioning": {"from_noise": ("BOOLEAN", True, True), "keep_rest": ("BOOLEAN", True)},
        "KandinskySigmas": {"steps": ("INT", 50, 1, 1000), "denoise": ("FLOAT", 1.0, 0.01, 1.0, 0.01)},
        "KandinskyLatentSize": {"width": side, "height": side, "batch_size": ("INT", 1, 1, 4096)},
    }


def test_everything_is_explained(native: Any) -> None:
    for name, (node, _) in native.NODES.items():
        assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES), name
        for inputs in node.INPUT_TYPES().values():
            for key, (_, options) in inputs.items():
                assert options.get("tooltip"), f"{name}.{key} has no tooltip"


def test_a_lora_of_strength_0_is_not_read(native: Any, comfy: Comfy) -> None:
    assert native.KandinskyLoraLoader().run("model", "a", 0.0) == ("model",)
    assert comfy.called("with_lora") == []
    assert native.KandinskyLoraLoader().run("model", "a", -0.5) == ("with_lora's",)
    assert comfy.called("with_lora") == [["model", Path("a"), -0.5]]
    assert [given[0] for given in comfy.called("require_kandinsky")] == ["model", "model"]
    with pytest.raises(FileNotFoundError, match="a LoRA called 'c' in models/loras"):
        native.KandinskyLoraLoader().run("model", "c", 1.0)


def test_embeds_become_conditioning_with_words_or_without(native: Any) -> None:
    wanted, unwanted = (ImageEmbeds(torch.rand(2, 3), {}) for _ in range(2))
    run = native.KandinskyConditioning().run
    positive, negative = run(wanted, unwanted)
    for ((states, options),), embeds in ((positive, wanted), (negative, unwanted)):
        assert torch.equal(states, embeds.values[:, None])
        assert options == {}
    text, none = [["a fox", {"x": 1}], ["and more", {}]], [["", {}]]
    positive, negative = run(wanted, unwanted, text, none)
    assert positive == [
        ["a fox", {"x": 1, IMAGE_EMBEDS: wanted.values}],
        ["and more", {IMAGE_EMBEDS: wanted.values}],
    ]
    assert negative == [["", {IMAGE_EMBEDS: unwanted.values}]]
    assert text == [["a fox", {"x": 1}], ["and more", {}]]
    for one in ((text, None), (None, none)):
        with pytest.raises(ValueError, match="expected text and negative_text both, or neither"):
            run(wanted, unwanted, *one)


class Vae:
    """Gives latents of a picture's size, each value the mean of what it was given."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean().expand(len(pixels), 4, pixels.shape[1] // 8, pixels.shape[2] // 8)


def test_inpainting_and_depth_are_in_both_conditionings(native: Any) -> None:
    positive, negative = [["p", {KEEP: 0, "more": 5}]], [["n", {}]]
    pixels, mask = torch.ones(1, 66, 64, 3), torch.zeros(1, 66, 64)
    mask[..., :32] = 1
    run = native.KandinskyInpaintConditioning().run
    ((p, wanted),), ((n, unwanted),), latent = run(positive, negative, Vae(), pixels, mask, False, True)
    assert (p, n, wanted["more"]) == ("p", "n", 5)
    for options in (wanted, unwanted):
        assert options[KEEP].shape == (1, 1, 8, 8), "two rows are cut"
        assert options[KEEP][0, 0, 3].tolist() == [0] * 5 + [1] * 3
        assert options[PICTURE].eq(1).all()
        assert options[INPAINTS] is True
    assert torch.equal(latent["noise_mask"], 1 - wanted[KEEP][:, 0])
    assert latent["samples"].shape == (1, 4, 8, 8)
    *_, latent = run(positive, negative, Vae(), pixels, mask[:, ::2, ::2], False, False)
    assert "noise_mask" not in latent
    mask[..., 32:40] = 0.25
    ((_, wanted),), _, latent = native.Kandinsky3InpaintConditioning().run(positive, negative, Vae(), pixels, mask)
    assert wanted[KEEP][0, 0, 0].tolist() == [0] * 4 + [0.75, 1, 1, 1]
    torch.testing.assert_close(wanted[MASKED_LATENTS][0, 0, 0, 0].item(), 1 - 0.5 * 40 / 64)
    assert latent["samples"].eq(1).all()
    depth = torch.rand(1, 2, 5, 4)
    for ((_, options),) in native.KandinskyDepthHint().run(positive, negative, depth):
        assert torch.equal(options[HINT], depth[..., :3].permute(0, 3, 1, 2))


def test_the_negative_of_kandinsky_3_is_as_long_as_the_positive(native: Any) -> None:
    states = torch.rand(1, 5, 3)
    run = native.Kandinsky3Conditioning().run
    assert run([[states, {"x": 1}]])[1][0][1]["attention_mask"].tolist() == [[0] * 5]
    ((tensor, options),) = run([[states, {}]], [[torch.rand(1, 3, 3), {}]])[1]
    assert tensor.shape == (1, 5, 3)
    assert options["attention_mask"].tolist() == [[1, 1, 1, 0, 0]]


def test_sigmas_are_those_of_the_model_s_network(native: Any, comfy: Comfy) -> None:
    sigmas = torch.rand(3)
    parts = {"model_sampling": SimpleNamespace(sigmas=sigmas)}
    model = SimpleNamespace(get_model_object=parts.__getitem__)
    assert native.KandinskySigmas().run(model, 20, 0.5) == ("reference_sigmas's",)
    assert comfy.called("reference_sigmas") == [["decoder", sigmas, 20, 0.5]]
    assert comfy.called("require_kandinsky")[0][0] is model


def test_a_latent_and_a_picture_of_a_size_that_can_be_drawn(native: Any) -> None:
    latent, image, mask, *sides = native.KandinskyLatentSize().run(130, 60, 2)
    assert sides == [128, 64]
    assert latent["samples"].shape == (2, 4, 8, 16)
    assert (image.shape, mask.shape) == ((1, 64, 128, 3), (1, 64, 128))
    assert [bool(each.any()) for each in (latent["samples"], image, mask)] == [False] * 3
    given, part = torch.zeros(1, 200, 100, 3), torch.zeros(200, 100)
    given[:, 80:120] = part[80:120] = 1
    _, image, mask, *_ = native.KandinskyLatentSize().run(130, 60, 1, given, part)
    assert (image.shape, mask.shape) == ((1, 64, 128, 3), (1, 64, 128))
    torch.testing.assert_close(image[0, :, 64, 0].gt(0.5), mask[0, :, 64].gt(0.5))
    assert image[0, 32].eq(1).all()
