"""The nodes that change images and masks, as in ComfyUI 0.33. IMAGE is [B,H,W,C] float 0..1, MASK [B,H,W].

torch is imported when a node runs, so that the server starts quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kandiflux.lite.nodes_image import MAX_SIDE, UPSCALE_METHODS, scale
from kandiflux.lite.registry import V3_SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CLASSES", "DISPLAY_NAMES"]

_SIZE = ("INT", {"default": 512, "min": 1, "max": MAX_SIDE, "step": 1})
_PLACE = ("INT", {"default": 0, "min": 0, "max": MAX_SIDE, "step": 1})
_IMAGE: tuple[Any, ...] = ("IMAGE", {})  # as written in the V3 schema
_MASK: tuple[Any, ...] = ("MASK", {})
_IMAGES, _MASKS = "comfy_extras.nodes_images", "comfy_extras.nodes_mask"


class _TransformNode:
    CATEGORY = "image/transform"
    RETURN_TYPES: tuple[str, ...] = ("IMAGE",)
    FUNCTION = "run"
    INPUTS: dict[str, Any] = {"image": ("IMAGE",)}

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": cls.INPUTS}


class _V3Node(_TransformNode):
    SCHEMA = V3_SCHEMA


def _choice(*options: str) -> tuple[str, dict[str, Any]]:
    """Returns an input of the V3 schema with a list of values."""
    return "COMBO", {"multiselect": False, "options": list(options)}


class ImageInvert(_TransformNode):
    CATEGORY = "image/color"
    ESSENTIALS_CATEGORY = "Image Tools"
    SEARCH_ALIASES = ["reverse colors"]

    def run(self, image: Tensor) -> tuple[Tensor]:
        return (1.0 - image,)


class ImageScaleBy(_TransformNode):
    CATEGORY = "image/upscaling"
    ESSENTIALS_CATEGORY = "Image Tools"
    INPUTS = {
        "image": ("IMAGE",),
        "upscale_method": (UPSCALE_METHODS,),
        "scale_by": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01}),
    }

    def run(self, image: Tensor, upscale_method: str, scale_by: float) -> tuple[Tensor]:
        width, height = round(image.shape[2] * scale_by), round(image.shape[1] * scale_by)
        return (scale(image, width, height, upscale_method, centre=False),)


class ImageCrop(_V3Node):
    RELATIVE_PYTHON_MODULE = _IMAGES
    DEPRECATED = True
    ESSENTIALS_CATEGORY = "Image Tools"
    SEARCH_ALIASES = ["trim"]
    INPUTS = {"image": _IMAGE, "width": _SIZE, "height": _SIZE, "x": _PLACE, "y": _PLACE}

    def run(self, image: Tensor, width: int, height: int, x: int, y: int) -> tuple[Tensor]:
        x, y = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
        return (image[:, y : y + height, x : x + width],)


class ImagePadForOutpaint(_TransformNode):
    RETURN_TYPES = ("IMAGE", "MASK")
    SEARCH_ALIASES = ["extend canvas", "expand image"]
    INPUTS = {
        "image": ("IMAGE",),
        **{side: ("INT", {**_PLACE[1], "step": 8}) for side in ("left", "top", "right", "bottom")},
        "feathering": ("INT", {"default": 40, "min": 0, "max": MAX_SIDE, "step": 1, "advanced": True}),
    }

    def run(
        self, image: Tensor, left: int, top: int, right: int, bottom: int, feathering: int
    ) -> tuple[Tensor, Tensor]:
        """Pads the image with grey. Also returns a mask of the area to paint, with soft inner edges."""
        import torch

        count, high, wide, channels = image.shape
        padded = torch.full((count, high + top + bottom, wide + left + right, channels), 0.5)
        padded[:, top : top + high, left : left + wide] = image
        mask = torch.ones(padded.shape[1:3])
        inner = torch.zeros(high, wide, dtype=torch.float64)
        if 0 < feathering * 2 < min(high, wide):
            rows, columns = torch.arange(high).double(), torch.arange(wide).double()
            # Distances to the padded sides.
            from_rows = torch.minimum(rows if top else rows * 0 + high, high - rows if bottom else rows * 0 + high)
            from_columns = torch.minimum(
                columns if left else columns * 0 + wide, wide - columns if right else columns * 0 + wide
            )
            distance = torch.minimum(from_rows[:, None], from_columns[None])
            inner = ((feathering - distance) / feathering).clamp(min=0) ** 2
        mask[top : top + high, left : left + wide] = inner.float()
        return padded, mask[None]


class RepeatImageBatch(_V3Node):
    RELATIVE_PYTHON_MODULE = _IMAGES
    CATEGORY = "image/batch"
    SEARCH_ALIASES = ["duplicate image", "clone image"]
    INPUTS = {"image": _IMAGE, "amount": ("INT", {"default": 1, "min": 1, "max": 4096})}

    def run(self, image: Tensor, amount: int) -> tuple[Tensor]:
        return (image.repeat(amount, 1, 1, 1),)


class ImageFromBatch(_V3Node):
    RELATIVE_PYTHON_MODULE = _IMAGES
    CATEGORY = "image/batch"
    SEARCH_ALIASES = ["select image", "pick from batch", "extract image"]
    INPUTS = {
        "image": _IMAGE,
        "batch_index": ("INT", {"default": 0, "min": -MAX_SIDE, "max": MAX_SIDE}),
        "length": ("INT", {"default": 1, "min": 1, "max": 4096}),
    }

    def run(self, image: Tensor, batch_index: int, length: int) -> tuple[Tensor]:
        if batch_index < 0:  # counts from the end
            batch_index += len(image)
        first = max(0, min(len(image) - 1, batch_index))
        return (image[first : first + length].clone(),)


class ImageFlip(_V3Node):
    RELATIVE_PYTHON_MODULE = _IMAGES
    SEARCH_ALIASES = ["mirror", "reflect"]
    INPUTS = {"image": _IMAGE, "flip_method": _choice("x-axis: vertically", "y-axis: horizontally")}

    def run(self, image: Tensor, flip_method: str) -> tuple[Tensor]:
        return (image.flip(1 if flip_method.startswith("x") else 2),)


class ImageRotate(_V3Node):
    RELATIVE_PYTHON_MODULE = _IMAGES
    ESSENTIALS_CATEGORY = "Image Tools"
    SEARCH_ALIASES = ["turn", "flip orientation"]
    TURNS = ["none", "90 degrees", "180 degrees", "270 degrees"]
    INPUTS = {"image": _IMAGE, "rotation": _choice(*TURNS)}

    def run(self, image: Tensor, rotation: str) -> tuple[Tensor]:
        return (image.rot90(self.TURNS.index(rotation), (2, 1)),)


class InvertMask(_V3Node):
    RELATIVE_PYTHON_MODULE = _MASKS
    CATEGORY = "image/mask"
    RETURN_TYPES = ("MASK",)
    SEARCH_ALIASES = ["reverse mask", "flip mask"]
    INPUTS = {"mask": _MASK}

    def run(self, mask: Tensor) -> tuple[Tensor]:
        return (1.0 - mask,)


class SolidMask(_V3Node):
    RELATIVE_PYTHON_MODULE = _MASKS
    CATEGORY = "image/mask"
    RETURN_TYPES = ("MASK",)
    INPUTS = {
        "value": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
        "width": _SIZE,
        "height": _SIZE,
    }

    def run(self, value: float, width: int, height: int) -> tuple[Tensor]:
        import torch

        return (torch.full((1, height, width), value),)


class MaskToImage(_V3Node):
    RELATIVE_PYTHON_MODULE = _MASKS
    CATEGORY = "image/mask"
    SEARCH_ALIASES = ["convert mask"]
    INPUTS = {"mask": _MASK}

    def run(self, mask: Tensor) -> tuple[Tensor]:
        return (mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3),)


class ImageToMask(_V3Node):
    RELATIVE_PYTHON_MODULE = _MASKS
    CATEGORY = "image/mask"
    RETURN_TYPES = ("MASK",)
    SEARCH_ALIASES = ["extract channel", "channel to mask"]
    CHANNELS = ["red", "green", "blue", "alpha"]
    INPUTS = {"image": _IMAGE, "channel": _choice(*CHANNELS)}

    def run(self, image: Tensor, channel: str) -> tuple[Tensor]:
        return (image[..., self.CHANNELS.index(channel)],)


_ALL = (ImageInvert, ImageScaleBy, ImageCrop, ImagePadForOutpaint, RepeatImageBatch, ImageFromBatch, ImageFlip)
CLASSES = {each.__name__: each for each in (*_ALL, ImageRotate, InvertMask, SolidMask, MaskToImage, ImageToMask)}

DISPLAY_NAMES = {
    "ImageInvert": "Invert Image Colors",
    "ImageScaleBy": "Upscale Image By",
    "ImageCrop": "Crop Image (DEPRECATED)",
    "ImagePadForOutpaint": "Pad Image for Outpainting",
    "RepeatImageBatch": "Repeat Image Batch",
    "ImageFromBatch": "Get Image from Batch",
    "ImageFlip": "Flip Image",
    "ImageRotate": "Rotate Image",
    "InvertMask": "Invert Mask",
    "SolidMask": "Create Solid Mask",
    "MaskToImage": "Convert Mask to Image",
    "ImageToMask": "Convert Image to Mask",
}
