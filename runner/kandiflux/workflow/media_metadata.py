"""Reads the texts that ComfyUI and widespread packs put into videos and sounds, without decoding either.

    MP4, MOV     tags of `moov`: `mdta` keys as ComfyUI writes them, or a comment as VideoHelperSuite does
    WebM, MKV    tags of the segment
    FLAC, Ogg    Vorbis comments (Ogg: Opus or Vorbis)
    MP3          ID3 frames `TXXX`

All are names and texts; `media_texts` returns those that may hold a workflow, by their name in lower case.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from kandiflux.util.json_values import is_object, parse_json

__all__ = ["media_texts"]

_MAX_TEXT = 16 << 20
_MAX_PARTS = 100_000
"""Boxes, elements, pages or frames that are looked at in one file."""

_SEGMENT, _TAGS, _TAG, _SIMPLE_TAG = 0x18538067, 0x1254C367, 0x7373, 0x67C8
_TAG_NAME, _TAG_STRING = 0x45A3, 0x4487
_ENCODINGS = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}


def media_texts(file: BinaryIO, begin: bytes) -> dict[str, str] | None:
    """Returns the texts `prompt` and `workflow` of a video or sound; None if this is neither.

    begin: the first 12 bytes of the file. A damaged file has the texts that come before the damage.
    """
    read = _reader_of(begin)
    if read is None:
        return None
    size = os.fstat(file.fileno()).st_size
    texts: dict[str, str] = {}
    try:
        for name, text in read(file, size):
            texts.setdefault(name.lower(), text)
    except (struct.error, UnicodeDecodeError, IndexError, _CutOff):
        pass
    return _in_comment(texts)


def _reader_of(begin: bytes) -> Callable[[BinaryIO, int], Iterator[tuple[str, str]]] | None:
    if begin[4:8] == b"ftyp":
        return _mp4
    by_magic = {b"\x1aE\xdf\xa3": _matroska, b"fLaC": _flac, b"OggS": _ogg}
    return by_magic.get(begin[:4]) or (_id3 if begin[:3] == b"ID3" else None)


def _in_comment(texts: dict[str, str]) -> dict[str, str]:
    """Adds what a comment in JSON has: VideoHelperSuite writes `{"prompt": …, "workflow": …}`."""
    for name in ("comment", "description"):
        try:
            values: Any = parse_json(texts.get(name, ""))
        except ValueError:
            continue
        for key in ("prompt", "workflow"):
            if is_object(values) and values.get(key) is not None and key not in texts:
                texts[key] = values[key] if isinstance(values[key], str) else json.dumps(values[key])
    return {key: text for key, text in texts.items() if key in ("prompt", "workflow")}


class _CutOff(Exception):
    """The file ends before its parts do, or a part is too large."""


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    if length > _MAX_TEXT:
        raise _CutOff
    file.seek(place)
    content = file.read(length)
    if len(content) < length:
        raise _CutOff
    return content


# MP4


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    end: int


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    for _ in range(_MAX_PARTS):
        if start + 8 > end:
            return
        length, kind = struct.unpack(">I4s", _at(file, start, 8))
        head = 8
        if length == 1:
            (length,) = struct.unpack(">Q", _at(file, start + 8, 8))
            head = 16
        elif length == 0:
            length = end - start
        if length < head:
            return
        yield _Box(kind, start + head, start + length)
        start += length


def _mp4(file: BinaryIO, size: int) -> Iterator[tuple[str, str]]:
    for box in _boxes(file, 0, size):
        if box.kind == b"moov":
            for inner in _boxes(file, box.start, box.end):
                if inner.kind == b"meta":
                    yield from _mp4_meta(file, inner)
                elif inner.kind == b"udta":
                    yield from _mp4_user_data(file, inner)


def _mp4_user_data(file: BinaryIO, udta: _Box) -> Iterator[tuple[str, str]]:
    for box in _boxes(file, udta.start, udta.end):
        if box.kind == b"meta":
            yield from _mp4_meta(file, box)
        elif box.kind == b"\xa9cmt":  # QuickTime: a length, a language, and the text
            (length,) = struct.unpack(">H", _at(file, box.start, 2))
            yield "comment", _at(file, box.start + 4, min(length, box.end - box.start - 4)).decode()


def _mp4_meta(file: BinaryIO, meta: _Box) -> Iterator[tuple[str, str]]:
    # In MP4 a version comes before the boxes; in QuickTime it does not.
    start = meta.start if _at(file, meta.start + 4, 4) == b"hdlr" else meta.start + 4
    boxes = {box.kind: box for box in _boxes(file, start, meta.end)}
    names: list[str] = []
    if b"keys" in boxes:
        keys = boxes[b"keys"]
        names = [_at(file, key.start, key.end - key.start).decode() for key in _boxes(file, keys.start + 8, keys.end)]
    if b"ilst" not in boxes:
        return
    for item in _boxes(file, boxes[b"ilst"].start, boxes[b"ilst"].end):
        number = int.from_bytes(item.kind, "big") - 1
        name = "comment" if item.kind == b"\xa9cmt" else names[number] if 0 <= number < len(names) else ""
        for data in _boxes(file, item.start, item.end):
            if name and data.kind == b"data":
                yield name, _at(file, data.start + 8, data.end - data.start - 8).decode()


# Matroska


def _number(file: BinaryIO, place: int, *, marked: bool) -> tuple[int, int]:
    """Returns a number of variable length and the place after it. `marked`: whether its length marker belongs to it."""
    first = _at(file, place, 1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise _CutOff
    value = int.from_bytes(_at(file, place, length), "big")
    return (value if marked else value & ((1 << 7 * length) - 1)), place + length


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the id, the start and the end of each element."""
    for _ in range(_MAX_PARTS):
        if start >= end:
            return
        element, place = _number(file, start, marked=True)
        length, inner = _number(file, place, marked=False)
        unknown = length == (1 << 7 * (inner - place)) - 1
        if unknown and element != _SEGMENT:
            return  # a stream, whose tags would have come before
        start = end if unknown else inner + length
        yield element, inner, start


def _matroska(file: BinaryIO, size: int) -> Iterator[tuple[str, str]]:
    for element, start, end in _elements(file, 0, size):
        if element == _SEGMENT:
            for inner, at, to in _elements(file, start, end):
                if inner == _TAGS:
                    yield from _tags(file, at, to)


def _tags(file: BinaryIO, start: int, end: int) -> Iterator[tuple[str, str]]:
    for tag, at, to in _elements(file, start, end):
        for simple, inner, stop in _elements(file, at, to) if tag == _TAG else ():
            if simple == _SIMPLE_TAG:
                parts = {part: _at(file, first, last - first) for part, first, last in _elements(file, inner, stop)}
                if _TAG_NAME in parts and _TAG_STRING in parts:
                    yield parts[_TAG_NAME].decode(), parts[_TAG_STRING].rstrip(b"\0").decode()


# Sounds


def _comments(content: bytes) -> Iterator[tuple[str, str]]:
    """Reads Vorbis comments: a vendor, a count, and texts `NAME=value`, each with its length before it."""
    (vendor,) = struct.unpack_from("<I", content)
    (count,) = struct.unpack_from("<I", content, 4 + vendor)
    at = 8 + vendor
    for _ in range(min(count, _MAX_PARTS)):
        (length,) = struct.unpack_from("<I", content, at)
        name, _, text = content[at + 4 : at + 4 + length].decode().partition("=")
        yield name, text
        at += 4 + length


def _flac(file: BinaryIO, size: int) -> Iterator[tuple[str, str]]:
    at = 4
    for _ in range(_MAX_PARTS):
        head = _at(file, at, 4)
        length = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == 4:
            yield from _comments(_at(file, at + 4, length))
        if head[0] & 0x80 or at >= size:
            return
        at += 4 + length


def _ogg(file: BinaryIO, size: int) -> Iterator[tuple[str, str]]:
    """The second packet has the comments. A packet ends with a segment of less than 255 bytes."""
    packets: list[bytes] = [b""]
    at = 0
    while at < size and len(packets) <= 2 and len(packets[-1]) <= _MAX_TEXT:
        head = _at(file, at, 27)
        if head[:4] != b"OggS":
            return
        table = _at(file, at + 27, head[26])
        at += 27 + len(table)
        for length in table:
            packets[-1] += _at(file, at, length)
            at += length
            if length < 255:
                packets.append(b"")
    comments = packets[1] if len(packets) > 2 else b""
    for magic in (b"OpusTags", b"\x03vorbis"):
        if comments.startswith(magic):
            yield from _comments(comments[len(magic) :])


def _id3(file: BinaryIO, size: int) -> Iterator[tuple[str, str]]:
    head = _at(file, 0, 10)
    end = min(size, 10 + _syncsafe(head[6:10]))
    at = 10
    for _ in range(_MAX_PARTS):
        if at + 10 > end:
            return
        frame = _at(file, at, 10)
        # Version 4 leaves the highest bit of each byte of a length out; version 3 does not.
        length = _syncsafe(frame[4:8]) if head[3] >= 4 else int.from_bytes(frame[4:8], "big")
        if frame[:4] == b"TXXX":
            content = _at(file, at + 10, length)
            name, _, text = content[1:].decode(_ENCODINGS.get(content[0], "utf-8")).partition("\0")
            # UTF-16 has a mark of its byte order before each of both.
            yield name, text.lstrip("\ufeff").rstrip("\0")
        at += 10 + length


def _syncsafe(content: bytes) -> int:
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
    return value
