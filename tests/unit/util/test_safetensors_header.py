"""The header of a safetensors file: its bounds, and what is wrong with one in words."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from kandiflux.util.safetensors_header import MAX_HEADER_BYTES, read_header


def file(header: Any, *, length: int | None = None, rest: bytes = b"") -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(text) if length is None else length) + text + rest)


def test_a_header_is_read_from_where_the_file_stands() -> None:
    content = file({"__metadata__": {"a": "b"}}, rest=b"tensors")
    length, header = read_header(content)
    assert (length, header) == (len('{"__metadata__": {"a": "b"}}'), {"__metadata__": {"a": "b"}})
    assert content.read() == b"tensors"
    assert MAX_HEADER_BYTES == 16 << 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (io.BytesIO(b""), "ends before its header"),
        (io.BytesIO(b"\0" * 7), "ends before its header"),
        (file({}, length=MAX_HEADER_BYTES + 1), f"the maximum is {MAX_HEADER_BYTES}"),
        (file({}, length=MAX_HEADER_BYTES), f"ends after 2 of its header's {MAX_HEADER_BYTES} bytes"),
        (file({}, length=3), "ends after 2 of its header's 3 bytes"),
        (file(b"{"), "not valid JSON"),
        (file(b"\xff\xff"), "not valid JSON"),
        (file(b"[" * 5000), "not valid JSON"),
        (file([]), "not a JSON object"),
        (io.BytesIO(bytes(8)), "not valid JSON"),
    ],
)
def test_what_is_wrong_with_a_header(content: io.BytesIO, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_header(content)
