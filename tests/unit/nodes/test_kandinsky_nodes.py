"""The Prior and Decoder nodes on the pocket weights: what they give, what they report, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nodes import host
from nodes.embeds import ImageEmbeds
from nodes.kandinsky import (
    KandinskyBlend,
    KandinskyDecoderNode,
    KandinskyEmb2Emb,
    KandinskyImageEncode,
    KandinskyPriorNode,
)
from nodes.loaders import KandinskyDecoderLoader, KandinskyPriorLoader
from nodes.models.loader import KandinskyPrior, load_prior
from nodes.models.unet2 import UNet2
from nodes.networks import Model
from tests.parity.bare import load_decoder

PRIOR, DECODER = "kandinsky-2-2-pocket-prior", "kandinsky-2-2-pocket-decoder"
WIDTH = 128


class Stopped(Exception):
    """Stands for the host's own interrupt."""


class Recording(host.Host):
    """A host that notes what is reported to it, and can interrupt."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[tuple[int, int]] = []
        self.stop_at: int | None = None
        self.add_model_folder("kandinsky", host.PACK / "weights" / "pocket")

    def progress(self, step: int, total: int, preview: object = None) -> None:
        self.reports.append((step, total))
        if step == self.stop_at:
            raise Stopped


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Recording:
    recording = Recording()
    monkeypatch.setattr(host, "current", lambda: recording)
    return recording


@pytest.fixture(scope="module")
def prior() -> KandinskyPrior:
    return load_prior(host.PACK / "weights" / "pocket" / PRIOR)


@pytest.fixture(scope="module")
def decoder() -> Model:
    return load_decoder(host.PACK / "weights" / "pocket" / DECODER).model


def embeds(rows: int = 1, width: int = WIDTH) -> ImageEmbeds:
    return ImageEmbeds(torch.zeros(rows, width), {})


def decode(decoder: Model, **changes: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    options: dict[str, object] = {
        "image_embeds": embeds(),
        "negative_image_embeds": embeds(),
        "width": 64,
        "height": 64,
        "seed": 1,
        "steps": 2,
        "guidance_scale": 4.0,
        "scheduler": "reference",
        "batch_size": 1,
    }
    return KandinskyDecoderNode().run(decoder, **(options | changes))  # pyright: ignore[reportArgumentType]


def test_loaders_list_the_pocket_weights_and_load_them(here: Recording) -> None:
    assert KandinskyPriorLoader.INPUT_TYPES()["required"]["model"][0] == [PRIOR]
    assert KandinskyDecoderLoader.INPUT_TYPES()["required"]["model"][0] == [DECODER]
    model, vae, clip = KandinskyDecoderLoader().run(DECODER, "bf16")
    assert model.unet.conv_in.weight.dtype == vae.movq.quant_conv.weight.dtype == torch.bfloat16
    assert clip is None
    with pytest.raises(FileNotFoundError, match=f"there are: {PRIOR}"):
        KandinskyPriorLoader().run("kandinsky-2-2-prior", "auto")


def test_models_are_found_two_levels_down_and_the_first_root_wins(here: Recording, tmp_path: Path) -> None:
    nested = tmp_path / "kandinsky-community" / "kandinsky-2-2-prior" / "prior"
    nested.mkdir(parents=True)
    (nested / "config.json").write_text("{}")
    here.add_model_folder("kandinsky", tmp_path)
    assert KandinskyPriorLoader.INPUT_TYPES()["required"]["model"][0] == [
        PRIOR,
        "kandinsky-community/kandinsky-2-2-prior",
    ]


def test_prior_reports_every_step_and_makes_a_batch(here: Recording, prior: KandinskyPrior) -> None:
    positive, negative = KandinskyPriorNode().run(prior, "a red circle", "blue", 7, 4, 4.0, batch_size=3)
    assert positive.values.shape == negative.values.shape == (3, WIDTH)
    assert here.reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for i in range(3):
        alone = KandinskyPriorNode().run(prior, "a red circle", "blue", 7 + i, 4, 4.0)
        for batch, one in zip((positive, negative), alone, strict=True):
            # Sums of a batch are taken in another order: a few roundings of float32, grown by four steps.
            torch.testing.assert_close(batch.values[i : i + 1], one.values, atol=1e-4, rtol=1e-4)


def test_decoder_gives_pictures_and_latents(here: Recording, decoder: Model) -> None:
    image, latent = decode(decoder, image_embeds=embeds(2), batch_size=2, width=128)
    assert image.shape == (4, 64, 128, 3)
    assert 0 <= image.min() < image.max() <= 1
    assert latent["samples"].shape == (4, 4, 8, 16)
    assert here.reports == [(1, 2), (2, 2)]


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_decoder_without_guidance_ignores_the_negative(here: Recording, decoder: Model, guidance: float) -> None:
    other = ImageEmbeds(torch.ones(1, WIDTH), {})
    one, _ = decode(decoder, guidance_scale=guidance)
    two, _ = decode(decoder, guidance_scale=guidance, negative_image_embeds=other)
    assert torch.equal(one, two)


def test_interrupting_stops_between_steps(here: Recording, prior: KandinskyPrior, decoder: Model) -> None:
    here.stop_at = 2
    with pytest.raises(Stopped):
        KandinskyPriorNode().run(prior, "a red circle", "", 7, 9, 4.0)
    with pytest.raises(Stopped):
        decode(decoder, steps=9)
    assert here.reports == [(1, 9), (2, 9)] * 2


def test_image_encode_and_emb2emb(here: Recording, prior: KandinskyPrior) -> None:
    pictures = torch.rand(2, 70, 90, 3)
    encoded, grey = KandinskyImageEncode().run(prior, pictures)
    assert encoded.values.shape == grey.values.shape == (2, WIDTH)
    near, _ = KandinskyEmb2Emb().run(prior, encoded, "a red circle", "", 1, 10, 4.0, 0.1)
    far, _ = KandinskyEmb2Emb().run(prior, encoded, "a red circle", "", 1, 10, 4.0, 1.0)
    assert len(here.reports) == 1 + 10
    # Little strength keeps what the picture's embed says; all of it leaves only the words.
    assert (near.values - encoded.values).norm() < (far.values - encoded.values).norm()


def test_blend_of_words_and_a_picture(here: Recording, prior: KandinskyPrior) -> None:
    nothing = {"prompt_1": "", "prompt_weight_1": 1.0, "prompt_2": "", "prompt_weight_2": 1.0}
    with pytest.raises(ValueError, match="expected a prompt or an image to blend"):
        KandinskyBlend().run(prior, "sum", "", 1, 3, 4.0, **nothing)
    picture = torch.rand(1, 64, 64, 3)
    only, _ = KandinskyBlend().run(prior, "sum", "", 1, 3, 4.0, **nothing, image_1=picture, image_weight_1=2.0)
    torch.testing.assert_close(only.values, 2 * KandinskyImageEncode().run(prior, picture)[0].values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 100}, "multiple of 8, got 100: use 96 or 104"),
        ({"height": 4}, "multiple of 8, got 4: use 8 or 16"),
        ({"image_embeds": embeds(width=768)}, "expected image embeds 128 wide, got 768 wide .Kandinsky 2.1."),
        ({"negative_image_embeds": embeds(width=1280)}, "got 1280 wide .Kandinsky 2.2."),
        ({"image_embeds": embeds(3), "negative_image_embeds": embeds(2)}, "Expected 1 or 3 image embeds"),
        ({"image": torch.zeros(2, 64, 64, 3), "strength": 1.0}, "Expected 1 or 1 start images|Expected 1 or 1 hints"),
        ({"image": torch.zeros(1, 64, 64, 3), "strength": 0.3}, "leaves no step to run"),
        ({"steps": 0}, "expected 1 to 1000 steps, got 0"),
    ],
)
def test_wrong_combinations_say_what_to_do(
    here: Recording, decoder: Model, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode(decoder, **changes)


def test_an_empty_prompt_and_one_step_are_refused(here: Recording, prior: KandinskyPrior) -> None:
    with pytest.raises(ValueError, match="Expected a prompt that says what the picture shows"):
        KandinskyPriorNode().run(prior, " \n", "", 1, 25, 4.0)
    with pytest.raises(ValueError, match="expected 2 to 1000 steps, got 1"):
        KandinskyPriorNode().run(prior, "a red circle", "", 1, 1, 4.0)
    with pytest.raises(ValueError, match=r"got 768 wide \(Kandinsky 2\.1\)"):
        KandinskyEmb2Emb().run(prior, embeds(width=768), "a red circle", "", 1, 25, 4.0, 0.3)


def test_latents_that_overflow_are_not_drawn(here: Recording, decoder: Model) -> None:
    class Overflowing(UNet2):
        """A UNet whose half precision gave out."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.config, self.conv_in = decoder.unet.config, decoder.unet.conv_in

        def prepare(self, *conditions: object, **more: object) -> Any:  # pyright: ignore
            """Nothing to prepare."""

        def forward(self, x: torch.Tensor, *rest: object) -> torch.Tensor:  # pyright: ignore
            return torch.full((len(x), 8, *x.shape[2:]), float("nan"))

    with pytest.raises(ValueError, match=r"became NaN or infinite.*fp16 overflowed.*dtype bf16 or fp32"):
        decode(replace(decoder, unet=Overflowing()))  # pyright: ignore[reportArgumentType]


def test_a_long_prompt_is_cut_and_said_so(
    here: Recording, prior: KandinskyPrior, caplog: pytest.LogCaptureFixture
) -> None:
    KandinskyPriorNode().run(prior, "red circle " * 40, "", 1, 2, 1.0)
    assert "was cut: " in caplog.text
    assert "reads 32 tokens" in caplog.text
