"""Describes the outputs of a job, and saves them to disk.

Files are written under a temporary name and renamed when complete; existing files are never overwritten.
"""

from __future__ import annotations

import base64
import builtins
import io
import itertools
import logging
import math
import random
import re
import time
import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from kandiflux.errors import KandifluxError, OutputError, ProtocolError, ServerError, ServerUnreachable
from kandiflux.util.json_values import as_object, is_array, is_object

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FileSource", "Output", "Saver", "collect_outputs", "safe_name", "true_name"]

_log = logging.getLogger(__name__)

_KINDS = {
    "image": {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".svg", ".exr"},
    "video": {".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v"},
    "audio": {".flac", ".mp3", ".wav", ".ogg", ".opus", ".m4a", ".aac"},
    "latent": {".latent"},
    "embeds": {".safetensors"},
    "model3d": {".glb", ".gltf", ".obj", ".stl", ".ply", ".fbx", ".usdz"},
    "text": {".txt", ".json", ".csv", ".md"},
}
_KIND_OF = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes}
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", (".png", ".apng")),
    (b"\xff\xd8\xff", (".jpg", ".jpeg", ".jpe", ".jfif")),
    (b"GIF8", (".gif",)),
    (b"BM", (".bmp",)),
)
"""Magic numbers of picture formats, with their suffixes. WebP is a kind of RIFF: see `_picture_suffixes`."""

_SHOWN = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
"""MIME types of formats that notebooks show."""

_PAGE = re.compile(rb"(?i)(\xef\xbb\xbf)?\s*(<!doctype\s|<html|<head|<body|<\?xml[^>]*>\s*<!doctype\s+html|[{\[])")
_HEAD_BYTES = 256
_PAUSES = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to download a file: a server may be unreachable for a short time."""

_FEW = 3
_MAX_OUTPUTS = 10_000
_BINARY_KINDS = frozenset({"image", "video", "audio", "latent", "embeds"})
_TEXT_SUFFIXES = (".svg", ".json")
_TEXT_KEYS = frozenset({"text", "string", "texts", "strings"})
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
_LONGEST_NAME = 180
_NOT_IN_NAMES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control and format characters, surrogates, private and unassigned ones, line separators."""


class FileSource(Protocol):
    """A source of stored files, for example `kandiflux.api.rest.ComfyApi`."""

    def view(
        self, filename: str, subfolder: str, folder: str, *, kind: str = "file", within: float | None = None
    ) -> Iterator[bytes]:
        """Yields a stored file in chunks; see `ComfyApi.view`."""
        ...


@dataclass(frozen=True)
class Output:
    """One file or text of one node.

    kind: image, video, audio, latent, embeds, model3d, text or file. folder: `output`, or `temp` for previews.
    A text that a node only shows has `text`; a picture that arrived over the websocket has `data`.
    """

    kind: str
    node_id: str
    title: str
    filename: str
    subfolder: str = ""
    folder: str = "output"
    text: str | None = None
    data: builtins.bytes | None = field(default=None, repr=False)
    source: FileSource | None = field(default=None, repr=False, compare=False)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, and not a text that a node only shows."""
        return self.text is None

    @property
    def mime(self) -> str | None:
        """The MIME type, by file name, of a picture that browsers show; None for anything else."""
        return _SHOWN.get(PurePosixPath(self.filename).suffix.lower()) if self.kind == "image" else None

    def chunks(self, *, within: float | None = None) -> Iterator[builtins.bytes]:
        """Yields the content in chunks, without retries. within: timeout in seconds. Errors as `ComfyApi.view`."""
        if self.text is not None:
            yield self.text.encode("utf-8", "replace")
        elif self.data is not None:
            yield self.data
        elif self.source is not None:
            yield from self.source.view(self.filename, self.subfolder, self.folder, kind=self.kind, within=within)

    def write(self, file: BinaryIO, *, again: bool = True, timeout: float | None = None) -> int:
        """Writes the content at the position of `file`. Returns the number of bytes.

        Failed downloads are retried for about 15 seconds; if `again` is False, only while the server answers, three
        times. timeout: seconds for all attempts.
        OutputMissing if the server no longer has it; OutputError if the server refuses it, sends a page (HTML or JSON)
        instead of the file, or the timeout has passed; ServerUnreachable if the server does not answer.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        start = file.tell()
        pauses = iter(_PAUSES if again else _PAUSES[:_FEW])
        failure: KandifluxError | None = None
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise OutputError(
                    f"{self.filename} was not downloaded in time.", hint="It is still on the server."
                ) from failure
            try:
                return self._write(file, None if math.isinf(left) else left)
            except ServerUnreachable as error:
                failure = error
                pause = next(pauses, None) if again else None
            except ServerError as error:
                # The server answers, so the error concerns the file.
                failure = OutputError(error.message, expected=error.expected, got=error.got, hint=error.hint)
                failure.__cause__ = error
                pause = next(pauses, None)
            if pause is None and time.monotonic() < deadline:
                raise failure
            _log.info("retrying the download of %s: %s", self.filename, failure.message)
            time.sleep(max(0.0, min((pause or 0.0) * random.uniform(0.5, 1.5), deadline - time.monotonic())))
            file.seek(start)
            file.truncate()

    def _write(self, file: BinaryIO, within: float | None) -> int:
        size, head = 0, b""
        for chunk in self.chunks(within=within):
            if len(head) < _HEAD_BYTES:
                head += chunk[: _HEAD_BYTES - len(head)]
            size += file.write(chunk)
        if self.kind in _BINARY_KINDS and _PAGE.match(head) and not self.filename.lower().endswith(_TEXT_SUFFIXES):
            raise ProtocolError(
                f"The server sent an HTML or JSON page instead of {self.filename}.",
                expected=f"the {self.kind}",
                got=head[:80].decode("utf-8", "replace"),
                hint="It may be a login page, or the error page of a gateway.",
            )
        return size

    def read(self) -> builtins.bytes:
        """Returns the content. Errors as `write`."""
        content = io.BytesIO()
        self.write(content)
        return content.getvalue()

    def pil(self) -> Image.Image:
        """Returns the picture, decoded with Pillow. OutputError if Pillow cannot read it; other errors as `write`."""
        from PIL import Image

        try:
            picture = Image.open(io.BytesIO(self.read()))
            picture.load()
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise OutputError(f"{self.filename} cannot be decoded as a picture: {error}.") from error
        return picture

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """Returns the picture for notebooks; for other outputs a description."""
        if self.mime is None:
            return {"text/plain": self.text or repr(self)}
        return {self.mime: base64.b64encode(self.read()).decode()}

    def as_dict(self) -> dict[str, Any]:
        """Returns its description as JSON, without the content."""
        about: dict[str, Any] = {"kind": self.kind, "node_id": self.node_id, "title": self.title}
        if self.text is not None:
            return {**about, "text": self.text}
        return {**about, "filename": self.filename, "subfolder": self.subfolder, "type": self.folder}

    def bytes(self) -> builtins.bytes:
        """Returns the content, as `read`."""
        return self.read()


def collect_outputs(
    node_id: str, title: str, output: Mapping[str, Any] | None, source: FileSource | None
) -> list[Output]:
    """Returns the files and texts of one node's output, in its order; at most 10,000.

    Values are files if they have a `filename`, and texts if their key is a known one.
    """
    found: list[Output] = []
    for key, values in as_object(output).items():
        for number, value in enumerate(values if is_array(values) else [values]):
            if len(found) >= _MAX_OUTPUTS:
                return found
            if is_object(value) and isinstance(value.get("filename"), str):
                found.append(
                    Output(
                        kind=_KIND_OF.get(PurePosixPath(value["filename"]).suffix.lower(), "file"),
                        node_id=node_id,
                        title=title,
                        filename=value["filename"],
                        subfolder=_text(value.get("subfolder")),
                        folder=_text(value.get("type")) or "output",
                        source=source,
                    )
                )
            elif isinstance(value, str) and key in _TEXT_KEYS:
                found.append(Output("text", node_id, title, filename=f"{title}_{number + 1}.txt", text=value))
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def safe_name(name: str) -> str:
    """Returns a file name that every file system accepts: without separators or control characters, not too long."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1])
    name = "".join("_" if char in '<>:"|?*' or unicodedata.category(char) in _NOT_IN_NAMES else char for char in name)
    name = name.strip(" .")
    # A name that begins with "-" reads as an option to most programs.
    if not name or name.startswith("-") or _RESERVED.match(name):
        name = f"_{name}"
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    while len((stem + suffix).encode()) > _LONGEST_NAME and len(stem) > 1:
        stem = stem[:-1]
    return (stem + suffix)[:_LONGEST_NAME]


class Saver:
    """Writes outputs into one folder. Every call writes a new file; existing files are never overwritten."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def save(self, output: Output, *, timeout: float | None = None) -> Path:
        """Saves it and returns the path. If a picture's suffix does not match its format, the suffix is corrected.

        timeout: seconds for the download. OutputError if it cannot be written; other errors as `Output.write`.
        """
        try:
            return self._write(output, timeout)
        except OSError as error:
            raise OutputError(
                f"{output.filename} cannot be written to {self.folder}: {error.strerror or error}.",
                hint="Choose another folder.",
                parameter="folder",
            ) from error

    def _write(self, output: Output, timeout: float | None) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".kandiflux-{uuid.uuid4().hex}.part"
        try:
            with partial.open("xb") as file:
                size = output.write(file, timeout=timeout)
            if size == 0 and output.is_file:
                raise OutputError(f"The server sent an empty file for {output.filename}.")
            return _publish(partial, self.folder / true_name(safe_name(output.filename), output.kind, partial))
        finally:
            partial.unlink(missing_ok=True)


def true_name(name: str, kind: str, file: Path) -> str:
    """Returns `name`; if the picture in `file` has another format, with the suffix of that format."""
    if kind != "image":
        return name
    with file.open("rb") as content:
        suffixes = _picture_suffixes(content.read(16))
    if not suffixes or PurePosixPath(name).suffix.lower() in suffixes:
        return name
    renamed = str(PurePosixPath(name).with_suffix(suffixes[0]))
    _log.warning("%s is a %s file; saving it as %s", name, suffixes[0][1:].upper(), renamed)
    return renamed


def _picture_suffixes(head: bytes) -> tuple[str, ...]:
    """Returns the suffixes for the format of a picture, by its magic number; empty if it is not a known one."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return (".webp",)
    return next((suffixes for begin, suffixes in _SIGNATURES if head.startswith(begin)), ())


def _publish(partial: Path, wanted: Path) -> Path:
    """Renames the complete file to `wanted`, or to the next free name after it."""
    for path in _names(wanted):
        try:
            # A hard link fails if the name is taken, so two runs never write over each other.
            path.hardlink_to(partial)
        except FileExistsError:
            continue
        except OSError:
            # File systems without hard links: claim the name, then rename over the claim.
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                continue
            return partial.replace(path)
        return path
    raise AssertionError("unreachable: the names do not end")


def _names(wanted: Path) -> Iterator[Path]:
    """Yields `wanted`, then names with numbers: `a_2.png`, `a_3.png`, … or, as ComfyUI counts, `ComfyUI_00002_.png`.

    Any other number in the name may be a seed or a date, and is not changed.
    """
    yield wanted
    counted = re.fullmatch(r"(.*_)(\d{5,})_", wanted.stem)
    first, begin, width, end = (int(counted[2]), counted[1], len(counted[2]), "_") if counted else (1, "", 0, "")
    begin = begin or f"{wanted.stem}_"
    for number in itertools.count(first + 1):
        yield wanted.with_name(f"{begin}{number:0{width}}{end}{wanted.suffix}")
