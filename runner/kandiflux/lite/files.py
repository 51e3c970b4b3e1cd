"""Files that clients send and fetch: /upload/image, /upload/mask, /view. All blocking: call in a thread."""

from __future__ import annotations

import io
import json
import mimetypes
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aiohttp import web
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from kandiflux.lite.folders import Folders, OutsideFolder, inside

__all__ = ["Refused", "Sent", "upload", "view"]

_RUNS_IN_A_BROWSER = {"text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript", "text/css"}
_DEFAULT_QUALITY = 90


class Refused(Exception):
    """A request that gets no file. `status` is the HTTP status of the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Sent:
    """What /view answers: a file as it is, or `body`."""

    name: str
    content_type: str
    path: Path | None = None
    body: bytes = b""


def upload(folders: Folders, form: Mapping[str, Any], is_mask: bool) -> dict[str, str]:
    """Store the form's image. Answers where it lies; the name changes where another file has it."""
    kind = form.get("type") or "input"
    root = folders.of_type(kind)
    image = form.get("image")
    if root is None or not isinstance(image, web.FileField) or not image.filename:
        raise Refused(400, "expected a file in the field 'image', and as 'type' input, output or temp")
    subfolder = str(form.get("subfolder", ""))
    try:
        wanted = inside(root, subfolder, image.filename)
    except OutsideFolder as error:
        raise Refused(400, str(error)) from error
    wanted.parent.mkdir(parents=True, exist_ok=True)
    overwrite = form.get("overwrite") in ("true", "1")
    path, is_there = (wanted, False) if overwrite else _free_path(wanted, image.file)
    if not is_there and is_mask:
        _save_masked(folders, form, image.file, path)
    elif not is_there:
        with path.open("wb") as target:
            shutil.copyfileobj(image.file, target)
    # The folders of a name like "a/b.png" are part of the answer's name, as in ComfyUI.
    name = image.filename if path == wanted else str(Path(image.filename).with_name(path.name))
    return {"name": name, "subfolder": subfolder, "type": kind}


def view(folders: Folders, query: Mapping[str, str]) -> Sent:
    """The file a client asks for: as it is, as a smaller preview, or one of its channels."""
    name, root = folders.annotated(query.get("filename", ""))
    if "filename" not in query:
        raise Refused(404, "no filename")
    root = root or folders.of_type(query.get("type", "output"))
    if not name or name.startswith("/") or ".." in name or root is None:
        raise Refused(400, "expected a plain file name, and as type input, output or temp")
    name = Path(name).name
    try:
        path = inside(root, query.get("subfolder", ""), name)
    except OutsideFolder as error:
        raise Refused(403, str(error)) from error
    if not path.is_file():
        raise Refused(404, f"no file {name}")
    channel = query.get("channel", "rgba")
    if "preview" in query:
        return _preview(path, name, query["preview"].split(";"), query.get("channel", ""))
    if channel in ("rgb", "a"):
        return _channel(path, name, channel)
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # A browser must not run what a node or an upload left here.
    return Sent(name, "application/octet-stream" if content_type in _RUNS_IN_A_BROWSER else content_type, path)


def _free_path(wanted: Path, content: IO[bytes]) -> tuple[Path, bool]:
    """The first of NAME, NAME (1), NAME (2), … that is free, or that holds `content` already (then True)."""
    path, number = wanted, 1
    while path.exists():
        if _same_content(path, content):
            return path, True
        path = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
        number += 1
    return path, False


def _same_content(path: Path, content: IO[bytes]) -> bool:
    sent = content.read()
    content.seek(0)
    return path.is_file() and path.stat().st_size == len(sent) and path.read_bytes() == sent


def _save_masked(folders: Folders, form: Mapping[str, Any], mask: IO[bytes], path: Path) -> None:
    """Save the picture `original_ref` names with the mask's alpha. Without such a picture nothing is saved."""
    try:
        reference = json.loads(form.get("original_ref", ""))
        name, root = folders.annotated(reference["filename"])
        root = root or folders.of_type(reference.get("type", "output"))
        if root is None:
            raise Refused(400, "original_ref: type must be input, output or temp")
        original = inside(root, reference.get("subfolder") or "", name)
    except OutsideFolder as error:
        raise Refused(403, str(error)) from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Refused(400, f"original_ref: expected JSON with a filename, got an error: {error}") from error
    if not original.is_file():
        return
    with (picture := Image.open(original)), (drawn := Image.open(mask)):
        metadata = PngInfo()
        if isinstance(picture, PngImageFile):
            for key, text in picture.text.items():
                metadata.add_text(key, text)
        result = picture.convert("RGBA")
        result.putalpha(drawn.convert("RGBA").getchannel("A"))
    result.save(path, compress_level=4, pnginfo=metadata)


def _preview(path: Path, name: str, wanted: list[str], channel: str) -> Sent:
    """`wanted` is a format (webp or jpeg) and perhaps a quality."""
    image_format = wanted[0] if wanted[0] in ("webp", "jpeg") and "a" not in channel else "webp"
    quality = int(wanted[-1]) if wanted[-1].isdigit() else _DEFAULT_QUALITY
    with (picture := Image.open(path)):
        flat = picture.convert("RGB") if image_format == "jpeg" or channel == "rgb" else picture
        return Sent(name, f"image/{image_format}", body=_bytes(flat, image_format, quality=quality))


def _channel(path: Path, name: str, channel: str) -> Sent:
    with (picture := Image.open(path)):
        if channel == "rgb":
            result = picture.convert("RGB")
        else:
            result = Image.new("RGBA", picture.size)
            result.putalpha(picture.getchannel("A") if picture.mode == "RGBA" else Image.new("L", picture.size, 255))
    return Sent(name, "image/png", body=_bytes(result, "PNG"))


def _bytes(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, **options)
    return buffer.getvalue()
