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

NAMES = {
    "files": ("decoder_unet", "files", "find_movq", "mclip_sources", "movq_sources", "unet_sources"),
    "latents": ("for_inpainting", "for_inpainting3", "resized", "resized_mask", "round_size"),
    "loading": ("load_model", "require_kandinsky", "with_lora"),
    "model3": ("as_long",),
    "sampling": ("reference_sigmas",),
    "text": ("load_mclip", "load_ul2"),
    "vae": ("load_vae", "show_previews"),
}
CONSTANTS = {
    "loading": {"WEIGHT_DTYPES": {"default": None, "fp8": "FP8"}},
    "model2": {"HINT": "hint", "IMAGE_EMBEDS": "image_embeds"},
    "text": {"TEXT_DTYPES": {"auto": "BF16", "fp8": "FP8"}},
}
THERE = {"a": Path("a"), "b": Path("b")}


class Comfy:
    """What stands for nodes/comfyui: `calls` are those of its functions, `answers` what they give."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {
            "decoder_unet": ("weights", "sizes", "schedule"),
            "find_movq": ("weights", "sizes"),
            "files": THERE,
            "mclip_sources": THERE,
            "movq_sources": THERE,
            "unet_sources": THERE,
            "round_size": [128, 64],
            "for_inpainting": ({"keep": 1}, {"samples": 2}),
            "for_inpainting3": ({"keep": 3}, {"samples": 4}),
            "require_kandinsky": SimpleNamespace(network="network", scheduler="scheduler"),
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
    for name in ("", *dict.fromkeys((*NAMES, *CONSTANTS))):
        module = ModuleType(f"nodes.comfyui.{name}".rstrip("."))
        for function in NAMES.get(name, ()):
            setattr(module, function, comfy.function(function))
        vars(module).update(CONSTANTS.get(name, {}))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("nodes.native", host.PACK / "nodes" / "native.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_inputs_are_those_of_saved_workflows(native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "text_encoder_folders", lambda: THERE)
    shown: dict[str, dict[str, Any]] = {}
    for name, (node, _) in native.NODES.items():
        for inputs in node.INPUT_TYPES().values():
            for key, (kind, options) in inputs.items():
                if isinstance(kind, list) or options.keys() - {"tooltip"}:
                    values = {option: value for option, value in options.items() if option != "tooltip"}
                    shown.setdefault(name, {})[key] = (kind, *values.values())
    side = ("INT", 768, 16, 16384, 1)
    assert shown == {
        "KandinskyModelLoader": {"unet": (["a", "b"],), "weight_dtype": (["default", "fp8"], "default")},
        "KandinskyLoraLoader": {"lora": (["a", "b"],), "strength": ("FLOAT", 1.0, -20.0, 20.0, 0.01)},
        "KandinskyCLIPLoader": {"text_encoder": (["a", "b"],)},
        "KandinskyVAELoader": {"movq": (["a", "b"],)},
        "KandinskyInpaintConditioning": {"from_noise": ("BOOLEAN", True, True), "keep_rest": ("BOOLEAN", True)},
        "Kandinsky3CLIPLoader": {"text_encoder": (["a", "b"],), "dtype": (["auto", "fp8"], "auto")},
        "KandinskySigmas": {"steps": ("INT", 50, 1, 1000), "denoise": ("FLOAT", 1.0, 0.01, 1.0, 0.01)},
        "KandinskyLatentSize": {"width": side, "height": side, "batch_size": ("INT", 1, 1, 4096)},
    }


def test_everything_is_explained(native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "text_encoder_folders", lambda: THERE)
    for name, (node, _) in native.NODES.items():
        assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES), name
        for inputs in node.INPUT_TYPES().values():
            for key, (_, options) in inputs.items():
                assert options.get("tooltip"), f"{name}.{key} has no tooltip"


def test_a_model_is_loaded_and_shows_previews_with_a_vae(native: Any, comfy: Comfy) -> None:
    assert native.KandinskyModelLoader().run("a", "fp8") == ("load_model's",)
    assert comfy.calls == [("decoder_unet", "a"), ("load_model", "weights", "sizes", "schedule", "a", "FP8")]
    native.KandinskyModelLoader().run("a", "default", "vae")
    assert comfy.calls[-1] == ("show_previews", "load_model's", "vae")
    assert native.KandinskyVAELoader().run("b") == ("load_vae's",)
    assert comfy.called("load_vae") == [["weights", "sizes"]]


def test_text_encoders_are_picked_by_name(native: Any, comfy: Comfy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "text_encoder_folders", lambda: THERE)
    assert native.KandinskyCLIPLoader().run("b") == ("load_mclip's",)
    assert native.Kandinsky3CLIPLoader().run("a", "fp8") == ("load_ul2's",)
    assert comfy.called("load_mclip") == [[Path("b")]]
    assert comfy.called("load_ul2") == [[Path("a"), "FP8"]]
    with pytest.raises(FileNotFoundError, match="'c' in models/kandinsky or models/text_encoders; there are: a, b"):
        native.KandinskyCLIPLoader().run("c")
    with pytest.raises(FileNotFoundError, match="a Kandinsky 3 called 'c' in models/kandinsky;"):
        native.Kandinsky3CLIPLoader().run("c", "auto")


def test_a_loader_without_the_file_says_what_to_put_where(native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI's own check would say that the value is not in an empty list."""
    monkeypatch.setattr(native, "text_encoder_folders", lambda: THERE)
    asked = {
        "KandinskyModelLoader": "Kandinsky decoder called 'c' in models/kandinsky or models/diffusion_models",
        "KandinskyVAELoader": "MOVQ called 'c' in models/kandinsky or models/vae",
        "KandinskyCLIPLoader": "Kandinsky 2.1 text encoder called 'c' in models/kandinsky or models/text_encoders",
        "Kandinsky3CLIPLoader": "Kandinsky 3 text encoder called 'c' in models/kandinsky",
    }
    for name, wanted in asked.items():
        check = native.NODES[name][0].VALIDATE_INPUTS
        assert check("a") is True
        assert check("c").startswith(f"Expected a {wanted}; there are: a, b. What to save where, and the pages")


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
        ["a fox", {"x": 1, "image_embeds": wanted.values}],
        ["and more", {"image_embeds": wanted.values}],
    ]
    assert negative == [["", {"image_embeds": unwanted.values}]]
    assert text == [["a fox", {"x": 1}], ["and more", {}]]
    for one in ((text, None), (None, none)):
        with pytest.raises(ValueError, match="expected text and negative_text both, or neither"):
            run(wanted, unwanted, *one)


def test_inpainting_and_depth_are_in_both_conditionings(native: Any, comfy: Comfy) -> None:
    positive, negative = [["p", {"keep": 0, "more": 5}]], [["n", {}]]
    done = native.KandinskyInpaintConditioning().run(positive, negative, "vae", "pixels", "mask", False, True)
    assert done == ([["p", {"keep": 1, "more": 5}]], [["n", {"keep": 1}]], {"samples": 2})
    assert comfy.calls == [("for_inpainting", "vae", "pixels", "mask", True)]
    done = native.Kandinsky3InpaintConditioning().run(positive, negative, "vae", "pixels", "mask")
    assert done == ([["p", {"keep": 3, "more": 5}]], [["n", {"keep": 3}]], {"samples": 4})
    assert comfy.calls[-1] == ("for_inpainting3", "vae", "pixels", "mask")
    depth = torch.rand(1, 2, 5, 4)
    for ((_, options),) in native.KandinskyDepthHint().run(positive, negative, depth):
        assert torch.equal(options["hint"], depth[..., :3].permute(0, 3, 1, 2))
    native.Kandinsky3Conditioning().run("p")
    native.Kandinsky3Conditioning().run("p", "n")
    assert comfy.called("as_long") == [["p", None], ["p", "n"]]


def test_sigmas_are_those_of_the_model_s_network(native: Any, comfy: Comfy) -> None:
    sigmas = torch.rand(3)
    parts = {"model_sampling": SimpleNamespace(sigmas=sigmas)}
    model = SimpleNamespace(get_model_object=parts.__getitem__)
    assert native.KandinskySigmas().run(model, 20, 0.5) == ("reference_sigmas's",)
    assert comfy.called("reference_sigmas") == [["network", "scheduler", sigmas, 20, 0.5]]
    assert comfy.called("require_kandinsky")[0][0] is model


def test_a_latent_and_a_picture_of_a_size_that_can_be_drawn(native: Any, comfy: Comfy) -> None:
    latent, image, mask, *sides = native.KandinskyLatentSize().run(130, 60, 2)
    assert sides == [128, 64]
    assert latent["samples"].shape == (2, 4, 8, 16)
    assert (image.shape, mask.shape) == ((1, 64, 128, 3), (1, 64, 128))
    assert [bool(each.any()) for each in (latent["samples"], image, mask)] == [False] * 3
    assert comfy.calls == [("round_size", 130, 60)]
    _, image, mask, *_ = native.KandinskyLatentSize().run(130, 60, 1, "image", "mask")
    assert (image, mask) == ("resized's", "resized_mask's")
    assert comfy.called("resized") == [["image", 128, 64]]
    assert comfy.called("resized_mask") == [["mask", 128, 64]]
