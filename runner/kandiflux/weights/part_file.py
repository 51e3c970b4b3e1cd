"""A file that is being downloaded: NAME.part, and beside it NAME.part.json, which says what of it is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from kandiflux.errors import WrongFile
from kandiflux.weights.model_files import ModelFile
from kandiflux.weights.remote_files import RemoteFile

__all__ = ["PartFile", "Span", "digest_of"]

_SMALLEST_SPAN, _LARGEST_SPAN = 8 << 20, 256 << 20
_SPANS_A_CONNECTION = 4
_READ = 4 << 20
_LONGEST_HEADER = 100 << 20


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
        new = self.notes.with_name(f"{self.notes.name}.new")
        new.write_text(json.dumps(notes), encoding="utf-8")
        new.replace(self.notes)

    def discard(self) -> None:
        """Delete what has come, and the notes of it."""
        for path in (self.path, self.notes, self.notes.with_name(f"{self.notes.name}.new")):
            path.unlink(missing_ok=True)
        self.spans = []

    def verify(self, model: ModelFile, sha256: str | None, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """WrongFile, and the part is gone, where it is not what was wanted."""
        try:
            size = self.path.stat().st_size
            for wanted in {self.size, model.size} - {None}:
                if size != wanted:
                    raise _wrong(model, f"{wanted} bytes", f"{size} bytes")
            if self.target.suffix == ".safetensors":
                _require_whole(model, self.path, size)
            expected, kind = (model.hash, model.hash_type) if model.hash else (sha256, "sha256")
            if expected is not None and kind in hashlib.algorithms_available:
                got = digest_of(self.path, kind, on_bytes)
                if got != expected:
                    raise _wrong(model, f"{kind} {expected}", f"{kind} {got}")
        except WrongFile:
            self.discard()
            raise

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
            notes = json.loads(self.notes.read_text("utf-8"))
            done = sorted((int(start), int(end)) for start, end in notes.pop("done"))
            same = notes == self._about and self.path.stat().st_size == self.size
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return []
        sound = all(0 <= start < end <= (self.size or 0) for start, end in done)
        apart = all(before[1] <= after[0] for before, after in pairwise(done))
        return done if same and sound and apart else []


def digest_of(path: Path, kind: str, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """The file's digest in hexadecimal; kind: as hashlib calls it. on_bytes: called with the bytes read so far."""
    digest, done = hashlib.new(kind), 0
    with path.open("rb") as file:
        while piece := file.read(_READ):
            digest.update(piece)
            done += len(piece)
            on_bytes(done)
    return digest.hexdigest()


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
    """A safetensors file says how long it is: a page of HTML or a file cut short does not pass for one."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        try:
            entries = json.loads(file.read(header if header <= _LONGEST_HEADER else 0))
            ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
            whole = 8 + header + max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise _wrong(model, "a safetensors file", "something else") from error
    if whole != size:
        raise _wrong(model, f"{whole} bytes, as it says itself", f"{size} bytes")


def _wrong(model: ModelFile, expected: str, got: str) -> WrongFile:
    return WrongFile(
        f"{model.name} from {model.url} is not the file it should be, and was deleted.",
        expected=expected,
        got=got,
        hint="Try again; if it stays so, the workflow's address or hash is out of date.",
    )
