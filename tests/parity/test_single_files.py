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
from nodes.kandinsky import KandinskyDecoderNode, KandinskyImageEncode, KandinskyPriorNode
from nodes.loaders import (
    KandinskyCLIPLoader,
    KandinskyDecoderFilesLoader,
    KandinskyDecoderLoader,
    KandinskyModelLoader,
    KandinskyPriorFilesLoader,
    KandinskyPriorLoader,
    KandinskyVAELoader,
)
from nodes.models.loader import KandinskyPrior, WeightsError, load_prior
from nodes.networks import Model

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


def decoder_of(name: str, **changes: str) -> Model:
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
    whole = KandinskyDecoderLoader().run(name, "fp32")[0]
    single = decoder_of(name, **({"text_encoder": "old-text-encoder.safetensors"} if name == "old" else {}))
    for read in (single.decoder, whole.decoder):
        assert (read.scheduler, read.ddpm_scheduler) == (whole.decoder.scheduler, whole.decoder.ddpm_scheduler)
    generator = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(2, 1, whole.decoder.network.image_width, generator=generator)
    picture = torch.rand(1, 64, 64, 3, generator=generator)
    more: dict[str, dict[str, Any]] = {
        "inpaint": {"image": picture, "mask": torch.ones(1, 64, 64).tril()},
        "depth": {"hint": picture},
        "old": {"prompt": "a red fox", "negative_prompt": "a dog"},
    }

    def results(decoder: Model) -> list[torch.Tensor]:
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


def test_a_decoder_of_three_loaders(models: Path) -> None:
    """MODEL, VAE and CLIP by themselves draw what the folder's draw; a MODEL alone says what it lacks."""
    whole = KandinskyDecoderLoader().run("old", "fp32")
    (alone,) = KandinskyModelLoader().run("old-unet.safetensors", "fp32")
    parts = {
        "vae": KandinskyVAELoader().run("old-movq.safetensors")[0],
        "clip": KandinskyCLIPLoader().run("old-text-encoder.safetensors", "fp32")[0],
    }
    embeds = [ImageEmbeds(torch.randn(1, whole[0].decoder.network.image_width), {"prompt": "a fox"}) for _ in "ab"]

    def drawn(model: Model, **given: Any) -> torch.Tensor:
        settings = (64, 64, 5, 3, 4.0, "reference", 1)
        return KandinskyDecoderNode().run(model, *embeds, *settings, **given)[0]  # pyright: ignore

    same(drawn(whole[0]), drawn(alone, **parts))
    with pytest.raises(ValueError, match="was loaded without a VAE: connect one from Kandinsky VAE Loader"):
        drawn(alone, clip=parts["clip"])
    with pytest.raises(ValueError, match=r"also takes text: expected the CLIP of Kandinsky 2\.1, got none"):
        drawn(alone, vae=parts["vae"])


def test_a_prior_of_three_files(models: Path) -> None:
    names = {
        "text_encoder": "new-prior-text-encoder.safetensors",
        "image_encoder": "new-prior-image-encoder.safetensors",
    }
    (prior,) = KandinskyPriorLoader().run("new-prior-prior.safetensors", "fp32", **names)
    same(
        *(
            [e.values for e in KandinskyPriorNode().run(p, "a red fox", "", 3, 4, 4.0)]
            for p in (prior, prior_of("new-prior"))
        )
    )
    with pytest.raises(ValueError, match="is a single file: expected its text encoder and image encoder too"):
        KandinskyPriorLoader().run("new-prior-prior.safetensors", "fp32", names["text_encoder"])


def test_the_tokenizer_may_lie_beside_the_text_encoder(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    shutil.copytree(made, models)
    shutil.rmtree(models / "kandinsky")
    here = use(models, monkeypatch)
    with pytest.raises(
        WeightsError,
        match=r"new-prior-text-encoder.safetensors: expected the CLIP tokenizer with 56 tokens, got .*pocket.*"
        r"\(1104\)\. Copy vocab.json, merges.txt .* to a folder new-prior-text-encoder beside that file",
    ):
        prior_of("new-prior")
    monkeypatch.setattr(here, "clip_tokenizer_folder", lambda: made / "kandinsky" / "old-prior" / "tokenizer")
    assert prior_of("new-prior").tokenizer.pad_token == "!", "the host's own is for any text encoder"
    with pytest.raises(WeightsError, match=r"expected the XLM-RoBERTa tokenizer with 33 tokens, got none. Copy token"):
        decoder_of("old", text_encoder="old-text-encoder.safetensors")
    beside = models / "text_encoders" / "old-text-encoder"
    shutil.copytree(made / "kandinsky" / "old" / "tokenizer", beside)
    assert len(decoder_of("old", text_encoder="old-text-encoder.safetensors").decoder.clip.tokenizer) == 33


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
            r"new-prior-prior.* expected encoders with embeds 128 wide, got 768 from .*old-prior-text.*: .*2\.1's",
        ),
        (
            {"image_encoder": "old-prior-image-encoder.safetensors"},
            r"expected encoders with embeds 128 wide, got 768 from .*old-prior-image.*",
        ),
    ):
        with pytest.raises(WeightsError, match=message):
            prior_of("new-prior", **changes)
    for name, changes, message in (
        ("new", {"unet": "new-prior-prior.safetensors"}, r"expected the tensors of a UNet2, got those of a prior"),
        (
            "old",
            {"text_encoder": "new-prior-text-encoder.safetensors"},
            r"expected the tensors of an M-CLIP text encoder, got those of a CLIP text encoder",
        ),
    ):
        with pytest.raises(WeightsError, match=message):
            decoder_of(name, **changes)
    with pytest.raises(FileNotFoundError, match=r"a MOVQ called 'x' in .*models/vae; there are: .*depth-movq"):
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
            with pytest.raises(WeightsError, match=rf"{file.name} does not match .*{message}"):
                prior_of("new-prior")
        save_file({"strange.weight": torch.zeros(1)}, file)
        with pytest.raises(WeightsError, match=rf"{file.name}: expected the tensors of .* got 1 tensors: strange"):
            prior_of("new-prior")
    finally:
        save_file(whole, file)


def test_only_what_can_be_loaded_is_listed(models: Path) -> None:
    kinds = ("depth", "inpaint", "new", "old")
    folders = ["kandinsky-2-2-pocket-decoder", *kinds]
    save_file({"img_in.weight": torch.zeros(2, 2)}, models / "diffusion_models" / "flux.safetensors")
    (models / "vae" / "torn.safetensors").write_bytes(b"\xff" * 20)
    try:
        listed = KandinskyModelLoader.INPUT_TYPES()["required"]["unet"][0]
        assert listed == [*folders, *(f"{kind}-unet.safetensors" for kind in kinds)]
        listed = KandinskyVAELoader.INPUT_TYPES()["required"]["movq"][0]
        assert listed == [*folders, *(f"{kind}-movq.safetensors" for kind in kinds)]
        assert KandinskyCLIPLoader.INPUT_TYPES()["required"]["text_encoder"][0] == [
            "old",
            "old-text-encoder.safetensors",
        ]
        listed = KandinskyPriorLoader.INPUT_TYPES()
        assert [n for n in listed["required"]["model"][0] if n.endswith(".safetensors")] == [
            "new-prior-prior.safetensors",
            "old-prior-prior.safetensors",
        ]
        assert listed["optional"]["text_encoder"][0] == [
            "none",
            "new-prior-text-encoder.safetensors",
            "old-prior-text-encoder.safetensors",
        ]
        assert KandinskyModelLoader.VALIDATE_INPUTS("flux.safetensors") is True, "loading it says what is wrong"
        with pytest.raises(WeightsError, match=r"expected the tensors of a Kandinsky 2\.x UNet, prior or MOVQ"):
            KandinskyModelLoader().run("flux.safetensors", "default")
        with pytest.raises(WeightsError, match=r"torn.safetensors is not a complete safetensors file"):
            KandinskyVAELoader().run("torn.safetensors")
    finally:
        (models / "diffusion_models" / "flux.safetensors").unlink()
        (models / "vae" / "torn.safetensors").unlink()
