"""Files that clients send and fetch: /upload/image, /upload/mask, /view. All blocking: call in a thread."""

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
"""Not in an upload's name: backslashes, control characters, a drive letter, a last part that is empty, "." or ".."."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Sent:
    """What /view answers: a file as it is, or `body`. Without a content type it must not be shown, only saved."""

    name: str
    content_type: str | None
    path: Path | None = None
    body: bytes = b""


def upload(folders: Folders, form: Form, is_mask: bool) -> dict[str, str]:
    """Store the form's image. Returns where it is; the name changes if another file has it."""
    kind, subfolder = form.texts.get("type") or "input", form.texts.get("subfolder", "")
    root = folders.of_type(kind)
    if root is None or form.file is None or not form.filename:
        raise Refused(400, "expected a file in the field 'image', and as 'type' input, output or temp")
    wanted = _upload_path(root, subfolder, form.filename)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    overwrite = form.texts.get("overwrite") in ("true", "1")
    path, is_there = (wanted, False) if overwrite else _free_path(wanted, form.file)
    if not is_there and is_mask:
        _save_masked(folders, form.texts.get("original_ref", ""), form.file, path)
    elif not is_there:
        with path.open("wb") as target:
            shutil.copyfileobj(form.file, target)
    # The folders of a name like "a/b.png" are part of the answer's name, as in ComfyUI.
    name = form.filename if path == wanted else str(Path(form.filename).with_name(path.name))
    return {"name": name, "subfolder": subfolder, "type": kind}


def _upload_path(root: Path, subfolder: str, name: str) -> Path:
    """Where an upload goes: below `root`, and never `root` itself, whose free name would lie beside it."""
    if _NO_NAME.search(name) or _CONTROL.search(subfolder) or (os.name == "nt" and ":" in name):
        raise Refused(400, f"{name[:200]!r} in {subfolder[:200]!r} is not a name for an uploaded file")
    try:
        path = inside(root, subfolder, name)
    except OutsideFolder as error:
        raise Refused(400, str(error)) from error
    # A folder, or a named pipe: opening that would wait for its reader for ever.
    if not path.parent.is_relative_to(root) or (path.exists() and not path.is_file() and not path.is_dir()):
        raise Refused(400, f"{name[:200]!r} is not a name for an uploaded file")
    return path


def view(folders: Folders, query: Mapping[str, str]) -> Sent:
    """The file a client asks for: as it is, as a smaller preview, or one of its channels."""
    if "filename" not in query:
        raise Refused(404, "no filename")
    name, root = folders.annotated(query["filename"])
    root = root or folders.of_type(query.get("type", "output"))
    if not name or name.startswith("/") or ".." in name or root is None:
        raise Refused(400, "expected a plain file name, and as type input, output or temp")
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
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    if not path.is_file() or path.stat().st_size != size:
        return False
    same = path.read_bytes() == content.read()
    content.seek(0)
    return same


def _save_masked(folders: Folders, original_ref: str, mask: IO[bytes], path: Path) -> None:
    """Save the picture `original_ref` names with the mask's alpha. Without such a picture nothing is saved."""
    try:
        reference = parse_json(original_ref)
    except ValueError as error:
        raise Refused(400, f"original_ref is not valid JSON: {error}") from error
    texts = [reference.get(name) or "" for name in ("filename", "type", "subfolder")] if is_object(reference) else []
    if not texts or not texts[0] or not all(isinstance(text, str) for text in texts):
        raise Refused(
            400, "original_ref: expected an object with the text 'filename', and perhaps 'type' and 'subfolder'"
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
        raise Refused(400, f"{path.name[:200]!r}: expected the name of a picture, such as mask.png")
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


def _preview(path: Path, name: str, wanted: list[str], channel: str) -> Sent:
    """`wanted` is a format (webp or jpeg) and perhaps a quality."""
    image_format = wanted[0] if wanted[0] in ("webp", "jpeg") and "a" not in channel else "webp"
    quality = int(wanted[-1]) if re.fullmatch("[0-9]{1,3}", wanted[-1]) else _DEFAULT_QUALITY

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
    """What `work` returns. Pillow raises nearly anything for a file that is damaged or not a picture."""
    done = attempt(work)
    if isinstance(done, Failure):
        if isinstance(done.error, OSError) and done.error.errno is not None:
            raise done.error
        raise Refused(400, f"not a picture that can be read: {done.type_name}: {done.message[:500]}")
    return done.value


def _bytes(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, **options)
    return buffer.getvalue()
