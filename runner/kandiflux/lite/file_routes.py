"""Files that clients upload and download: /upload/image, /upload/mask, /view. All functions block: use a thread."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from kandiflux.lite.folders import Folders, OutsideFolder, inside
from kandiflux.lite.guard import Failure, attempt
from kandiflux.lite.http import Form, Refused, shown_type
from kandiflux.lite.image_files import MOST_PIXELS, open_picture
from kandiflux.util.json_values import is_object, parse_json

__all__ = ["Sent", "upload", "view"]

_DEFAULT_QUALITY = 90
_NO_NAME = re.compile(r"[\\\x00-\x1f\x7f]|^[A-Za-z]:|(^|/)\.{0,2}$")
"""Invalid in upload names: backslashes, control characters, a drive letter, a last part that is empty, "." or ".."."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Sent:
    """The response of /view: the file `path`, or `body`. If content_type is None, browsers must only download it."""

    name: str
    content_type: str | None
    path: Path | None = None
    body: bytes = b""


def upload(folders: Folders, form: Form, is_mask: bool) -> dict[str, str]:
    """Stores the form's image and returns its location. Chooses another name if a different file has this one."""
    kind, subfolder = form.texts.get("type") or "input", form.texts.get("subfolder", "")
    root = folders.of_type(kind)
    if root is None or form.file is None or not form.filename:
        raise Refused(400, "expected a file in the field 'image', and a 'type' of input, output or temp")
    requested = _upload_path(root, subfolder, form.filename)
    requested.parent.mkdir(parents=True, exist_ok=True)
    overwrite = form.texts.get("overwrite") in ("true", "1")
    path, is_there = (requested, False) if overwrite else _free_path(requested, form.file)
    if not is_there and is_mask:
        _save_masked(folders, form.texts.get("original_ref", ""), form.file, path)
    elif not is_there:
        with path.open("wb") as target:
            shutil.copyfileobj(form.file, target)
    # As in ComfyUI, the returned name of "a/b.png" includes the folder.
    name = form.filename if path == requested else str(Path(form.filename).with_name(path.name))
    return {"name": name, "subfolder": subfolder, "type": kind}


def _upload_path(root: Path, subfolder: str, name: str) -> Path:
    """Returns the path of an upload. It is never `root` itself: `_free_path` would choose a name outside `root`."""
    if _NO_NAME.search(name) or _CONTROL.search(subfolder) or (os.name == "nt" and ":" in name):
        raise Refused(400, f"{name[:200]!r} in {subfolder[:200]!r} is not a name for an uploaded file")
    try:
        path = inside(root, subfolder, name)
    except OutsideFolder as error:
        raise Refused(400, str(error)) from error
    # Rejects named pipes: opening one would block until it has a reader.
    if not path.parent.is_relative_to(root) or (path.exists() and not path.is_file() and not path.is_dir()):
        raise Refused(400, f"{name[:200]!r} is not a name for an uploaded file")
    return path


def view(folders: Folders, query: Mapping[str, str]) -> Sent:
    """Returns the requested file: unchanged, as a compressed preview, or one of its channels."""
    if "filename" not in query:
        raise Refused(404, "no filename")
    name, root = folders.annotated(query["filename"])
    root = root or folders.of_type(query.get("type", "output"))
    if not name or name.startswith("/") or ".." in name or root is None:
        raise Refused(400, "expected a plain file name, and a type of input, output or temp")
    name = Path(name).name
    try:
        path = inside(root, query.get("subfolder", ""), name)
    except OutsideFolder as error:
        raise Refused(403, str(error)) from error
    if not path.is_file():
        raise Refused(404, f"no file {name[:200]}")
    channel = query.get("channel", "rgba")
    if "preview" in query:
        return _preview(path, name, query["preview"].split(";"), query.get("channel", ""))
    if channel in ("rgb", "a"):
        return _channel(path, name, channel)
    return Sent(name, shown_type(name), path)


def _free_path(requested: Path, content: IO[bytes]) -> tuple[Path, bool]:
    """Returns the first of NAME, NAME (1), … that is free, or that already contains `content` (then True)."""
    path, number = requested, 1
    while path.exists():
        if _same_content(path, content):
            return path, True
        path = requested.with_name(f"{requested.stem} ({number}){requested.suffix}")
        number += 1
    return path, False


def _same_content(path: Path, content: IO[bytes]) -> bool:
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    if not path.is_file() or path.stat().st_size != size:
        return False
    same = path.read_bytes() == content.read()
    content.seek(0)
    return same


def _save_masked(folders: Folders, original_ref: str, mask: IO[bytes], path: Path) -> None:
    """Saves the image that `original_ref` names with the mask's alpha. Does nothing if that image does not exist."""
    try:
        reference = parse_json(original_ref)
    except ValueError as error:
        raise Refused(400, f"original_ref is not valid JSON: {error}") from error
    texts = [reference.get(name) or "" for name in ("filename", "type", "subfolder")] if is_object(reference) else []
    if not texts or not texts[0] or not all(isinstance(text, str) for text in texts):
        raise Refused(
            400, "original_ref: expected an object with the string 'filename', and optional 'type' and 'subfolder'"
        )
    name, root = folders.annotated(texts[0])
    root = root or folders.of_type(texts[1] or "output")
    if root is None:
        raise Refused(400, "original_ref: type must be input, output or temp")
    try:
        original = inside(root, texts[2], name)
    except OutsideFolder as error:
        raise Refused(403, str(error)) from error
    if not original.is_file():
        return
    if shown_type(path.name) is None:
        raise Refused(400, f"{path.name[:200]!r}: expected an image file name, such as mask.png")
    _decoded(partial(_mask, original, mask, path))


def _mask(original: Path, mask: IO[bytes], path: Path) -> None:
    with (picture := open_picture(original, MOST_PIXELS)), (drawn := open_picture(mask, MOST_PIXELS)):
        metadata = PngInfo()
        if isinstance(picture, PngImageFile):
            for key, text in picture.text.items():
                metadata.add_text(key, text)
        result = picture.convert("RGBA")
        result.putalpha(drawn.convert("RGBA").getchannel("A"))
    result.save(path, compress_level=4, pnginfo=metadata)


def _preview(path: Path, name: str, requested: list[str], channel: str) -> Sent:
    """Returns a preview. requested: a format (webp or jpeg) and optionally a quality."""
    image_format = requested[0] if requested[0] in ("webp", "jpeg") and "a" not in channel else "webp"
    quality = int(requested[-1]) if re.fullmatch("[0-9]{1,3}", requested[-1]) else _DEFAULT_QUALITY

    def draw() -> bytes:
        with (picture := open_picture(path, MOST_PIXELS)):
            flat = picture.convert("RGB") if image_format == "jpeg" or channel == "rgb" else picture
            return _bytes(flat, image_format, quality=min(quality, 100))

    return Sent(name, f"image/{image_format}", body=_decoded(draw))


def _channel(path: Path, name: str, channel: str) -> Sent:
    def draw() -> bytes:
        with (picture := open_picture(path, MOST_PIXELS)):
            if channel == "rgb":
                return _bytes(picture.convert("RGB"), "PNG")
            result = Image.new("RGBA", picture.size)
            result.putalpha(picture.getchannel("A") if picture.mode == "RGBA" else Image.new("L", picture.size, 255))
            return _bytes(result, "PNG")

    return Sent(name, "image/png", body=_decoded(draw))


def _decoded(work: Callable[[], Value]) -> Value:
    """Calls `work`. Raises Refused if it fails: Pillow may raise anything for a file that is not a valid image."""
    done = attempt(work)
    if isinstance(done, Failure):
        if isinstance(done.error, OSError) and done.error.errno is not None:
            raise done.error
        raise Refused(400, f"not a readable image: {done.type_name}: {done.message[:500]}")
    return done.value


def _bytes(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, **options)
    return buffer.getvalue()
