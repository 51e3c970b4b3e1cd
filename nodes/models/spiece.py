"""Converts spiece.model, a SentencePiece unigram vocabulary, to a tokenizer.json.

Kandinsky 3's official repository has only spiece.model, which transformers reads with the package sentencepiece.
Format: sentencepiece_model.proto of google/sentencepiece.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

PIECES, NORMALIZER = 1, 3
PIECE_TEXT, PIECE_SCORE, PIECE_TYPE = 1, 2, 3
CHARSMAP = 2
UNKNOWN = 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def tokenizer_json(model: bytes, end: str = "</s>", pad: str = "<pad>") -> dict[str, Any]:
    """Return T5's tokenizer.json for the bytes of a spiece.model, with SentencePiece's default normalisation and the
    token `end` appended. Raises ValueError if `model` is not a SentencePiece model."""
    pieces: list[tuple[str, float]] = []
    unknown: int | None = None
    charsmap = b""
    for field, value in fields(model):
        if field == PIECES and isinstance(value, bytes):
            piece = dict(fields(value))
            if piece.get(PIECE_TYPE) == UNKNOWN:
                unknown = len(pieces)
            text, score = piece.get(PIECE_TEXT, b""), piece.get(PIECE_SCORE, b"\0\0\0\0")
            if not isinstance(text, bytes) or not isinstance(score, bytes):
                raise ValueError("a piece without text")
            pieces.append((text.decode("utf-8"), struct.unpack("<f", score)[0]))
        elif field == NORMALIZER and isinstance(value, bytes):
            found = dict(fields(value)).get(CHARSMAP, b"")
            charsmap = found if isinstance(found, bytes) else b""
    ids = {text: i for i, (text, _) in enumerate(pieces)}
    if unknown is None or end not in ids or pad not in ids:
        raise ValueError(f"expected pieces with {end}, {pad} and one for what is unknown, got {len(pieces)} pieces")

    normalizers: list[dict[str, Any]] = [
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]
    if charsmap:
        coded = base64.b64encode(charsmap).decode("ascii")
        normalizers.insert(0, {"type": "Precompiled", "precompiled_charsmap": coded})
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    first, last = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[text], "content": text} | special
            for text in sorted({end, pad, pieces[unknown][0]}, key=lambda text: ids[text])
        ],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, last],
            "pair": [first, last, {"Sequence": {"id": "B", "type_id": 1}}, last],
            "special_tokens": {end: {"id": end, "ids": [ids[end]], "tokens": [end]}},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": False},
    }


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protobuf message, varints as int, others as bytes. Raises ValueError if it is
    truncated or not protobuf."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"not protobuf: a field of wire type {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"cut off: a field of {size} bytes at byte {at} of {len(message)}")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Decode the varint at `at`; returns (value, offset after it)."""
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError(f"cut off: a number at byte {at} of {len(message)}")
