"""An unfinished download: NAME.part holds the bytes received so far, and NAME.part.json identifies the remote file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kandiflux.errors import WrongFile
from kandiflux.models.file_hashes import digest_of
from kandiflux.models.model_files import SUFFIXES, ModelFile
from kandiflux.models.remote_files import RemoteFile
from kandiflux.models.web_address import shown_address
from kandiflux.util.files import written_whole
from kandiflux.util.json_values import as_list, as_object, parse_json
from kandiflux.util.safetensors_header import read_header

__all__ = ["PartFile"]

_SAFETENSORS = (".safetensors", ".sft")


class PartFile:
    """The unfinished download of `target`. Only the holder of the download's lock may use it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.notes = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes received so far."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def begin(self, url: str, remote: RemoteFile) -> int:
        """Resumes a download of the same remote file, else starts a new one. Returns the number of bytes kept."""
        notes = {"url": url, "identity": remote.identity, "size": remote.size}
        if remote.ranges and self._read_notes() == notes and 0 < self.size <= (remote.size or 0):
            return self.size
        self.discard()
        self.path.touch()
        if remote.ranges:
            with written_whole(self.notes) as new:
                new.write_text(json.dumps(notes), encoding="utf-8")
        return 0

    def _read_notes(self) -> Any:
        try:
            return parse_json(self.notes.read_bytes())
        except (OSError, ValueError):
            return None

    def discard(self) -> None:
        """Deletes the received bytes and the notes."""
        for path in (self.path, self.notes):
            path.unlink(missing_ok=True)

    def verify(
        self,
        model: ModelFile,
        size: int | None,
        sha256: str | None,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> bool:
        """Verifies the file; returns whether there was a hash to verify it with (the workflow's, else `sha256`).

        size, sha256: from the server; size in bytes. Raises WrongFile and deletes the download if it is a wrong file.
        """
        try:
            for wanted in {size, model.size} - {None}:
                if self.size != wanted:
                    raise _error(model, f"{wanted} bytes", f"{self.size} bytes")
            if self.target.suffix.lower() in _SAFETENSORS:
                _require_whole(model, self.path, self.size)
            elif self.target.suffix.lower() in SUFFIXES:
                _require_binary(model, self.path)
            expected, kind = (model.hash, model.hash_type) if model.hash else (sha256, "sha256")
            if expected is not None:
                got = digest_of(self.path, kind, on_bytes)
                if got != expected:
                    raise _error(model, f"{kind} {expected}", f"{kind} {got}")
        except WrongFile:
            self.discard()
            raise
        return expected is not None

    def publish(self) -> Path:
        """Renames the complete file to its final name and syncs it to disk. Returns its path."""
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        with contextlib.suppress(OSError):  # some systems cannot open directories
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self.notes.unlink(missing_ok=True)
        return self.target


def _require_whole(model: ModelFile, path: Path, size: int) -> None:
    """Raises WrongFile unless the file is as long as its safetensors header says."""
    with path.open("rb") as file:
        try:
            length, header = read_header(file)
        except ValueError as error:
            raise _error(model, "a safetensors file", f"something else: {error}") from error
    whole = 8 + length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        offsets = as_list(as_object(entry).get("data_offsets"))
        end = offsets[1] if len(offsets) == 2 else None
        if type(end) is not int or not 0 <= end <= size:
            raise _error(model, "a safetensors file", f"one whose header gives {name[:80]!r} no valid data_offsets")
        whole = max(whole, 8 + length + end)
    if whole != size:
        raise _error(model, f"{whole} bytes, by its own header", f"{size} bytes")


def _require_binary(model: ModelFile, path: Path) -> None:
    """Raises WrongFile if the file is a web page or JSON text saved as weights."""
    with path.open("rb") as file:
        begin = file.read(64).strip()
    if begin[:1] in (b"<", b"{") and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in begin):
        raise _error(model, "a weight file", f"text that begins with {begin[:20].decode('ascii', 'replace')!r}")


def _error(model: ModelFile, expected: str, got: str) -> WrongFile:
    return WrongFile(
        f"{model.name} from {shown_address(model.url or '')} is not the expected file, and was deleted.",
        expected=expected,
        got=got,
        hint="Try again; if it fails again, the workflow's URL or hash is out of date.",
    )
