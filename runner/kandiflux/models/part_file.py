"""An unfinished download: NAME.part, and beside it NAME.part.json, which lists the parts that are there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
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

__all__ = ["PartFile", "Span"]

_SMALLEST_SPAN, _LARGEST_SPAN = 8 << 20, 256 << 20
_SPANS_A_CONNECTION = 4
_SAFETENSORS = (".safetensors", ".sft")


@dataclass
class Span:
    """Bytes `start` to `end` (exclusive), of which those before `at` are there."""

    start: int
    end: int
    at: int = field(default=-1)

    def __post_init__(self) -> None:
        self.at = max(self.at, self.start)


class PartFile:
    """The unfinished form of `target`. Only its holder of the lock may use it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.notes = target.with_name(f"{target.name}.part.json")
        self.spans: list[Span] = []
        self.size: int | None = None
        self._about: dict[str, Any] = {}

    @property
    def done(self) -> int:
        """Bytes that are there."""
        return sum(span.at - span.start for span in self.spans)

    def begin(self, url: str, remote: RemoteFile, connections: int) -> int:
        """Takes up what is there of this very file, or starts anew; the number of bytes taken up."""
        self.size = remote.size
        self._about = {"url": url, "identity": remote.identity, "size": remote.size}
        kept = self._kept() if remote.ranges else []
        if not kept:
            self.discard()
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        if remote.ranges and remote.size is not None:
            with self.path.open("r+b") as file:
                file.truncate(remote.size)
            self.spans = list(_spans(kept, remote.size, connections))
        else:
            self.spans = []
        return self.done

    def save(self) -> None:
        """Writes down what is there, after it is on the disk."""
        self._sync()
        notes = {**self._about, "done": [[span.start, span.at] for span in self.spans if span.at > span.start]}
        with written_whole(self.notes) as new:
            new.write_text(json.dumps(notes), encoding="utf-8")

    def discard(self) -> None:
        """Delete what has come, and the notes of it."""
        for path in (self.path, self.notes, self.notes.with_name(f"{self.notes.name}.new")):
            path.unlink(missing_ok=True)
        self.spans = []

    def verify(self, model: ModelFile, sha256: str | None, on_bytes: Callable[[int], None] = lambda _: None) -> bool:
        """Whether there was a hash to verify the file with: the workflow's, or else `sha256`, the server's.

        WrongFile if it is not what was wanted; what has come is deleted then.
        """
        try:
            size = self.path.stat().st_size
            for wanted in {self.size, model.size} - {None}:
                if size != wanted:
                    raise _wrong(model, f"{wanted} bytes", f"{size} bytes")
            if self.target.suffix.lower() in _SAFETENSORS:
                _require_whole(model, self.path, size)
            elif self.target.suffix.lower() in SUFFIXES:
                _require_binary(model, self.path)
            expected, kind = (model.hash, model.hash_type) if model.hash else (sha256, "sha256")
            if expected is not None:
                got = digest_of(self.path, kind, on_bytes)
                if got != expected:
                    raise _wrong(model, f"{kind} {expected}", f"{kind} {got}")
        except WrongFile:
            self.discard()
            raise
        return expected is not None

    def publish(self) -> Path:
        """Gives the whole file its name, for good."""
        self._sync()
        self.path.replace(self.target)
        with contextlib.suppress(OSError):  # directories cannot be opened everywhere
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self.notes.unlink(missing_ok=True)
        return self.target

    def _sync(self) -> None:
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())

    def _kept(self) -> list[tuple[int, int]]:
        """The stretches that are there, where the notes are of this file and the part is as they say."""
        try:
            notes = dict(parse_json(self.notes.read_bytes()))
            done = sorted((int(start), int(end)) for start, end in notes.pop("done"))
            same = notes == self._about and self.path.stat().st_size == self.size
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            return []
        sound = all(0 <= start < end <= (self.size or 0) for start, end in done)
        apart = all(before[1] <= after[0] for before, after in pairwise(done))
        return done if same and sound and apart else []


def _spans(kept: list[tuple[int, int]], size: int, connections: int) -> Iterator[Span]:
    """The kept stretches, whole, and the gaps between them in pieces."""
    piece = min(max(size // (connections * _SPANS_A_CONNECTION), _SMALLEST_SPAN), _LARGEST_SPAN)
    at = 0
    for start, end in [*kept, (size, size)]:
        for first in range(at, start, piece):
            yield Span(first, min(first + piece, start))
        if end > start:
            yield Span(start, end, end)
        at = end


def _require_whole(model: ModelFile, path: Path, size: int) -> None:
    """Raise WrongFile unless the file is as long as its safetensors header says."""
    with path.open("rb") as file:
        try:
            length, header = read_header(file)
        except ValueError as error:
            raise _wrong(model, "a safetensors file", f"something else: {error}") from error
    whole = 8 + length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        offsets = as_list(as_object(entry).get("data_offsets"))
        end = offsets[1] if len(offsets) == 2 else None
        if type(end) is not int or not 0 <= end <= size:
            raise _wrong(model, "a safetensors file", f"one whose header gives {name[:80]!r} no valid data_offsets")
        whole = max(whole, 8 + length + end)
    if whole != size:
        raise _wrong(model, f"{whole} bytes, as it says itself", f"{size} bytes")


def _require_binary(model: ModelFile, path: Path) -> None:
    """Raise WrongFile if it is a web page or JSON text, saved as weights."""
    with path.open("rb") as file:
        begin = file.read(64).strip()
    if begin[:1] in (b"<", b"{") and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in begin):
        raise _wrong(model, "a file of weights", f"text that begins with {begin[:20].decode('ascii', 'replace')!r}")


def _wrong(model: ModelFile, expected: str, got: str) -> WrongFile:
    return WrongFile(
        f"{model.name} from {shown_address(model.url or '')} is not the file it should be, and was deleted.",
        expected=expected,
        got=got,
        hint="Try again; if it stays so, the workflow's address or hash is out of date.",
    )
