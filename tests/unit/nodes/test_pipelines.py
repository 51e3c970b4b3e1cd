"""Finding models by name, sizes, and one condition for every picture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nodes import host, pipelines
from nodes.embeds import ImageEmbeds
from nodes.models.movq import MOVQConfig
from nodes.networks import VAE
from nodes.pipelines import for_every_picture, latents_to_image, require_conditions, require_size
from nodes.sources import folders, pick, tokenizer_folders


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> host.Host:
    found = host.Host()
    for name in ("first", "second"):
        found.add_model_folder("kandinsky", tmp_path / name)
    monkeypatch.setattr(host, "current", lambda: found)
    return found


def test_folders_are_found_at_most_two_levels_down(here: host.Host, tmp_path: Path) -> None:
    for name in ("first/b", "first/a", "first/x/c", "first/x/y/d", "second/a", "second/e"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "first" / "file").touch()
    found = folders(lambda folder: folder.name not in ("x", "y"))
    assert list(found) == ["a", "b", "x/c", "e"]
    assert found["a"] == tmp_path / "first" / "a"


def test_a_name_that_has_gone_is_an_error_that_lists_the_others(tmp_path: Path) -> None:
    found = {"a": tmp_path, "b": tmp_path / "b"}
    assert pick(found, "b", "prior") == tmp_path / "b"
    with pytest.raises(FileNotFoundError, match="a prior called 'c' in models/kandinsky; there are: a, b"):
        pick(found, "c", "prior")
    with pytest.raises(
        FileNotFoundError, match=r"a VAE called 'c' in models/vae; there is nothing there\. .*: https://"
    ):
        pick({}, "c", "VAE", "models/vae")


def test_a_tokenizer_is_looked_for_beside_the_file_then_in_the_host_then_in_official_folders(
    here: host.Host, tmp_path: Path
) -> None:
    official = tmp_path / "first" / "kandinsky-2-2-prior"
    (official / "tokenizer").mkdir(parents=True)
    (tmp_path / "first" / "other").mkdir()
    file = tmp_path / "text.safetensors"
    assert tokenizer_folders(file) == [tmp_path / "text", official / "tokenizer"]
    here.clip_tokenizer_folder = lambda: tmp_path / "own"
    assert tokenizer_folders(file) == [tmp_path / "text", tmp_path / "own", official / "tokenizer"]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((8, 64), ""),
        ((1000, 4096), ""),
        ((0, 64), "a width that is a multiple of 8, got 0: use 8 or 16"),
        ((64, 63), "a height that is a multiple of 8, got 63: use 56 or 64"),
        ((204, 64), "a width that is a multiple of 8, got 204: use 200 or 208"),
    ],
)
def test_sizes_are_multiples_of_8(size: tuple[int, int], message: str) -> None:
    if not message:
        require_size(*size)
        return
    with pytest.raises(ValueError, match=message):
        require_size(*size)


def test_one_condition_serves_every_picture() -> None:
    one, three = torch.rand(1, 4, 2, 2), torch.rand(3, 4, 2, 2)
    assert torch.equal(for_every_picture(one, 3, "hints"), one.repeat(3, 1, 1, 1))
    assert for_every_picture(three, 3, "hints") is three or torch.equal(for_every_picture(three, 3, "hints"), three)
    for count in (1, 2, 4):
        with pytest.raises(ValueError, match=f"Expected 1 or {count} hints for {count} pictures, got 3"):
            for_every_picture(three, count, "hints")


@pytest.mark.parametrize(
    ("inpaints", "reads_hint", "image", "mask", "hint", "message"),
    [
        (False, False, False, False, False, ""),
        (False, False, True, True, False, ""),
        (False, False, False, True, False, "Expected an image to repaint, got only a mask"),
        (True, False, True, True, False, ""),
        (True, False, True, False, False, "is for inpainting: expected an image and a mask, got no mask"),
        (True, False, False, False, False, "is for inpainting: expected an image and a mask, got neither"),
        (False, True, True, True, True, ""),
        (False, True, False, False, True, ""),
        (False, True, True, False, False, "is a depth decoder: expected a hint, got none"),
        (False, False, False, False, True, "is not a depth decoder: expected no hint"),
        (True, False, True, True, True, "is not a depth decoder: expected no hint"),
    ],
)
def test_a_decoder_says_which_conditions_it_needs(
    inpaints: bool, reads_hint: bool, image: bool, mask: bool, hint: bool, message: str
) -> None:
    network: Any = SimpleNamespace(inpaints=inpaints, reads_hint=reads_hint)
    if not message:
        require_conditions(network, "The decoder d", image=image, mask=mask, hint=hint)
        return
    with pytest.raises(ValueError, match=message):
        require_conditions(network, "The decoder d", image=image, mask=mask, hint=hint)


def blended(monkeypatch: pytest.MonkeyPatch, negative: str, **changes: Any) -> tuple[Any, Any, list[Any]]:
    """A blend of two prompts and two pictures of which one of each is there, and the prompts that were read."""
    prior: Any = SimpleNamespace(name="p")
    read: list[Any] = []

    def embeds(value: float) -> tuple[ImageEmbeds, ImageEmbeds]:
        return ImageEmbeds(torch.full((1, 2), value), {}), ImageEmbeds(torch.full((1, 2), 99.0), {})

    def text_to_embeds(asked: Any, prompt: str, *rest: Any) -> tuple[ImageEmbeds, ImageEmbeds]:
        assert asked is prior
        read.append((prompt, *rest))
        return embeds(1.0)

    monkeypatch.setattr(pipelines, "text_to_embeds", text_to_embeds)
    monkeypatch.setattr(pipelines, "image_to_embeds", lambda asked, image: embeds(float(image.sum())))
    monkeypatch.setattr(pipelines, "grey", lambda asked: embeds(50.0)[0])
    parts: dict[str, Any] = {
        "prompts": [("a fox", 0.5), (" ", 8.0)],
        "images": [(None, 8.0), (torch.full((1, 1, 1, 1), 3.0), 2.0)],
    }
    mixed, without = pipelines.blend(
        prior, **(parts | changes), method="sum", negative_prompt=negative, seed=7, steps=9, guidance=4.0
    )
    return mixed, without, read


def test_a_blend_leaves_out_what_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed, without, read = blended(monkeypatch, " ")
    assert mixed.values.tolist() == [[6.5, 6.5]]
    assert mixed.origin == {"mixed": "[0.5, 2.0]", "method": "sum"}
    assert without.values.tolist() == [[50, 50]]
    assert read == [("a fox", "", 7, 9, 4.0)]
    only_words, _, _ = blended(monkeypatch, "", images=[(None, 1.0)])
    assert only_words.values.tolist() == [[0.5, 0.5]]
    only_picture, _, _ = blended(monkeypatch, "", prompts=[])
    assert only_picture.values.tolist() == [[6, 6]]
    with pytest.raises(ValueError, match="all of them are empty"):
        blended(monkeypatch, "a dog", prompts=[], images=[])


def test_a_blend_s_negative_prompt_is_read_as_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    _, without, read = blended(monkeypatch, "a dog")
    assert without.values.tolist() == [[1, 1]]
    assert read == [("a fox", "", 7, 9, 4.0), ("a dog", "", 7, 9, 4.0)]


def test_pictures_are_decoded_one_at_a_time_and_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Exception):
        pass

    here = host.Host()
    seen: list[torch.Size] = []

    def decode(latent: torch.Tensor) -> torch.Tensor:
        seen.append(latent.shape)
        return latent[:, :3] * 2 - 1

    def throw() -> None:
        if len(seen) == 2:
            raise Interrupted

    monkeypatch.setattr(host, "current", lambda: here)
    movq: Any = SimpleNamespace(config=MOVQConfig(), quant_conv=torch.nn.Conv2d(1, 1, 1), decode=decode)
    vae = VAE(movq)
    here.device = lambda: torch.device("cpu")
    latents = torch.rand(2, 4, 1, 1)
    image = latents_to_image(vae, latents)
    torch.testing.assert_close(image, latents[:, :3].permute(0, 2, 3, 1))
    assert seen == [(1, 4, 1, 1)] * 2
    with pytest.raises(ValueError, match="The picture became NaN or infinite"):
        latents_to_image(vae, torch.tensor([1.0, float("nan"), 1.0, 1.0]).reshape(1, 4, 1, 1))
    here.throw_if_interrupted = throw
    seen.clear()
    with pytest.raises(Interrupted):
        latents_to_image(vae, torch.rand(3, 4, 1, 1))
