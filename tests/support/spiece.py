"""A small SentencePiece vocabulary."""

from __future__ import annotations

import string
import struct

PIECES = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase, "▁red", "▁star", "▁blue", "ed"]


def spiece_model(pieces: list[str]) -> bytes:
    """A SentencePiece vocabulary as protobuf; longer pieces are likelier."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    made = b""
    for i, piece in enumerate(pieces):
        kind = {0: 3, 1: 3, 2: 2}.get(i, 1)  # control, control, unknown, normal
        score = b"\x15" + struct.pack("<f", -8.0 / len(piece))
        made += field(1, field(1, piece.encode()) + score + bytes([3 << 3, kind]))
    return made + field(2, bytes([3 << 3, 1]))  # a trainer spec, which is passed over
