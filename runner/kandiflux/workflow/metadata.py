"""Reads and writes the metadata of saved files: the prompt that ran and the workflow it came from.

    PNG                   text chunks `prompt` and `workflow`; APNG has `prompt` in a chunk `comf`
    WebP, JPEG, AVIF      EXIF tags with `prompt:{…}` and `workflow:{…}`
    MP4, WebM, FLAC, …    tags of videos and sounds; see `media_metadata`
    .latent, safetensors  the header's metadata
    any file              a sidecar FILE.json, as `kandiflux run --sidecar` writes

All but the last are ComfyUI's own formats, or VideoHelperSuite's. Pixels are never decoded, so a huge picture needs no
more memory than a small one.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kandiflux.errors import OutputError, WorkflowError
from kandiflux.util.files import written_whole
from kandiflux.util.json_values import as_object, parse_json
from kandiflux.util.safetensors_header import read_header
from kandiflux.workflow.media_metadata import media_texts
from kandiflux.workflow.wrappers import describe_foreign

if TYPE_CHECKING:
    from kandiflux.workflow.prompt import Prompt

__all__ = ["Carried", "read_carried", "sidecar_of", "with_metadata", "write_sidecar"]

_PNG = b"\x89PNG\r\n\x1a\n"
_IHDR_END = 33
_KEYS = ("prompt", "workflow")
_PROGRAM = "program"
"""The key, among the texts of a file, of the name of another program that wrote them."""
_OTHERS = {
    "sui_image_params": "SwarmUI", "invokeai_metadata": "InvokeAI", "invokeai_graph": "InvokeAI",
    "sd-metadata": "InvokeAI", "Dream": "InvokeAI", "fooocus_scheme": "Fooocus",
    "parameters": "AUTOMATIC1111, Forge or a program like these",
}  # fmt: skip
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"comf")
_MAX_KEY = 79
_EXIF = b"Exif\0\0"
_ASCII = 2
_AVIF = (b"avif", b"avis")
_WITHOUT_METADATA = (b"GIF87a", b"GIF89a", b"RIFF")
_PICTURES = frozenset({"png", "apng", "jpg", "jpeg", "webp", "avif", "gif", "bmp", "tif", "tiff"})
_MAX_TEXT = 16 << 20
_MAX_SIDECAR = 32 << 20
_MAX_AVIF = 64 << 20
_MAX_BEGIN = 4096
_MAX_CHUNKS = 1_000_000


@dataclass(frozen=True)
class Carried:
    """The prompt and workflow as JSON text; None if the file has none. `origin` is the file they were read from.

    program: another program whose metadata the file has.
    """

    prompt: str | None = None
    workflow: str | None = None
    origin: str = ""
    program: str | None = None


def read_carried(path: Path) -> Carried | None:
    """Returns the metadata in `path`, else in its sidecar; None if this type of file has no metadata.

    Raises WorkflowError if the file is damaged or its metadata is too large.
    """
    texts: Mapping[str, str] | None = None
    try:
        with path.open("rb") as file:
            begin = file.read(32)
            file.seek(0)
            if begin.startswith(_PNG):
                texts = _png_texts(file)
            elif begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
                texts = _webp_texts(file)
            elif begin[:3] == b"\xff\xd8\xff":
                texts = _jpeg_texts(file)
            elif begin[4:8] == b"ftyp" and begin[8:12] in _AVIF:
                texts = _avif_texts(file)
            elif begin.startswith(_WITHOUT_METADATA):
                texts = {}
            elif begin[8:9] == b"{" and b"\0" in begin[:8]:
                texts = _safetensors_texts(file)
            else:
                texts = media_texts(file, begin)
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error
    except _Damaged as error:
        raise WorkflowError(f"{path} {error}.") from error
    if not texts:
        sidecar = sidecar_of(path)
        if sidecar.is_file():
            return _from_sidecar(sidecar)
    if texts is None:
        _refuse_picture(path, begin)
        return None
    return Carried(texts.get("prompt"), texts.get("workflow"), str(path), texts.get(_PROGRAM))


def sidecar_of(path: Path) -> Path:
    """Returns the path of the sidecar, FILE.json in the same folder."""
    return path.with_name(f"{path.name}.json")


def write_sidecar(path: Path, prompt: Prompt, **info: Any) -> Path:
    """Writes FILE.json: the prompt that made the file, `info`, and the file's SHA-256.

    Raises OutputError if it cannot be written.
    """
    from kandiflux import __version__

    sidecar = sidecar_of(path)
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
        content = {
            "kandiflux": __version__,
            "file": path.name,
            "sha256": digest.hexdigest(),
            **info,
            "values": dict(prompt.values),
            "prompt": prompt.nodes,
            "workflow": prompt.workflow,
        }
        with written_whole(sidecar) as partial:
            try:
                partial.write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")
            except UnicodeEncodeError:  # a lone surrogate: JSON can escape it, UTF-8 cannot encode it
                partial.write_text(json.dumps(content, indent=1), "utf-8")
    except OSError as error:
        raise OutputError(f"{sidecar} cannot be written: {error.strerror or error}.") from error
    return sidecar


def with_metadata(image: bytes, prompt: Prompt) -> bytes:
    """Adds the prompt and workflow to a PNG, as ComfyUI's SaveImage writes them; other images stay unchanged.

    The bytes of the pixels stay the same.
    """
    if not image.startswith(_PNG) or image[12:16] != b"IHDR" or len(image) < _IHDR_END:
        return image
    texts = {"prompt": prompt.nodes, "workflow": prompt.workflow}
    chunks = [_text_chunk(key, json.dumps(value)) for key, value in texts.items() if value is not None]
    return image[:_IHDR_END] + b"".join(chunks) + image[_IHDR_END:]


class _Damaged(Exception):
    """The file is damaged. The message continues a sentence that begins with the file's name."""


def _refuse_picture(path: Path, begin: bytes) -> None:
    """Raises WorkflowError if the file is, or by its name should be, a picture."""
    kind = path.suffix.lower().lstrip(".")
    foreign = describe_foreign(begin)
    if foreign is not None and kind in _PICTURES and begin:
        raise WorkflowError(f"{path} is {foreign[0]}.", expected=f"a {kind.upper()} file", hint=foreign[1])
    if begin[:2] == _PNG[:2] or begin[1:4] == b"PNG":
        raise WorkflowError(f"{path} is a damaged PNG: its first bytes are wrong.")
    if kind in _PICTURES and begin.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        raise WorkflowError(
            f"{path} is damaged, or is not a {kind.upper()} file with a workflow.",
            got=f"a file that begins with {begin!r}" if begin else "an empty file",
        )


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _read(file: BinaryIO, length: int, what: str) -> bytes:
    if length > _MAX_TEXT:
        raise _Damaged(f"has {what} of {length} bytes; the maximum is {_MAX_TEXT}")
    content = file.read(length)
    if len(content) < length:
        raise _Damaged(f"is damaged: it is cut off in {what}")
    return content


# PNG


def _png_texts(file: BinaryIO) -> dict[str, str]:
    """Returns the texts `prompt` and `workflow`. Their chunks may be before or after the pixels."""
    texts: dict[str, str] = {}
    of_apng: dict[str, str] = {}
    other = ""
    at, size = len(_PNG), _size(file)
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND" or (kind == b"IDAT" and len(texts) == len(_KEYS)):
            break
        if len(head) < 8 or at + 12 + length > size:
            if texts:
                break  # the file is cut off after the texts, for example in the pixels
            raise _Damaged("is a damaged PNG: it is cut off")
        if kind in _TEXT_CHUNKS:
            key = file.read(min(length, _MAX_KEY + 1)).partition(b"\0")[0].decode("latin-1")
            if key in _KEYS:
                file.seek(at + 8)
                content = _read(file, length, f"a {key}")
                if binascii.crc32(kind + content) != int.from_bytes(file.read(4), "big"):
                    raise _Damaged(f"is a damaged PNG: the checksum of its {key} is wrong")
                (of_apng if kind == b"comf" else texts)[key] = _chunk_text(kind, content[len(key) + 1 :], key)
            elif key in _OTHERS:
                file.seek(at + 8)
                other = _other_program(key, file.read(min(length, _MAX_BEGIN))) or other
        at += 12 + length
    else:
        raise _Damaged(f"is a damaged PNG: it has more than {_MAX_CHUNKS} chunks")
    return {**of_apng, **texts, **({_PROGRAM: other} if other else {})}


def _other_program(key: str, begin: bytes) -> str:
    """Returns the name of the program that writes this key; SwarmUI's `parameters` are JSON with its own name."""
    return _OTHERS["sui_image_params" if b"sui_image_params" in begin else key]


def _chunk_text(kind: bytes, content: bytes, key: str) -> str:
    """Decodes a text chunk. `content` is what follows the key."""
    if kind == b"zTXt":
        return _inflated(content[1:], key).decode("latin-1")
    if kind != b"iTXt":
        return content.decode("latin-1")
    compressed, parts = content[:1] == b"\1", content[2:].split(b"\0", 2)
    if len(parts) < 3:
        raise _Damaged(f"is a damaged PNG: its {key} cannot be read")
    try:
        return (_inflated(parts[2], key) if compressed else parts[2]).decode()
    except UnicodeDecodeError as error:
        raise _Damaged(f"is a damaged PNG: its {key} is not valid UTF-8") from error


def _inflated(content: bytes, key: str) -> bytes:
    try:
        found = zlib.decompressobj().decompress(content, _MAX_TEXT + 1)
    except zlib.error as error:
        raise _Damaged(f"is a damaged PNG: its {key} cannot be decompressed") from error
    if len(found) > _MAX_TEXT:
        raise _Damaged(f"has a {key} of more than {_MAX_TEXT} bytes, which is too large")
    return found


# EXIF


def _webp_texts(file: BinaryIO) -> dict[str, str]:
    at, size = 12, _size(file)
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if not head:
            return {}
        length = int.from_bytes(head[4:], "little")
        if len(head) < 8 or at + 8 + length > size:
            raise _Damaged("is a damaged WebP: it is cut off")
        if head[:4] == b"EXIF":
            return _exif_texts(_read(file, length, "EXIF data"))
        at += 8 + length + length % 2
    raise _Damaged(f"is a damaged WebP: it has more than {_MAX_CHUNKS} chunks")


def _jpeg_texts(file: BinaryIO) -> dict[str, str]:
    exif = b""
    at, size = 2, _size(file)
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(4)
        if head[:1] == b"\xff" and head[1:2] in (b"\xda", b"\xd9"):  # the pixels, or the end
            return _exif_texts(exif)
        if head[:2] == b"\xff\xff":  # padding
            at += 1
            continue
        length = int.from_bytes(head[2:], "big")
        if head[:1] != b"\xff" or length < 2 or at + 2 + length > size:
            break
        if head[1:2] == b"\xe1":
            segment = file.read(length - 2)
            if segment.startswith(_EXIF):
                exif += segment[len(_EXIF) :]
                if len(exif) > _MAX_TEXT:
                    raise _Damaged(f"has EXIF data of more than {_MAX_TEXT} bytes, which is too large")
        at += 2 + length
    texts = _exif_texts(exif)
    if not texts:
        raise _Damaged("is a damaged JPEG: it is cut off, or its segments are not valid")
    return texts


def _avif_texts(file: BinaryIO) -> dict[str, str]:
    from PIL import Image

    if (size := _size(file)) > _MAX_AVIF:
        raise _Damaged(f"is too large for an AVIF: it has {size} bytes; the maximum is {_MAX_AVIF}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and damaged EXIF data
            with (image := Image.open(file, formats=["AVIF"])):  # does not decode the pixels
                exif: object = image.info.get("exif")
    except (OSError, ValueError, SyntaxError, RuntimeError, MemoryError, Image.DecompressionBombError) as error:
        raise _Damaged(f"is not a readable AVIF: {str(error)[:200]}") from error
    return _exif_texts(exif) if isinstance(exif, bytes) else {}


def _exif_texts(exif: bytes) -> dict[str, str]:
    """Returns the texts of the EXIF tags `prompt:…` and `workflow:…`. Malformed tags are left out."""
    tiff = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    texts: dict[str, str] = {}
    if order is None or len(tiff) < 8:
        return texts
    # A1111's line of settings in the tag UserComment, which has one of two encodings.
    if any("Steps: ".encode(encoding) in exif for encoding in ("latin-1", "utf-16-be", "utf-16-le")):
        texts[_PROGRAM] = _OTHERS["parameters"]
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory) if directory + 2 <= len(tiff) else (0,)
    for at in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        _, kind, length, offset = struct.unpack_from(f"{order}HHII", tiff, at)
        if kind != _ASCII or length <= 4 or offset + length > len(tiff):
            continue
        key = tiff[offset : offset + 10].partition(b":")[0].decode("latin-1").lower()
        if key in _KEYS and key not in texts:
            text = tiff[offset + len(key) + 1 : offset + length].rstrip(b"\0")
            try:
                texts[key] = text.decode()
            except UnicodeDecodeError:
                texts[key] = text.decode("latin-1")
    return texts


# Others


def _safetensors_texts(file: BinaryIO) -> dict[str, str]:
    try:
        _, header = read_header(file)
    except ValueError as error:
        raise _Damaged(f"is a damaged safetensors file: {error}") from error
    metadata = as_object(header.get("__metadata__"))
    return {key: text for key in _KEYS if isinstance(text := metadata.get(key), str)}


def _from_sidecar(sidecar: Path) -> Carried:
    try:
        with sidecar.open("rb") as file:
            content = file.read(_MAX_SIDECAR + 1)
        if len(content) > _MAX_SIDECAR:
            raise WorkflowError(f"{sidecar} is too large for a sidecar.", expected=f"at most {_MAX_SIDECAR} bytes")
        values = as_object(parse_json(content))
    except OSError as error:
        raise WorkflowError(f"{sidecar} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise WorkflowError(f"{sidecar} is not valid JSON: {error}.") from error
    texts = {key: json.dumps(values[key]) for key in _KEYS if values.get(key) is not None}
    return Carried(texts.get("prompt"), texts.get("workflow"), str(sidecar))


def _text_chunk(key: str, text: str) -> bytes:
    # json.dumps returns ASCII, so the text fits the Latin-1 of a tEXt chunk.
    body = b"tEXt" + key.encode("latin-1") + b"\0" + text.encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", binascii.crc32(body))
