"""The image nodes on small pictures: what is loaded, saved, scaled, batched and composited, pixel by pixel."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kandiflux.lite.folders import Folders
from kandiflux.lite.nodes_image import MAX_SIDE, image_nodes, scale
from PIL import Image, ImageFile

Json = dict[str, Any]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "input", tmp_path / "output", tmp_path / "temp", [tmp_path / "models"])


@pytest.fixture
def nodes(folders: Folders) -> Json:
    return image_nodes(folders)


def ramp(count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    """Every value another one, 0 to 1."""
    return torch.linspace(0, 1, count * height * width * channels).reshape(count, height, width, channels)


def levels(tensor: torch.Tensor) -> Any:
    """As 8-bit values, nested lists."""
    return (tensor * 255).round().int().tolist()


# Loading


def loaded(nodes: Json, name: str) -> tuple[Any, Any]:
    image, mask = nodes["LoadImage"]().load_image(name)
    assert image.dtype == mask.dtype == torch.float32
    return levels(image), levels(mask)


def test_a_picture_with_transparency(folders: Folders, nodes: Json) -> None:
    picture = Image.new("RGBA", (2, 1))
    picture.putdata([(1, 2, 3, 55), (4, 5, 6, 255)])
    picture.save(folders.output / "a.png")
    assert loaded(nodes, "a.png [output]") == ([[[[1, 2, 3], [4, 5, 6]]]], [[[200, 0]]])


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [("RGB", (1, 2, 3), [1, 2, 3]), ("L", 9, [9, 9, 9]), ("1", 1, [255, 255, 255]), ("I", 25600, [100, 100, 100])],
)
def test_a_picture_without_transparency_has_an_empty_mask(
    folders: Folders, nodes: Json, mode: str, colour: Any, shown: list[int]
) -> None:
    Image.new(mode, (1, 2), colour).save(folders.input / "a.tiff")
    image, mask = loaded(nodes, "a.tiff")
    assert image == [[[shown], [shown]]]
    assert mask == [[[0] * 64] * 64]


def test_a_palette_with_transparency(folders: Folders, nodes: Json) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    picture.save(folders.input / "a.png", transparency=1)
    assert loaded(nodes, "a.png") == ([[[[10, 20, 30], [40, 50, 60]]]], [[[0, 255]]])


def test_a_photo_is_turned_upright(folders: Folders, nodes: Json) -> None:
    picture = Image.new("RGB", (3, 1), "white")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folders.input / "a.jpg", exif=exif)
    image, _ = loaded(nodes, "a.jpg")
    assert (len(image[0]), len(image[0][0])) == (3, 1)


def test_the_frames_of_an_animation_are_a_batch(folders: Folders, nodes: Json) -> None:
    frames = [Image.new("RGB", (2, 2), (shade, 0, 0)) for shade in (10, 90, 200)]
    frames[0].save(folders.input / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    image, mask = loaded(nodes, "a.webp")
    assert [frame[0][0][0] for frame in image] == [10, 90, 200]
    assert len(mask) == 3
    pages = [frames[0], Image.new("RGB", (3, 2)), frames[2]]
    pages[0].save(folders.input / "a.tiff", save_all=True, append_images=pages[1:])
    assert [frame[0][0][0] for frame in loaded(nodes, "a.tiff")[0]] == [10, 200], "of one size"
    pages[0].save(folders.input / "a.mpo", format="MPO", save_all=True, append_images=[frames[2]])
    assert len(loaded(nodes, "a.mpo")[0]) == 1, "other views of one photo"


def test_a_truncated_file_gives_what_it_has(folders: Folders, nodes: Json) -> None:
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    picture.save(folders.input / "a.png")
    whole = (folders.input / "a.png").read_bytes()
    (folders.input / "a.png").write_bytes(whole[: len(whole) // 2])
    image, _ = loaded(nodes, "a.png")
    assert np.array_equal(np.asarray(image)[0, :8], np.asarray(picture)[:8])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False, "as it was"


def mask_of(nodes: Json, image: str, channel: str) -> torch.Tensor:
    node = nodes["LoadImageMask"]()
    (mask,) = getattr(node, node.FUNCTION)(image=image, channel=channel)
    return mask


@pytest.mark.parametrize(("channel", "value"), [("alpha", 55), ("red", 1), ("green", 2), ("blue", 3)])
def test_a_channel_as_a_mask(folders: Folders, nodes: Json, channel: str, value: int) -> None:
    Image.new("RGBA", (2, 1), (1, 2, 3, 200)).save(folders.input / "a.png")
    assert levels(mask_of(nodes, "a.png", channel)) == [[[value, value]]]


def test_32_bit_grey_as_a_mask(folders: Folders, nodes: Json) -> None:
    Image.new("I", (1, 1), 25600).save(folders.input / "a.tiff")
    assert levels(mask_of(nodes, "a.tiff", "red")) == [[[100]]]


@pytest.mark.parametrize("kind", ["LoadImage", "LoadImageMask"])
def test_which_files_are_offered_and_accepted(folders: Folders, nodes: Json, kind: str) -> None:
    for name in ("b.png", "a.webp", "C.JPG"):
        (folders.input / name).write_bytes(name.encode())
    (folders.output / "d.png").write_bytes(b"x")
    (folders.input / "folder.png").mkdir()
    choices, options = nodes[kind].INPUT_TYPES()["required"]["image"]
    assert (choices, options) == (["C.JPG", "a.webp", "b.png"], {"image_upload": True})
    for name in ("b.png", "d.png [output]"):
        assert nodes[kind].VALIDATE_INPUTS(image=name) is True
    for name in ("d.png", "folder.png", "../output/d.png", ""):
        assert nodes[kind].VALIDATE_INPUTS(image=name) == f"Invalid image file: {name}"
    assert nodes[kind].IS_CHANGED(image="b.png", channel="red") == hashlib.sha256(b"b.png").hexdigest()


def test_texts_are_not_pictures(folders: Folders, nodes: Json) -> None:
    for name in ("a.txt", "a", "a.json", "a.mp4"):
        (folders.input / name).write_bytes(b"x")
    assert nodes["LoadImage"].INPUT_TYPES()["required"]["image"][0] == []


# Saving


def test_pictures_are_saved_with_their_metadata_and_numbered(folders: Folders, nodes: Json) -> None:
    images = torch.tensor([[[[0.0, 0.5, 1.0]]], [[[-1.0, 2.0, 0.25]]]])
    save = nodes["SaveImage"]()
    told = save.save_images(images, "sub/a%width%_%batch_num%", {"1": "é"}, {"workflow": {"a": 1}, "more": [2]})
    assert told["ui"] == {
        "images": [
            {"filename": f"a1_{number}_{number + 1:05}_.png", "subfolder": "sub", "type": "output"} for number in (0, 1)
        ]
    }
    with Image.open(folders.output / "sub" / "a1_0_00001_.png") as picture:
        assert (picture.size, picture.mode, picture.getpixel((0, 0))) == ((1, 1), "RGB", (0, 127, 255))
        texts = {name: json.loads(text) for name, text in picture.info.items()}
        assert texts == {"prompt": {"1": "é"}, "workflow": {"a": 1}, "more": [2]}
    with Image.open(folders.output / "sub" / "a1_1_00002_.png") as picture:
        assert picture.getpixel((0, 0)) == (0, 255, 63)
    (folders.output / "sub" / "b_00007_.png").write_bytes(b"x")
    (image,) = save.save_images(images[:1], "sub/b")["ui"]["images"]
    assert image["filename"] == "b_00008_.png"
    with Image.open(folders.output / "sub" / "b_00008_.png") as picture:
        assert picture.info == {}


def test_names_have_width_and_height(folders: Folders, nodes: Json) -> None:
    told = nodes["SaveImage"]().save_images(torch.zeros(1, 2, 3, 3), "%width%x%height%")
    assert told["ui"]["images"][0]["filename"] == "3x2_00001_.png"


def test_previews_have_names_of_their_own_in_the_temp_folder(folders: Folders, nodes: Json) -> None:
    names: list[str] = []
    for _ in range(2):
        (image,) = nodes["PreviewImage"]().save_images(torch.zeros(1, 2, 2, 3))["ui"]["images"]
        assert (image["type"], image["subfolder"]) == ("temp", "")
        assert (folders.temp / image["filename"]).is_file()
        names.append(image["filename"])
    assert all(re.fullmatch("ComfyUI_temp_[a-z]{5}_00001_.png", name) for name in names)
    assert names[0] != names[1]
    assert list(folders.output.iterdir()) == []


# Scaling


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(4, 3, (4, 3)), (0, 4, (8, 4)), (4, 0, (4, 2)), (0, 0, (6, 3)), (1, 0, (1, 1)), (0, 1, (2, 1)), (5, 0, (5, 2))],
)
def test_a_side_of_0_keeps_the_proportions(nodes: Json, width: int, height: int, size: tuple[int, int]) -> None:
    (image,) = nodes["ImageScale"]().upscale(ramp(1, 3, 6), "area", width, height, "disabled")
    assert (image.shape[2], image.shape[1]) == size


@pytest.mark.parametrize(
    ("height", "width", "new_height", "new_width", "rows", "columns"),
    [
        (4, 8, 2, 2, (0, 4), (2, 6)),
        (8, 4, 2, 2, (2, 6), (0, 4)),
        (4, 4, 2, 2, (0, 4), (0, 4)),
        (6, 12, 3, 4, (0, 6), (2, 10)),
    ],
)
def test_a_picture_is_cut_to_the_new_proportions(
    height: int, width: int, new_height: int, new_width: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = ramp(2, height, width)
    cut = image[:, slice(*rows), slice(*columns)]
    for method in ("nearest-exact", "area", "lanczos", "bicubic", "bilinear"):
        expected = scale(cut, new_width, new_height, method, centre=False)
        assert torch.equal(scale(image, new_width, new_height, method, centre=True), expected)
        assert expected.shape == (2, new_height, new_width, 3)


def test_the_ways_of_scaling(nodes: Json) -> None:
    image = torch.tensor([0.0, 0.2, 0.6, 1.0]).reshape(1, 1, 4, 1).expand(1, 2, 4, 3)
    (area,) = nodes["ImageScale"]().upscale(image, "area", 2, 1, "disabled")
    assert torch.allclose(area[0, 0, :, 0], torch.tensor([0.1, 0.8]))
    (nearest,) = nodes["ImageScale"]().upscale(image, "nearest-exact", 2, 1, "disabled")
    assert torch.allclose(nearest[0, 0, :, 0], torch.tensor([0.2, 1.0]))
    (lanczos,) = nodes["ImageScale"]().upscale(image, "lanczos", 4, 2, "disabled")
    assert torch.allclose(lanczos, image, atol=1 / 255)
    (centred,) = nodes["ImageScale"]().upscale(image, "area", 2, 2, "center")
    assert torch.allclose(centred[0, 0, :, 0], torch.tensor([0.2, 0.6]))


# Batches


def test_two_pictures_of_one_size_are_a_batch(nodes: Json) -> None:
    one, two = ramp(1, 2, 3), 1 - ramp(2, 2, 3)
    (batch,) = nodes["ImageBatch"]().batch(one, two)
    assert torch.equal(batch, torch.cat((one, two)))


@pytest.mark.parametrize("alpha_first", [True, False])
def test_a_picture_without_alpha_gets_an_opaque_one_beside_one_with(nodes: Json, alpha_first: bool) -> None:
    opaque, with_alpha = ramp(1, 2, 3), ramp(2, 2, 3, channels=4)
    expected = [torch.cat((opaque, torch.ones(1, 2, 3, 1)), dim=3), with_alpha]
    pictures = [opaque, with_alpha]
    if alpha_first:
        pictures.reverse()
        expected.reverse()
    (batch,) = nodes["ImageBatch"]().batch(*pictures)
    assert torch.equal(batch, torch.cat(expected))


def test_the_second_of_a_batch_takes_the_size_of_the_first(nodes: Json) -> None:
    one, two = ramp(1, 4, 2), ramp(1, 4, 8)
    (batch,) = nodes["ImageBatch"]().batch(one, two)
    assert torch.equal(batch[:1], one)
    assert torch.equal(batch[1:], scale(two[:, :, 3:5], 2, 4, "bilinear", centre=False))


@pytest.mark.parametrize(
    ("colour", "levels_of_it"), [(0, [0, 0, 0]), (0xFF8001, [255, 128, 1]), (0x0000FF, [0, 0, 255])]
)
def test_an_empty_picture(nodes: Json, colour: int, levels_of_it: list[int]) -> None:
    (image,) = nodes["EmptyImage"]().generate(3, 2, 2, colour)
    assert image.shape == (2, 2, 3, 3)
    assert levels(image[1, 1, 2]) == levels_of_it
    assert nodes["EmptyImage"]().generate(1, 1)[0].shape == (1, 1, 1, 3)


# Compositing


def composite(nodes: Json, destination: torch.Tensor, source: torch.Tensor, *more: Any) -> torch.Tensor:
    before = destination.clone()
    (image,) = nodes["ImageCompositeMasked"]().composite(destination, source, *more)
    assert torch.equal(destination, before), "the destination is not written into"
    return image


@pytest.mark.parametrize(
    ("x", "y", "rows", "columns"),
    [(0, 0, (0, 2), (0, 2)), (3, 2, (2, 4), (3, 5)), (4, 3, (3, 4), (4, 5)), (9, 9, (4, 4), (5, 5))],
)
def test_a_source_lies_over_the_destination_as_far_as_that_goes(
    nodes: Json, x: int, y: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    below, above = torch.zeros(1, 4, 5, 3), ramp(1, 2, 2) + 1
    image = composite(nodes, below, above, x, y, False)
    expected = below.clone()
    part = expected[:, slice(*rows), slice(*columns)]
    part.copy_(above[:, : part.shape[1], : part.shape[2]])
    assert torch.equal(image, expected)


def test_a_mask_says_how_much_of_the_source_is_seen(nodes: Json) -> None:
    below, above = torch.zeros(1, 2, 4, 3), torch.ones(1, 2, 2, 3)
    image = composite(nodes, below, above, 1, 0, False, torch.tensor([[0.25, 1.0], [0.0, 0.5]]))
    assert image[0, :, :, 0].tolist() == [[0, 0.25, 1, 0], [0, 0, 0.5, 0]]
    assert torch.equal(composite(nodes, image, torch.zeros_like(above), 1, 0, False, torch.zeros(1, 2, 2)), image)
    stretched = composite(nodes, below, above, 0, 0, False, torch.full((1, 1, 1), 0.5))
    assert stretched[0, :, :, 0].tolist() == [[0.5, 0.5, 0, 0]] * 2, "a smaller mask is stretched over the source"
    cut = composite(nodes, below, above, 3, 1, False, torch.tensor([[0.25, 1.0], [0.0, 0.5]]))
    assert cut[0, 1].tolist() == [[0, 0, 0]] * 3 + [[0.25] * 3]


def test_a_source_may_be_stretched_over_the_destination(nodes: Json) -> None:
    image = composite(nodes, torch.zeros(1, 3, 2, 3), torch.full((1, 1, 1, 3), 0.5), 0, 0, True)
    assert torch.equal(image, torch.full((1, 3, 2, 3), 0.5))


def test_sources_and_masks_are_repeated_for_a_batch(nodes: Json) -> None:
    below = torch.zeros(5, 1, 1, 3)
    above = torch.tensor([0.2, 0.6]).reshape(2, 1, 1, 1).expand(2, 1, 1, 3)
    masks = torch.tensor([1.0, 1.0, 0.0]).reshape(3, 1, 1)
    image = composite(nodes, below, above, 0, 0, False, masks)
    assert torch.allclose(image[:, 0, 0, 0], torch.tensor([0.2, 0.6, 0, 0.6, 0.2]))
    fewer = composite(nodes, below[:1], above, 0, 0, False, masks)
    assert fewer[:, 0, 0, 0].tolist() == [pytest.approx(0.2)]


def test_the_limits_of_the_widgets(nodes: Json) -> None:
    sides = {
        "ImageScale": ("width", {"default": 512, "min": 0, "max": MAX_SIDE, "step": 1}),
        "EmptyImage": ("height", {"default": 512, "min": 1, "max": MAX_SIDE, "step": 1}),
        "ImageCompositeMasked": ("x", {"default": 0, "min": 0, "max": MAX_SIDE, "step": 1}),
    }
    for kind, (name, options) in sides.items():
        assert nodes[kind].INPUT_TYPES()["required"][name] == ("INT", options)
    empty = nodes["EmptyImage"].INPUT_TYPES()["required"]
    assert empty["batch_size"][1] == {"default": 1, "min": 1, "max": 4096}
    assert {**empty["color"][1], "display": "color"} == {
        "default": 0,
        "min": 0,
        "max": 0xFFFFFF,
        "step": 1,
        "display": "color",
    }
    assert MAX_SIDE == 16384
