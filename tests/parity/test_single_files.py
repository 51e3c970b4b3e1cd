"""Single files give exactly what the folder they were cut from gives; a file in another's place is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodes import host
from nodes.embeds import ImageEmbeds
from nodes.kandinsky import (
    KandinskyDecoderFilesLoader,
    KandinskyDecoderNode,
    KandinskyImageEncode,
    KandinskyPriorFilesLoader,
    KandinskyPriorNode,
)
from nodes.models.loader import KandinskyDecoder, KandinskyPrior, WeightsError, load_decoder, load_prior

from .cut import WIDTH21, WIDTH22, cut, save_decoder, save_decoder21, save_prior
from .tiny import ddpm


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official folders in kandinsky/, and the single files cut from them, each in its folder."""
    models = tmp_path_factory.mktemp("models")
    official = models / "kandinsky"
    for folder in (
        save_prior(official / "new-prior", WIDTH22),
        save_prior(official / "old-prior", WIDTH21),
        save_decoder(official / "new"),
        save_decoder(official / "inpaint", ddpm(clip_sample=False), in_channels=9),
        save_decoder(official / "depth", in_channels=8, addition_embed_type="image_hint"),
        save_decoder21(official / "old"),
    ):
        cut(folder, models)
    return models


@pytest.fixture
def models(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use(made, monkeypatch)
    return made


def use(models: Path, monkeypatch: pytest.MonkeyPatch) -> host.Host:
    here = host.Host()
    here.add_model_folder("kandinsky", host.PACK / "weights" / "pocket")  # its tokenizer is for its own encoder only
    for kind in ("kandinsky", "diffusion_models", "vae", "text_encoders", "clip_vision"):
        here.add_model_folder(kind, models / kind)
    monkeypatch.setattr(host, "current", lambda: here)
    return here


def prior_of(name: str, **changes: str) -> KandinskyPrior:
    files = {
        part: f"{name}-{part.replace('_', '-')}.safetensors" for part in ("prior", "text_encoder", "image_encoder")
    }
    return KandinskyPriorFilesLoader().run(**(files | {"dtype": "fp32"} | changes))[0]


def decoder_of(name: str, **changes: str) -> KandinskyDecoder:
    files = {"unet": f"{name}-unet.safetensors", "movq": f"{name}-movq.safetensors", "dtype": "fp32"}
    return KandinskyDecoderFilesLoader().run(**(files | changes))[0]


def same(one: Any, other: Any) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("version", ["new", "old"])
def test_a_prior(models: Path, version: str) -> None:
    picture = torch.rand(1, 40, 48, 3, generator=torch.Generator().manual_seed(0))

    def results(prior: KandinskyPrior) -> list[torch.Tensor]:
        text = KandinskyPriorNode().run(prior, "a red fox", "a dog", 3, 4, 4.0)
        return [embeds.values for embeds in (*text, *KandinskyImageEncode().run(prior, picture))]

    whole, single = load_prior(models / "kandinsky" / f"{version}-prior"), prior_of(f"{version}-prior")
    assert single.name == f"{version}-prior-prior"
    assert single.tokenizer.pad_token == whole.tokenizer.pad_token
    assert single.image_processor == whole.image_processor
    assert single.scheduler == whole.scheduler
    same(results(whole), results(single))


@pytest.mark.parametrize("name", ["new", "inpaint", "depth", "old"])
def test_a_decoder(models: Path, name: str) -> None:
    whole = load_decoder(models / "kandinsky" / name)
    single = decoder_of(name, **({"text_encoder": "old-text-encoder.safetensors"} if name == "old" else {}))
    assert (single.scheduler, single.ddpm_scheduler) == (whole.scheduler, whole.ddpm_scheduler)
    generator = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(2, 1, whole.width, generator=generator)
    picture = torch.rand(1, 64, 64, 3, generator=generator)
    more: dict[str, dict[str, Any]] = {
        "inpaint": {"image": picture, "mask": torch.ones(1, 64, 64).tril()},
        "depth": {"hint": picture},
        "old": {"prompt": "a red fox", "negative_prompt": "a dog"},
    }

    def results(decoder: KandinskyDecoder) -> list[torch.Tensor]:
        made = []
        for scheduler in ("reference", "DDPM", "DDIM"):
            embeds = ImageEmbeds(positive, {}), ImageEmbeds(negative, {})
            sizes = {"width": 64, "height": 64, "seed": 5, "steps": 3, "guidance_scale": 4.0, "batch_size": 1}
            image, latent = KandinskyDecoderNode().run(
                decoder, *embeds, scheduler=scheduler, **(sizes | more.get(name, {}))
            )
            made += [image, latent["samples"]]
        return made

    same(results(whole), results(single))


def test_the_tokenizer_may_lie_beside_the_text_encoder(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    shutil.copytree(made, models)
    shutil.rmtree(models / "kandinsky")
    here = use(models, monkeypatch)
    with pytest.raises(
        WeightsError,
        match=r"new-prior-text-encoder.safetensors: expected CLIP's tokenizer, of 56 words, for it; got .*pocket.*"
        r"\(1104\)\. Copy vocab.json, merges.txt .* to a folder new-prior-text-encoder beside that file",
    ):
        prior_of("new-prior")
    monkeypatch.setattr(here, "clip_tokenizer_folder", lambda: made / "kandinsky" / "old-prior" / "tokenizer")
    assert prior_of("new-prior").tokenizer.pad_token == "!", "the host's own is for any text encoder"
    with pytest.raises(
        WeightsError, match=r"expected XLM-RoBERTa's tokenizer, of 33 words, for it; got none. Copy token"
    ):
        decoder_of("old", text_encoder="old-text-encoder.safetensors")
    beside = models / "text_encoders" / "old-text-encoder"
    shutil.copytree(made / "kandinsky" / "old" / "tokenizer", beside)
    assert len(decoder_of("old", text_encoder="old-text-encoder.safetensors").tokenizer) == 33


def test_a_file_in_another_s_place(models: Path) -> None:
    (models / "clip_vision" / "text.safetensors").write_bytes(
        (models / "text_encoders" / "new-prior-text-encoder.safetensors").read_bytes()
    )
    for changes, message in (
        ({"prior": "new-unet.safetensors"}, r"new-unet.*: expected the tensors of a prior, got those of a UNet2"),
        (
            {"text_encoder": "old-text-encoder.safetensors"},
            r"old-text-enc.*: expected the tensors of a CLIP text encoder, got those of an M-CLIP text encoder",
        ),
        (
            {"image_encoder": "text.safetensors"},
            r"text.*: expected the tensors of a CLIP image encoder, got those of a CLIP text encoder",
        ),
        (
            {"text_encoder": "old-prior-text-encoder.safetensors"},
            r"new-prior-prior.* expected encoders of 128-wide embeds, .*old-prior-text.* gives 768-wide ones: .*2\.1's",
        ),
        (
            {"image_encoder": "old-prior-image-encoder.safetensors"},
            r"expected encoders of 128-wide embeds, .*old-prior-image.* gives 768-wide ones",
        ),
    ):
        with pytest.raises(WeightsError, match=message):
            prior_of("new-prior", **changes)
    for name, changes, message in (
        ("new", {"unet": "new-prior-prior.safetensors"}, r"expected the tensors of a UNet2, got those of a prior"),
        ("old", {}, r"old-unet.* is a 2\.1 decoder, which reads words: expected its text encoder too, got none"),
        ("new", {"text_encoder": "old-text-encoder.safetensors"}, r"2\.2 decoder.* expected no text encoder, got"),
        (
            "old",
            {"text_encoder": "new-prior-text-encoder.safetensors"},
            r"expected the tensors of an M-CLIP text encoder, got those of a CLIP text encoder",
        ),
    ):
        with pytest.raises(WeightsError, match=message):
            decoder_of(name, **changes)
    with pytest.raises(FileNotFoundError, match=r"a safetensors file called 'x' in models/vae; there are: depth-movq"):
        decoder_of("new", movq="x")


@pytest.mark.parametrize(
    ("network", "kind", "tensor"),
    [
        ("text-encoder", "text_encoders", "text_model.encoder.layers.0.mlp.fc2.weight"),
        ("image-encoder", "clip_vision", "vision_model.pre_layrnorm.weight"),
        ("prior", "diffusion_models", "norm_out.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_named(models: Path, network: str, kind: str, tensor: str) -> None:
    file = models / kind / f"new-prior-{network}.safetensors"
    whole = load_file(file)
    shape = list(whole[tensor].shape)
    try:
        for broken, message in (
            (
                whole | {tensor: whole[tensor][:-1].clone()},
                rf"{tensor}: expected \[{shape[0]}.*\], got \[{shape[0] - 1}",
            ),
            ({name: value for name, value in whole.items() if name != tensor}, f"missing {tensor}"),
            (whole | {"strange.weight": torch.zeros(1)}, r"unexpected strange\.weight"),
        ):
            save_file(broken, file)
            with pytest.raises(WeightsError, match=rf"{file.name} does not fit .*{message}"):
                prior_of("new-prior")
        save_file({"strange.weight": torch.zeros(1)}, file)
        with pytest.raises(WeightsError, match=rf"{file.name}: expected the tensors of .* got 1 tensors: strange"):
            prior_of("new-prior")
    finally:
        save_file(whole, file)


def test_files_are_listed_by_kind(models: Path) -> None:
    inputs = KandinskyDecoderFilesLoader.INPUT_TYPES()
    assert inputs["required"]["movq"][0] == [f"{name}-movq.safetensors" for name in ("depth", "inpaint", "new", "old")]
    assert inputs["optional"]["text_encoder"][0] == [
        "none",
        *(f"{name}-text-encoder.safetensors" for name in ("new-prior", "old-prior", "old")),
    ]
    assert "new-prior-prior.safetensors" in KandinskyPriorFilesLoader.INPUT_TYPES()["required"]["prior"][0]
