"""What a file says of how it was made: the prompt that ran and the workflow it came from.

    PNG                   text chunks `prompt` and `workflow`; APNG has `prompt` in a chunk `comf`
    WebP, JPEG, AVIF      EXIF tags with `prompt:{…}` and `workflow:{…}`
    .latent, safetensors  the header's metadata
    anything              FILE.json beside it, as `kandiflux run --sidecar` writes

All but the last are ComfyUI's own ways.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kandiflux.errors import OutputError, WorkflowError
from kandiflux.json_values import as_object

if TYPE_CHECKING:
    from kandiflux.prompt import Prompt

__all__ = ["Carried", "read_carried", "sidecar_of", "with_metadata", "write_sidecar"]

_PNG = b"\x89PNG\r\n\x1a\n"
_LONGEST_HEADER = 100 << 20
_IHDR_END = 33


@dataclass(frozen=True)
class Carried:
    """JSON texts; None where there is none."""

    prompt: str | None = None
    workflow: str | None = None
    origin: str = ""


def read_carried(path: Path) -> Carried | None:
    """What `path` carries, or the file beside it; None where it is of no kind that carries anything.

    WorkflowError where the file is damaged.
    """
    begin = _begin(path)
    texts: Mapping[str, str] | None = None
    if begin.startswith(_PNG):
        texts = _png_texts(path)
    elif begin[:4] == b"RIFF" or begin[:3] == b"\xff\xd8\xff" or begin[4:8] == b"ftyp":
        texts = _exif_texts(path)
    elif begin[8:9] == b"{" and b"\0" in begin[:8]:
        texts = _safetensors_texts(path)
    if not texts or ("prompt" not in texts and "workflow" not in texts):
        beside = sidecar_of(path)
        if beside.is_file():
            return _from_sidecar(beside)
    return None if texts is None else Carried(texts.get("prompt"), texts.get("workflow"), str(path))


def sidecar_of(path: Path) -> Path:
    """FILE.json beside a file."""
    return path.with_name(f"{path.name}.json")


def write_sidecar(path: Path, prompt: Prompt, **about: Any) -> Path:
    """Writes FILE.json: what made the file, `about`, and the file's SHA-256. OutputError where the disk says no."""
    from kandiflux import __version__

    beside = sidecar_of(path)
    partial = beside.with_name(f".{beside.name}.part")
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
        told = {
            "kandiflux": __version__,
            "file": path.name,
            "sha256": digest.hexdigest(),
            **about,
            "values": dict(prompt.values),
            "prompt": prompt.nodes,
            "workflow": prompt.workflow,
        }
        partial.write_text(json.dumps(told, ensure_ascii=False, indent=1), "utf-8")
        partial.replace(beside)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{beside} cannot be written: {error.strerror or error}.") from error
    return beside


def with_metadata(image: bytes, prompt: Prompt) -> bytes:
    """A PNG with the prompt and workflow in it, as ComfyUI's SaveImage writes them; other images as they are.

    The pixels' bytes are untouched.
    """
    if not image.startswith(_PNG) or image[12:16] != b"IHDR" or len(image) < _IHDR_END:
        return image
    texts = {"prompt": prompt.nodes, "workflow": prompt.workflow}
    chunks = [_text_chunk(key, json.dumps(value)) for key, value in texts.items() if value is not None]
    return image[:_IHDR_END] + b"".join(chunks) + image[_IHDR_END:]


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error


def _png_texts(path: Path) -> dict[str, str]:
    from PIL import Image, UnidentifiedImageError

    try:
        with (image := Image.open(path)):
            # Text chunks may follow the pixels.
            image.load()
            texts = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
        return {**dict(_apng_texts(path.read_bytes())), **texts}
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise WorkflowError(f"{path} is not a PNG that can be read: {error}.") from error


def _apng_texts(data: bytes) -> Iterator[tuple[str, str]]:
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"comf":
            key, _, text = data[at + 8 : at + 8 + length].partition(b"\0")
            yield key.decode("latin-1"), text.decode("latin-1")
        at += 12 + length


def _exif_texts(path: Path) -> dict[str, str]:
    from PIL import Image, UnidentifiedImageError

    texts: dict[str, str] = {}
    try:
        with (image := Image.open(path)):
            values: list[object] = list(image.getexif().values())
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        if _begin(path)[4:8] == b"ftyp":
            # Videos begin so, too.
            return {}
        raise WorkflowError(f"{path} is not a picture that can be read: {error}.") from error
    for value in values:
        key, colon, text = value.partition(":") if isinstance(value, str) else ("", "", "")
        if colon and key.lower() in ("prompt", "workflow"):
            texts[key.lower()] = text.rstrip("\0")
    return texts


def _safetensors_texts(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                return {}
            header = as_object(json.loads(file.read(length)))
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{path} cannot be read: {error}.") from error
    return {key: text for key, text in as_object(header.get("__metadata__")).items() if isinstance(text, str)}


def _from_sidecar(beside: Path) -> Carried:
    try:
        values = as_object(json.loads(beside.read_bytes()))
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{beside} cannot be read: {error}.") from error
    texts = {key: json.dumps(values[key]) for key in ("prompt", "workflow") if values.get(key) is not None}
    return Carried(texts.get("prompt"), texts.get("workflow"), str(beside))


def _text_chunk(key: str, text: str) -> bytes:
    # json.dumps leaves ASCII only, as a tEXt chunk wants it.
    body = b"tEXt" + key.encode("latin-1") + b"\0" + text.encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", binascii.crc32(body))
