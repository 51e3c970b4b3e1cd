"""The image nodes: load, save, preview, scale, batch. IMAGE is [B,H,W,3] float 0..1, MASK [B,H,W].

`image_nodes` creates the classes for one host, because they read and write that host's folders.
torch is imported when a node runs, so that the server starts quickly.
"""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFile, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo

from kandiflux.lite.folders import Folders, OutsideFolder, save_path
from kandiflux.lite.image_files import open_picture
from kandiflux.lite.registry import V3_SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DISPLAY_NAMES", "MAX_SIDE", "UPSCALE_METHODS", "image_nodes", "scale"]

MAX_SIDE = 16384
UPSCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]

DISPLAY_NAMES = {
    "LoadImage": "Load Image",
    "LoadImageMask": "Load Image (as Mask)",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
    "ImageScale": "Upscale Image",
    "EmptyImage": "Empty Image",
    "ImageBatch": "Batch Images (DEPRECATED)",
    "ImageCompositeMasked": "Image Composite Masked",
}


def image_nodes(folders: Folders) -> dict[str, type]:
    """Returns the node classes by name, bound to `folders`."""
    bound = (LoadImage, LoadImageMask, SaveImage, PreviewImage)
    classes = {base.__name__: type(base.__name__, (base,), {"folders": folders}) for base in bound}
    return classes | {each.__name__: each for each in (ImageScale, EmptyImage, ImageBatch, ImageCompositeMasked)}


class LoadImage:
    folders: Folders
    CATEGORY = "image"
    ESSENTIALS_CATEGORY = "Basics"
    SEARCH_ALIASES = [
        "load image", "open image", "import image", "image input", "upload image", "read image", "image loader",
    ]  # fmt: skip
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": (cls.folders.input_images(), {"image_upload": True})}}

    @classmethod
    def IS_CHANGED(cls, image: str, **_: Any) -> str:
        return hashlib.sha256(cls.folders.input_file(image).read_bytes()).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        try:
            found = cls.folders.input_file(image).is_file()  # not a named pipe, which would block
        except OutsideFolder:
            found = False
        return found or f"Invalid image file: {image}"

    def load_image(self, image: str) -> tuple[Tensor, Tensor]:
        import torch

        path = self.folders.input_file(image)
        frames = _frames(path)
        same_size = [frame for frame in frames if frame.size == frames[0].size]
        return torch.stack([_colours(frame) for frame in same_size]), torch.stack(list(map(_transparency, same_size)))


class LoadImageMask(LoadImage):
    CATEGORY = "image"
    ESSENTIALS_CATEGORY = "Image Tools"
    SEARCH_ALIASES = ["import mask", "alpha mask", "channel mask"]
    RETURN_TYPES = ("MASK",)
    FUNCTION = "load_image_mask"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {**super().INPUT_TYPES()["required"], "channel": (["alpha", "red", "green", "blue"],)}}

    def load_image_mask(self, image: str, channel: str) -> tuple[Tensor]:
        colours, mask = self.load_image(image)
        return (mask if channel == "alpha" else colours[..., ("red", "green", "blue").index(channel)],)


class SaveImage:
    folders: Folders
    DESCRIPTION = "Saves the input images to your ComfyUI output directory."
    CATEGORY = "image"
    ESSENTIALS_CATEGORY = "Basics"
    SEARCH_ALIASES = ["save", "save image", "export image", "output image", "write image", "download"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    folder_type = "output"
    compress_level = 4
    suffix = ""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        prefix_tip = (
            "The prefix for the file to save. This may include formatting information such as %date:yyyy-MM-dd% "
            "or %Empty Latent Image.width% to include values from nodes."
        )
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The images to save."}),
                "filename_prefix": ("STRING", {"default": "ComfyUI", "tooltip": prefix_tip}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save_images(
        self,
        images: Tensor,
        filename_prefix: str = "ComfyUI",
        prompt: dict[str, Any] | None = None,
        extra_pnginfo: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        root = self.folders.output if self.folder_type == "output" else self.folders.temp
        height, width = images[0].shape[:2]
        folder, stem, counter, subfolder = save_path(root, filename_prefix + self.suffix, width, height)
        metadata = _metadata(prompt, extra_pnginfo)
        saved: list[dict[str, str]] = []
        for number, image in enumerate(images):
            name = f"{stem.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
            _picture(image).save(folder / name, pnginfo=metadata, compress_level=self.compress_level)
            saved.append({"filename": name, "subfolder": subfolder, "type": self.folder_type})
        return {"ui": {"images": saved}, "result": (images,)}


class PreviewImage(SaveImage):
    DESCRIPTION = "Preview the images without saving them to the ComfyUI output directory."
    SEARCH_ALIASES = ["preview", "preview image", "show image", "view image", "display image", "image viewer"]
    folder_type = "temp"
    compress_level = 1

    def __init__(self) -> None:
        # Two preview nodes in one prompt must use different file names.
        self.suffix = "_temp_" + "".join(random.choice(string.ascii_lowercase) for _ in range(5))

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }


class ImageScale:
    CATEGORY = "image/upscaling"
    ESSENTIALS_CATEGORY = "Image Tools"
    SEARCH_ALIASES = ["resize", "resize image", "scale image", "image resize", "zoom", "zoom in", "change size"]
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 512, "min": 0, "max": MAX_SIDE, "step": 1}
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (UPSCALE_METHODS,),
                "width": ("INT", side),
                "height": ("INT", side),
                "crop": (["disabled", "center"],),
            }
        }

    def upscale(self, image: Tensor, upscale_method: str, width: int, height: int, crop: str) -> tuple[Tensor]:
        old_height, old_width = image.shape[1:3]
        if width == 0 and height == 0:
            return (image,)
        # 0 keeps the aspect ratio.
        width = width or max(1, round(old_width * height / old_height))
        height = height or max(1, round(old_height * width / old_width))
        return (scale(image, width, height, upscale_method, crop == "center"),)


class ImageBatch:
    CATEGORY = "image/batch"
    DEPRECATED = True
    SEARCH_ALIASES = ["combine images", "merge images", "stack images"]
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "batch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image1": ("IMAGE",), "image2": ("IMAGE",)}}

    def batch(self, image1: Tensor, image2: Tensor) -> tuple[Tensor]:
        import torch
        import torch.nn.functional as F

        if image1.shape[-1] != image2.shape[-1]:  # adds an opaque alpha channel to the image without one
            image1, image2 = (
                one if one.shape[-1] == max(image1.shape[-1], image2.shape[-1]) else F.pad(one, (0, 1), value=1.0)
                for one in (image1, image2)
            )
        if image1.shape[1:] != image2.shape[1:]:
            image2 = scale(image2, image1.shape[2], image1.shape[1], "bilinear", centre=True)
        return (torch.cat((image1, image2)),)


class ImageCompositeMasked:
    RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_mask"
    CATEGORY = "image/compositing"
    SCHEMA = V3_SCHEMA
    SEARCH_ALIASES = ["overlay", "layer", "paste image", "images composition"]
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "composite"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        place = {"default": 0, "min": 0, "max": MAX_SIDE, "step": 1}
        return {
            "required": {
                "destination": ("IMAGE", {}),
                "source": ("IMAGE", {}),
                "x": ("INT", place),
                "y": ("INT", place),
                "resize_source": ("BOOLEAN", {"default": False}),
            },
            "optional": {"mask": ("MASK", {})},
        }

    def composite(
        self, destination: Tensor, source: Tensor, x: int, y: int, resize_source: bool, mask: Tensor | None = None
    ) -> tuple[Tensor]:
        import torch.nn.functional as F

        def sized(channels_first: Tensor, height: int, width: int) -> Tensor:
            return F.interpolate(channels_first, (height, width), mode="bilinear").movedim(1, -1)

        result = destination.clone()
        count, high, wide = result.shape[:3]
        if resize_source:
            source = sized(source.movedim(-1, 1), high, wide)
        source = _repeated(source, count)
        # The mask is scaled to the source; then both are cropped to the destination.
        part = result[:, y : y + source.shape[1], x : x + source.shape[2]]
        seen = source[:, : part.shape[1], : part.shape[2], : part.shape[3]]
        if mask is None:
            part.copy_(seen)
        else:
            shown = sized(mask.reshape(-1, 1, *mask.shape[-2:]), *source.shape[1:3])
            shown = _repeated(shown, count)[:, : part.shape[1], : part.shape[2]]
            part.copy_(shown * seen + (1 - shown) * part)
        return (result,)


def _repeated(rows: Tensor, count: int) -> Tensor:
    """Returns `count` rows: the first ones, or all of them repeated."""
    return rows.repeat(-(-count // len(rows)), *[1] * (rows.ndim - 1))[:count]


class EmptyImage:
    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 512, "min": 1, "max": MAX_SIDE, "step": 1}
        return {
            "required": {
                "width": ("INT", side),
                "height": ("INT", side),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}),
            }
        }

    def generate(self, width: int, height: int, batch_size: int = 1, color: int = 0) -> tuple[Tensor]:
        import torch

        red_green_blue = torch.tensor([color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF]) / 0xFF
        return (red_green_blue.repeat(batch_size, height, width, 1),)


def _frames(path: Path) -> list[Image.Image]:
    """Returns the image, or the frames of an animation, with EXIF rotation applied. Decodes truncated files too."""
    with (file := open_picture(path)):
        try:
            return [ImageOps.exif_transpose(frame.copy()) for frame in _steps(file)]
        except (OSError, ValueError):
            pass
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        with (file := open_picture(path)):
            return [ImageOps.exif_transpose(frame.copy()) for frame in _steps(file)]
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _steps(file: Image.Image) -> Iterable[Image.Image]:
    # The other images in a multi-picture JPEG are views of the same photo, not frames.
    return [file] if file.format == "MPO" else ImageSequence.Iterator(file)


def _colours(picture: Image.Image) -> Tensor:
    """Returns [H,W,3], float 0..1. 16-bit greyscale keeps its precision."""
    if not picture.mode.startswith("I"):
        return _tensor(picture.convert("RGB"))
    return (_tensor(picture) * (255 / 65535)).clamp(0, 1)[..., None].repeat(1, 1, 3)


def _transparency(picture: Image.Image) -> Tensor:
    """Returns [H,W], 1 for transparent pixels. 64x64 zeros if the image has neither alpha nor a palette."""
    import torch

    if "A" in picture.getbands():
        return 1.0 - _tensor(picture.getchannel("A"))
    if picture.mode == "P":
        return 1.0 - _tensor(picture.convert("RGBA").getchannel("A"))
    return torch.zeros(64, 64)


def _tensor(picture: Image.Image) -> Tensor:
    """Returns [H,W,C] or [H,W], float 0..1."""
    import numpy
    import torch

    return torch.as_tensor(numpy.array(picture).astype(numpy.float32) / 255.0)


def _picture(image: Tensor) -> Image.Image:
    import numpy

    return Image.fromarray((255.0 * image.cpu().numpy()).clip(0, 255).astype(numpy.uint8))


def _metadata(prompt: dict[str, Any] | None, extra: dict[str, Any] | None) -> PngInfo:
    info = PngInfo()
    if prompt is not None:
        info.add_text("prompt", json.dumps(prompt))
    for name, value in (extra or {}).items():
        info.add_text(name, json.dumps(value))
    return info


def scale(image: Tensor, width: int, height: int, method: str, centre: bool) -> Tensor:
    """Resizes `image` [B,H,W,C]. `centre` first crops it to the new aspect ratio, around the centre."""
    import torch

    if centre:
        old_height, old_width = image.shape[1:3]
        old_ratio, ratio = old_width / old_height, width / height
        left = round(old_width * (1 - ratio / old_ratio) / 2) if old_ratio > ratio else 0
        top = round(old_height * (1 - old_ratio / ratio) / 2) if old_ratio < ratio else 0
        image = image[:, top : old_height - top, left : old_width - left]
    if method == "lanczos":
        resized = [_picture(one).resize((width, height), Image.Resampling.LANCZOS) for one in image]
        return torch.stack([_tensor(one) for one in resized]).to(image)
    scaled = torch.nn.functional.interpolate(image.movedim(-1, 1), size=(height, width), mode=method)
    return scaled.movedim(1, -1)
