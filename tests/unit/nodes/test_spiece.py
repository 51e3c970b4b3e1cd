"""Reading protobuf and SentencePiece vocabularies."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nodes.models.spiece import fields, tokenizer_json
from tests.support.spiece import PIECES, spiece_model


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (b"", []),
        (b"\x08\x00", [(1, 0)]),
        (b"\x08\x7f\x10\x80\x01", [(1, 127), (2, 128)]),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", [(1, 2**64 - 1)]),
        (b"\x82\x01\x02ab", [(16, b"ab")]),  # a field number of two bytes
        (b"\x1a\x00\x0d\x01\x02\x03\x04", [(3, b""), (1, b"\x01\x02\x03\x04")]),
        (b"\x09\x01\x02\x03\x04\x05\x06\x07\x08\x08\x05", [(1, b"\x01\x02\x03\x04\x05\x06\x07\x08"), (1, 5)]),
    ],
)
def test_the_fields_of_a_message(message: bytes, read: list[tuple[int, int | bytes]]) -> None:
    assert list(fields(message)) == read


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"\x08", "cut off: a number at byte 1 of 1"),
        (b"\x08\x80", "cut off: a number at byte 2 of 2"),
        (b"\x08" + b"\xff" * 11, "cut off: a number at byte"),  # longer than 64 bits
        (b"\x0a\x03ab", "cut off: a field of 3 bytes at byte 2 of 4"),
        (b"\x0d\x01\x02\x03", "cut off: a field of 4 bytes at byte 1 of 4"),
        (b"\x09\x01\x02\x03\x04\x05", "cut off: a field of 8 bytes at byte 1 of 6"),
        (b"\x0b", "not protobuf: a field of wire type 3 at byte 1"),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        list(fields(message))


def test_pieces_keep_their_places_and_scores() -> None:
    made = tokenizer_json(spiece_model(PIECES))
    assert [text for text, _ in made["model"]["vocab"]] == PIECES
    assert made["model"]["vocab"][PIECES.index("▁star")][1] == pytest.approx(-8 / 5)
    assert made["model"]["unk_id"] == 2
    assert [(token["id"], token["content"]) for token in made["added_tokens"]] == [
        (0, "<pad>"),
        (1, "</s>"),
        (2, "<unk>"),
    ]
    assert [each["type"] for each in made["normalizer"]["normalizers"]] == ["Strip", "Replace"]


def test_the_normalizer_s_table_comes_first() -> None:
    # NormalizerSpec is field 3, its precompiled_charsmap field 2.
    made = tokenizer_json(spiece_model(PIECES) + b"\x1a\x05\x12\x03abc")
    assert made["normalizer"]["normalizers"][0] == {
        "type": "Precompiled",
        "precompiled_charsmap": base64.b64encode(b"abc").decode(),
    }


@pytest.mark.parametrize(
    "pieces", [["x", *PIECES[1:]], [PIECES[0], "x", *PIECES[2:]], PIECES[:2]], ids=["no pad", "no end", "no unknown"]
)
def test_a_vocabulary_without_its_marks_is_refused(pieces: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"one for what is unknown, got {len(pieces)} pieces"):
        tokenizer_json(spiece_model(pieces))


@pytest.mark.parametrize("piece", [b"\x08\x05", b"\x0a\x01a\x10\x05"])
def test_a_piece_whose_text_or_score_is_a_number_is_refused(piece: bytes) -> None:
    message: Any = bytes([1 << 3 | 2, len(piece)]) + piece
    with pytest.raises(ValueError, match="a piece without text"):
        tokenizer_json(message)
