"""What the Kandinsky 2.x nodes hand on of their inputs, to recipes and loaders that only note it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nodes import host, kandinsky, loaders
from nodes.decoders import Decoder
from nodes.embeds import ImageEmbeds
from nodes.models.unet2 import UNet2Config
from nodes.models.unet3 import UNet3Config
from nodes.sampling.schedulers import DecoderScheduler


class Host(host.Host):
    """A host with a file of each name in each of its folders, which notes what it is told to load."""

    def __init__(self, calls: dict[str, tuple[Any, ...]]) -> None:
        super().__init__()
        self.calls = calls

    def model_files(self, kind: str) -> dict[str, Path]:
        return {name: Path(kind, name) for name in ("a", "b")}

    def note(self, name: str, *given: Any) -> str:
        self.calls[name] = given
        return name

    def load_model(self, *given: Any) -> Any:  # pyright: ignore
        return self.note("model", *given)

    def load_vae(self, *given: Any) -> Any:  # pyright: ignore
        return self.note("vae", *given)

    def load_mclip(self, *given: Any) -> Any:  # pyright: ignore
        return self.note("mclip", *given)

    def load_ul2(self, *given: Any) -> Any:  # pyright: ignore
        return self.note("ul2", *given)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Function -> what it was called with; its answer is its name."""
    calls: dict[str, tuple[Any, ...]] = {}
    here = Host(calls)
    monkeypatch.setattr(host, "current", lambda: here)

    def note(name: str) -> Any:
        return lambda *given: here.note(name, *given)

    for name in ("load_prior_files", "load_prior", "tokenizer_folders"):
        monkeypatch.setattr(loaders, name, note(name))
    for name in ("blend", "text_to_embeds", "latents_to_image"):
        monkeypatch.setattr(kandinsky, name, note(name))
    monkeypatch.setattr(kandinsky, "embeds_to_latents", lambda *given: (here.note("latents", *given), "the vae"))
    monkeypatch.setattr(loaders, "read_movq", lambda path: (path / "movq", "sizes"))
    monkeypatch.setattr(loaders, "read_decoder", lambda path, name: (path / "unet", described(name)))
    monkeypatch.setattr(
        loaders, "prior_sources", lambda: {"p": Path(__file__).parent} | here.model_files("diffusion_models")
    )
    monkeypatch.setattr(loaders, "decoder_folders", lambda: {name: Path(name) for name in ("2.1", "2.2", "3")})
    monkeypatch.setattr(loaders, "unet_sources", lambda: {"2.2": Path("2.2")} | here.model_files("diffusion_models"))
    monkeypatch.setattr(loaders, "movq_sources", lambda: here.model_files("vae"))
    monkeypatch.setattr(loaders, "clip_sources", lambda: {"3": Path("3")} | here.model_files("text_encoders"))
    monkeypatch.setattr(loaders, "is_kandinsky3_text_folder", lambda path: path.name == "3")
    return calls


def described(name: str, **more: Any) -> Decoder:
    text: dict[str, Any] = {"encoder_hid_dim_type": "text_image_proj", "addition_embed_type": "text_image"}
    network = UNet3Config() if name == "3" else UNet2Config(**(text if name == "2.1" else {}))
    return Decoder(name, network, DecoderScheduler(), **more)


def test_a_prior_of_a_folder_and_of_files(noted: dict[str, tuple[Any, ...]]) -> None:
    assert loaders.KandinskyPriorLoader().run("p", "bf16") == ("load_prior",)
    assert noted["load_prior"] == (Path(__file__).parent, torch.bfloat16)
    for run in (
        loaders.KandinskyPriorFilesLoader().run,
        lambda p, t, i, d: loaders.KandinskyPriorLoader().run(p, d, t, i),
    ):
        assert run("a", "b", "a", "fp32") == ("load_prior_files",)
        text = Path("text_encoders", "b")
        parts = (Path("diffusion_models", "a"), text, Path("clip_vision", "a"))
        assert noted.pop("load_prior_files") == (*parts, "tokenizer_folders", torch.float32)
        assert noted["tokenizer_folders"] == (text,)
        for picked in (("c", "a", "a"), ("a", "c", "a"), ("a", "a", "c")):
            with pytest.raises(FileNotFoundError, match=r"called 'c' in .*models/.*; there are: .*a, b"):
                run(*picked, "auto")


def test_a_decoder_s_folder_gives_model_vae_and_for_21_clip(noted: dict[str, tuple[Any, ...]]) -> None:
    for name, clip in (("2.1", "mclip"), ("2.2", None), ("3", None)):
        assert loaders.KandinskyDecoderLoader().run(name, "fp16") == ("model", "vae", clip)
        assert noted["vae"] == (Path(name, "movq"), "sizes", "fp16")
        assert noted["model"] == (Path(name, "unet"), described(name, vae="vae", clip=clip), "fp16")
    assert noted["mclip"] == (Path("2.1"), [], "fp16")


def test_model_vae_and_clip_by_themselves(noted: dict[str, tuple[Any, ...]]) -> None:
    assert loaders.KandinskyModelLoader().run("a", "default") == ("model",)
    assert noted["model"] == (Path("diffusion_models", "a", "unet"), described("a"), "auto")
    vae: Any = "mine"
    loaders.KandinskyModelLoader().run("2.2", "bf16", vae)
    assert noted["model"] == (Path("2.2", "unet"), described("2.2", vae=vae), "bf16")
    assert loaders.KandinskyVAELoader().run("b") == ("vae",)
    assert noted["vae"] == (Path("vae", "b", "movq"), "sizes")
    assert loaders.KandinskyCLIPLoader().run("a", "fp16") == ("mclip",)
    assert noted["mclip"] == (Path("text_encoders", "a"), "tokenizer_folders", "fp16")
    assert loaders.KandinskyCLIPLoader().run("3", "fp8_e4m3fn", "cpu") == ("ul2",)
    assert noted["ul2"] == (Path("3"), "fp8_e4m3fn", "cpu")
    with pytest.raises(ValueError, match="fp8 is for the text encoder of Kandinsky 3: expected auto, fp32"):
        loaders.KandinskyCLIPLoader().run("a", "fp8_e4m3fn")


def test_loaders_of_saved_workflows(noted: dict[str, tuple[Any, ...]]) -> None:
    loaders.KandinskyDecoderFilesLoader().run("a", "b", "bf16")
    assert noted["model"] == (Path("diffusion_models", "a", "unet"), described("a", vae="vae"), "bf16")
    loaders.KandinskyDecoderFilesLoader().run("a", "b", "bf16", "a")
    assert noted["model"][1] == described("a", vae="vae", clip="mclip")
    assert noted["mclip"] == (Path("text_encoders", "a"), "tokenizer_folders", "bf16")
    assert loaders.Kandinsky3Loader().run("3", "auto") == ("model", "vae", None)
    assert loaders.Kandinsky3TextEncoderLoader().run("3", "fp16", "stream") == ("ul2",)
    assert noted["ul2"] == (Path("3"), "fp16", "stream")
    assert loaders.Kandinsky3CLIPLoader().run("3", "bf16") == ("ul2",)
    old = [node for name, (node, _) in loaders.NODES.items() if getattr(node, "DEPRECATED", False)]
    assert len(old) == 5
    assert all("Deprecated: use " in node.DESCRIPTION for node in old)


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
    more |= {"vae": "vae", "clip": "clip"}
    assert node.run("d", "yes", "no", 128, 64, 5, 6, 7.0, "DDIM", 3, image=image, **more) == (
        "latents_to_image",
        {"samples": "latents"},
    )
    start = None if image is None else (image, 0.7)
    options = (5, 6, 7.0, "DDIM", 3, start, "mask", "hint", "words", "no words", "vae", "clip")
    assert noted["latents"] == ("d", "yes", "no", (128, 64), *options)
    assert noted["latents_to_image"] == ("the vae", "latents")
    node.run("d", "yes", "no", 128, 64, 5, 6, 7.0, "DDIM", 3, image=image)
    start = None if image is None else (image, 0.3)
    assert noted["latents"][8:] == (3, start, *[None] * 6)


def test_the_sizes_of_a_padded_picture_are_its_width_and_height() -> None:
    image, mask, width, height = kandinsky.KandinskyPadForOutpaint().run(torch.rand(1, 64, 64, 3), 64, 0, 0, 0, 0)
    assert (width, height) == (128, 64)
    assert (image.shape, mask.shape) == ((1, 64, 128, 3), (1, 64, 128))
    assert mask[0, 0].tolist() == [1] * 64 + [0] * 64
