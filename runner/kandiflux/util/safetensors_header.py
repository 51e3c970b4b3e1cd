"""Reads the JSON header of a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from kandiflux.util.json_values import is_object, parse_json

__all__ = ["MAX_HEADER_BYTES", "read_header"]

MAX_HEADER_BYTES = 16 << 20
"""The maximum size. Headers of real files have less than 10 MB."""


def read_header(file: BinaryIO) -> tuple[int, Mapping[str, Any]]:
    """Reads a header from the current position of `file`; returns its length in bytes, and the header.

    Raises ValueError if it is too long, cut off, or not a JSON object; the message continues a sentence about the file.
    """
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8:
        raise ValueError("it ends before its header")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header would have {length} bytes; the maximum is {MAX_HEADER_BYTES}")
    text = file.read(length)
    if len(text) < length:
        raise ValueError(f"it ends after {len(text)} of its header's {length} bytes")
    try:
        header = parse_json(text)
    except ValueError as error:
        raise ValueError(f"its header is not valid JSON: {error}") from error
    if not is_object(header):
        raise ValueError("its header is not a JSON object")
    return length, header
