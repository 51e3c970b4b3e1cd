"""Redux Mix: weights, masks, downsampling and crops, with an encoder that sees the mean colour of each cell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, scaled_dot_product_attention

from nodes.flux import KandifluxReduxMix
from nodes.redux import Picture, mix

RED, GREEN, BLUE = torch.eye(3)
SIZE, SIDE = 60, 4  # 4 × 4 cells of 15 pixels
WORDS = 5


class Eye:
    """A CLIP_VISION whose tokens are the mean colours of a grid's cells."""

    image_size = SIZE

    def __init__(self, side: int = SIDE, extra: int = 0) -> None:
        self.side, self.extra, self.calls = side, extra, 0

    def encode_image(self, image: Tensor, crop: bool = True) -> Any:
        self.calls += 1
        pixels = image[..., :3].movedim(-1, 1)
        height, width = pixels.shape[-2:]
        scale = SIZE / min(height, width)
        size = (round(height * scale), round(width * scale)) if crop else (SIZE, SIZE)
        pixels = interpolate(pixels, size, mode="area")
        top, left = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
        cells = avg_pool2d(pixels[..., top : top + SIZE, left : left + SIZE], SIZE // self.side)
        tokens = cells.flatten(2).movedim(1, -1)
        return SimpleNamespace(last_hidden_state=torch.cat([tokens[:, : self.extra], tokens], dim=1))


class Recorder(Eye):
    """Keeps the picture it is shown."""

    def encode_image(self, image: Tensor, crop: bool = True) -> Any:
        self.shown = image
        return super().encode_image(image, crop)


class Style:
    """A STYLE_MODEL that leaves the tokens as they are; `width` is what it says it takes."""

    def __init__(self, width: int = 3) -> None:
        self.model = SimpleNamespace(redux_up=SimpleNamespace(in_features=width))

    def get_cond(self, input: Any) -> Tensor:
        return input.last_hidden_state.clone()


TEXT = torch.linspace(-1, 1, WORDS * 3).reshape(1, WORDS, 3)


def plain(colour: Tensor, size: int = SIZE, count: int = 1) -> Tensor:
    return colour.expand(count, size, size, 3)


def redux(
    *pictures: Picture, clip_vision: Any = None, style: Any = None, **options: Any
) -> tuple[Tensor, dict[str, Any]]:
    """(picture tokens, keys) of what becomes of TEXT."""
    ((text, keys),) = mix(
        [[TEXT, {"guidance": 3.5}]], style or Style(), clip_vision or Eye(), list(pictures), **options
    )
    assert torch.equal(text[:, :WORDS], TEXT)
    return text[0, WORDS:], keys


def attended(pictures: list[Picture], **options: Any) -> Tensor:
    """What text and one latent get from one attention over text, pictures and the latent."""
    tokens, keys = redux(*pictures, **options)
    every = torch.cat([TEXT[0], tokens, torch.tensor([[0.3, -0.2, 0.1]])])[None]
    bias = keys.get("attention_mask")
    out = scaled_dot_product_attention(every, every, every, None if bias is None else bias.float())
    # A second layer, for what the pictures' own tokens see of each other comes to the rest through that.
    out = scaled_dot_product_attention(out, out, out, None if bias is None else bias.float())
    return torch.cat([out[0, :WORDS], out[0, -1:]])


def left_half(size: int = SIZE) -> Tensor:
    mask = torch.zeros(1, size, size)
    mask[:, :, : size // 2] = 1
    return mask


# Pictures and weights


def test_pictures_follow_the_text_in_their_order() -> None:
    tokens, keys = redux(Picture("image_1", plain(RED)), Picture("image_4", plain(BLUE)))
    assert torch.equal(tokens, torch.cat([RED.expand(16, 3), BLUE.expand(16, 3)]))
    assert keys == {"guidance": 3.5}


def test_each_of_a_batch_is_mixed() -> None:
    tokens, _ = redux(Picture("image_1", torch.cat([plain(RED), plain(BLUE)])))
    assert torch.equal(tokens, torch.cat([RED.expand(16, 3), BLUE.expand(16, 3)]))


def test_every_entry_gets_them_and_keeps_its_own() -> None:
    entries = [[TEXT, {"guidance": 3.5, "end_percent": 0.5}], [TEXT * 2, {"start_percent": 0.5}]]
    result = mix(entries, Style(), Eye(), [Picture("image_1", plain(RED))])
    assert [keys for _, keys in result] == [keys for _, keys in entries]
    assert all(text.shape == (1, WORDS + 16, 3) for text, _ in result)
    assert torch.equal(result[1][0][:, :WORDS], TEXT * 2)


@pytest.mark.parametrize("combine", ["append", "average"])
@pytest.mark.parametrize("strength_type", ["multiply", "attn_bias"])
def test_weight_0_is_as_if_not_connected(strength_type: str, combine: str) -> None:
    options = {"strength": 0.6, "strength_type": strength_type, "combine": combine}
    kept = [Picture("image_1", plain(RED), 0.7), Picture("image_3", plain(BLUE), 1.2)]
    alone, without = redux(*kept, **options)
    eye = Eye()
    beside, keys = redux(kept[0], Picture("image_2", plain(GREEN), 0.0), kept[1], clip_vision=eye, **options)
    assert torch.equal(beside, alone)
    assert keys.keys() == without.keys()
    assert all(torch.equal(keys[k], without[k]) for k in keys if k == "attention_mask")
    assert eye.calls == 2


@pytest.mark.parametrize(("strength", "weight"), [(0.0, 1.0), (1.0, 0.0)])
def test_nothing_left_is_the_text_alone(strength: float, weight: float) -> None:
    tokens, keys = redux(Picture("image_1", plain(RED), weight), strength=strength, strength_type="attn_bias")
    assert len(tokens) == 0
    assert keys == {"guidance": 3.5}


def test_multiply_multiplies_strength_and_weight() -> None:
    tokens, keys = redux(Picture("image_1", plain(RED), 0.5), Picture("image_2", plain(BLUE)), strength=0.8)
    torch.testing.assert_close(tokens, torch.cat([RED.expand(16, 3) * 0.4, BLUE.expand(16, 3) * 0.8]))
    assert "attention_mask" not in keys


def test_attn_bias_leaves_the_tokens_and_biases_the_attention() -> None:
    tokens, keys = redux(Picture("image_1", plain(RED), 0.5), strength=0.8, strength_type="attn_bias")
    assert torch.equal(tokens, RED.expand(16, 3))
    bias = keys["attention_mask"].float()
    words, pictures, latent = slice(0, WORDS), slice(WORDS, WORDS + 16), slice(WORDS + 16, None)
    for rest in (words, latent):
        assert bias[:, rest, pictures].exp().sub(0.4).abs().max() < 1e-3
        assert not bias[:, pictures, rest].any()
        assert not bias[:, rest, rest].any()
    assert bias[:, pictures, pictures].exp().sub(0.5).abs().max() < 1e-3
    assert keys["attention_mask_img_shape"] == (1, 1)


def test_attn_bias_of_1_is_none() -> None:
    _, keys = redux(Picture("image_1", plain(RED)), strength_type="attn_bias")
    assert keys == {"guidance": 3.5}


@pytest.mark.parametrize("strength", [1.0, 0.3, 2.0])
def test_weight_2_is_the_picture_twice(strength: float) -> None:
    red, blue = plain(RED), plain(BLUE)
    twice = [Picture("image_1", red), Picture("image_2", red), Picture("image_3", blue)]
    doubled = [Picture("image_1", red, 2.0), Picture("image_3", blue)]
    options = {"strength_type": "attn_bias", "strength": strength}
    torch.testing.assert_close(attended(doubled, **options), attended(twice, **options), atol=1e-3, rtol=0)


def test_two_halves_of_a_picture_s_weight_are_the_picture() -> None:
    whole, halves = [Picture("image_1", plain(RED))], [Picture(f"image_{i}", plain(RED), 0.5) for i in (1, 2)]
    torch.testing.assert_close(attended(halves, strength_type="attn_bias"), attended(whole), atol=1e-3, rtol=0)


def test_average_is_a_mean_by_weight_however_much_weights_sum_to() -> None:
    for scale in (1.0, 0.1):
        pictures = [Picture("image_1", plain(RED), 3 * scale), Picture("image_2", plain(BLUE), scale)]
        tokens, keys = redux(*pictures, combine="average")
        torch.testing.assert_close(tokens, torch.tensor([0.75, 0.0, 0.25]).expand(16, 3))
        assert "attention_mask" not in keys


def test_average_of_a_picture_and_itself_is_the_picture() -> None:
    picture = torch.rand(1, SIZE, SIZE, 3, generator=torch.manual_seed(0))
    once, _ = redux(Picture("image_1", picture))
    twice, _ = redux(Picture("image_1", picture), Picture("image_2", picture), combine="average")
    torch.testing.assert_close(twice, once)


def test_average_takes_strength_as_one_picture_does() -> None:
    pictures = [Picture("image_1", plain(RED)), Picture("image_2", plain(RED), 0.5)]
    tokens, _ = redux(*pictures, combine="average", strength=0.5)
    torch.testing.assert_close(tokens, RED.expand(16, 3) * 0.5)
    _, keys = redux(*pictures, combine="average", strength=0.5, strength_type="attn_bias")
    _, one = redux(pictures[0], strength=0.5, strength_type="attn_bias")
    assert torch.equal(keys["attention_mask"], one["attention_mask"])


# Downsampling


def quarters() -> Tensor:
    """Red, green, blue and black quarters."""
    picture = torch.zeros(1, SIZE, SIZE, 3)
    half = SIZE // 2
    picture[:, :half, :half], picture[:, :half, half:], picture[:, half:, :half] = RED, GREEN, BLUE
    return picture


def test_downsampling_averages_areas() -> None:
    tokens, _ = redux(Picture("image_1", quarters()), downsampling=2)
    torch.testing.assert_close(tokens, torch.stack([RED, GREEN, BLUE, torch.zeros(3)]))


@pytest.mark.parametrize(("downsampling", "count"), [(1, 16), (2, 4), (3, 1), (4, 1), (27, 1)])
def test_how_many_tokens_are_left(downsampling: int, count: int) -> None:
    tokens, _ = redux(Picture("image_1", quarters()), downsampling=downsampling)
    assert len(tokens) == count
    torch.testing.assert_close(tokens.mean(0), torch.full((3,), 0.25))


# Masks


def test_a_mask_keeps_the_cells_it_fills() -> None:
    tokens, _ = redux(Picture("image_1", quarters(), mask=left_half()))
    expected = torch.cat([RED.expand(4, 3), BLUE.expand(4, 3)])
    torch.testing.assert_close(tokens, expected)


def test_a_cell_stays_if_half_of_it_is_masked() -> None:
    for part, count in ((0.45, 0), (0.55, 4)):
        mask = torch.zeros(1, SIZE, SIZE)
        mask[:, :, : 15 + round(15 * part)] = 1
        tokens, _ = redux(Picture("image_1", quarters(), mask=mask))
        assert len(tokens) == 4 + count


def test_a_mask_of_another_size_is_brought_to_the_picture_s() -> None:
    same, _ = redux(Picture("image_1", quarters(), mask=left_half()))
    other, _ = redux(Picture("image_1", quarters(), mask=left_half(480)))
    assert torch.equal(other, same)


def test_a_mask_is_cropped_as_its_picture_is() -> None:
    wide = torch.cat([plain(GREEN), plain(RED), plain(BLUE)], dim=2)  # the middle third is red
    mask = torch.zeros(1, SIZE, 3 * SIZE)
    mask[:, :, SIZE : SIZE + SIZE // 2] = 1  # of which the left half
    centre, _ = redux(Picture("image_1", wide, mask=mask), crop="center")
    torch.testing.assert_close(centre, RED.expand(8, 3))
    mask[:, :, SIZE : 2 * SIZE] = 1
    squeezed, _ = redux(Picture("image_1", wide, mask=mask), crop="none")
    assert len(squeezed) == 4 * 2
    assert (squeezed[:, 0] > 0.6).all()


def test_without_a_crop_all_of_a_picture_is_seen() -> None:
    wide = torch.cat([plain(GREEN), plain(RED), plain(RED), plain(BLUE)], dim=2)
    for crop, columns in (("none", [GREEN, RED, RED, BLUE]), ("center", [RED] * 4)):
        tokens, _ = redux(Picture("image_1", wide), crop=crop)
        torch.testing.assert_close(tokens, torch.stack(columns).repeat(4, 1))


def test_a_mask_for_each_of_a_batch() -> None:
    masks = torch.cat([left_half(), 1 - left_half()])
    tokens, _ = redux(Picture("image_1", quarters().expand(2, -1, -1, -1), mask=masks))
    left, _ = redux(Picture("image_1", quarters(), mask=masks[:1]))
    right, _ = redux(Picture("image_1", quarters(), mask=masks[1:]))
    assert torch.equal(tokens, torch.cat([left, right]))


def test_average_under_masks_is_a_collage() -> None:
    left, right = left_half(), 1 - left_half()
    pictures = [Picture("image_1", plain(RED), mask=left), Picture("image_2", plain(BLUE), mask=right)]
    tokens, _ = redux(*pictures, combine="average")
    torch.testing.assert_close(tokens, torch.stack([RED, RED, BLUE, BLUE]).repeat(4, 1))
    part, _ = redux(pictures[0], combine="average")
    assert len(part) == 8, "cells that no mask keeps are left out"


def test_masks_and_downsampling_go_together() -> None:
    tokens, _ = redux(Picture("image_1", quarters(), mask=left_half()), downsampling=2)
    torch.testing.assert_close(tokens, torch.stack([RED, BLUE]))


@pytest.mark.parametrize("at", [(0, 0), (30, 50), (100, 160)])
def test_crop_to_the_mask_shows_what_it_covers_as_large_as_can_be(at: tuple[int, int]) -> None:
    picture, mask = torch.zeros(1, 120, 180, 3), torch.zeros(1, 120, 180)
    y, x = at
    picture[:, y : y + 20, x : x + 20] = RED
    mask[:, y : y + 20, x : x + 20] = 1
    tokens, _ = redux(Picture("image_1", picture, mask=mask), crop="mask")
    torch.testing.assert_close(tokens, RED.expand(16, 3))


def test_crop_to_an_oblong_mask_keeps_its_shape() -> None:
    picture, mask = plain(GREEN, 120).clone(), torch.zeros(1, 120, 120)
    picture[:, 40:50, 20:100] = RED
    picture[:, 50:80, 20:100] = BLUE
    mask[:, 40:80, 20:100] = 1  # 80 × 40, in a square of 80 from row 20 on
    tokens, _ = redux(Picture("image_1", picture, mask=mask), crop="mask")
    torch.testing.assert_close(tokens, torch.cat([(RED + BLUE).expand(4, 3) / 2, BLUE.expand(4, 3)]))


def test_crop_to_a_mask_at_the_edge_stays_within_the_picture() -> None:
    picture, mask = plain(GREEN, 120).clone(), torch.zeros(1, 120, 120)
    picture[:, 110:, 20:100] = RED
    mask[:, 110:, 20:100] = 1  # 80 × 10, in the square from row 40 to the last
    tokens, _ = redux(Picture("image_1", picture, mask=mask), crop="mask")
    torch.testing.assert_close(tokens, (RED + GREEN).expand(4, 3) / 2)


def test_crop_to_a_mask_wider_than_the_picture_is_high() -> None:
    picture, mask = plain(RED).repeat(1, 1, 2, 1), torch.ones(1, SIZE, 2 * SIZE)
    tokens, _ = redux(Picture("image_1", picture, mask=mask), crop="mask")
    torch.testing.assert_close(tokens, RED.expand(8, 3))  # two rows of grey above and below are not kept


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(60, 120, 30, 0), (60, 121, 30, 0), (120, 60, 0, 30), (121, 60, 0, 30)]
)
def test_what_lacks_to_a_square_is_grey_at_both_sides(height: int, width: int, top: int, left: int) -> None:
    eye, side = Recorder(), max(height, width)
    redux(
        Picture("image_1", RED.expand(1, height, width, 3), mask=torch.ones(1, height, width)),
        clip_vision=eye,
        crop="mask",
    )
    expected = torch.full((1, side, side, 3), 0.5)
    expected[:, top : top + height, left : left + width] = RED
    assert torch.equal(eye.shown, expected)


def test_a_cell_of_which_exactly_half_is_masked_stays() -> None:
    for columns, count in ((14, 0), (15, 2)):
        mask = torch.zeros(1, SIZE, SIZE)
        mask[:, :, :columns] = 1
        picture = Picture("image_1", quarters(), mask=mask)
        if count:
            assert len(redux(picture, clip_vision=Eye(side=2))[0]) == count
            continue
        with pytest.raises(ValueError, match=r"at least one of 4 cells of the picture by half"):
            redux(picture, clip_vision=Eye(side=2))


def test_letterbox_shows_the_whole_picture_in_its_proportions_and_drops_the_room_around_it() -> None:
    wide = torch.cat([plain(RED), plain(BLUE)], dim=2)
    eye = Recorder()
    tokens, _ = redux(Picture("image_1", wide), clip_vision=eye, crop="letterbox")
    assert eye.shown.shape == (1, 2 * SIZE, 2 * SIZE, 3)
    assert eye.shown[:, : SIZE // 2].eq(0.5).all()
    assert torch.equal(eye.shown[:, SIZE // 2 : -SIZE // 2], wide)
    torch.testing.assert_close(tokens, torch.cat([RED.expand(2, 3), BLUE.expand(2, 3)]).repeat(2, 1))
    square = Picture("image_1", plain(GREEN))
    assert torch.equal(redux(square, crop="letterbox")[0], redux(square, crop="none")[0])
    half = torch.zeros(1, SIZE, 2 * SIZE)
    half[..., :SIZE] = 1
    tokens, _ = redux(Picture("image_1", wide, 1.0, half), crop="letterbox", clip_vision=eye)
    torch.testing.assert_close(tokens, RED.expand(4, 3))


def test_with_a_soft_edge_a_token_counts_by_its_share_in_the_mask() -> None:
    mask = torch.zeros(1, SIZE, SIZE)
    mask[..., : SIZE // SIDE] = 1
    mask[..., SIZE // SIDE : SIZE // SIDE + 5] = 1  # a third of the second column
    pictures = [Picture("image_1", plain(RED), 2.0, mask)]
    tokens, _ = redux(*pictures)
    torch.testing.assert_close(tokens, 2 * RED.expand(SIDE, 3))
    tokens, _ = redux(*pictures, mask_edge="soft")
    torch.testing.assert_close(tokens, 2 * torch.stack([RED, RED / 3]).repeat(SIDE, 1))
    _, keys = redux(*pictures, mask_edge="soft", strength_type="attn_bias")
    bias = keys["attention_mask"][0, 0, WORDS : WORDS + 2 * SIDE]
    torch.testing.assert_close(bias.exp().float(), torch.tensor([2, 2 / 3]).repeat(SIDE), atol=1e-3, rtol=1e-3)
    blend = [Picture("image_1", plain(RED), 1.0, mask), Picture("image_2", plain(BLUE))]
    tokens, _ = redux(*blend, mask_edge="soft", combine="average")
    torch.testing.assert_close(tokens[:3], torch.tensor([[0.5, 0, 0.5], [0.25, 0, 0.75], [0, 0, 1]]))


@pytest.mark.parametrize(("method", "first"), [("area", 0.5), ("nearest", 1.0), ("bicubic", None)])
def test_how_the_grid_is_made_smaller(method: str, first: float | None) -> None:
    stripes = torch.zeros(1, SIZE, SIZE, 3)
    stripes[:, :, SIZE // SIDE : 2 * SIZE // SIDE, 0] = 1
    tokens, _ = redux(Picture("image_1", stripes), downsampling=2, downsampling_method=method)
    assert tokens.shape == (4, 3)
    if first is not None:
        torch.testing.assert_close(tokens[:, 0], torch.tensor([first, 0.0]).repeat(2))
    else:
        assert 0.4 < tokens[0, 0] < 0.7
        assert tokens[1, 0] != 0


def test_crop_to_the_mask_without_one_is_the_middle() -> None:
    wide = torch.cat([plain(GREEN), plain(RED), plain(BLUE)], dim=2)
    tokens, _ = redux(Picture("image_1", wide), crop="mask")
    torch.testing.assert_close(tokens, RED.expand(16, 3))


# A conditioning that has an attention mask already


@pytest.mark.parametrize("strength_type", ["multiply", "attn_bias"])
def test_an_attention_mask_that_is_there_stays(strength_type: str) -> None:
    before = torch.rand(1, WORDS + 4, WORDS + 4, generator=torch.manual_seed(0)).half()
    keys = {"attention_mask": before, "attention_mask_img_shape": (2, 2)}
    options = {"strength": 0.5, "strength_type": strength_type}
    ((_, mixed),) = mix([[TEXT, keys]], Style(), Eye(), [Picture("image_1", plain(RED))], **options)
    after = mixed["attention_mask"]
    rest = [*range(WORDS), *range(WORDS + 16, WORDS + 20)]
    assert torch.equal(after[:, rest][:, :, rest], before)
    assert mixed["attention_mask_img_shape"] == (2, 2)
    new = torch.full((1, 9, 16), 0.5 if strength_type == "attn_bias" else 1.0).log().half()
    assert torch.equal(after[:, rest][:, :, WORDS : WORDS + 16], new)
    assert keys["attention_mask"] is before


def test_a_boolean_attention_mask_becomes_a_bias() -> None:
    before = torch.ones(1, WORDS + 1, WORDS + 1, dtype=torch.bool)
    before[:, :, 0] = False
    ((_, mixed),) = mix([[TEXT, {"attention_mask": before}]], Style(), Eye(), [Picture("image_1", plain(RED))])
    assert (mixed["attention_mask"][:, :WORDS, 0] == -torch.inf).all()
    assert not mixed["attention_mask"][:, :, 1:].any()


# What is wrong


@pytest.mark.parametrize(
    ("pictures", "options", "message"),
    [
        ([], {}, "Expected a picture, got none. Connect image_1"),
        ([Picture("image_2", plain(RED), -1.0)], {}, "weight for image_2 of 0 or more, got -1"),
        ([Picture("image_1", plain(RED))], {"strength": float("nan")}, "strength of 0 or more, got nan"),
        ([Picture("image_1", plain(RED))], {"combine": "add"}, "combine of append, average, got 'add'"),
        ([Picture("image_1", plain(RED))], {"crop": "left"}, "crop of center, none, mask, letterbox, got 'left'"),
        ([Picture("image_1", plain(RED))], {"strength_type": "x"}, "strength_type of multiply, attn_bias, got 'x'"),
        ([Picture("image_3", plain(RED), mask=left_half() * 0)], {}, "mask of image_3 leaves nothing"),
        ([Picture("image_3", plain(RED), mask=left_half() * 0)], {"crop": "mask"}, "mask of image_3 leaves nothing"),
        ([Picture("image_1", plain(RED, count=3), mask=left_half().repeat(2, 1, 1))], {}, "1 or 3 masks .*, got 2"),
        ([Picture("image_1", plain(RED))], {"style": Style(1152)}, "tokens 1152 wide, the CLIP vision model gives 3"),
        (
            [Picture("image_1", plain(RED))],
            {"clip_vision": Eye(extra=1), "downsampling": 2},
            "image_1 gives 17 tokens, which are no square",
        ),
    ],
)
def test_one_thing_wrong_is_one_message(pictures: list[Picture], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        redux(*pictures, **options)


def test_a_conditioning_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="tokens 3 wide, the conditioning has 768: expected both to be FLUX's"):
        mix([[torch.zeros(1, 77, 768), {}]], Style(), Eye(), [Picture("image_1", plain(RED))])


@pytest.mark.parametrize("shape", [(1, 9), (6, 6), (1, 6, 5), (1, 5, 6), (1, 1, 6, 6)])
def test_an_attention_mask_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    keys = {"attention_mask": torch.zeros(shape)}
    with pytest.raises(ValueError, match=r"attention mask of shape \[[0-9, ]+\]: expected \[batch, 6, 6\]"):
        mix([[TEXT, keys]], Style(), Eye(), [Picture("image_1", plain(RED))])


def test_tokens_that_are_no_grid_do_without_one() -> None:
    tokens, _ = redux(Picture("image_1", plain(RED)), clip_vision=Eye(extra=1))
    assert len(tokens) == 17


# The node


def test_the_node_takes_what_is_connected() -> None:
    options = {"strength": 1.0, "strength_type": "multiply", "downsampling": 1, "crop": "center", "combine": "append"}
    node = KandifluxReduxMix()
    inputs = {"image_2": plain(RED), "weight_2": 0.5, "weight_3": 2.0, "image_8": plain(BLUE), "mask_8": left_half()}
    (((text, _),),) = node.run([[TEXT, {}]], Style(), Eye(), **options, **inputs)
    assert torch.equal(text[0, WORDS:], torch.cat([RED.expand(16, 3) * 0.5, BLUE.expand(8, 3)]))
    with pytest.raises(ValueError, match="mask_3 is connected and image_3 is not"):
        node.run([[TEXT, {}]], Style(), Eye(), **options, **inputs, mask_3=left_half())
