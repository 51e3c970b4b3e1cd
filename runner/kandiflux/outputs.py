"""What a job leaves behind, and writing it to disk.

Files arrive under a temporary name and are renamed when complete; nothing that exists is ever overwritten.
"""

from __future__ import annotations

import io
import logging
import random
import re
import time
import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from kandiflux.errors import AccessDenied, OutputError, ProtocolError, ServerError, ServerUnreachable
from kandiflux.json_values import as_object, is_array, is_object

__all__ = ["FileSource", "Output", "Saver", "collect_outputs", "safe_name"]

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
_SIGNATURES = {
    ".png": b"\x89PNG\r\n\x1a\n",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
    ".webp": b"RIFF",
    ".gif": b"GIF8",
}
"""What a picture begins with, whoever sends it: a gateway's page of apology does not."""

_LONGEST_SIGNATURE = 8
_PAUSES = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the attempts at a download: a host may be gone for a moment, and what it made is worth the wait."""

_TEXT_KEYS = frozenset({"text", "string", "texts", "strings"})
_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
_LONGEST_NAME = 180


class FileSource(Protocol):
    """Where files come from; `kandiflux.server.Server` is one."""

    def view(self, filename: str, subfolder: str, folder: str) -> Iterator[bytes]:
        """A stored file's bytes, in pieces. OutputMissing, ServerUnreachable or ServerError where they do not come."""
        ...


@dataclass(frozen=True)
class Output:
    """One file or text of one node.

    kind: image, video, audio, latent, embeds, model3d, text or file. folder: `output`, or `temp` for previews.
    A text the node only shows has `text`; a picture that came over the websocket has `data`.
    """

    kind: str
    node_id: str
    title: str
    filename: str
    subfolder: str = ""
    folder: str = "output"
    text: str | None = None
    data: bytes | None = field(default=None, repr=False)
    source: FileSource | None = field(default=None, repr=False, compare=False)

    @property
    def is_file(self) -> bool:
        """False for a text that a node only shows."""
        return self.text is None

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces, once. OutputMissing or ServerUnreachable where it cannot be fetched."""
        if self.text is not None:
            yield self.text.encode()
        elif self.data is not None:
            yield self.data
        elif self.source is not None:
            yield from self.source.view(self.filename, self.subfolder, self.folder)

    def write(self, file: BinaryIO, *, again: bool = True) -> int:
        """Writes the content into `file`, at its end; the bytes written.

        A download that breaks off, or gives something that is no picture under a picture's name, is begun again, for a
        quarter of a minute or so; not so where `again` is False.
        OutputMissing, ServerUnreachable or ServerError where it cannot be fetched.
        """
        start = file.tell()
        for pause in _PAUSES if again else ():
            try:
                return self._write(file)
            except (ServerUnreachable, ServerError) as error:
                if isinstance(error, AccessDenied):
                    raise
                _log.info("%s again, for %s", self.filename, error.message)
            time.sleep(pause * random.uniform(0.5, 1.5))
            file.seek(start)
            file.truncate()
        return self._write(file)

    def _write(self, file: BinaryIO) -> int:
        size, head = 0, b""
        for chunk in self.chunks():
            head = head if len(head) >= _LONGEST_SIGNATURE else head + chunk[:_LONGEST_SIGNATURE]
            size += file.write(chunk)
        wanted = _SIGNATURES.get(PurePosixPath(self.filename).suffix.lower(), b"")
        if size and not head.startswith(wanted):
            raise ProtocolError(
                f"What came for {self.filename} is no such picture.",
                expected=f"a file that begins with {wanted!r}",
                got=repr(head),
            )
        return size

    def read(self) -> bytes:
        """The content; errors as `write`."""
        content = io.BytesIO()
        self.write(content)
        return content.getvalue()

    def as_dict(self) -> dict[str, Any]:
        """What it is, as JSON; not its content."""
        about: dict[str, Any] = {"kind": self.kind, "node_id": self.node_id, "title": self.title}
        if self.text is not None:
            return {**about, "text": self.text}
        return {**about, "filename": self.filename, "subfolder": self.subfolder, "type": self.folder}


def collect_outputs(
    node_id: str, title: str, output: Mapping[str, Any] | None, source: FileSource | None
) -> list[Output]:
    """Every file and text in what one node shows, in its order. Keys other than known texts need a `filename`."""
    found: list[Output] = []
    for key, values in as_object(output).items():
        for number, value in enumerate(values if is_array(values) else [values]):
            if is_object(value) and isinstance(value.get("filename"), str):
                found.append(
                    Output(
                        kind=_KIND_OF.get(PurePosixPath(value["filename"]).suffix.lower(), "file"),
                        node_id=node_id,
                        title=title,
                        filename=value["filename"],
                        subfolder=str(value.get("subfolder") or ""),
                        folder=str(value.get("type") or "output"),
                        source=source,
                    )
                )
            elif isinstance(value, str) and key in _TEXT_KEYS:
                found.append(Output("text", node_id, title, filename=f"{title}_{number + 1}.txt", text=value))
    return found


def safe_name(name: str) -> str:
    """One path component that every file system takes: no separators, no control characters, not too long."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1])
    name = "".join("_" if char in '<>:"|?*' or unicodedata.category(char).startswith("C") else char for char in name)
    name = name.strip(" .")
    if not name or _RESERVED.match(name):
        name = f"_{name}"
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    while len((stem + suffix).encode()) > _LONGEST_NAME and len(stem) > 1:
        stem = stem[:-1]
    return (stem + suffix)[:_LONGEST_NAME]


class Saver:
    """Writes outputs into one folder, each once, however often it is announced."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._saved: dict[tuple[str, str, str], Path] = {}

    def save(self, output: Output) -> Path | None:
        """The path written, or None where this file was already saved.

        OutputError where the disk says no; OutputMissing, ServerUnreachable and ServerError as `Output.write`.
        """
        key = (output.folder, output.subfolder, output.filename)
        if key in self._saved:
            return None
        try:
            path = self._write(output)
        except OSError as error:
            raise OutputError(
                f"{output.filename} cannot be written to {self.folder}: {error.strerror or error}.",
                hint="Choose another folder with --out.",
            ) from error
        self._saved[key] = path
        return path

    def _write(self, output: Output) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".kandiflux-{uuid.uuid4().hex}.part"
        try:
            with partial.open("xb") as file:
                size = output.write(file)
            if size == 0 and output.is_file:
                raise OutputError(f"The server sent an empty file for {output.filename}.")
            return _publish(partial, self.folder / safe_name(output.filename))
        finally:
            partial.unlink(missing_ok=True)


def _publish(partial: Path, wanted: Path) -> Path:
    """Gives the complete file its name, or the next free one after it."""
    path = wanted
    while True:
        try:
            # A hard link fails where the name is taken, so two runs never write over each other.
            path.hardlink_to(partial)
        except FileExistsError:
            path = _next_name(path)
        except OSError:
            # File systems without hard links: claim the name, then rename over the claim.
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                path = _next_name(path)
                continue
            return partial.replace(path)
        else:
            return path


def _next_name(path: Path) -> Path:
    """`ComfyUI_00001_.png` → `ComfyUI_00002_.png`, as ComfyUI counts; `a.png` → `a_2.png` → `a_3.png`."""
    counted = re.fullmatch(r"(.*_)(\d+)(_?)", path.stem)
    if counted is None:
        return path.with_name(f"{path.stem}_2{path.suffix}")
    stem, number, end = counted.groups()
    return path.with_name(f"{stem}{int(number) + 1:0{len(number)}}{end}{path.suffix}")
