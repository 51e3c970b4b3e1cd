"""The Kandinsky 3 nodes on tiny random weights: what they give, what they report, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nodes import host, networks
from nodes.conditioning import load_conditioning, save_conditioning
from nodes.decoders import Decoder
from nodes.inpainting import for_inpainting3
from nodes.kandinsky3 import Kandinsky3Decoder, Kandinsky3TextEncode
from nodes.keys import KEEP, MASKED_LATENTS
from nodes.loaders import KandinskyCLIPLoader, KandinskyDecoderLoader
from nodes.models.t5 import FP8
from nodes.models.unet3 import UNet3, UNet3Config
from nodes.networks import CLIP, Model
from nodes.pipelines3 import choose_sampling, to_text
from nodes.sampling.kandinsky3 import Text3
from nodes.sampling.schedulers import DecoderScheduler
from tests.parity.bare import load_decoder
from tests.parity.tiny3 import STATES, save_kandinsky3_folder


class Recording(host.Host):
    """A host that notes what is reported to it."""

    def __init__(self, models: Path) -> None:
        super().__init__()
        self.reports: list[tuple[int, int]] = []
        self.add_model_folder("kandinsky", models)

    def progress(self, step: int, total: int, preview: object = None) -> None:
        self.reports.append((step, total))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_kandinsky3_folder(root / "kandinsky-3")
    return root


@pytest.fixture
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    recording = Recording(models)
    monkeypatch.setattr(host, "current", lambda: recording)
    return recording


@pytest.fixture(scope="module")
def model(models: Path) -> Model:
    return load_decoder(models / "kandinsky-3").model


@pytest.fixture(scope="module")
def text_encoder(models: Path) -> CLIP:
    return networks.load_ul2(models / "kandinsky-3", torch.float32, torch.float32, "device")


@pytest.fixture(scope="module")
def inpainting(model: Model) -> Model:
    weights = model.unet.state_dict()
    weights["conv_in.weight"] = weights["conv_in.weight"].repeat(1, 3, 1, 1)[:, :9]
    return changed(model, weights, in_channels=9)


def changed(model: Model, weights: dict[str, torch.Tensor] | None = None, **sizes: Any) -> Model:
    """The model with another network."""
    assert isinstance(model.decoder.network, UNet3Config)
    network = replace(model.decoder.network, **sizes)
    unet = UNet3(network).requires_grad_(False)
    unet.load_state_dict(model.unet.state_dict() if weights is None else weights)
    return Model(unet, replace(model.decoder, network=network))


def text(tokens: int = 4, width: int = STATES, rows: int = 1) -> list[Any]:
    return [[torch.randn(rows, tokens, width), {"attention_mask": torch.ones(rows, tokens, dtype=torch.long)}]]


def decode(model: Model, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)  # of the text
    options: dict[str, Any] = {
        "positive": text(),
        "width": 64,
        "height": 64,
        "seed": 1,
        "steps": 2,
        "guidance_scale": 3.0,
        "sampling": "auto",
        "batch_size": 1,
    }
    image, latent = Kandinsky3Decoder().run(model, **(options | changes))
    return image, latent["samples"]


def test_loaders_find_the_folder_and_load_it(here: Recording) -> None:
    assert KandinskyDecoderLoader.INPUT_TYPES()["required"]["model"][0] == ["kandinsky-3"]
    assert KandinskyCLIPLoader.INPUT_TYPES()["required"]["text_encoder"][0] == ["kandinsky-3"]
    loaded, vae, clip = KandinskyDecoderLoader().run("kandinsky-3", "bf16")
    assert loaded.unet.conv_in.weight.dtype == torch.bfloat16
    assert (loaded.decoder.vae, clip) == (vae, None)
    (encoder,) = KandinskyCLIPLoader().run("kandinsky-3", "fp8_e4m3fn", "cpu")
    assert encoder.encoder.get_parameter("encoder.block.0.layer.1.DenseReluDense.wo.weight").dtype == FP8
    assert encoder.encoder.compute == torch.float32
    with pytest.raises(FileNotFoundError, match="there are: kandinsky-3"):
        KandinskyDecoderLoader().run("kandinsky-3-flash", "auto")


def test_text_encode_gives_comfyui_conditioning(here: Recording, text_encoder: CLIP) -> None:
    (conditioning,) = Kandinsky3TextEncode().run(text_encoder, "a red star")
    ((states, extra),) = conditioning
    assert states.shape == (1, *extra["attention_mask"].shape[1:], STATES)
    assert extra["attention_mask"].tolist()[0] == [1] * (states.shape[1] - 1) + [0]
    assert not states.is_inference()


@pytest.mark.parametrize("device", ["default", "stream", "cpu"])
def test_the_text_encoder_runs_where_it_is_told(here: Recording, device: str) -> None:
    (encoder,) = KandinskyCLIPLoader().run("kandinsky-3", "fp16", device)
    brought: list[object] = []
    loaded = here.loaded
    here.loaded = lambda module, memory=0: brought.append(module) or loaded(module)
    ((states, _),) = Kandinsky3TextEncode().run(encoder, "a red star")[0]
    assert torch.isfinite(states).all()
    assert brought == ([encoder.encoder] if device == "default" else [])


def test_a_long_prompt_is_cut_and_said_so(
    here: Recording, text_encoder: CLIP, caplog: pytest.LogCaptureFixture
) -> None:
    ((states, _),) = Kandinsky3TextEncode().run(text_encoder, "red star " * 90)[0]
    assert states.shape[1] == 128
    assert "reads 128 tokens" in caplog.text
    assert "was cut: " in caplog.text


def test_decoder_draws_from_saved_conditioning(
    here: Recording, model: Model, text_encoder: CLIP, tmp_path: Path
) -> None:
    (conditioning,) = Kandinsky3TextEncode().run(text_encoder, "a red star")
    again = load_conditioning(save_conditioning(tmp_path, "star", conditioning))
    image, latents = decode(model, positive=again, width=128)
    assert image.shape == (1, 64, 128, 3)
    assert 0 <= image.min() < image.max() <= 1
    assert latents.shape == (1, 4, 8, 16)
    assert here.reports == [(1, 2), (2, 2)]
    assert torch.equal(latents, decode(model, positive=conditioning, width=128)[1])


def test_a_row_of_a_batch_is_the_picture_of_its_seed(here: Recording, model: Model) -> None:
    _, both = decode(model, batch_size=2, seed=7)
    _, second = decode(model, seed=8)
    # Sums of a batch are taken in another order: a few roundings of float32, grown by two steps.
    torch.testing.assert_close(both[1:], second, atol=1e-4, rtol=1e-4)
    assert decode(model, positive=text(rows=2), batch_size=2)[0].shape == (4, 64, 64, 3)


def test_a_negative_of_any_length(here: Recording, model: Model) -> None:
    _, without = decode(model)
    for tokens in (1, 4, 9):
        assert not torch.equal(decode(model, negative=text(tokens))[1], without)
    nothing = [[torch.zeros(1, 4, STATES), {"attention_mask": torch.zeros(1, 4)}]]
    assert torch.equal(decode(model, negative=nothing)[1], without)
    assert torch.equal(decode(model, guidance_scale=1.0)[1], decode(model, guidance_scale=0.0, negative=nothing)[1])


def test_an_image_is_a_start(here: Recording, model: Model) -> None:
    picture = torch.rand(1, 70, 90, 3)
    near, _ = decode(model, image=picture, strength=0.2, steps=10)
    assert len(here.reports) == 2
    far, _ = decode(model, image=picture, strength=1.0, steps=10)
    assert not torch.equal(near, far)


def test_flash_takes_four_steps(here: Recording, model: Model) -> None:
    flash = changed(model, variant="flash")
    _, latents = decode(flash)
    assert here.reports == [(i, 4) for i in (1, 2, 3, 4)]
    assert torch.equal(latents, decode(model, sampling="flash", negative=text(), steps=30)[1])
    decode(flash, image=torch.rand(1, 64, 64, 3), strength=0.5)
    assert here.reports[-1] == (2, 2)
    assert not torch.equal(latents, decode(flash, sampling="reference")[1])


def test_inpainting_sees_the_picture_and_the_mask(here: Recording, inpainting: Model) -> None:
    picture, mask = torch.rand(1, 64, 64, 3), torch.zeros(1, 64, 64)
    mask[:, 16:40] = 1
    _, one = decode(inpainting, image=picture, mask=mask)
    blanked = picture.clone()
    blanked[:, 16:40] = 0.2  # what is under the mask is not seen
    assert torch.equal(one, decode(inpainting, image=blanked, mask=mask)[1])
    assert not torch.equal(one, decode(inpainting, image=picture, mask=1 - mask)[1])
    assert torch.equal(one, decode(inpainting, image=picture, mask=mask[0], sampling="original")[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 100}, "multiple of 8, got 100: use 96 or 104"),
        ({"positive": text(width=768)}, r"Expected positive with text states .*12\], got \[1, 4, 768\] from another"),
        ({"negative": text() + text()}, "Expected one entry in negative, got 2: use KSampler"),
        ({"positive": text(rows=3), "negative": text(rows=2)}, "Expected 1 or 3 texts, got 2"),
        ({"mask": torch.ones(1, 64, 64)}, "Expected an image to repaint, got only a mask"),
        ({"mask": torch.ones(1, 64, 64), "image": torch.rand(1, 64, 64, 3)}, "is not an inpainting model"),
        (
            {"image": torch.rand(2, 64, 64, 3), "strength": 1.0},
            "Expected 1 or 1 images for 1 pictures, got 2",
        ),
        ({"image": torch.rand(1, 64, 64, 3), "strength": 0.3}, "leaves no step to run"),
        ({"steps": 0}, "expected 1 to 1000 steps, got 0"),
        ({"steps": 0, "sampling": "original"}, "expected 1 to 999 steps, got 0"),
        ({"positive": [[torch.zeros(1, 4, STATES), {"attention_mask": torch.ones(1, 3)}]]}, "and a mask .batch, tok"),
    ],
)
def test_wrong_combinations_say_what_to_do(
    here: Recording, model: Model, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode(model, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "expected an image and a mask of what to repaint, got none"),
        ({"image": torch.rand(1, 64, 64, 3)}, "expected an image and a mask"),
        ({"image": torch.rand(1, 64, 64, 3), "mask": torch.zeros(1, 64, 64)}, "it is 0 everywhere"),
        ({"image": torch.rand(1, 64, 64, 3), "mask": torch.ones(1, 9, 9), "sampling": "flash"}, "auto or original"),
        ({"image": torch.rand(1, 64, 64, 3), "mask": torch.ones(3, 9, 9)}, "Expected 1 or 1 masks for"),
    ],
)
def test_an_inpainting_model_says_what_it_needs(
    here: Recording, inpainting: Model, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode(inpainting, **changes)


def test_latents_that_overflow_are_not_drawn(here: Recording, model: Model) -> None:
    broken = changed(model, {key: value * float("nan") for key, value in model.unet.state_dict().items()})
    with pytest.raises(ValueError, match=r"became NaN or infinite.*dtype bf16 or fp32"):
        decode(broken)


@pytest.mark.parametrize(
    ("gpu", "dtype", "device", "storage", "compute", "place"),
    [
        ("cuda", "auto", "default", torch.float16, torch.float16, "device"),
        ("cuda", "bf16", "stream", torch.bfloat16, torch.bfloat16, "stream"),
        ("cuda", "fp8_e4m3fn", "default", FP8, torch.float16, "device"),
        ("cuda", "fp16", "cpu", torch.float16, torch.float32, "cpu"),
        ("cpu", "auto", "default", torch.float16, torch.float32, "device"),
        ("cpu", "fp8_e4m3fn", "stream", FP8, torch.float32, "stream"),
    ],
)
def test_in_which_precision_the_text_encoder_is_kept_and_works(
    here: Recording,
    monkeypatch: pytest.MonkeyPatch,
    gpu: str,
    dtype: str,
    device: str,
    storage: torch.dtype,
    compute: torch.dtype,
    place: str,
) -> None:
    here.device = lambda: torch.device(gpu)
    monkeypatch.setattr(networks, "load_ul2", lambda folder, *given: (folder.name, *given))
    assert KandinskyCLIPLoader().run("kandinsky-3", dtype, device) == (("kandinsky-3", storage, compute, place),)


@pytest.mark.parametrize(
    ("inpaints", "flash", "asked", "chosen"),
    [
        (False, False, "auto", "reference"),
        (False, True, "auto", "flash"),
        (True, False, "auto", "original"),
        (False, True, "reference", "reference"),
        (False, False, "flash", "flash"),
        (False, False, "original", "original"),
        (True, False, "original", "original"),
    ],
)
def test_how_a_model_is_sampled(inpaints: bool, flash: bool, asked: str, chosen: str) -> None:
    network = UNet3Config(in_channels=9 if inpaints else 4, variant="flash" if flash else "")
    model = Decoder("m", network, DecoderScheduler())
    assert choose_sampling(model, asked, inpaints) == chosen
    with pytest.raises(ValueError, match="is not an inpainting model" if not inpaints else "got none"):
        choose_sampling(model, asked, not inpaints)
    if inpaints:
        with pytest.raises(ValueError, match="Expected sampling auto or original with a mask, got reference"):
            choose_sampling(model, "reference", True)


def test_text_states_without_a_mask_are_all_read_and_overflow_is_said(
    here: Recording, text_encoder: CLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = to_text([[torch.zeros(1, 4, STATES), {}]], STATES, "positive")
    assert read.mask.tolist() == [[1, 1, 1, 1]]
    masked = to_text(
        [[torch.zeros(1, 2, STATES), {"attention_mask": torch.tensor([[True, False]])}]], STATES, "positive"
    )
    assert masked.mask.tolist() == [[1, 0]]
    assert masked.mask.dtype == torch.long
    with pytest.raises(ValueError, match=r"got \[4, 12\] from another"):
        to_text([[torch.zeros(4, STATES), {}]], STATES, "positive")
    broken = Text3(torch.full((1, 2, STATES), float("inf")), torch.ones(1, 2))
    monkeypatch.setattr(networks, "encode_prompts", lambda *given: broken)
    with pytest.raises(ValueError, match="text states became NaN or infinite"):
        Kandinsky3TextEncode().run(text_encoder, "a red star")


def test_a_pixel_that_goes_in_part_is_blanked_and_the_mask_keeps_its_edge() -> None:
    seen: list[torch.Tensor] = []

    class Vae:
        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(pixels)
            return torch.zeros(len(pixels), 4, 8, 8)

    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 0.25
    made = for_inpainting3(Vae(), torch.ones(1, 64, 64, 3), mask)
    assert made[KEEP].shape == (1, 1, 8, 8)
    assert made[KEEP][0, 0, 0].tolist() == [0.75] * 4 + [1] * 4
    assert made[MASKED_LATENTS].shape == (1, 4, 8, 8)
    assert seen[0][0, 0, :, 0].tolist() == [0.5] * 32 + [1] * 32, "mean grey where it goes"
    made = for_inpainting3(Vae(), torch.ones(1, 64, 64, 3), torch.cat([mask, 1 - mask]))
    assert made[KEEP][:, 0, 0, 0].tolist() == [0.75, 0.25]
    assert made[MASKED_LATENTS].shape == (2, 4, 8, 8)
