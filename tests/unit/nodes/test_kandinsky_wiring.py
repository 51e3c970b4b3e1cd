"""What the Kandinsky 2.x nodes hand on of their inputs, to recipes and loaders that only note it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nodes import host, kandinsky
from nodes.embeds import ImageEmbeds


class Host(host.Host):
    """A host with a file of each name in each of its folders."""

    def model_files(self, kind: str) -> dict[str, Path]:
        return {name: Path(kind, name) for name in ("a", "b")}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Function → what it was called with; its answer is its name."""
    calls: dict[str, tuple[Any, ...]] = {}

    def note(name: str) -> Any:
        def call(*given: Any) -> Any:
            calls[name] = given
            return name

        return call

    here = Host()
    monkeypatch.setattr(host, "current", lambda: here)
    names = ("load_prior_files", "load_decoder_files", "load_prior", "load_decoder", "blend", "text_to_embeds")
    for name in (*names, "embeds_to_latents", "latents_to_image", "tokenizer_folders"):
        monkeypatch.setattr(kandinsky, name, note(name))
    monkeypatch.setattr(kandinsky, "prior_folders", lambda: {"p": Path("prior")})
    monkeypatch.setattr(kandinsky, "decoder_folders", lambda: {"d": Path("decoder")})
    return calls


def test_loaders_of_folders(noted: dict[str, tuple[Any, ...]]) -> None:
    assert kandinsky.KandinskyPriorLoader().run("p", "bf16") == ("load_prior",)
    assert noted["load_prior"] == (Path("prior"), torch.bfloat16)
    assert kandinsky.KandinskyDecoderLoader().run("d", "fp16") == ("load_decoder",)
    assert noted["load_decoder"] == (Path("decoder"), torch.float16)


def test_loaders_of_files(noted: dict[str, tuple[Any, ...]]) -> None:
    assert kandinsky.KandinskyPriorFilesLoader().run("a", "b", "a", "fp32") == ("load_prior_files",)
    text = Path("text_encoders", "b")
    files = (Path("diffusion_models", "a"), text, Path("clip_vision", "a"))
    assert noted["load_prior_files"] == (*files, "tokenizer_folders", torch.float32)
    assert noted["tokenizer_folders"] == (text,)
    kandinsky.KandinskyDecoderFilesLoader().run("a", "b", "bf16")
    two = (Path("diffusion_models", "a"), Path("vae", "b"))
    assert noted["load_decoder_files"] == (*two, None, [], torch.bfloat16)
    kandinsky.KandinskyDecoderFilesLoader().run("a", "b", "bf16", "a")
    assert noted["load_decoder_files"] == (*two, Path("text_encoders", "a"), "tokenizer_folders", torch.bfloat16)
    for picked in (("c", "a", "a"), ("a", "c", "a"), ("a", "a", "c")):
        with pytest.raises(FileNotFoundError, match=r"a safetensors file called 'c' in models/.*; there are: a, b"):
            kandinsky.KandinskyPriorFilesLoader().run(*picked, "auto")


def test_a_blend_gets_its_prompts_and_pictures_with_their_weights(noted: dict[str, tuple[Any, ...]]) -> None:
    given: dict[str, Any] = {"prompt_1": "x", "prompt_weight_1": 0.1, "prompt_2": "y", "prompt_weight_2": 0.2}
    prior: Any = "prior"
    picture = torch.zeros(1)
    assert kandinsky.KandinskyBlend().run(prior, "slerp", "no", 1, 2, 3.0, **given, image_2=picture) == "blend"
    prompts = [("x", 0.1), ("y", 0.2)]
    assert noted["blend"] == (prior, prompts, [(None, 0.5), (picture, 0.5)], "slerp", "no", 1, 2, 3.0)
    kandinsky.KandinskyBlend().run(prior, "sum", "", 1, 2, 3.0, **given, image_1=picture, image_weight_1=0.9)
    assert noted["blend"][2] == [(picture, 0.9), (None, 0.5)]


def test_emb2emb_begins_from_every_embed(noted: dict[str, tuple[Any, ...]]) -> None:
    prior: Any = SimpleNamespace(name="p", width=3)
    start = ImageEmbeds(torch.rand(2, 3), {})
    kandinsky.KandinskyEmb2Emb().run(prior, start, "a fox", "no", 7, 9, 4.0, 0.6)
    *rest, begin = noted["text_to_embeds"]
    assert rest == [prior, "a fox", "no", 7, 9, 4.0, 2]
    assert begin[0] is start.values
    assert begin[1] == 0.6


@pytest.mark.parametrize("image", [None, torch.zeros(1, 64, 64, 3)], ids=["from noise", "from a picture"])
def test_the_decoder_hands_on_all_that_it_is_given(
    noted: dict[str, tuple[Any, ...]], image: torch.Tensor | None
) -> None:
    node: Any = kandinsky.KandinskyDecoderNode()
    more = {"mask": "mask", "hint": "hint", "prompt": "words", "negative_prompt": "no words", "strength": 0.7}
    assert node.run("d", "yes", "no", 128, 64, 5, 6, 7.0, "DDIM", 3, image=image, **more) == (
        "latents_to_image",
        {"samples": "embeds_to_latents"},
    )
    start = None if image is None else (image, 0.7)
    options = (5, 6, 7.0, "DDIM", 3, start, "mask", "hint", "words", "no words")
    assert noted["embeds_to_latents"] == ("d", "yes", "no", (128, 64), *options)
    assert noted["latents_to_image"] == ("d", "embeds_to_latents")
    node.run("d", "yes", "no", 128, 64, 5, 6, 7.0, "DDIM", 3, image=image)
    start = None if image is None else (image, 0.3)
    assert noted["embeds_to_latents"][8:] == (3, start, None, None, None, None)


def test_the_sizes_of_a_padded_picture_are_its_width_and_height() -> None:
    image, mask, width, height = kandinsky.KandinskyPadForOutpaint().run(torch.rand(1, 64, 64, 3), 64, 0, 0, 0, 0)
    assert (width, height) == (128, 64)
    assert (image.shape, mask.shape) == ((1, 64, 128, 3), (1, 64, 128))
    assert mask[0, 0].tolist() == [1] * 64 + [0] * 64
