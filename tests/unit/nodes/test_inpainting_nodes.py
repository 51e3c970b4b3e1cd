"""Repainting, outpainting, depth and 2.1's prompt in the nodes: what comes out, and what wrong combinations say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nodes import host
from nodes.embeds import ImageEmbeds
from nodes.images import pad_for_outpaint
from nodes.kandinsky import KandinskyDecoderNode, KandinskyPadForOutpaint
from nodes.models.unet2 import UNet2, UNet2Config
from nodes.networks import Model
from tests.parity.bare import load_decoder

WIDTH = 128


@pytest.fixture(scope="module")
def decoder() -> Model:
    return load_decoder(host.PACK / "weights" / "pocket" / "kandinsky-2-2-pocket-decoder").model


@pytest.fixture(scope="module")
def picture(decoder: Model) -> torch.Tensor:
    across = torch.linspace(0.2, 0.8, 128)
    return torch.stack([across.expand(128, -1), across[:, None].expand(-1, 128), torch.full((128, 128), 0.4)], -1)[None]


def embeds(rows: int = 1) -> ImageEmbeds:
    return ImageEmbeds(torch.zeros(rows, WIDTH), {})


def decode(decoder: Model, **given: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    size: dict[str, Any] = {"width": 128, "height": 128}
    settings: dict[str, Any] = {"seed": 1, "steps": 4, "guidance_scale": 2.0, "scheduler": "reference", "batch_size": 1}
    parts: dict[str, Any] = {"image_embeds": embeds(), "negative_image_embeds": embeds()}
    return KandinskyDecoderNode().run(decoder, **(parts | size | settings | given))


def test_only_what_is_white_is_repainted(decoder: Model, picture: torch.Tensor) -> None:
    mask = torch.zeros(1, 128, 128)
    mask[:, :, 96:] = 1
    _, as_it_was = decode(decoder, image=picture, mask=torch.zeros(1, 128, 128), strength=1.0)
    image, repainted = decode(decoder, image=picture, mask=mask, strength=1.0)
    change = (repainted["samples"] - as_it_was["samples"]).abs().amax((0, 1, 2))  # by column
    # The place beside the mask has seen something of it: it is repainted, too.
    assert change[:11].max() < 1e-5
    assert change[11:].min() > 0.05
    # MOVQ's attention and norms look at the whole picture: what is kept differs in shade, but hardly.
    assert (image - picture)[:, :, :80].abs().mean() < 0.1


def test_a_mask_is_resized_with_its_picture(decoder: Model, picture: torch.Tensor) -> None:
    mask = torch.zeros(1, 128, 128)
    mask[:, 64:] = 1
    small = torch.nn.functional.interpolate(mask[None], (32, 32))[0]
    one, _ = decode(decoder, image=picture, mask=mask, strength=1.0)
    two, _ = decode(decoder, image=picture, mask=small, strength=1.0)
    assert (one - two).abs().max() < 1e-4


def test_an_empty_mask_is_said_to_be(decoder: Model, picture: torch.Tensor, caplog: pytest.LogCaptureFixture) -> None:
    decode(decoder, image=picture, mask=torch.zeros(1, 64, 64), strength=1.0)  # LoadImage's, of a picture without one
    assert "nothing to repaint" in caplog.text


def test_padding_makes_room_that_is_masked() -> None:
    image = torch.rand(2, 100, 120, 3)
    grown, mask, width, height = KandinskyPadForOutpaint().run(image, 37, 0, 8, 0, 0)
    assert (width, height) == (168, 104)
    assert grown.shape == (2, 104, 168, 3)
    # 37 + 120 + 8 lack 3 to a multiple of 8: they go to the left; the 4 rows, to the bottom.
    assert torch.equal(grown[:, :100, 40:160], image)
    assert torch.equal(grown[:, :100, 0], image[:, :, 0])
    wanted = torch.ones(2, 104, 168)
    wanted[:, :100, 40:160] = 0
    assert torch.equal(mask, wanted)


def test_padding_nothing_masks_nothing() -> None:
    image = torch.rand(1, 64, 128, 3)
    grown, mask = pad_for_outpaint(image, (0, 0, 0, 0), 32, 64)
    assert torch.equal(grown, image)
    assert mask.max() == 0


def test_a_feathered_mask_runs_out_inside_the_picture() -> None:
    _, mask = pad_for_outpaint(torch.rand(1, 64, 128, 3), (0, 0, 64, 0), 16, 64)
    row = mask[0, 30]
    assert row[128:].min() == 1
    assert row[:112].max() == 0
    assert (row[112:129].diff() > 0).all()
    assert (row[:128] >= 0.5).sum() == 8  # half of the feather is repainted
    _, corner = pad_for_outpaint(torch.rand(1, 64, 64, 3), (64, 64, 0, 0), 16, 64)
    assert torch.equal(corner[0], corner[0].T)


def test_padding_less_than_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of 0 or more; got .*-8"):
        pad_for_outpaint(torch.rand(1, 64, 64, 3), (-8, 0, 0, 0), 0, 64)


def test_outpainting_keeps_the_picture(decoder: Model, picture: torch.Tensor) -> None:
    image, mask, width, height = KandinskyPadForOutpaint().run(picture, 0, 0, 64, 0, 16)
    given = {"image": image, "strength": 1.0, "width": width, "height": height}
    drawn, latent = decode(decoder, mask=mask, **given)
    assert drawn.shape == (1, 128, 192, 3)
    _, kept = decode(decoder, mask=torch.zeros_like(mask), **given)
    change = (latent["samples"] - kept["samples"]).abs().amax((0, 1, 2))
    assert change[:13].max() < 1e-5
    assert change[14:].min() > 0.05


def with_unet(decoder: Model, **changes: Any) -> Model:
    """The decoder as another kind of it; the UNet is small and empty."""
    small: dict[str, Any] = {"block_out_channels": (32, 64), "layers_per_block": 1, "attention_head_dim": 32}
    network = UNet2Config(encoder_hid_dim=WIDTH, **(small | changes))
    return Model(UNet2(network).requires_grad_(False), replace(decoder.decoder, network=network))


IMAGE, MASK = torch.rand(1, 64, 64, 3), torch.ones(1, 64, 64)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ({}, {"mask": MASK}, "Expected an image to repaint, got only a mask"),
        ({}, {"hint": IMAGE}, "is not a depth decoder.*kandinsky-2-2-controlnet-depth"),
        ({"in_channels": 9}, {}, "is for inpainting: expected an image and a mask, got neither"),
        ({"in_channels": 9}, {"image": IMAGE}, "is for inpainting.*got no mask"),
        ({"in_channels": 8, "addition_embed_type": "image_hint"}, {}, "is a depth decoder: expected a hint, got none"),
        (
            {},
            {"image": IMAGE, "strength": 1.0, "mask": MASK[None]},
            r"Expected a MASK of shape .* got \[1, 1, 64, 64\]",
        ),
        ({}, {"image": IMAGE, "strength": 1.0, "mask": MASK.repeat(3, 1, 1)}, "Expected 1 or 1 masks.* got 3"),
        (
            {"in_channels": 8, "addition_embed_type": "image_hint"},
            {"hint": IMAGE.repeat(2, 1, 1, 1)},
            "Expected 1 or 1 hints.* got 2",
        ),
    ],
)
def test_wrong_combinations_say_what_to_do(
    decoder: Model, kind: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode(with_unet(decoder, **kind) if kind else decoder, **given)


def test_22_takes_a_prompt_and_does_without(decoder: Model) -> None:
    one, _ = decode(decoder)
    two, _ = decode(decoder, prompt="a red circle", negative_prompt="blue")
    assert torch.equal(one, two)


def test_existing_widgets_keep_their_places() -> None:
    inputs = KandinskyDecoderNode.INPUT_TYPES()
    assert list(inputs["required"])[3:] == [
        "width", "height", "seed", "steps", "guidance_scale", "scheduler", "batch_size"
    ]  # fmt: skip
    optional = inputs["optional"]
    assert list(optional)[:2] == ["image", "strength"]
    # What came later are sockets: a file made before them has no value for them.
    assert all(
        kind in ("IMAGE", "MASK", "VAE", "CLIP") or rest["forceInput"] for kind, rest in list(optional.values())[2:]
    )
